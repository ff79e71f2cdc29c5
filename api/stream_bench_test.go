package api

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// BenchmarkStream_Crowd opens many live streams of a server with one core and measures what they cost it and when a new
// version has reached the last of them. STATSCACHE_STREAMS changes how many.
func BenchmarkStream_Crowd(b *testing.B) {
	clients := 4000
	if n, err := strconv.Atoi(os.Getenv("STATSCACHE_STREAMS")); err == nil {
		clients = n
	}
	served := startBenchServer(b)
	before := residentMiB(b, served.pid)
	arrived := make(chan time.Time, clients)
	var ready sync.WaitGroup
	ready.Add(clients)
	for range clients {
		go listenTo(b, served.addr, ready.Done, arrived)
	}
	ready.Wait()
	var worst, sum time.Duration
	for b.Loop() {
		begin, last := time.Now(), time.Duration(0)
		if _, err := fmt.Fprintln(served.in); err != nil {
			b.Fatal(err)
		}
		for range clients {
			last = max(last, (<-arrived).Sub(begin))
		}
		worst, sum = max(worst, last), sum+last
	}
	b.ReportMetric(residentMiB(b, served.pid)-before, "MiB")
	b.ReportMetric(float64(worst.Milliseconds()), "ms-to-the-last,worst")
	b.ReportMetric(float64(sum.Milliseconds())/float64(b.N), "ms-to-the-last")
	b.ReportMetric(float64(clients), "clients")
}

// listenTo tells when the first version has come, and the time of every later one.
func listenTo(b *testing.B, addr string, ready func(), arrived chan<- time.Time) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		b.Error(err)
		ready()
		return
	}
	defer func() { _ = conn.Close() }()
	_, _ = conn.Write([]byte("GET /api/v1/stream?metrics=volume HTTP/1.1\r\nHost: x\r\n\r\n"))
	for r, seen := bufio.NewReaderSize(conn, 256), 0; ; {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		if !strings.HasPrefix(line, "data:") {
			continue
		}
		if seen++; seen == 1 {
			ready()
		} else {
			arrived <- time.Now()
		}
	}
}

var resident = regexp.MustCompile(`VmRSS:\s+(\d+) kB`)

// residentMiB is how much memory a process has.
func residentMiB(b *testing.B, pid int) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Skip("memory is read from /proc:", err)
	}
	m := resident.FindSubmatch(status)
	if m == nil {
		b.Fatalf("no VmRSS in %s", status)
	}
	kib, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		b.Fatal(err)
	}
	return kib / 1024
}
