package sqlite

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/statscache/statscache/store"
)

// TestCommit_OnAFullDisk_CountsOnceWhenThereIsRoom: new series of a commit that failed keep their numbers, and the
// day table's twin in the order of (series, day) agrees with it.
func TestCommit_OnAFullDisk_CountsOnceWhenThereIsRoom(t *testing.T) {
	d := fresh(t)(t)
	defer func() { _ = d.Close() }()
	ctx := t.Context()
	const day = 24 * time.Hour
	if _, err := d.Register(ctx, store.Plugin{ID: "p", Fingerprint: "f", Metrics: []store.Metric{{ID: "m", Kind: store.Counter, Intervals: []time.Duration{day}}}}); err != nil {
		t.Fatal(err)
	}
	c, err := d.Checkpoint(ctx, store.CheckpointKey{Plugin: "p", Generation: 1, Stream: "s"})
	if err != nil {
		t.Fatal(err)
	}
	deltas := func(round int) store.CounterDeltas {
		x := store.CounterDeltas{Metric: "m", Interval: day}
		numbers := map[uint32]bool{}
		for bucket := int64(-3); bucket < 3; bucket++ {
			for i := range 1500 {
				n, err := c.Series("m", fmt.Sprintf("key %d", round*1000+i))
				if err != nil {
					t.Fatal(err)
				}
				numbers[n] = true
				x.Cells = append(x.Cells, store.Delta{Cell: store.MakeCell(bucket, n), N: 1})
			}
		}
		if len(numbers) != 1500 {
			t.Fatalf("%d numbers for 1500 keys", len(numbers))
		}
		return x
	}
	for round := range 3 {
		x := &store.Commit{To: uint64(round + 1), Counters: []store.CounterDeltas{deltas(round)}}
		pages, err := d.writerInt("PRAGMA page_count")
		if err != nil {
			t.Fatal(err)
		}
		for _, more := range []int64{0, 2, 10} {
			if _, err := d.writerInt(fmt.Sprintf("PRAGMA max_page_count=%d", pages+more)); err != nil {
				t.Fatal(err)
			}
			before := d.Version("m")
			if err := c.Commit(ctx, x); !errors.Is(err, store.ErrUnavailable) || c.Pos() != uint64(round) || d.Version("m") != before {
				t.Fatalf("with %d pages left: %v, at %d; want ErrUnavailable and nothing else", more, err, c.Pos())
			}
		}
		if _, err := d.writerInt("PRAGMA max_page_count=4294967294"); err != nil {
			t.Fatal(err)
		}
		if err := c.Commit(ctx, x); err != nil {
			t.Fatal(err)
		}
	}
	rows := 0
	if err := d.EachCell(ctx, store.CellQuery{Plugin: "p", Metric: "m", Generation: 1, Interval: day, From: -1 << 40, To: 1 << 40}, func(r store.Row) error {
		rows++
		i, want := 0, int64(1)
		if _, err := fmt.Sscanf(r.Key, "key %d", &i); err != nil {
			return err
		}
		if i >= 1000 && i < 1500 || i >= 2000 && i < 2500 {
			want = 2
		}
		if r.N != want {
			return fmt.Errorf("row %+v, want %d", r, want)
		}
		return nil
	}); err != nil || rows != 6*3500 {
		t.Fatalf("%d rows, %v; want %d", rows, err, 6*3500)
	}
	sameTwin(t, d, "count_1_86400")
}

