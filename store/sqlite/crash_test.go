package sqlite

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
	"github.com/statscache/statscache/store/storetest"
)

// crashEnv names the database of the child process that TestKilled starts and kills.
const crashEnv = "STATSCACHE_TEST_CRASH_DB"

var crashPlugin = store.Plugin{ID: "p", Fingerprint: "f", Metrics: []store.Metric{{ID: "m", Kind: store.Counter, Intervals: []time.Duration{time.Second, 24 * time.Hour}}}} // immutable

// crashEvent is the event at a position: every fifth is a copy of an earlier one.
func crashEvent(pos uint64) storetest.Event {
	if pos%5 == 0 {
		pos -= 1 + pos/7%4
	}
	return storetest.Event{ID: fmt.Sprint("id-", pos), Time: int64(pos) * 1e5, Untimed: pos%31 == 0}
}

func crashOptions(path string) Options {
	return Options{Path: path, segmentBlocks: 4, smallEvents: 20}
}

// crashAhead is how many lines the child may be ahead of what its parent has read: enough to be busy while the parent
// looks at the database or kills it, and few enough that a slow parent isn't given ever more to look at.
const crashAhead = 20

// TestKilled_ChildProcess is the process that is killed: it archives, counts what it archived, and says how far it is,
// a line for each byte that it is given.
func TestKilled_ChildProcess(t *testing.T) {
	path := os.Getenv(crashEnv)
	if path == "" {
		t.Skip("runs as the child of TestKilled_AnywhereKeepsWhatWasAcknowledged")
	}
	d := open(t, crashOptions(path))
	ctx := context.Background()
	at, err := d.Attach(ctx, "s")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Register(ctx, crashPlugin); err != nil {
		t.Fatal(err)
	}
	c, err := d.Checkpoint(ctx, store.CheckpointKey{Plugin: "p", Generation: 1, Stream: "s"})
	if err != nil {
		t.Fatal(err)
	}
	say := func(what string, at uint64) {
		if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		fmt.Println("ack", what, at)
	}
	r := rand.New(rand.NewPCG(at, 3))
	for {
		var blocks []*block.Block
		for range 1 + r.IntN(3) {
			n := 1 + r.IntN([]int{6, 60}[r.IntN(2)])
			var list []storetest.Event
			for i := range n {
				list = append(list, crashEvent(at+uint64(i)+1))
			}
			blocks = append(blocks, storetest.Build(at+1, r.IntN(3) == 0, list))
			at += uint64(n)
		}
		if _, err := d.Archive(ctx, "s", blocks); err != nil {
			t.Fatal(err)
		}
		say("archive", at)
		got, upto, err := d.Read(ctx, store.ReadRequest{Stream: "s", After: c.Pos(), Events: 500})
		if err != nil {
			t.Fatal(err)
		}
		x := &store.Commit{To: upto}
		for _, i := range crashPlugin.Metrics[0].Intervals {
			d := store.CounterDeltas{Metric: "m", Interval: i}
			for _, b := range got {
				for e := range b.Len() {
					n, err := c.Series("m", fmt.Sprint("k", b.Seq(e)))
					if err != nil {
						t.Fatal(err)
					}
					d.Cells = append(d.Cells, store.Delta{Cell: store.MakeCell(int64(b.Seq(e)), n), N: 1})
				}
			}
			x.Counters = append(x.Counters, d)
		}
		if err := c.Commit(ctx, x); err != nil {
			t.Fatal(err)
		}
		say("commit", upto)
	}
}

