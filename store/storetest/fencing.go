package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
)

// Recoverer is what the group Fencing asks of an engine.
type Recoverer interface {
	Archiver
	Ledgerer
}

// Fencing holds an engine to what the contract promises when calls break off: nobody knows then what they did, and
// everything still counts once, whoever goes on.
func Fencing[E Recoverer](t *testing.T, fresh Fresh[E]) {
	cases(t, as(fresh, func(e E) Recoverer { return e }), map[string]func(*testing.T, Open[Recoverer]){
		"CommitBrokenOff_Repeated_CountsOnce":         commitBrokenOff,
		"CommitBrokenOff_NextWriter_CountsOnce":       commitTakenOver,
		"CommitBrokenOff_ThenFenced_ChangesNothing":   commitLate,
		"ArchiveBrokenOff_Repeated_OwnsEachOnce":      archiveBrokenOff,
		"ArchiveBrokenOff_NextLife_KeepsEachOnce":     archiveNextLife,
		"ArchiveBrokenOff_CopyElsewhere_OwnedByOne":   archiveBrokenCopies,
		"CheckpointsTakenInTurn_EachFencesTheEarlier": commitInTurn,
		"CopiesAtOnceInManyMonths_OwnedByOne":         fencingCopiesAtOnce,
		"WhatOneWrote_AnotherSeesAtOnce":              fencingSeenAtOnce,
		"Zombie_WakesUpAgainAndAgain_CountsNothing":   fencingZombie,
	})
}

// breakOff calls f with contexts that end after random times, longer ones each time, until it succeeds or has broken
// off so many times; it says whether it succeeded.
func breakOff(t testing.TB, r *rand.Rand, times int, f func(context.Context) error) bool {
	t.Helper()
	for i := range times {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(r.IntN(1+8000*(i+1)))*time.Microsecond)
		err := f(ctx)
		cancel()
		if err == nil {
			return true
		}
		if errors.Is(err, store.ErrFenced) || errors.Is(err, store.ErrUnknown) {
			t.Fatalf("broken off, it says %v", err)
		}
	}
	return false
}

// seeded makes the cases' random times the same each run, as far as time can be.
func seeded() *rand.Rand { return rand.New(rand.NewPCG(5, 55)) }

// rangeCommit adds up what a range of positions counts: one for each, by second and day, and a value for the newest.
func rangeCommit(t testing.TB, c store.Checkpoint, from, to uint64, key string) *store.Commit {
	t.Helper()
	var list []count
	for p := from + 1; p <= to; p++ {
		list = append(list, count{int64(p / 10), fmt.Sprint(key, p%7), 1})
	}
	return &store.Commit{To: to, Counters: []store.CounterDeltas{deltas(t, c, "count", time.Second, list...), deltas(t, c, "count", day, list...)},
		Puts: []store.Put{{Metric: "news", Key: "k", Time: int64(to), ID: fmt.Sprint(to), Value: []byte("1")}},
		Dead: []store.DeadLetter{{Seq: to, ID: fmt.Sprint(to), Error: "x", At: time.Unix(1, 0)}}}
}

// sumTo checks that the counts of both intervals, of whatever keys, add up to n and that there is one dead letter a
// commit.
func sumTo(t testing.TB, l Ledgerer, n uint64, commits int) {
	t.Helper()
	for _, interval := range []time.Duration{time.Second, day} {
		sum := int64(0)
		for _, x := range cells(t, l, "count", 1, interval) {
			sum += x
		}
		if sum != int64(n) {
			t.Fatalf("%d positions make %d counts at %s", n, sum, interval)
		}
	}
	if _, dead, err := l.DeadLetters(patience(t), "p", 0); err != nil || dead != commits {
		t.Fatalf("%d dead letters, %v; want %d", dead, err, commits)
	}
}

