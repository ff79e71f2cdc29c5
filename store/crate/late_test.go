package crate

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/internal/cratetest"
	"github.com/statscache/statscache/store"
	"github.com/statscache/statscache/store/storetest"
)

// flaky is a database of which many statements are not waited for: executed or not, nobody knows.
func flaky(t testing.TB) storetest.Open[*DB] {
	url := cratetest.Reuse(t)
	return func(t testing.TB) *DB {
		r, mu, on := rand.New(rand.NewPCG(1, 2)), sync.Mutex{}, atomic.Bool{}
		d, err := open(testContext(t), options(t, url), func() time.Duration {
			mu.Lock()
			defer mu.Unlock()
			if on.Load() && r.IntN(5) == 0 {
				return time.Duration(1+r.IntN(15)) * time.Millisecond
			}
			return 20 * time.Second
		})
		if err != nil {
			t.Fatal(err)
		}
		on.Store(true)
		return d
	}
}

func TestFencing_AnswersLost(t *testing.T) {
	needLong(t)
	storetest.Fencing(t, flaky)
}

func TestArchive_OddEvents_ComeBackExactly(t *testing.T) {
	d := fresh(t)(t)
	ctx := testContext(t)
	if _, err := d.Attach(ctx, "s"); err != nil {
		t.Fatal(err)
	}
	b := oddBlock()
	for range 2 { // the second time they are all in the way of themselves
		d.streams["s"].cur.row.archivedTo = 0
		out, err := d.Archive(ctx, "s", []*block.Block{b})
		if err == nil && (out[0].Owned.Len() != b.Len() || out[0].Duplicates != 0) {
			t.Fatalf("%d owned, %d duplicates", out[0].Owned.Len(), out[0].Duplicates)
		}
		if err != nil {
			t.Fatal(err)
		}
		if d.streams["s"].cur, err = d.streamGuard("s").read(ctx); err != nil {
			t.Fatal(err)
		}
	}
	blocks, _, err := d.Read(ctx, store.ReadRequest{Stream: "s", Bodies: true})
	if err != nil {
		t.Fatal(err)
	}
	sameBlocks(t, blocks, b)
}

func TestAttach_SecondProcess_FencesTheFirst(t *testing.T) {
	open := fresh(t)
	first, second := open(t), open(t)
	ctx := testContext(t)
	for _, d := range []*DB{first, second} {
		if at, err := d.Attach(ctx, "s"); err != nil || at != 0 {
			t.Fatal(at, err)
		}
	}
	in := []*block.Block{storetest.Block(1, storetest.Events("e", 0, 30))}
	for range 2 {
		if _, err := first.Archive(ctx, "s", in); !errors.Is(err, store.ErrFenced) {
			t.Fatalf("the first owner archives: %v, want ErrFenced", err)
		}
	}
	// What the first one inserted before it knew has the same stream and positions: it is the second one's.
	out, err := second.Archive(ctx, "s", in)
	if err != nil || out[0].Owned.Len() != 30 || out[0].Duplicates != 0 {
		t.Fatalf("%+v, %v", out, err)
	}
	if _, upto, err := first.Read(ctx, store.ReadRequest{Stream: "s"}); err != nil || upto != 30 {
		t.Fatalf("read up to %d, %v", upto, err)
	}
}

func latePlugin() store.Plugin {
	return store.Plugin{ID: "p", Fingerprint: "f", Metrics: []store.Metric{
		{ID: "n", Kind: store.Counter, Dimensions: []store.Dimension{{Name: "key"}}, Intervals: []time.Duration{time.Second}}, {ID: "v", Kind: store.Latest}}}
}

func lateCommit(t *testing.T, c store.Checkpoint, to uint64, n int64) *store.Commit {
	t.Helper()
	s, err := c.Series("n", "k")
	if err != nil {
		t.Fatal(err)
	}
	return &store.Commit{To: to, Counters: []store.CounterDeltas{{Metric: "n", Interval: time.Second, Cells: []store.Delta{{Cell: store.MakeCell(1, s), N: n}}}},
		Puts: []store.Put{{Metric: "v", Key: "k", Time: int64(to), ID: "x", Value: fmt.Append(nil, to)}},
		Dead: []store.DeadLetter{{Seq: to, ID: "x", Error: "e"}}}
}

