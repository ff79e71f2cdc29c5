package sqlite

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/statscache/statscache/store"
)

// TestDictionary_NumbersStayWhateverIsInMemory numbers many more keys than memory is to hold, old and new ones in turn,
// with commits, failures and new starts between them.
func TestDictionary_NumbersStayWhateverIsInMemory(t *testing.T) {
	open := fresh(t)
	d := open(t)
	defer func() { _ = d.Close() }()
	const room, keys = 64, 5000
	plugin := store.Plugin{ID: "p", Fingerprint: "f", Metrics: []store.Metric{{ID: "m", Kind: store.Counter, Dimensions: []store.Dimension{{Name: "a"}}, Intervals: []time.Duration{time.Hour}}}}
	start := func() store.Checkpoint {
		t.Helper()
		if _, err := d.Register(t.Context(), plugin); err != nil {
			t.Fatal(err)
		}
		c, err := d.Checkpoint(t.Context(), store.CheckpointKey{Plugin: "p", Generation: 1, Stream: "s"})
		if err != nil {
			t.Fatal(err)
		}
		d.ledger.of("p", 1)["m"].series.room = room
		return c
	}
	c, random, numbers, of := start(), rand.New(rand.NewPCG(1, 2)), map[string]uint32{}, map[uint32]string{}
	noted := false
	for round := range 30 {
		top := store.Cell(0)
		for range 400 {
			key := fmt.Sprintf("key %d", min(random.IntN(keys), random.IntN(keys), random.IntN(keys)))
			n, err := c.Series("m", key)
			if err != nil {
				t.Fatal(err)
			}
			if old, ok := numbers[key]; ok && old != n {
				t.Fatalf("round %d: %q is %d now, was %d", round, key, n, old)
			}
			if other, ok := of[n]; ok && other != key {
				t.Fatalf("round %d: %q and %q are both %d", round, key, other, n)
			}
			numbers[key], of[n] = n, key
			top = max(top, store.MakeCell(0, n))
		}
		if err := c.Commit(t.Context(), &store.Commit{To: uint64(round + 1), Counters: []store.CounterDeltas{{Metric: "m", Interval: time.Hour, Cells: []store.Delta{{Cell: top, N: 1}}}}}); err != nil {
			t.Fatal(err)
		}
		x := d.ledger.of("p", 1)["m"].series
		if len(x.ids)+len(x.older) > 3*room+2*400 { // what one commit has must be there
			t.Fatalf("round %d: %d keys in memory", round, len(x.ids)+len(x.older))
		}
		noted = noted || x.known != nil
		if round%10 == 9 {
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			d = open(t)
			c = start()
		}
	}
	if !noted {
		t.Errorf("of %d keys none was looked up in vain so often that they are noted", len(numbers))
	}
}
