package api

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/store"
	"github.com/statscache/statscache/store/sqlite"
)

func TestSQLite_CommitsShowAtOnce(t *testing.T) {
	ctx := t.Context()
	db, err := sqlite.Open(ctx, sqlite.Options{Path: filepath.Join(t.TempDir(), "statscache.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	clock := clockAt(testNow)
	s := newTestServer(t, Options{Store: db, Now: clock.Now})
	if got := get(s, http.MethodGet, "/api/").Body.String(); got != "[]" {
		t.Fatalf("an empty store serves %s", got)
	}
	if _, err := db.Attach(ctx, "stream"); err != nil {
		t.Fatal(err)
	}
	gen, err := db.Register(ctx, store.Plugin{ID: "volume", Version: "1", DataVersion: 1, Fingerprint: "f", Metrics: originalMetrics()})
	if err != nil {
		t.Fatal(err)
	}
	clock.Advance(directoryLife)
	cp, err := db.Checkpoint(ctx, store.CheckpointKey{Plugin: "volume", Generation: gen.Serving, Stream: "stream"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cp.Close() }()
	commit := func(to uint64, category string, n int64) {
		t.Helper()
		series, err := cp.Series("volume-by-category", category)
		if err != nil {
			t.Fatal(err)
		}
		if err := cp.Commit(ctx, &store.Commit{To: to,
			Counters: []store.CounterDeltas{{Metric: "volume-by-category", Interval: time.Minute, Cells: []store.Delta{
				{Cell: store.MakeCell(1524700800/60, series), N: n}}}},
			Puts: []store.Put{{Metric: releng, Key: store.JoinKey([]string{"updates", category}), Time: int64(to) * 1e6, ID: "x", Value: []byte(`{"a":1}`)}},
		}); err != nil {
			t.Fatal(err)
		}
	}
	commit(1, "zoë", 3)
	commit(2, "git", 2)
	for path, want := range map[string]string{
		"/api/volume-by-category-1m":                        `[{"category":"git","timestamp":1524700860,"volume":2},{"category":"zoë","timestamp":1524700860,"volume":3}]`,
		"/api/volume-by-category-1m?rows_per_page=1&page=2": `[{"category":"zoë","timestamp":1524700860,"volume":3}]`,
		"/api/volume-by-category-1m?start=1524700861":       `[]`,
		"/api/volume-by-category-1s":                        `[]`,
		"/api/" + releng:                                    `[{"category":"updates","category_constraint":"git","message":"{\"a\":1}","timestamp":2},{"category":"updates","category_constraint":"zoë","message":"{\"a\":1}","timestamp":1}]`,
	} {
		if got := get(s, http.MethodGet, path).Body.String(); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", path, got, want)
		}
	}
	tag := get(s, http.MethodGet, "/api/volume-by-category-1m").Header().Get("ETag")
	commit(3, "git", 5)
	w := get(s, http.MethodGet, "/api/volume-by-category-1m", "If-None-Match", tag)
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"git","timestamp":1524700860,"volume":7`) {
		t.Errorf("after a commit: %d %s", w.Code, w.Body)
	}
	if got := get(s, http.MethodGet, "/api/v1/metrics/volume-by-category").Body.String(); !strings.Contains(got, `"first":"2018-04-26T00:00:00Z","last":"2018-04-26T00:00:00Z"`) {
		t.Errorf("described as %s", got)
	}
}
