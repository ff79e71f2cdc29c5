package block

import (
	"math/rand/v2"
	"testing"
)

func TestRestore_HolesAndTimesOfReceipt(t *testing.T) {
	events := sample(rand.New(rand.NewPCG(3, 4)), 5)
	fill := func() *Builder {
		w := NewBuilder(category)
		for _, e := range events {
			w.Add(e)
		}
		return w
	}
	seqs, received := []uint64{12, 13, 17, 18, 20}, []int64{77, 77, 77, 77, 77}
	b := fill().Restore(Cover{First: 10, Upto: 21, Seqs: seqs, Received: received, Backfill: true, Bodies: true})
	if b.First != 10 || b.Upto != 21 || !b.Backfill || len(b.Received) != 1 {
		t.Fatalf("%d-%d, backfill %v, received %v", b.First, b.Upto, b.Backfill, b.Received)
	}
	check(t, b, events, seqs)

	whole := fill().Restore(Cover{First: 1, Upto: 5, Seqs: []uint64{1, 2, 3, 4, 5}, Received: []int64{1, 1, 2, 3, 3}})
	if whole.Seqs != nil || whole.Frames != nil || whole.BodyBytes != 0 || whole.ReceivedOf(2) != 2 || whole.ReceivedOf(4) != 3 {
		t.Fatalf("seqs %v, %d frames, received %v", whole.Seqs, len(whole.Frames), whole.Received)
	}
	if _, err := whole.Bodies(); err == nil {
		t.Fatal("a block without bodies gives bodies")
	}
}
