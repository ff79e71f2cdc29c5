package storetest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/statscache/statscache/store"
)

// Leaser is what the group Leases asks of an engine.
type Leaser interface {
	store.Leases
	Attach(ctx context.Context, stream string) (archivedTo uint64, err error)
	Register(ctx context.Context, p store.Plugin) (store.Generations, error)
	Close() error
}

// Leases is for engines that several processes share.
func Leases[E Leaser](t *testing.T, fresh Fresh[E]) {
	cases(t, as(fresh, func(e E) Leaser { return e }), map[string]func(*testing.T, Open[Leaser]){
		"ARowGoesFromHandToHand":       leaseHandOver,
		"OneOfManyTakes":               leaseRace,
		"ListsByPrefix":                leaseList,
		"ARemovedOneBeginsAnew":        leaseDrop,
		"ARetiredStreamFencesItsOwner": leaseRetire,
		"GenerationsByFingerprint":     leaseGenerations,
	})
}

func leaseHandOver(t *testing.T, open Open[Leaser]) {
	ctx := patience(t)
	a, b := opened(t, open), opened(t, open)
	mine, err := a.SwapLease(ctx, store.Lease{Name: "work", Owner: "a", Info: `{"x":1}`})
	noError(t, err)
	if mine.Beat != 1 || mine.Owner != "a" {
		t.Fatalf("a new lease is %+v", mine)
	}
	if _, err := b.SwapLease(ctx, store.Lease{Name: "work", Owner: "b"}); !errors.Is(err, store.ErrFenced) {
		t.Fatalf("taken as a new one though it is there: %v", err)
	}
	theirs := mine
	theirs.Owner = "b"
	theirs, err = b.SwapLease(ctx, theirs)
	noError(t, err)
	if _, err := a.SwapLease(ctx, mine); !errors.Is(err, store.ErrFenced) {
		t.Fatalf("the first owner renews what another one has: %v", err)
	}
	if err := a.DropLease(ctx, mine); !errors.Is(err, store.ErrFenced) {
		t.Fatalf("the first owner removes what another one has: %v", err)
	}
	list, err := a.ListLeases(ctx, "")
	noError(t, err)
	if len(list) != 1 || list[0] != theirs || theirs.Beat != 2 || theirs.Info != `{"x":1}` {
		t.Fatalf("listed: %+v, want %+v", list, theirs)
	}
}

func leaseRace(t *testing.T, open Open[Leaser]) {
	ctx := patience(t)
	e := opened(t, open)
	at := store.Lease{Name: "work"}
	for round := range 5 {
		var wg sync.WaitGroup
		var mu sync.Mutex
		var won []store.Lease
		for _, owner := range []string{"a", "b", "c", "d"} {
			wg.Go(func() {
				l := at
				l.Owner = owner
				l, err := e.SwapLease(ctx, l)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					won = append(won, l)
				case !errors.Is(err, store.ErrFenced):
					t.Errorf("round %d: %v", round, err)
				}
			})
		}
		wg.Wait()
		if len(won) != 1 {
			t.Fatalf("round %d: %d have taken it", round, len(won))
		}
		at = won[0]
	}
}

func leaseList(t *testing.T, open Open[Leaser]) {
	ctx := patience(t)
	e := opened(t, open)
	for _, name := range []string{"stream/b", "node/1", "stream/a", "streams", "s%"} {
		_, err := e.SwapLease(ctx, store.Lease{Name: name, Owner: "x"})
		noError(t, err)
	}
	for prefix, want := range map[string]string{"stream/": "stream/a stream/b", "node/": "node/1", "s%": "s%", "none": "",
		"": "node/1 s% stream/a stream/b streams"} {
		list, err := e.ListLeases(ctx, prefix)
		noError(t, err)
		var names []string
		for _, l := range list {
			names = append(names, l.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%q: %s, want %s", prefix, got, want)
		}
	}
}

func leaseDrop(t *testing.T, open Open[Leaser]) {
	ctx := patience(t)
	e := opened(t, open)
	l, err := e.SwapLease(ctx, store.Lease{Name: "work", Owner: "a"})
	noError(t, err)
	noError(t, e.DropLease(ctx, l))
	noError(t, e.DropLease(ctx, l)) // it may be called again
	if _, err := e.SwapLease(ctx, l); !errors.Is(err, store.ErrFenced) {
		t.Fatalf("renewed though it is gone: %v", err)
	}
	if l, err = e.SwapLease(ctx, store.Lease{Name: "work", Owner: "b"}); err != nil || l.Beat != 1 {
		t.Fatalf("begun anew: %+v, %v", l, err)
	}
	if _, err := e.SwapLease(ctx, store.Lease{Name: "large", Info: strings.Repeat("x", store.MaxLeaseInfo+1)}); err == nil {
		t.Fatal("takes more than the bound")
	}
}

func leaseRetire(t *testing.T, open Open[Leaser]) {
	ctx := patience(t)
	e := opened(t, open)
	if _, err := e.Retire(ctx, "never"); !errors.Is(err, store.ErrUnknown) {
		t.Fatalf("an unknown stream: %v", err)
	}
	_, err := e.Attach(ctx, "s")
	noError(t, err)
	for range 2 {
		if to, err := e.Retire(ctx, "s"); to != 0 || err != nil {
			t.Fatalf("retired at %d, %v", to, err)
		}
	}
	if _, err := e.Attach(ctx, "s"); !errors.Is(err, store.ErrFenced) {
		t.Fatalf("attached though it is retired: %v", err)
	}
}

func leaseGenerations(t *testing.T, open Open[Leaser]) {
	ctx := patience(t)
	e := opened(t, open)
	if _, err := e.GenerationsOf(ctx, "p", "one"); !errors.Is(err, store.ErrUnknown) {
		t.Fatalf("an unknown plugin: %v", err)
	}
	p := store.Plugin{ID: "p", DataVersion: 1, Fingerprint: "one"}
	_, err := e.Register(ctx, p)
	noError(t, err)
	p.Fingerprint = "two"
	_, err = e.Register(ctx, p)
	noError(t, err)
	for fingerprint, want := range map[string]store.Generations{"one": {Serving: 1}, "two": {Building: 2}, "three": {}} {
		if g, err := e.GenerationsOf(ctx, "p", fingerprint); g != want || err != nil {
			t.Errorf("%s: %+v, %v, want %+v", fingerprint, g, err, want)
		}
	}
}
