package api

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// benchServer names the variable that turns a run of this test binary into the server of a benchmark.
const benchServer = "STATSCACHE_API_BENCH_SERVER"

// benchRows make an answer of 20 KB.
const benchRows = 530

// TestBenchServer serves for BenchmarkCached and BenchmarkStream, in a process of its own with one core. Each line of
// its input is a commit.
func TestBenchServer(t *testing.T) {
	if os.Getenv(benchServer) == "" {
		t.Skip("only serves benchmarks")
	}
	f := newFakeStore()
	f.add(originalMetrics()[0])
	for i := range int64(benchRows) {
		f.count("volume", time.Second, testNow-1000+i, "", 10+i%80)
	}
	s := newTestServer(t, Options{Store: f, MaximumRows: 1000, Now: time.Now, Registry: prometheus.NewRegistry()})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := s.HTTPServer()
	go func() { _ = srv.Serve(l) }()
	fmt.Printf("listening %s\n", l.Addr())
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); { // until the benchmark lets go
		f.change("volume", func() {})
	}
	_ = srv.Close()
}

// BenchmarkCached asks for a kept answer over 32 connections that stay open.
func BenchmarkCached(b *testing.B) {
	const path = "/api/volume-1s?rows_per_page=1000"
	for _, c := range []struct{ name, headers string }{
		{"identity", ""},
		{"gzip", "Accept-Encoding: gzip\r\n"},
		{"br", "Accept-Encoding: gzip, deflate, br, zstd\r\n"},
		{"304", "Accept-Encoding: br\r\nIf-None-Match: *\r\n"},
	} {
		b.Run(c.name, func(b *testing.B) {
			served := startBenchServer(b)
			addr := served.addr
			request := []byte("GET " + path + " HTTP/1.1\r\nHost: " + addr + "\r\nUser-Agent: bench\r\nAccept: application/json\r\n" + c.headers + "\r\n")
			size := run(b, addr, request, 32) // warm
			b.ResetTimer()
			run(b, addr, request, b.N)
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
			b.ReportMetric(float64(b.N)/served.stop().Seconds(), "req/cpu_s") // what the core gives when nobody else wants it
			b.ReportMetric(float64(size), "body_bytes")
			b.ReportMetric(1, "server_procs")
			b.ReportMetric(float64(runtime.GOMAXPROCS(0)), "client_procs")
		})
	}
}

// served is a server that is measured.
type served struct {
	addr string
	stop func() time.Duration // ends it and tells the CPU time that it took
	in   io.Writer            // of lines that are commits
	pid  int
}

func startBenchServer(b *testing.B) served {
	b.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestBenchServer$")
	cmd.Env = append(os.Environ(), benchServer+"=1", "GOMAXPROCS=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	stop := sync.OnceValue(func() time.Duration {
		_ = in.Close()
		_ = cmd.Wait()
		return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	})
	b.Cleanup(func() { stop() })
	for sc := bufio.NewScanner(out); sc.Scan(); {
		if addr, ok := strings.CutPrefix(sc.Text(), "listening "); ok {
			return served{addr, stop, in, cmd.Process.Pid}
		}
	}
	b.Fatal("the server did not start")
	return served{}
}

// run sends n requests over 32 connections and gives the size of a body.
func run(b *testing.B, addr string, request []byte, n int) int {
	b.Helper()
	var next, size atomic.Int64
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				b.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			r := bufio.NewReaderSize(conn, 64<<10)
			for next.Add(1) <= int64(n) {
				if _, err := conn.Write(request); err != nil {
					b.Error(err)
					return
				}
				body, err := readResponse(r)
				if err != nil {
					b.Error(err)
					return
				}
				size.Store(int64(body))
			}
		})
	}
	wg.Wait()
	return int(size.Load())
}

// readResponse reads as little as a client must.
func readResponse(r *bufio.Reader) (int, error) {
	length, first := 0, true
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		if first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200")) && !bytes.HasPrefix(line, []byte("HTTP/1.1 304")) {
			return 0, fmt.Errorf("answered %q", line)
		}
		first = false
		if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(v))); err != nil {
				return 0, err
			}
		}
		if len(line) == 2 {
			_, err := r.Discard(length)
			return length, err
		}
	}
}
