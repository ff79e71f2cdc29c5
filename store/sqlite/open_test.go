package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	raw "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/internal/eventually"
	"github.com/statscache/statscache/store"
	"github.com/statscache/statscache/store/storetest"
)

// script runs SQL on a file, as another program would.
func script(t testing.TB, path, sql string) {
	t.Helper()
	c, err := raw.OpenConn(path, raw.OpenReadWrite, raw.OpenCreate)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := sqlitex.ExecuteScript(c, sql, nil); err != nil {
		t.Fatal(err)
	}
}

func TestOpen_WhatIsNotOurs_IsRefusedAndLeftAlone(t *testing.T) {
	for name, x := range map[string]struct {
		make func(path string)
		want error
		says string
	}{
		"original statscache": {func(p string) {
			script(t, p, `CREATE TABLE data_volume_1s(id INTEGER PRIMARY KEY, volume INT); CREATE TABLE other(x)`)
		}, store.ErrForeign, "original statscache (table data_volume_1s)"},
		"another program":      {func(p string) { script(t, p, `CREATE TABLE users(x)`) }, store.ErrForeign, "another file"},
		"another program's id": {func(p string) { script(t, p, `PRAGMA application_id=77`) }, store.ErrForeign, "application id 77"},
		"a newer one": {func(p string) {
			script(t, p, fmt.Sprintf("PRAGMA application_id=%d; PRAGMA user_version=99", applicationID))
		}, store.ErrNewer, "layout 99"},
		"no database": {func(p string) {
			if err := os.WriteFile(p, []byte(strings.Repeat("this is no database\n", 500)), 0o600); err != nil {
				t.Fatal(err)
			}
		}, store.ErrForeign, "not a SQLite database"},
	} {
		for _, readOnly := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/readonly=%v", name, readOnly), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "x.db")
				x.make(path)
				before, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				d, err := Open(t.Context(), Options{Path: path, ReadOnly: readOnly})
				if err == nil {
					_ = d.Close()
				}
				if !errors.Is(err, x.want) || !strings.Contains(err.Error(), x.says) || !strings.Contains(err.Error(), path) {
					t.Fatalf("%v; want %v that says %q and the path", err, x.want, x.says)
				}
				after, err := os.ReadFile(path)
				if err != nil || string(after) != string(before) {
					t.Fatalf("the file was changed, %v", err)
				}
			})
		}
	}
}

func TestOpen_EmptyFile_IsTaken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d := open(t, Options{Path: path})
	if d.Kind() != "sqlite" || d.Ping(t.Context()) != nil {
		t.Fatal("it doesn't answer")
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatalf("a second Close: %v", err)
	}
	if err := d.Ping(t.Context()); err == nil {
		t.Fatal("a closed store answers")
	}
	if _, err := d.Attach(t.Context(), "s"); err == nil {
		t.Fatal("a closed store writes")
	}
}