func commitBrokenOff(t *testing.T, open Open[Recoverer]) {
	e := opened(t, open)
	register(t, e, plugin())
	r, c := seeded(), checkpoint(t, e, "s", 0)
	pos := uint64(0)
	for range 12 {
		to := pos + 1 + r.Uint64N(300)
		m := rangeCommit(t, c, pos, to, "a")
		if !breakOff(t, r, 6, func(ctx context.Context) error { return c.Commit(ctx, m) }) {
			noError(t, c.Commit(patience(t), m))
		}
		if c.Pos() != to {
			t.Fatalf("at %d, want %d", c.Pos(), to)
		}
		pos = to
	}
	sumTo(t, e, pos, 12)
}

func commitTakenOver(t *testing.T, open Open[Recoverer]) {
	e := opened(t, open)
	register(t, e, plugin())
	r := seeded()
	pos, commits := uint64(0), 0
	for life := range 8 {
		c, err := e.Checkpoint(patience(t), store.CheckpointKey{Plugin: "p", Generation: 1, Stream: "s"})
		noError(t, err)
		if life > 0 && c.Pos() != pos { // what broke off is there whole, or not at all
			if c.Pos() < pos {
				t.Fatalf("life %d stands at %d, the last one was at %d", life, c.Pos(), pos)
			}
			pos, commits = c.Pos(), commits+1
		}
		sumTo(t, e, pos, commits)
		to := pos + 100 + r.Uint64N(300) // another end and other keys than the life before had
		m := rangeCommit(t, c, pos, to, fmt.Sprint("life", life, "-"))
		if breakOff(t, r, 1+life%3, func(ctx context.Context) error { return c.Commit(ctx, m) }) {
			pos, commits = to, commits+1
		}
		noError(t, c.Close())
		if life%3 == 2 {
			noError(t, e.Close())
			e = opened(t, open)
		}
	}
}

func commitLate(t *testing.T, open Open[Recoverer]) {
	e, other := opened(t, open), opened(t, open)
	register(t, e, plugin())
	r := seeded()
	pos, commits := uint64(0), 0
	for range 5 {
		first := checkpoint(t, e, "s", pos)
		m := rangeCommit(t, first, pos, pos+50, "first")
		done := breakOff(t, r, 1, func(ctx context.Context) error { return first.Commit(ctx, m) })
		second, err := other.Checkpoint(patience(t), store.CheckpointKey{Plugin: "p", Generation: 1, Stream: "s"})
		noError(t, err)
		if at := second.Pos(); at != pos && at != pos+50 || done && at != pos+50 {
			t.Fatalf("the second writer stands at %d, the first went from %d to %d (done: %v)", at, pos, pos+50, done)
		}
		if second.Pos() != pos {
			pos, commits = pos+50, commits+1
		}
		noError(t, second.Commit(patience(t), rangeCommit(t, second, pos, pos+70, "second")))
		pos, commits = pos+70, commits+1
		if !done {
			if err := first.Commit(patience(t), m); !errors.Is(err, store.ErrFenced) {
				t.Fatalf("the first writer repeats its commit: %v, want ErrFenced", err)
			}
		}
		sumTo(t, e, pos, commits)
	}
}

func commitInTurn(t *testing.T, open Open[Recoverer]) {
	a, b := opened(t, open), opened(t, open)
	register(t, a, plugin())
	var old store.Checkpoint
	pos := uint64(0)
	for i := range 6 {
		c := checkpoint(t, []Recoverer{a, b}[i%2], "s", pos)
		if old != nil {
			m := rangeCommit(t, old, pos, pos+9, "old")
			for range 2 { // and it stays so
				if err := old.Commit(patience(t), m); !errors.Is(err, store.ErrFenced) {
					t.Fatalf("writer %d after %d has come: %v, want ErrFenced", i-1, i, err)
				}
			}
		}
		noError(t, c.Commit(patience(t), rangeCommit(t, c, pos, pos+9, "new")))
		old, pos = c, pos+9
	}
	sumTo(t, b, pos, 6)
}

