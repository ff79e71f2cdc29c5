package crate

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/internal/cratetest"
	"github.com/statscache/statscache/store"
	"github.com/statscache/statscache/store/storetest"
)

// What a consumer inserted for a stream that was retired under its hands stands in the way of the copies: the stream
// that offers one adopts it, once.
func TestArchive_OrphansOfARetiredStream_AreAdoptedOnce(t *testing.T) {
	open := emptied(t)
	zombie, d := open(t), open(t)
	ctx := testContext(t)
	all := storetest.Events("e", 0, 60)
	attach(t, zombie, "old", 0)
	if _, err := zombie.Archive(ctx, "old", []*block.Block{storetest.Block(1, all[:20])}); err != nil {
		t.Fatal(err)
	}
	late := attempt{db: zombie, stream: "old", above: 20} // inserted, not announced
	if err := late.all(ctx, []*block.Block{storetest.Block(21, all[20:50])}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if to, err := d.Retire(ctx, "old"); err != nil || to != 20 {
			t.Fatalf("retired at %d, %v; want 20", to, err)
		}
	}
	if _, err := d.Attach(ctx, "old"); !errors.Is(err, store.ErrFenced) {
		t.Fatalf("attaching a retired stream: %v, want ErrFenced", err)
	}
	if _, err := zombie.Archive(ctx, "old", []*block.Block{storetest.Block(21, all[20:50])}); !errors.Is(err, store.ErrFenced) {
		t.Fatalf("the zombie announces: %v, want ErrFenced", err)
	}
	orphans := func() (n int) {
		if err := d.Orphans(ctx, func(_ string, b *block.Block) error { n += b.Len(); return nil }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := orphans(); n != 30 {
		t.Fatalf("%d orphans, want 30", n)
	}
	attach(t, d, "new", 0)
	in := storetest.Block(1, all) // 20 are the old stream's for good, 30 adopted, 10 new
	late = attempt{db: d, stream: "new"}
	for range 2 { // the second time they are ours
		if err := late.all(ctx, []*block.Block{in}); err != nil || late.out[0].Owned.Len() != 40 || late.out[0].Duplicates != 20 {
			t.Fatalf("%+v, %v; want 40 owned, 20 duplicates", late.out, err)
		}
	}
	if _, err := d.Archive(ctx, "new", []*block.Block{in}); err != nil {
		t.Fatal(err)
	}
	if n := orphans(); n != 0 {
		t.Fatalf("%d orphans are left", n)
	}
	if n := len(seqs(t, d, "new")); n != 40 {
		t.Fatalf("%d events of the new stream, want 40", n)
	}
	if n := len(seqs(t, d, "old")); n != 20 {
		t.Fatalf("%d events of the old stream, want 20", n)
	}
	attach(t, d, "third", 0)
	if out, err := d.Archive(ctx, "third", []*block.Block{storetest.Block(1, all)}); err != nil || out[0].Duplicates != 60 {
		t.Fatalf("%+v, %v; want 60 duplicates", out, err)
	}
}

func attach(t *testing.T, d *DB, stream string, want uint64) {
	t.Helper()
	if at, err := d.Attach(testContext(t), stream); err != nil || at != want {
		t.Fatalf("attached at %d, %v; want %d", at, err, want)
	}
}

// seqs reads the positions of a stream's events.
func seqs(t *testing.T, d *DB, stream string) (out []uint64) {
	t.Helper()
	for at := uint64(0); ; {
		blocks, upto, err := d.Read(testContext(t), store.ReadRequest{Stream: stream, After: at, Events: 1000})
		if err != nil {
			t.Fatal(err)
		}
		if upto == at {
			return out
		}
		for _, b := range blocks {
			for i := range b.Len() {
				out = append(out, b.Seq(i))
			}
		}
		at = upto
	}
}

// A commit's rows become visible one by one. One that isn't settled is not to be seen of, whatever of it is there.
func TestRows_OfACommitThatIsNotSettled_AreNotSeen(t *testing.T) {
	d := emptied(t)(t)
	ctx := testContext(t)
	c, key := lateCheckpoint(t, d)
	if err := c.Commit(ctx, lateCommit(t, c, 5, 7)); err != nil {
		t.Fatal(err)
	}
	half := &plan{Version: planVersion, From: 5, To: 9, Counters: []countPlan{{Metric: "n", Gran: 1, Dimensions: 1,
		Buckets: []int64{1, 2}, Keys: []string{"k", "k"}, N: []int64{100, 100}}}}
	if err := d.send(ctx, key, half); err != nil {
		t.Fatal(err)
	}
	rows, total, err := d.Rows(ctx, store.RowQuery{Metric: "n", Interval: time.Second, To: 100, Limit: 10})
	if want := []store.Row{{Time: 1, Key: "k", N: 7}}; err != nil || total != 1 || !slices.Equal(rows, want) {
		t.Errorf("%v of %d, %v; want %v", rows, total, err, want)
	}
	sums, err := d.Sums(ctx, store.SumQuery{Metric: "n", Interval: time.Second, To: 100})
	if err != nil || len(sums) != 1 || sums[0].N != 7 {
		t.Errorf("sums %+v, %v; want 7", sums, err)
	}
}

func lateCheckpoint(t testing.TB, d *DB) (*checkpoint, store.CheckpointKey) {
	t.Helper()
	ctx := testContext(t)
	if _, err := d.Register(ctx, latePlugin()); err != nil {
		t.Fatal(err)
	}
	key := store.CheckpointKey{Plugin: "p", Generation: 1, Stream: "s"}
	c, err := d.Checkpoint(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	return c.(*checkpoint), key
}

// A repair that died after its commit was durable is finished by whoever opens a checkpoint of the generation.
func TestRepair_DiedBeforeRows_IsFinished(t *testing.T) {
	d := emptied(t)(t)
	ctx := testContext(t)
	c, key := lateCheckpoint(t, d)
	if err := c.Commit(ctx, lateCommit(t, c, 5, 7)); err != nil {
		t.Fatal(err)
	}
	r, err := d.looseWriter(ctx, "p", 1, repairStream)
	if err != nil {
		t.Fatal(err)
	}
	p := &plan{Version: planVersion, To: 1, Counters: []countPlan{{Metric: "n", Gran: 1, Dimensions: 1, Buckets: []int64{1}, Keys: []string{"k"}, N: []int64{-3}}}}
	next := r.cur.row
	if next.redo, err = p.encode(); err != nil {
		t.Fatal(err)
	}
	next.intent = 1
	r.next = &next
	if err := r.write(ctx); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := d.Checkpoint(ctx, key); err != nil {
			t.Fatal(err)
		}
		if got, want := state(t, d), "[k55 {1 k 4}] 1"; got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	}
}

// What another process changes is known here soon, without a call.
func TestVersion_RaisedElsewhere_IsKnownHere(t *testing.T) {
	open := emptied(t)
	d, other := open(t), open(t)
	ctx := testContext(t)
	c, _ := lateCheckpoint(t, d)
	if err := c.Commit(ctx, lateCommit(t, c, 5, 7)); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for other.Version("n") != d.Version("n") || other.Version("n") == 0 {
		if ctx.Err() != nil {
			t.Fatalf("version %d here, %d there", d.Version("n"), other.Version("n"))
		}
		time.Sleep(time.Millisecond) // another process's poll
	}
	t.Logf("known after %s", time.Since(began).Round(time.Millisecond))
	if _, err := d.ExpireCounters(ctx, []store.Horizon{{Metric: "n", Interval: time.Second, Before: 50}}); err != nil {
		t.Fatal(err)
	}
	for other.behind("n", 1) != 50 {
		if ctx.Err() != nil {
			t.Fatal("the horizon is not known")
		}
		time.Sleep(time.Millisecond)
	}
}

// A writer that has not heard of a horizon makes rows behind it: they are not read, and the next call removes them.
func TestExpireCounters_RowsOfAWriterThatDidNotKnow(t *testing.T) {
	d := emptied(t)(t)
	ctx := testContext(t)
	c, key := lateCheckpoint(t, d)
	horizon := []store.Horizon{{Metric: "n", Interval: time.Second, Before: 50}}
	if _, err := d.ExpireCounters(ctx, horizon); err != nil {
		t.Fatal(err)
	}
	if err := c.Commit(ctx, &store.Commit{To: 5}); err != nil {
		t.Fatal(err)
	}
	late := &plan{Version: planVersion, To: 5, Counters: []countPlan{{Metric: "n", Gran: 1, Dimensions: 1, Buckets: []int64{1, 60}, Keys: []string{"k", "k"}, N: []int64{1, 1}}}}
	if err := d.send(ctx, key, late); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int64{1, 0} {
		if got := state(t, d); !strings.HasPrefix(got, "[{60 k 1}]") {
			t.Errorf("%s, want the row of 60 alone", got)
		}
		if n, err := d.ExpireCounters(ctx, horizon); err != nil || n != want {
			t.Errorf("%d rows removed, %v; want %d", n, err, want)
		}
	}
}

// The first dimensions of a key have columns of their own.
func TestCounters_DimensionsHaveColumns(t *testing.T) {
	d := emptied(t)(t)
	ctx := testContext(t)
	p := store.Plugin{ID: "p", Fingerprint: "f", Metrics: []store.Metric{{ID: "four", Kind: store.Counter, Intervals: []time.Duration{time.Second},
		Dimensions: []store.Dimension{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d"}}}}}
	if _, err := d.Register(ctx, p); err != nil {
		t.Fatal(err)
	}
	c, err := d.Checkpoint(ctx, store.CheckpointKey{Plugin: "p", Generation: 1, Stream: "s"})
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.Series("four", store.JoinKey([]string{"ralph", "x\x00y", "", "z"}))
	if err != nil {
		t.Fatal(err)
	}
	m := &store.Commit{To: 1, Counters: []store.CounterDeltas{{Metric: "four", Interval: time.Second, Cells: []store.Delta{{Cell: store.MakeCell(1, s), N: 2}}}}}
	if err := errors.Join(c.Commit(ctx, m), d.refresh(ctx, "counters")); err != nil {
		t.Fatal(err)
	}
	var k1, k2, k3 *string
	if err := d.pool.QueryRow(ctx, "SELECT k1, k2, k3 FROM counters").Scan(&k1, &k2, &k3); err != nil {
		t.Fatal(err)
	}
	if *k1 != "ralph" || *k2 != "x\x00y" || *k3 != "" {
		t.Errorf("%q, %q, %q", *k1, *k2, *k3)
	}
}

func TestOpen_ForeignOrNewer_IsRefused(t *testing.T) {
	for name, x := range map[string]struct {
		sql  []string
		want error
	}{
		"somebody's tables":      {[]string{"CREATE TABLE things (id TEXT PRIMARY KEY) WITH (number_of_replicas = '0')"}, store.ErrForeign},
		"another schema_version": {[]string{"CREATE TABLE schema_version (name TEXT PRIMARY KEY, version INTEGER) WITH (number_of_replicas = '0')", "INSERT INTO schema_version VALUES ('other', 1)", "CREATE TABLE things (id TEXT) WITH (number_of_replicas = '0')", "REFRESH TABLE schema_version"}, store.ErrForeign},
		"a newer one":            {[]string{"CREATE TABLE schema_version (name TEXT PRIMARY KEY, version INTEGER) WITH (number_of_replicas = '0')", "INSERT INTO schema_version VALUES ('statscache', 99)", "REFRESH TABLE schema_version"}, store.ErrNewer},
	} {
		t.Run(name, func(t *testing.T) {
			u := cratetest.Start(t)
			conf, err := parseURL(u, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			run(t, conf.ConnConfig, x.sql...)
			if _, err := Open(testContext(t), Options{URL: u, Shards: 1}); !errors.Is(err, x.want) {
				t.Errorf("%v, want %v", err, x.want)
			}
		})
	}
}

func TestOpen_WrongPassword_IsOneSentence(t *testing.T) {
	u := cratetest.Start(t)
	conf, err := parseURL(u, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	run(t, conf.ConnConfig, "DROP USER IF EXISTS statscache_test", "CREATE USER statscache_test WITH (password = 'right')")
	t.Cleanup(func() { run(t, conf.ConnConfig, "DROP USER IF EXISTS statscache_test") })
	parsed, err := url.Parse(u)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ user, password, says string }{{"nobody", "x", "refuses user"},
		{"statscache_test", "wrong", "refuses user"}, {"statscache_test", "right", "lacks a privilege"}} {
		parsed.User = url.UserPassword(x.user, x.password)
		_, err = Open(testContext(t), Options{URL: parsed.String(), Shards: 1})
		if err == nil || !strings.Contains(err.Error(), x.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v; want one line with %q", x.user, err, x.says)
		}
	}
}

// Tables turn read-only when the disk is nearly full. A commit then waits, says why, and counts once when it goes on.
func TestCommit_ReadOnlyTables_WaitsAndCountsOnce(t *testing.T) {
	d := fresh(t)(t)
	ctx := testContext(t)
	c, _ := lateCheckpoint(t, d)
	if err := c.Commit(ctx, lateCommit(t, c, 5, 7)); err != nil {
		t.Fatal(err)
	}
	total := int64(7)
	for _, table := range []string{"counters", "checkpoints"} {
		block := func(on bool) {
			if err := d.exec(ctx, "block", fmt.Sprintf(`ALTER TABLE %s SET ("blocks.read_only_allow_delete" = %v)`, table, on)); err != nil {
				t.Fatal(err)
			}
		}
		for refused := false; !refused; {
			block(true)
			to := c.Pos() + 5
			m := lateCommit(t, c, to, 1)
			short, cancel := context.WithTimeout(ctx, 2*time.Second)
			err := c.Commit(short, m)
			cancel()
			switch refused = err != nil; {
			case refused && (!errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "its disk is nearly full")):
				t.Errorf("%s read-only: %v; want ErrUnavailable and why", table, err)
			case !refused && d.blocked(ctx) != nil:
				t.Fatalf("%s read-only: the commit went through", table)
			case !refused: // the server looks at its disk every 30 s and lifts the block where there is room
				t.Logf("%s: the server has lifted the block", table)
			}
			block(false)
			if err := c.Commit(ctx, m); err != nil || c.Pos() != to {
				t.Fatalf("afterwards: at %d, %v; want %d", c.Pos(), err, to)
			}
			total++
		}
	}
	to := c.Pos()
	if got, want := state(t, d), fmt.Sprintf("[k%d%d {1 k %d}] %d", to, to, total, to/5); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
