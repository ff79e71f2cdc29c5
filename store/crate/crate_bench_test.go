package crate

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
)

// benchBlock makes events as a bus has them: bodies of about 700 bytes, a few hundred topics, users and packages.
func benchBlock(first uint64, n int) *block.Block {
	w := block.NewBuilder(func(string) string { return "buildsys" })
	for i := range n {
		x := int(first) + i
		id := fmt.Sprintf("2018-%032x", uint64(x)*0x9e3779b97f4a7c15)
		body := fmt.Sprintf(`{"msg_id":"%s","topic":"org.fedoraproject.prod.buildsys.task%d","i":%d,"msg":{"owner":"user%d","srpm":"pkg%d-1.%d-2.fc28.src.rpm","text":"%x"}}`,
			id, x%300, x, x%500, x%2000, x%90, make([]byte, 240))
		w.Add(&block.Event{ID: []byte(id), IDAt: 11, Topic: fmt.Appendf(nil, "org.fedoraproject.prod.buildsys.task%d", x%300),
			Time: time.Date(2018, 4, 26, 10, 0, 0, 0, time.UTC).UnixMicro() + int64(x)*1000, Source: "bench",
			Users: [][]byte{fmt.Appendf(nil, "user%d", x%500)}, Packages: [][]byte{fmt.Appendf(nil, "pkg%d", x%2000)}, Body: []byte(body)})
	}
	return w.Build(first, 1, false)
}

// BenchmarkArchive archives 4,096 events in a call: durable, refreshed and announced. They come in full blocks, as from a
// busy bus or history, or in those of a quiet one after an outage.
func BenchmarkArchive(b *testing.B) {
	for _, each := range []int{block.MaxEvents, 16} {
		b.Run(fmt.Sprintf("blocks-of-%d", each), func(b *testing.B) { benchArchive(b, each) })
	}
}

func benchArchive(b *testing.B, each int) {
	d := emptied(b)(b)
	ctx := context.Background()
	if _, err := d.Attach(ctx, "s"); err != nil {
		b.Fatal(err)
	}
	at, events, size := uint64(0), 0, 0
	b.ResetTimer()
	for b.Loop() {
		b.StopTimer()
		var blocks []*block.Block
		for range 4 * block.MaxEvents / each {
			x := benchBlock(at+1, each)
			blocks, at, events = append(blocks, x), x.Upto, events+x.Len()
		}
		b.StartTimer()
		if _, err := d.Archive(ctx, "s", blocks); err != nil {
			b.Fatal(err)
		}
		for _, x := range blocks {
			bodies, err := x.Bodies()
			if err != nil {
				b.Fatal(err)
			}
			for _, body := range bodies {
				size += len(body)
			}
		}
	}
	b.ReportMetric(float64(events)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(size)/float64(events), "bytes/body")
}

// BenchmarkCommit commits 2,000 counts at a time: half of them new rows, half of them rows that were there.
func BenchmarkCommit(b *testing.B) {
	d := emptied(b)(b)
	ctx := context.Background()
	c, _ := lateCheckpoint(b, d)
	series := make([]uint32, 1000)
	for i := range series {
		var err error
		if series[i], err = c.Series("n", fmt.Sprint("user", i)); err != nil {
			b.Fatal(err)
		}
	}
	rows, to := 0, uint64(0)
	for b.Loop() {
		to++
		var cells []store.Delta
		for _, bucket := range []int64{0, int64(to)} {
			for _, s := range series {
				cells = append(cells, store.Delta{Cell: store.MakeCell(bucket, s), N: 1})
			}
		}
		if err := c.Commit(ctx, &store.Commit{To: to, Counters: []store.CounterDeltas{{Metric: "n", Interval: time.Second, Cells: cells}}}); err != nil {
			b.Fatal(err)
		}
		rows += len(cells)
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkCommitSmall is the commit of a quiet bus: what its four round trips and the refreshes of readers cost.
func BenchmarkCommitSmall(b *testing.B) {
	d := emptied(b)(b)
	ctx := context.Background()
	c, _ := lateCheckpoint(b, d)
	s, err := c.Series("n", "k")
	if err != nil {
		b.Fatal(err)
	}
	for to := uint64(1); b.Loop(); to++ {
		m := &store.Commit{To: to, Counters: []store.CounterDeltas{{Metric: "n", Interval: time.Second, Cells: []store.Delta{{Cell: store.MakeCell(int64(to), s), N: 1}}}}}
		if err := c.Commit(ctx, m); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRows reads a page of 100 rows of 20,000.
func BenchmarkRows(b *testing.B) {
	d := emptied(b)(b)
	ctx := context.Background()
	c, _ := lateCheckpoint(b, d)
	var cells []store.Delta
	for bucket := range int64(200) {
		for k := range 100 {
			s, err := c.Series("n", fmt.Sprintf("user%d", k))
			if err != nil {
				b.Fatal(err)
			}
			cells = append(cells, store.Delta{Cell: store.MakeCell(bucket, s), N: 1})
		}
	}
	if err := c.Commit(ctx, &store.Commit{To: 1, Counters: []store.CounterDeltas{{Metric: "n", Interval: time.Second, Cells: cells}}}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		rows, total, err := d.Rows(ctx, store.RowQuery{Metric: "n", Interval: time.Second, To: 1000, Desc: true, Limit: 100})
		if err != nil || len(rows) != 100 || total != 20_000 {
			b.Fatal(len(rows), total, err)
		}
	}
}
