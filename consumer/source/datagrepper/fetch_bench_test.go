package datagrepper

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"

	"github.com/statscache/statscache/internal/fakearchive"
)

// BenchmarkFetch is what the fetching side costs: the archive answers from memory, the sink does nothing.
func BenchmarkFetch(b *testing.B) {
	const events = 20_000
	archive := fakearchive.New(1, history(rand.New(rand.NewPCG(1, 1)), events, 10*86400))
	var answers sync.Map
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, ok := answers.Load(r.URL.RawQuery)
		if !ok {
			rec := httptest.NewRecorder()
			archive.ServeHTTP(rec, r)
			text = rec.Body.Bytes()
			answers.Store(r.URL.RawQuery, text)
		}
		_, _ = w.Write(text.([]byte))
	}))
	defer server.Close()
	for b.Loop() {
		state, err := OpenState(filepath.Join(b.TempDir(), "s"))
		if err != nil {
			b.Fatal(err)
		}
		r, err := Fetch(b.Context(), Options{URL: server.URL, Span: Span{epoch, epoch + 11*86400}, State: state, Sink: &serial{disk: &disk{}, lock: make(chan struct{}, 1)}})
		if err != nil || r.Events != events {
			b.Fatalf("%+v, %v", r, err)
		}
	}
	b.ReportMetric(events*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// FuzzEnvelope: whatever a message is, what comes of it is itself or JSON.
func FuzzEnvelope(f *testing.F) {
	f.Add([]byte(row("a", epoch+1, true).Raw))
	f.Add([]byte(row("a", epoch+1, false).Raw))
	f.Add([]byte(`{"body":1,"topic":"x","headers":{"sent-at":"2018-04-26 12:00:00"}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		out, err := Envelope(raw)
		if err == nil && string(out) != string(raw) && !json.Valid(out) {
			t.Fatalf("%q became %q", raw, out)
		}
	})
}
