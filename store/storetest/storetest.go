// Package storetest is the suite that every engine of the store's contract must pass.
//
// An engine's test is one line, where fresh makes an empty database and gives the function that opens it:
//
//	func TestSuite(t *testing.T) { storetest.All(t, fresh, nil) }
//
// An engine that is not complete yet runs the groups it can: each group asks only for the calls it needs.
package storetest

import (
	"context"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
)

// Open opens one database. Called again, before or after a Close, it does what a further process would do. What it
// opened is closed by the suite.
type Open[E any] func(t testing.TB) E

// Fresh makes an empty database of its own and gives the function that opens it. What is left of the database goes
// away with the test (t.Cleanup).
type Fresh[E any] func(t testing.TB) Open[E]

// Archiver is what the group Archive asks of an engine.
type Archiver interface {
	store.Archive
	Close() error
}

// Ledgerer is what the group Ledger asks of an engine: the ledger, and of catalog and reader just what is needed to
// declare metrics and to look at what was committed.
type Ledgerer interface {
	store.Ledger
	Register(ctx context.Context, p store.Plugin) (store.Generations, error)
	EachCell(ctx context.Context, q store.CellQuery, f func(store.Row) error) error
	EachLatest(ctx context.Context, plugin, metric string, generation uint32, f func(store.LatestRow) error) error
	DeadLetters(ctx context.Context, plugin string, limit int) ([]store.StreamDeadLetter, int, error)
	Close() error
}

// Engine is a complete one. Its checkpoints are store.Revivers.
type Engine interface {
	store.Store
	store.Finder
	store.Requeuer
}

// All runs every group but Leases, each after begin, which may skip it.
func All[E Engine](t *testing.T, fresh Fresh[E], begin func(t *testing.T, group string)) {
	for _, g := range []struct {
		name string
		run  func(*testing.T, Fresh[E])
	}{{"Archive", Archive[E]}, {"Ledger", Ledger[E]}, {"Fencing", Fencing[E]}, {"Catalog", Catalog[E]}, {"Reader", Reader[E]}, {"Sums", Sums[E]},
		{"Upkeep", Upkeep[E]}, {"Scan", Scan[E]}, {"Mend", Mend[E]}, {"Requeue", Requeue[E]}, {"Find", Find[E]}} {
		t.Run(g.name, func(t *testing.T) {
			if begin != nil {
				begin(t, g.name)
			}
			g.run(t, fresh)
		})
	}
}

// as narrows an engine to what a group asks for, so that the cases need not be generic.
func as[E, I any](fresh Fresh[E], narrow func(E) I) Fresh[I] {
	return func(t testing.TB) Open[I] {
		open := fresh(t)
		return func(t testing.TB) I { return narrow(open(t)) }
	}
}

// deadline bounds every case: an engine that hangs fails with the stack of the call.
const deadline = 2 * time.Minute

func patience(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	t.Cleanup(cancel)
	return ctx
}

// opened opens a database and closes it at the end of the test.
func opened[E interface{ Close() error }](t testing.TB, open Open[E]) E {
	t.Helper()
	e := open(t)
	t.Cleanup(func() { _ = e.Close() }) // a second Close of what a case closed itself is harmless
	return e
}

func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// cases runs each case on an empty database, the random ones in the long form only with every seed.
func cases[E any](t *testing.T, fresh Fresh[E], list map[string]func(*testing.T, Open[E])) {
	for _, name := range slices.Sorted(maps.Keys(list)) {
		t.Run(name, func(t *testing.T) {
			if strings.Contains(name, "/seed=") && !strings.HasSuffix(name, "/seed=1") && os.Getenv("STATSCACHE_LONG") == "" {
				t.Skip("SKIPPED: the short form plays one seed: set STATSCACHE_LONG=1, or run `make e2e`")
			}
			list[name](t, fresh(t))
		})
	}
}

// total counts the events of blocks.
func total(blocks []*block.Block) int {
	n := 0
	for _, b := range blocks {
		n += b.Len()
	}
	return n
}
