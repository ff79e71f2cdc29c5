package api

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/statscache/statscache/store"
	"github.com/statscache/statscache/store/sqlite"
)

func TestV1_SeriesLimitIsShownWithWhatWentBeyondIt(t *testing.T) {
	ctx := t.Context()
	db, err := sqlite.Open(ctx, sqlite.Options{Path: filepath.Join(t.TempDir(), "statscache.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	intervals := []time.Duration{time.Minute, time.Hour}
	if _, err := db.Register(ctx, store.Plugin{ID: "p", Fingerprint: "f", Metrics: []store.Metric{
		{ID: "m", Kind: store.Counter, Dimensions: []store.Dimension{{Name: "a"}, {Name: "b"}}, Intervals: intervals, SeriesLimit: 2}}}); err != nil {
		t.Fatal(err)
	}
	cp, err := db.Checkpoint(ctx, store.CheckpointKey{Plugin: "p", Generation: 1, Stream: "s"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cp.Close() }()
	s := newTestServer(t, Options{Store: db})
	for to, want := range []struct{ series, other int64 }{{1, 0}, {2, 0}, {2, 7}, {2, 14}} {
		n, err := cp.Series("m", store.JoinKey([]string{"x", string(rune('a' + to))}))
		if err != nil {
			t.Fatal(err)
		}
		var counts []store.CounterDeltas
		for _, i := range intervals {
			counts = append(counts, store.CounterDeltas{Metric: "m", Interval: i, Cells: []store.Delta{{Cell: store.MakeCell(1524700800/int64(i/time.Second), n), N: 7}}})
		}
		if err := cp.Commit(ctx, &store.Commit{To: uint64(to + 1), Counters: counts}); err != nil {
			t.Fatal(err)
		}
		m := ask[metricList](t, s, "/api/v1/metrics/m").Metrics[0]
		if m.Series == nil || m.Other == nil || int64(*m.Series) != want.series || *m.Other != want.other || m.SeriesLimit == nil || *m.SeriesLimit != 2 {
			t.Errorf("after %d series: %+v, want %+v", to+1, m, want)
		}
	}
}
