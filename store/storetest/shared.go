package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
)

// fencingCopiesAtOnce has two processes archive the same events, of many months, at the same time and in another order:
// whatever order the answers come in, each event is owned by one, and what a stream is told it owns is what is read of
// it.
func fencingCopiesAtOnce(t *testing.T, open Open[Recoverer]) {
	const n, step = 240, 40
	engines := map[string]Recoverer{"a": opened(t, open), "b": opened(t, open)}
	events := make([]Event, n)
	for i := range events {
		events[i] = Event{ID: fmt.Sprint("m-", i), Time: int64(i%9) * 31 * 24 * 3600e6, Untimed: i%31 == 0}
	}
	var mu sync.Mutex
	told := map[string]map[string]bool{"a": {}, "b": {}}
	give := func(stream string, e Recoverer) error {
		if _, err := e.Attach(patience(t), stream); err != nil {
			return err
		}
		for at := 0; at < n; at += step {
			list := append([]Event{}, events[at:at+step]...)
			if stream == "b" {
				for i, j := 0, len(list)-1; i < j; i, j = i+1, j-1 {
					list[i], list[j] = list[j], list[i]
				}
			}
			out, err := e.Archive(patience(t), stream, []*block.Block{Block(uint64(at)+1, list)})
			if err != nil {
				return err
			}
			ids, err := out[0].Owned.IDs()
			if err != nil {
				return err
			}
			mu.Lock()
			for _, id := range ids {
				told[stream][id] = true
			}
			mu.Unlock()
			if got := out[0].Owned.Len() + out[0].Duplicates; got != step {
				return fmt.Errorf("%d owned and %d duplicates of %d", out[0].Owned.Len(), out[0].Duplicates, step)
			}
		}
		return nil
	}
	failed := make(chan error)
	for stream, e := range engines {
		go func() { failed <- give(stream, e) }()
	}
	for range engines {
		noError(t, <-failed)
	}
	for _, x := range events {
		if told["a"][x.ID] == told["b"][x.ID] {
			t.Fatalf("%s: owned by a %v, by b %v", x.ID, told["a"][x.ID], told["b"][x.ID])
		}
	}
	for _, stream := range []string{"a", "b"} {
		blocks, end := readAll(t, engines["b"], stream, 0, 100, true)
		if end != n || total(blocks) != len(told[stream]) {
			t.Fatalf("%d events of %s up to %d, want %d up to %d", total(blocks), stream, end, len(told[stream]), n)
		}
		for _, b := range blocks {
			ids, err := b.IDs()
			noError(t, err)
			for _, id := range ids {
				if !told[stream][id] {
					t.Fatalf("%s is read of %s, which was not told that it owns it", id, stream)
				}
			}
		}
	}
}

// fencingSeenAtOnce has a second process look right after the first one has written: nothing may be waiting to become
// visible.
func fencingSeenAtOnce(t *testing.T, open Open[Recoverer]) {
	e, other := opened(t, open), opened(t, open)
	register(t, e, plugin())
	attach(t, e, "s", 0)
	attach(t, other, "copies", 0)
	c := checkpoint(t, e, "s", 0)
	for i := range uint64(8) {
		to := (i + 1) * 10
		in := Block(to-9, Events("e", int(to)-10, 10))
		wantOwned(t, archive(t, e, "s", in)[0], 10, 0, 0)
		wantOwned(t, archive(t, other, "copies", in)[0], 0, 10, 0)
		if blocks, end := readAll(t, other, "s", to-10, 100, true); end != to || total(blocks) != 10 {
			t.Fatalf("%d events up to %d, want 10 up to %d", total(blocks), end, to)
		}
		noError(t, c.Commit(patience(t), rangeCommit(t, c, to-10, to, "k")))
		sumTo(t, other, to, int(i)+1)
		if pos, err := other.Positions(patience(t), "p", 1); err != nil || len(pos) != 1 || pos[0].Pos != to || pos[0].Intent != to {
			t.Fatalf("positions %+v, %v; want %d", pos, err, to)
		}
	}
}

// fencingZombie has a writer wake up again and again after others have gone on: what it holds of the checkpoint is old.
func fencingZombie(t *testing.T, open Open[Recoverer]) {
	e, other := opened(t, open), opened(t, open)
	register(t, e, plugin())
	zombie := checkpoint(t, e, "s", 0)
	old := rangeCommit(t, zombie, 0, 40, "zombie") // computed, not sent
	pos := uint64(0)
	for i := range 4 {
		c := checkpoint(t, other, "s", pos)
		noError(t, c.Commit(patience(t), rangeCommit(t, c, pos, pos+10, "k")))
		pos += 10
		noError(t, c.Close())
		if err := zombie.Commit(patience(t), old); !errors.Is(err, store.ErrFenced) {
			t.Fatalf("the zombie after %d others: %v, want ErrFenced", i+1, err)
		}
		sumTo(t, e, pos, i+1)
	}
	later := checkpoint(t, e, "s", pos) // a new life of the same process is a writer like any other
	noError(t, later.Commit(patience(t), &store.Commit{To: pos + 5, Counters: []store.CounterDeltas{
		deltas(t, later, "count", time.Second, count{1, "k", 5}), deltas(t, later, "count", day, count{1, "k", 5})}}))
	sumTo(t, other, pos+5, 4)
}