func archiveBrokenOff(t *testing.T, open Open[Recoverer]) {
	e := opened(t, open)
	attach(t, e, "s", 0)
	r := seeded()
	at := 0
	var want []*block.Block
	for range 8 {
		n := 1 + r.IntN(300)
		in := []*block.Block{Block(uint64(at+1), Events("e", at, n)), Build(uint64(at+n+1), true, Events("e", at+n, 20))}
		at += n + 20
		want = append(want, in...)
		var out []store.Archived
		f := func(ctx context.Context) (err error) {
			out, err = e.Archive(ctx, "s", in)
			return err
		}
		if !breakOff(t, r, 5, f) {
			noError(t, f(patience(t)))
		}
		owned := 0
		for _, x := range out {
			owned += x.Owned.Len()
			if x.Duplicates+x.Expired > 0 {
				t.Fatalf("%d of our own events are duplicates to a repeated call, %d expired", x.Duplicates, x.Expired)
			}
		}
		// All of it, or nothing where a call that broke off had moved archived_to already.
		if owned != n+20 && owned != 0 {
			t.Fatalf("%d of %d events are ours in the end", owned, n+20)
		}
	}
	got, end := readAll(t, e, "s", 0, 500, true)
	if end != uint64(at) {
		t.Fatalf("read up to %d, want %d", end, at)
	}
	sameLines(t, Describe(t, got, true), Describe(t, want, true))
}

func archiveNextLife(t *testing.T, open Open[Recoverer]) {
	r := seeded()
	all := Events("e", 0, 1000)
	for life := range 7 {
		e := opened(t, open)
		at, err := e.Attach(patience(t), "s")
		noError(t, err)
		if at < uint64(len(all)) {
			n := min(100+r.IntN(100), len(all)-int(at)) // the inbox is the same, the blocks are not
			in := []*block.Block{Block(at+1, all[at:int(at)+n])}
			breakOff(t, r, 1+life%3, func(ctx context.Context) error { _, err := e.Archive(ctx, "s", in); return err })
		}
		noError(t, e.Close())
	}
	e := opened(t, open)
	at, err := e.Attach(patience(t), "s")
	noError(t, err)
	if at < uint64(len(all)) {
		for _, x := range archive(t, e, "s", Block(at+1, all[at:])) {
			wantOwned(t, x, len(all)-int(at), 0, 0)
		}
	}
	got, _ := readAll(t, e, "s", 0, 300, true)
	sameLines(t, Describe(t, got, true), Describe(t, []*block.Block{Block(1, all)}, true))
}

// archiveBrokenCopies has two streams of the same events break off: each event is one stream's in the end, and both are
// told so.
func archiveBrokenCopies(t *testing.T, open Open[Recoverer]) {
	e := opened(t, open)
	r := seeded()
	all := Events("e", 0, 600)
	streams := []string{"a", "b"}
	for _, s := range streams {
		attach(t, e, s, 0)
	}
	for at := 0; at < len(all); at += 100 {
		in := []*block.Block{Block(uint64(at+1), all[at:at+100])}
		for _, s := range streams {
			breakOff(t, r, 2, func(ctx context.Context) error { _, err := e.Archive(ctx, s, in); return err })
		}
		for _, s := range []string{"b", "a"} {
			_, err := e.Archive(patience(t), s, in)
			noError(t, err)
		}
	}
	owned := map[string]int{}
	for _, s := range streams {
		blocks, end := readAll(t, e, s, 0, 100, true)
		if end != uint64(len(all)) {
			t.Fatalf("stream %s read up to %d, want %d", s, end, len(all))
		}
		for _, b := range blocks {
			ids, err := b.IDs()
			noError(t, err)
			for _, id := range ids {
				owned[id]++
			}
		}
	}
	for _, x := range all {
		if owned[x.ID] != 1 {
			t.Fatalf("%s is owned %d times", x.ID, owned[x.ID])
		}
	}
}
