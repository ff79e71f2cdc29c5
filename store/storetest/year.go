package storetest

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/statscache/statscache/store"
)

// yearCommit is how many events a commit of Year holds.
const yearCommit = 50_000

// Year counts events of 2018 by 5,000 users on 120 topics, a few of whom and of which make most of them, for benchmarks:
// the metrics "user" and "user-topic".
func Year(tb testing.TB, s store.Store, events int) {
	tb.Helper()
	const quarter, hour, day = 15 * time.Minute, time.Hour, 24 * time.Hour
	user, topic := store.Dimension{Name: "user"}, store.Dimension{Name: "topic"}
	metrics := []store.Metric{
		{ID: "user", Kind: store.Counter, Dimensions: []store.Dimension{user}, Intervals: []time.Duration{quarter, hour, day}},
		{ID: "user-topic", Kind: store.Counter, Dimensions: []store.Dimension{user, topic}, Intervals: []time.Duration{hour, day}},
	}
	cp := yearCheckpoint(tb, s, metrics)
	defer func() { _ = cp.Close() }() // everything is committed
	r, begin := rand.New(rand.NewPCG(1, 2)), time.Date(2018, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	parts := max(1, events/yearCommit)
	for p := range parts {
		sums := map[string]map[time.Duration]map[store.Cell]int64{}
		for _, m := range metrics {
			sums[m.ID] = map[time.Duration]map[store.Cell]int64{}
			for _, iv := range m.Intervals {
				sums[m.ID][iv] = map[store.Cell]int64{}
			}
		}
		span := int64(365 * 86400 / parts)
		for range min(yearCommit, events) {
			at := begin + int64(p)*span + r.Int64N(span)
			who, what := fmt.Sprintf("user%d", fewest(r, 5000)), fmt.Sprintf("org.example.prod.topic%d", fewest(r, 120))
			for id, key := range map[string]string{"user": who, "user-topic": store.JoinKey([]string{who, what})} {
				n, err := cp.Series(id, key)
				if err != nil {
					tb.Fatal(err)
				}
				for iv, cells := range sums[id] {
					cells[store.MakeCell(at/int64(iv/time.Second), n)]++
				}
			}
		}
		c := &store.Commit{To: uint64(p + 1)}
		for _, m := range metrics {
			for _, iv := range m.Intervals {
				deltas := store.CounterDeltas{Metric: m.ID, Interval: iv}
				for _, cell := range slices.SortedFunc(maps.Keys(sums[m.ID][iv]), cmp.Compare[store.Cell]) {
					deltas.Cells = append(deltas.Cells, store.Delta{Cell: cell, N: sums[m.ID][iv][cell]})
				}
				c.Counters = append(c.Counters, deltas)
			}
		}
		if err := cp.Commit(tb.Context(), c); err != nil {
			tb.Fatal(err)
		}
	}
}

// yearCheckpoint opens the checkpoint of a plugin with some metrics.
func yearCheckpoint(tb testing.TB, s store.Store, metrics []store.Metric) store.Checkpoint {
	tb.Helper()
	if _, err := s.Attach(tb.Context(), "stream"); err != nil {
		tb.Fatal(err)
	}
	gen, err := s.Register(tb.Context(), store.Plugin{ID: "p", Version: "1", DataVersion: 1, Fingerprint: "f", Metrics: metrics})
	if err != nil {
		tb.Fatal(err)
	}
	cp, err := s.Checkpoint(tb.Context(), store.CheckpointKey{Plugin: "p", Generation: gen.Serving, Stream: "stream"})
	if err != nil {
		tb.Fatal(err)
	}
	return cp
}

// fewest draws a number below n, small ones more often.
func fewest(r *rand.Rand, n int) int { return min(r.IntN(n), r.IntN(n), r.IntN(n)) }
