package api

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// BenchmarkShortcut is what a kept answer costs without a network.
func BenchmarkShortcut(b *testing.B) {
	f := volumeStore()
	s := newTestServer(b, Options{Store: f, Now: time.Now})
	r := httptest.NewRequest(http.MethodGet, "/api/volume-1s", nil)
	r.Header.Set("Accept", "application/json")
	r.Header.Set("Accept-Encoding", "gzip, deflate, br, zstd")
	w := &bareWriter{header: http.Header{}}
	s.ServeHTTP(w, r)
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		s.ServeHTTP(w, r)
	}
}

type bareWriter struct{ header http.Header }

func (w *bareWriter) Header() http.Header         { return w.header }
func (w *bareWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w *bareWriter) WriteHeader(int)             {}

// BenchmarkUncached is what an answer of 1,000 rows costs after a commit: encoded and compressed anew.
func BenchmarkUncached(b *testing.B) {
	f := newFakeStore()
	f.add(originalMetrics()[1])
	for i := range int64(1000) {
		f.count("volume-by-category", time.Second, testNow-1000+i, fmt.Sprintf("category%d", i%40), i)
	}
	s := newTestServer(b, Options{Store: f, MaximumRows: 1000, Now: time.Now})
	for _, coding := range []string{"identity", "gzip", "zstd", "br"} {
		b.Run(coding, func(b *testing.B) {
			r := httptest.NewRequest(http.MethodGet, "/api/volume-by-category-1s?rows_per_page=1000", nil)
			r.Header.Set("Accept-Encoding", coding)
			w := &bareWriter{header: http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				f.change("volume-by-category", func() { f.rows["volume-by-category-1s"][500].N++ })
				clear(w.header)
				s.ServeHTTP(w, r)
			}
		})
	}
}
