package sqlite

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/statscache/statscache/store"
)

// BenchmarkCommit commits 10,000 cells at a time: 50 series in each second, as time goes on. An iteration is one cell.
func BenchmarkCommit(b *testing.B) {
	for _, interval := range []time.Duration{time.Second, 24 * time.Hour} {
		b.Run(interval.String(), func(b *testing.B) {
			d := benchDB(b)
			ctx := context.Background()
			if _, err := d.Register(ctx, store.Plugin{ID: "p", Fingerprint: "f", Metrics: []store.Metric{{ID: "m", Intervals: []time.Duration{interval}}}}); err != nil {
				b.Fatal(err)
			}
			c, err := d.Checkpoint(ctx, store.CheckpointKey{Plugin: "p", Generation: 1, Stream: "s"})
			if err != nil {
				b.Fatal(err)
			}
			for i := range 50 {
				if _, err := c.Series("m", fmt.Sprint("key", i)); err != nil {
					b.Fatal(err)
				}
			}
			bucket, n, used := int64(1_524_736_800), 0, time.Duration(0)
			b.ResetTimer()
			for n < b.N {
				x := &store.Commit{To: c.Pos() + 1, Counters: []store.CounterDeltas{{Metric: "m", Interval: interval}}}
				for range 200 {
					bucket++
					for s := range uint32(50) {
						x.Counters[0].Cells = append(x.Counters[0].Cells, store.Delta{Cell: store.MakeCell(bucket, s+1), N: 3})
					}
				}
				bucket -= 20 // the next one meets some of these rows
				n += 10_000
				before := cpu()
				if err := c.Commit(ctx, x); err != nil {
					b.Fatal(err)
				}
				used += cpu() - before
			}
			b.ReportMetric(float64(used.Nanoseconds())/float64(n), "cpu-ns/cell")
		})
	}
}

// BenchmarkCommit_Small commits 20 cells of three metrics, as a quiet bus does ten times a second.
func BenchmarkCommit_Small(b *testing.B) {
	d := benchDB(b)
	ctx := context.Background()
	var metrics []store.Metric
	for i := range 3 {
		metrics = append(metrics, store.Metric{ID: fmt.Sprint("m", i), Intervals: []time.Duration{time.Second, time.Minute}})
	}
	if _, err := d.Register(ctx, store.Plugin{ID: "p", Fingerprint: "f", Metrics: metrics}); err != nil {
		b.Fatal(err)
	}
	c, err := d.Checkpoint(ctx, store.CheckpointKey{Plugin: "p", Generation: 1, Stream: "s"})
	if err != nil {
		b.Fatal(err)
	}
	for _, m := range metrics {
		for i := range 20 {
			if _, err := c.Series(m.ID, fmt.Sprint("key", i)); err != nil {
				b.Fatal(err)
			}
		}
	}
	at, before := int64(0), cpu()
	for b.Loop() {
		at++
		x := &store.Commit{To: c.Pos() + 5}
		for _, m := range metrics {
			for _, i := range m.Intervals {
				d := store.CounterDeltas{Metric: m.ID, Interval: i}
				for s := range uint32(3) {
					d.Cells = append(d.Cells, store.Delta{Cell: store.MakeCell(at/int64(i/time.Second), 1+s*5), N: 1})
				}
				x.Counters = append(x.Counters, d)
			}
		}
		if err := c.Commit(ctx, x); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((cpu()-before).Microseconds())/float64(b.N), "cpu-µs/op")
}

// BenchmarkSeries asks for the number of a known key.
func BenchmarkSeries(b *testing.B) {
	d := benchDB(b)
	ctx := context.Background()
	if _, err := d.Register(ctx, store.Plugin{ID: "p", Fingerprint: "f", Metrics: []store.Metric{{ID: "m", Intervals: []time.Duration{time.Second}}}}); err != nil {
		b.Fatal(err)
	}
	c, err := d.Checkpoint(ctx, store.CheckpointKey{Plugin: "p", Generation: 1, Stream: "s"})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := c.Series("m", "org.fedoraproject.prod.buildsys.task.state.change"); err != nil {
			b.Fatal(err)
		}
	}
}