// state is what the database holds of late's numbers.
func state(t *testing.T, d *DB) string {
	t.Helper()
	ctx := testContext(t)
	var out []string
	err := d.EachCell(ctx, store.CellQuery{Plugin: "p", Metric: "n", Generation: 1, Interval: time.Second, To: 100}, func(r store.Row) error {
		out = append(out, fmt.Sprint(r))
		return nil
	})
	err = errors.Join(err, d.EachLatest(ctx, "p", "v", 1, func(r store.LatestRow) error {
		out = append(out, fmt.Sprint(r.Key, r.Time, string(r.Value)))
		return nil
	}))
	_, dead, err2 := d.DeadLetters(ctx, "p", 0)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return fmt.Sprint(out, dead)
}

// A statement of a writer that is dead by now may be executed at any time later.
func TestCommit_LateStatements_DoNothing(t *testing.T) {
	open := fresh(t)
	d := open(t)
	ctx := testContext(t)
	if _, err := d.Register(ctx, latePlugin()); err != nil {
		t.Fatal(err)
	}
	key := store.CheckpointKey{Plugin: "p", Generation: 1, Stream: "s"}
	var plans []*plan
	for to := uint64(5); to <= 20; to += 5 {
		x, err := d.Checkpoint(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		c := x.(*checkpoint)
		p := &plan{Version: planVersion, From: c.cur.row.intent, To: int64(to)}
		m := lateCommit(t, c, to, 1)
		if err := errors.Join(p.addCounts(c.series, m.Counters, nil), p.addPuts(c.series, m.Puts), p.addDead(m.Dead)); err != nil {
			t.Fatal(err)
		}
		plans = append(plans, p)
		if err := c.Commit(ctx, m); err != nil {
			t.Fatal(err)
		}
	}
	before := state(t, d)
	if want := "[k2020 {1 k 4}] 4"; before != want {
		t.Fatalf("%s, want %s", before, want)
	}
	for _, p := range append(plans, plans[1], plans[0]) {
		if err := d.send(ctx, key, p); err != nil {
			t.Fatal(err)
		}
	}
	if after := state(t, d); after != before {
		t.Errorf("after late statements %s, before %s", after, before)
	}
}

// A life that dies between the checkpoint's row and the rows of numbers has committed: the next one sends what the row
// says, not what it would compute itself.
func TestCheckpoint_DiedBeforeRows_RedoIsSent(t *testing.T) {
	open := fresh(t)
	d, next := open(t), open(t)
	ctx := testContext(t)
	if _, err := d.Register(ctx, latePlugin()); err != nil {
		t.Fatal(err)
	}
	key := store.CheckpointKey{Plugin: "p", Generation: 1, Stream: "s"}
	x, err := d.Checkpoint(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	c := x.(*checkpoint)
	m := lateCommit(t, c, 5, 7)
	p := &plan{Version: planVersion, To: 5}
	if err := errors.Join(p.addCounts(c.series, m.Counters, nil), p.addPuts(c.series, m.Puts), p.addDead(m.Dead)); err != nil {
		t.Fatal(err)
	}
	redo, err := p.encode()
	if err != nil {
		t.Fatal(err)
	}
	row := c.cur.row
	row.intent, row.redo = 5, redo
	if _, err := write(ctx, d, c.guard, c.cur, row); err != nil {
		t.Fatal(err)
	}
	if pos, err := d.Positions(ctx, "p", 1); err != nil || len(pos) != 1 || pos[0].Pos != 0 || pos[0].Intent != 5 {
		t.Fatalf("%+v, %v: want 0 and intent 5", pos, err)
	}
	y, err := next.Checkpoint(ctx, key)
	if err != nil || y.Pos() != 5 {
		t.Fatal(y, err)
	}
	want := "[k55 {1 k 7}] 1"
	if got := state(t, next); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if err := x.Commit(ctx, lateCommit(t, x, 5, 100)); !errors.Is(err, store.ErrFenced) {
		t.Errorf("the first life: %v, want ErrFenced", err)
	}
	if got := state(t, next); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