func TestOpen_Unreachable_IsUnavailable(t *testing.T) {
	for name, o := range map[string]Options{
		"no folder":               {Path: filepath.Join(t.TempDir(), "no", "x.db")},
		"nothing to read":         {Path: filepath.Join(t.TempDir(), "x.db"), ReadOnly: true},
		"not brought up to date":  {Path: filepath.Join(t.TempDir(), "y.db"), ReadOnly: true},
		"a folder, not a file":    {Path: t.TempDir()},
		"a folder for reading of": {Path: t.TempDir(), ReadOnly: true},
	} {
		if strings.HasSuffix(o.Path, "y.db") {
			if err := os.WriteFile(o.Path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Open(t.Context(), o); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: %v, want ErrUnavailable", name, err)
		}
	}
}

// TestReadOnly_FollowsTheWriter reads beside a writer, and alone once the writer has gone.
func TestReadOnly_FollowsTheWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	w := open(t, Options{Path: path})
	ctx := t.Context()
	if _, err := w.Attach(ctx, "s"); err != nil {
		t.Fatal(err)
	}
	p := store.Plugin{ID: "p", Fingerprint: "f", Metrics: []store.Metric{{ID: "m", Kind: store.Counter, Intervals: []time.Duration{time.Second}}}}
	if _, err := w.Register(ctx, p); err != nil {
		t.Fatal(err)
	}
	c, err := w.Checkpoint(ctx, store.CheckpointKey{Plugin: "p", Generation: 1, Stream: "s"})
	if err != nil {
		t.Fatal(err)
	}
	for life := range uint64(2) {
		r := open(t, Options{Path: path, ReadOnly: true})
		before := r.Version("m")
		if before != w.Version("m") {
			t.Fatalf("opens with version %d, want %d", before, w.Version("m"))
		}
		n, err := c.Series("m", "key")
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Commit(ctx, &store.Commit{To: life + 1, Counters: []store.CounterDeltas{{Metric: "m", Interval: time.Second, Cells: []store.Delta{{Cell: store.MakeCell(1, n), N: 5}}}}}); err != nil {
			t.Fatal(err)
		}
		eventually.True(t, time.Minute, "the reader follows", func() bool { return r.Version("m") == w.Version("m") })
		if life == 1 {
			if err := w.Close(); err != nil { // the last writer takes the log away
				t.Fatal(err)
			}
			again := open(t, Options{Path: path, ReadOnly: true})
			defer func() { _ = again.Close() }()
			for _, x := range []*DB{r, again} {
				rows, _, err := x.Rows(ctx, store.RowQuery{Metric: "m", Interval: time.Second, To: 10, Limit: 5})
				if err != nil || len(rows) != 1 || rows[0].N != 10 {
					t.Fatalf("rows %+v, %v", rows, err)
				}
			}
		}
		if _, err := r.Attach(ctx, "t"); err == nil || errors.Is(err, store.ErrUnavailable) {
			t.Fatalf("a read-only store writes, or asks to try again: %v", err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFull_IsUnavailableAndThenGoesOn lets the database reach a size limit, as a full disk does, and lifts it.
func TestFull_IsUnavailableAndThenGoesOn(t *testing.T) {
	again := small(t)
	d := again(t)
	defer func() { _ = d.Close() }()
	m := newModel(t, d, 9)
	for range 30 {
		m.play()
	}
	pages, err := d.writerInt("PRAGMA page_count")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.writerInt(fmt.Sprintf("PRAGMA max_page_count=%d", pages+3)); err != nil {
		t.Fatal(err)
	}
	list := storetest.Events("full", 0, 1000)
	blocks := []*block.Block{storetest.Block(m.at[0]+1, list)}
	for range 3 {
		if _, err := d.Archive(t.Context(), "s0", blocks); !errors.Is(err, store.ErrUnavailable) {
			t.Fatalf("%v, want ErrUnavailable", err)
		}
		if at, err := d.Attach(t.Context(), "s0"); err != nil || at != m.at[0] {
			t.Fatalf("archived to %d, %v; want %d", at, err, m.at[0])
		}
	}
	if _, err := d.writerInt("PRAGMA max_page_count=4294967294"); err != nil {
		t.Fatal(err)
	}
	out, err := d.Archive(t.Context(), "s0", blocks)
	if err != nil || out[0].Owned.Len() != 1000 {
		t.Fatalf("with room again: %v", err)
	}
	m.at[0] += 1000
	for range 30 {
		m.play()
	}
	checkAfterReopen(t, d, again)
}

// TestInterrupted_AnywhereCanBeRepeated cancels calls at random moments and repeats them.
func TestInterrupted_AnywhereCanBeRepeated(t *testing.T) {
	again := small(t)
	d := again(t)
	defer func() { _ = d.Close() }()
	m := newModel(t, d, 10)
	cancelled := 0
	for i := range 150 {
		list := storetest.Events(fmt.Sprint("i", i), 0, 1+m.r.IntN(300))
		blocks := []*block.Block{storetest.Block(m.at[0]+1, list)}
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(m.r.IntN(4000))*time.Microsecond)
		_, err := d.Archive(ctx, "s0", blocks)
		cancel()
		if err != nil {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("%v, want the context's error", err)
			}
			cancelled++
			if _, err := d.Archive(t.Context(), "s0", blocks); err != nil {
				t.Fatal(err)
			}
		}
		m.at[0] += uint64(len(list))
	}
	t.Logf("%d of 150 calls were interrupted", cancelled)
	total := 0
	blocks, upto, err := d.Read(t.Context(), store.ReadRequest{Stream: "s0", Events: 1 << 30})
	for _, b := range blocks {
		total += b.Len()
	}
	if err != nil || upto != m.at[0] || uint64(total) != m.at[0] {
		t.Fatalf("%d events up to %d, %v; want %d", total, upto, err, m.at[0])
	}
	checkAfterReopen(t, d, again)
}

// checkAfterReopen compares memory with what a new life reads, and the indexes with the events.
func checkAfterReopen(t *testing.T, d *DB, again storetest.Open[*DB]) {
	t.Helper()
	before := memoryOf(t, d)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = again(t)
	defer func() { _ = d.Close() }()
	if after := memoryOf(t, d); fmt.Sprint(before) != fmt.Sprint(after) {
		t.Fatalf("memory differs after reopening:\n%+v\n%+v", before, after)
	}
	checkIndexes(t, d)
}

// TestTwoWriters_OfOneFile lets two stores write turn by turn, as a command beside a daemon might.
func TestTwoWriters_OfOneFile(t *testing.T) {
	again := small(t)
	a, b := again(t), again(t)
	defer func() { _ = b.Close() }()
	m := newModel(t, a, 11)
	for i := range 60 {
		m.d = []*DB{a, b}[i%2]
		m.play()
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	checkIndexes(t, b)
}

// TestTwoWriters_NumberTheSameSeries: whoever commits second is told to begin again, and no count lands elsewhere.
func TestTwoWriters_NumberTheSameSeries(t *testing.T) {
	again := fresh(t)
	a, b := again(t), again(t)
	defer func() { _, _ = a.Close(), b.Close() }()
	ctx := t.Context()
	p := store.Plugin{ID: "p", Fingerprint: "f", Metrics: []store.Metric{{ID: "m", Kind: store.Counter, Intervals: []time.Duration{time.Second}}}}
	if _, err := a.Register(ctx, p); err != nil {
		t.Fatal(err)
	}
	begin := func(d *DB, stream string) store.Checkpoint {
		c, err := d.Checkpoint(ctx, store.CheckpointKey{Plugin: "p", Generation: 1, Stream: stream})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	add := func(c store.Checkpoint, number uint32) error {
		return c.Commit(ctx, &store.Commit{To: c.Pos() + 1, Counters: []store.CounterDeltas{{Metric: "m", Interval: time.Second, Cells: []store.Delta{{Cell: store.MakeCell(1, number), N: 1}}}}})
	}
	number := func(c store.Checkpoint, key string) uint32 {
		n, err := c.Series("m", key)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	x, y := begin(a, "x"), begin(b, "y")
	nx, ny := number(x, "first"), number(y, "second")
	if err := add(x, nx); err != nil {
		t.Fatal(err)
	}
	if err := add(y, ny); !errors.Is(err, store.ErrFenced) {
		t.Fatalf("the second process's commit: %v, want ErrFenced", err)
	}
	y = begin(b, "y")
	if err := add(y, number(y, "second")); err != nil {
		t.Fatal(err)
	}
	if err := add(x, number(x, "third")); !errors.Is(err, store.ErrFenced) { // the other one has written since
		t.Fatalf("the first process's commit: %v, want ErrFenced", err)
	}
	x = begin(a, "x")
	for _, key := range []string{"second", "third"} {
		if err := add(x, number(x, key)); err != nil {
			t.Fatal(err)
		}
	}
	rows, _, err := a.Rows(ctx, store.RowQuery{Metric: "m", Interval: time.Second, To: 9, Limit: 9})
	if want := []store.Row{{Time: 1, Key: "first", N: 1}, {Time: 1, Key: "second", N: 2}, {Time: 1, Key: "third", N: 1}}; err != nil || fmt.Sprint(rows) != fmt.Sprint(want) {
		t.Fatalf("rows %+v, %v; want %+v", rows, err, want)
	}
}
