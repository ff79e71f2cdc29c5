package sqlite

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/statscache/statscache/store"
)

// benchYear is a store with a year of events by 5,000 users on 120 topics, a few of whom and of which make most of them:
// STATSCACHE_BENCH_EVENTS of them, or a million.
func benchYear(b *testing.B) *DB {
	b.Helper()
	events := 1_000_000
	if text := os.Getenv("STATSCACHE_BENCH_EVENTS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			b.Fatal(err)
		}
		events = n
	}
	ctx := context.Background()
	d, err := Open(ctx, Options{Path: filepath.Join(b.TempDir(), "statscache.db")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = d.Close() })
	if _, err := d.Attach(ctx, "stream"); err != nil {
		b.Fatal(err)
	}
	metrics := []store.Metric{
		{ID: "user", Kind: store.Counter, Dimensions: []store.Dimension{{Name: "user"}}, Intervals: []time.Duration{15 * time.Minute, time.Hour, 24 * time.Hour}},
		{ID: "user-topic", Kind: store.Counter, Dimensions: []store.Dimension{{Name: "user"}, {Name: "topic"}}, Intervals: []time.Duration{time.Hour, 24 * time.Hour}},
	}
	gen, err := d.Register(ctx, store.Plugin{ID: "p", Version: "1", DataVersion: 1, Fingerprint: "f", Metrics: metrics})
	if err != nil {
		b.Fatal(err)
	}
	cp, err := d.Checkpoint(ctx, store.CheckpointKey{Plugin: "p", Generation: gen.Serving, Stream: "stream"})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = cp.Close() }()
	r := rand.New(rand.NewPCG(1, 2))
	begin := time.Date(2018, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	const part = 50_000
	parts := max(1, events/part)
	for p := range parts {
		sums := make([]map[time.Duration]map[store.Cell]int64, len(metrics))
		for i := range sums {
			sums[i] = map[time.Duration]map[store.Cell]int64{}
			for _, iv := range metrics[i].Intervals {
				sums[i][iv] = map[store.Cell]int64{}
			}
		}
		span := int64(365 * 86400 / parts)
		for range min(part, events) {
			at := begin + int64(p)*span + r.Int64N(span)
			user, topic := fmt.Sprintf("user%d", min(r.IntN(5000), r.IntN(5000), r.IntN(5000))), fmt.Sprintf("org.example.prod.topic%d", min(r.IntN(120), r.IntN(120), r.IntN(120)))
			for i, key := range []string{user, store.JoinKey([]string{user, topic})} {
				n, err := cp.Series(metrics[i].ID, key)
				if err != nil {
					b.Fatal(err)
				}
				for _, iv := range metrics[i].Intervals {
					sums[i][iv][store.MakeCell(floorDiv(at, int64(iv/time.Second)), n)]++
				}
			}
		}
		c := &store.Commit{To: uint64(p + 1)}
		for i, m := range metrics {
			for _, iv := range m.Intervals {
				deltas := store.CounterDeltas{Metric: m.ID, Interval: iv}
				for _, cell := range slices.SortedFunc(maps.Keys(sums[i][iv]), cmp.Compare[store.Cell]) {
					deltas.Cells = append(deltas.Cells, store.Delta{Cell: cell, N: sums[i][iv][cell]})
				}
				c.Counters = append(c.Counters, deltas)
			}
		}
		if err := cp.Commit(ctx, c); err != nil {
			b.Fatal(err)
		}
	}
	return d
}

// BenchmarkSums asks what pages and widgets ask, of a year of events.
func BenchmarkSums(b *testing.B) {
	d := benchYear(b)
	at := func(month time.Month, day int) int64 { return time.Date(2018, month, day, 0, 0, 0, 0, time.UTC).Unix() }
	const hour, day = time.Hour, 24 * time.Hour
	one := func(dim int, value string) store.Match { return store.Match{Dim: dim, In: []string{value}} }
	for _, c := range []struct {
		name string
		q    store.SumQuery
	}{
		{"count-user-topic-year", store.SumQuery{Metric: "user-topic", Interval: day, From: at(1, 1), To: at(13, 1), Where: []store.Match{one(0, "user7"), one(1, "org.example.prod.topic3")}}},
		{"count-user-year", store.SumQuery{Metric: "user-topic", Interval: day, From: at(1, 1), To: at(13, 1), Where: []store.Match{one(0, "user7")}}},
		{"calendar-user-days", store.SumQuery{Metric: "user", Interval: day, From: at(1, 1), To: at(13, 1), Where: []store.Match{one(0, "user7")}, Step: 86400, Origin: at(1, 1)}},
		{"calendar-user-hours", store.SumQuery{Metric: "user", Interval: hour, From: at(1, 1), To: at(13, 1), Where: []store.Match{one(0, "user7")}, Step: 86400, Origin: at(1, 1) - 3600}},
		{"calendar-user-quarters", store.SumQuery{Metric: "user", Interval: 15 * time.Minute, From: at(1, 1), To: at(13, 1), Where: []store.Match{one(0, "user7")}, Step: 86400, Origin: at(1, 1) - 19800}},
		{"top20-30d", store.SumQuery{Metric: "user", Interval: day, From: at(4, 1), To: at(5, 1), By: []int{0}, Top: 20}},
		{"top20-30d-of-two", store.SumQuery{Metric: "user-topic", Interval: day, From: at(4, 1), To: at(5, 1), By: []int{0}, Top: 20}},
		{"total-30d", store.SumQuery{Metric: "user-topic", Interval: day, From: at(4, 1), To: at(5, 1)}},
		{"series-30d-hours", store.SumQuery{Metric: "user", Interval: hour, From: at(4, 1), To: at(5, 1), Step: 3600}},
		{"series-year-days", store.SumQuery{Metric: "user", Interval: day, From: at(1, 1), To: at(13, 1), Step: 86400}},
		{"series-30d-hours-of-one", store.SumQuery{Metric: "user", Interval: hour, From: at(4, 1), To: at(5, 1), Step: 3600, Where: []store.Match{one(0, "user7")}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			if _, err := d.Sums(b.Context(), c.q); err != nil { // the pages are in memory then
				b.Fatal(err)
			}
			before, n := cpu(), 0
			for b.Loop() {
				sums, err := d.Sums(b.Context(), c.q)
				if err != nil {
					b.Fatal(err)
				}
				n = len(sums)
			}
			b.ReportMetric(float64((cpu()-before).Microseconds())/1000/float64(b.N), "cpu-ms/op")
			b.ReportMetric(float64(n), "sums")
		})
	}
}