// TestKilled_AnywhereKeepsWhatWasAcknowledged kills a working process again and again and looks at what is left.
func TestKilled_AnywhereKeepsWhatWasAcknowledged(t *testing.T) {
	if testing.Short() {
		t.Skip("starts and kills processes")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "statscache.db")
	r := rand.New(rand.NewPCG(1, 1))
	for range 8 {
		cmd := exec.Command(self, "-test.run=^TestKilled_ChildProcess$")
		cmd.Env = append(os.Environ(), crashEnv+"="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		goOn := func(lines int) { _, _ = in.Write(make([]byte, lines)) } // it may be dead already
		goOn(crashAhead)
		var archived, committed uint64
		lines, stop := bufio.NewScanner(out), 5+r.IntN(80)
		for n := 0; lines.Scan(); n++ {
			goOn(1)
			_, _ = fmt.Sscanf(lines.Text(), "ack archive %d", &archived)
			_, _ = fmt.Sscanf(lines.Text(), "ack commit %d", &committed)
			if n == stop/2 {
				lookBeside(t, path, archived, func() { goOn(crashAhead) })
			}
			if n == stop {
				time.AfterFunc(time.Duration(r.IntN(15_000))*time.Microsecond, func() { _ = cmd.Process.Kill() }) // in the middle of something
			}
		}
		if err := cmd.Wait(); err == nil || archived == 0 {
			t.Fatalf("the child ended by itself after %d: %v", archived, err)
		}
		checkCrashed(t, path, archived, committed)
	}
}

// lookBeside asks for what is archived while another process, which goOn lets work, archives more.
func lookBeside(t *testing.T, path string, archived uint64, goOn func()) {
	t.Helper()
	d := open(t, Options{Path: path, ReadOnly: true, segmentBlocks: 4, smallEvents: 20})
	defer func() { _ = d.Close() }()
	for round := range 3 {
		goOn()
		blocks, upto, err := d.Read(t.Context(), store.ReadRequest{Stream: "s", Events: 1 << 30, Bodies: true})
		if err != nil || upto < archived {
			t.Fatalf("read up to %d, %v; %d was acknowledged", upto, err, archived)
		}
		// Later positions have later times, but for copies of what is there.
		storetest.HoldFind(t, d, "s", blocks, storetest.Base+int64(upto+1)*1e5, 6, archived+uint64(round))
	}
}

func checkCrashed(t *testing.T, path string, archived, committed uint64) {
	t.Helper()
	d := open(t, crashOptions(path))
	defer func() { _ = d.Close() }()
	at, err := d.Attach(t.Context(), "s")
	if err != nil || at < archived {
		t.Fatalf("archived to %d, %v; %d was acknowledged", at, err, archived)
	}
	positions, err := d.Positions(t.Context(), "p", 1)
	if err != nil || len(positions) != 1 || positions[0].Pos < committed || positions[0].Pos > at {
		t.Fatalf("positions %+v, %v; %d was acknowledged", positions, err, committed)
	}
	blocks, upto, err := d.Read(t.Context(), store.ReadRequest{Stream: "s", Events: 1 << 30, Bodies: true})
	if err != nil || upto != at {
		t.Fatalf("read up to %d, %v; want %d", upto, err, at)
	}
	storetest.HoldFind(t, d, "s", blocks, math.MaxInt64, 10, at)
	seen, got := map[string]bool{}, map[uint64]bool{}
	for _, b := range blocks {
		ids, err := b.IDs()
		if err != nil {
			t.Fatal(err)
		}
		for i, id := range ids {
			if seen[id] || id != crashEvent(b.Seq(i)).ID {
				t.Fatalf("position %d holds %s, seen before: %v", b.Seq(i), id, seen[id])
			}
			seen[id], got[b.Seq(i)] = true, true
		}
	}
	for pos := uint64(1); pos <= at; pos++ {
		if !seen[crashEvent(pos).ID] {
			t.Fatalf("the event at %d is nowhere", pos)
		}
	}
	for _, interval := range crashPlugin.Metrics[0].Intervals {
		rows := uint64(0)
		q := store.CellQuery{Plugin: "p", Metric: "m", Generation: 1, Interval: interval, From: -1 << 40, To: 1 << 40}
		if err := d.EachCell(t.Context(), q, func(r store.Row) error {
			rows++
			pos := uint64(r.Time / int64(interval/time.Second))
			if r.N != 1 || !got[pos] || pos > positions[0].Pos || r.Key != fmt.Sprint("k", pos) {
				return fmt.Errorf("row %+v", r)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		want := uint64(0)
		for pos := range got {
			if pos <= positions[0].Pos {
				want++
			}
		}
		if rows != want {
			t.Fatalf("%d rows at interval %s, want %d", rows, interval, want)
		}
	}
	t.Logf("killed at %d archived (%d acknowledged), %d committed (%d acknowledged)", at, archived, positions[0].Pos, committed)
}
