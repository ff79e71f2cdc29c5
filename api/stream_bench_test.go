package api

import (
	"bufio"
	"net"
	"net/http/httptest"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// BenchmarkStream_Crowd opens many live streams at once and measures what they cost the process (both ends of each
// connection are in it) and when a new version has reached the last of them. STATSCACHE_STREAMS changes how many.
func BenchmarkStream_Crowd(b *testing.B) {
	clients := 1000
	if n, err := strconv.Atoi(os.Getenv("STATSCACHE_STREAMS")); err == nil {
		clients = n
	}
	f := newFakeStore()
	for _, m := range originalMetrics() {
		f.add(m)
	}
	s, err := New(Options{Store: f})
	if err != nil {
		b.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(nil)
	srv.Config = s.HTTPServer()
	srv.Start()
	defer srv.Close()
	defer s.streams.end()

	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	arrived := make(chan time.Time, clients)
	var ready sync.WaitGroup
	ready.Add(clients)
	for range clients {
		go func() {
			conn, err := net.Dial("tcp", strings.TrimPrefix(srv.URL, "http://"))
			if err != nil {
				b.Error(err)
				ready.Done()
				return
			}
			defer func() { _ = conn.Close() }()
			_, _ = conn.Write([]byte("GET /api/v1/stream?metrics=volume HTTP/1.1\r\nHost: x\r\n\r\n"))
			r, seen := bufio.NewReaderSize(conn, 256), 0
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if strings.HasPrefix(line, "data:") {
					if seen++; seen == 1 {
						ready.Done()
					} else {
						arrived <- time.Now()
					}
				}
			}
		}()
	}
	ready.Wait()
	runtime.GC()
	runtime.ReadMemStats(&after)
	var worst time.Duration
	for b.Loop() {
		begin := time.Now()
		f.change("volume", func() {})
		for range clients {
			worst = max(worst, (<-arrived).Sub(begin))
		}
	}
	b.ReportMetric(float64(after.Sys-before.Sys+after.StackInuse-before.StackInuse)/(1<<20), "MiB")
	b.ReportMetric(float64(after.HeapInuse-before.HeapInuse+after.StackInuse-before.StackInuse)/(1<<20), "MiB-in-use")
	b.ReportMetric(float64(worst.Milliseconds()), "ms-to-the-last")
	b.ReportMetric(float64(clients), "clients")
}