// sameTwin compares a day table with its twin.
func sameTwin(t *testing.T, d *DB, table string) {
	t.Helper()
	if err := d.read(t.Context(), "compare", func(c *conn) error {
		want := map[int64]int64{}
		if err := c.each("SELECT k, n FROM "+table, func(s *sqlite.Stmt) error {
			want[byKey(store.Cell(s.ColumnInt64(0)))] = s.ColumnInt64(1)
			return nil
		}); err != nil {
			return err
		}
		n := 0
		err := c.each("SELECT k, n FROM "+table+"_series", func(s *sqlite.Stmt) error {
			n++
			if want[s.ColumnInt64(0)] != s.ColumnInt64(1) {
				return fmt.Errorf("%d of series %d on day %d, want %d", s.ColumnInt64(1), s.ColumnInt64(0)>>dayBits, s.ColumnInt64(0)&(1<<dayBits-1)-dayZero, want[s.ColumnInt64(0)])
			}
			return nil
		})
		if err == nil && n != len(want) {
			err = fmt.Errorf("%d rows, want %d", n, len(want))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// TestExpire_DayTableAndItsTwin removes the same rows from both.
func TestExpire_DayTableAndItsTwin(t *testing.T) {
	d := fresh(t)(t)
	defer func() { _ = d.Close() }()
	ctx := t.Context()
	if _, err := d.Register(ctx, store.Plugin{ID: "p", Fingerprint: "f", Metrics: []store.Metric{{ID: "m", Kind: store.Counter, Intervals: []time.Duration{24 * time.Hour}}}}); err != nil {
		t.Fatal(err)
	}
	c, err := d.Checkpoint(ctx, store.CheckpointKey{Plugin: "p", Generation: 1, Stream: "s"})
	if err != nil {
		t.Fatal(err)
	}
	x := store.CounterDeltas{Metric: "m", Interval: 24 * time.Hour}
	for bucket := range int64(4000) {
		for i := range 6 {
			n, err := c.Series("m", fmt.Sprint("key", i))
			if err != nil {
				t.Fatal(err)
			}
			x.Cells = append(x.Cells, store.Delta{Cell: store.MakeCell(bucket-2000, n), N: bucket})
		}
	}
	if err := c.Commit(ctx, &store.Commit{To: 1, Counters: []store.CounterDeltas{x}}); err != nil {
		t.Fatal(err)
	}
	n, err := d.ExpireCounters(ctx, []store.Horizon{{Metric: "m", Interval: 24 * time.Hour, Before: 500 * daySeconds}})
	if err != nil || n != 2500*6 {
		t.Fatalf("%d rows removed, %v; want %d", n, err, 2500*6)
	}
	sameTwin(t, d, "count_1_86400")
}

// TestCommitted_IsTheSameForAll holds the time of a commit to be the commit's, in every process that has the file open.
func TestCommitted_IsTheSameForAll(t *testing.T) {
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "statscache.db")
	at := time.Date(2018, 4, 26, 12, 0, 0, 5e6, time.UTC)
	d, err := Open(ctx, Options{Path: path, Now: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	if _, err := d.Attach(ctx, "s"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Register(ctx, store.Plugin{ID: "p", Fingerprint: "f", Metrics: []store.Metric{{ID: "m", Intervals: []time.Duration{time.Hour}}}}); err != nil {
		t.Fatal(err)
	}
	c, err := d.Checkpoint(ctx, store.CheckpointKey{Plugin: "p", Generation: 1, Stream: "s"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(2) {
		at = at.Add(time.Minute)
		if err := c.Commit(ctx, &store.Commit{To: i + 1, Counters: []store.CounterDeltas{{Metric: "m", Interval: time.Hour, Cells: []store.Delta{{Cell: store.MakeCell(1, 0), N: 1}}}}}); err != nil {
			t.Fatal(err)
		}
	}
	other, err := Open(ctx, Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	for name, x := range map[string]*DB{"the one that committed": d, "another one": other} {
		version, got, err := x.Committed(ctx, "m")
		if err != nil || version != d.Version("m") || !got.Equal(at) {
			t.Errorf("%s: version %d of %s, %v; want %d of %s", name, version, got, err, d.Version("m"), at)
		}
	}
	if _, got, err := d.Committed(ctx, "unknown"); err != nil || !got.IsZero() {
		t.Errorf("a metric that isn't there was committed %s (%v)", got, err)
	}
}
