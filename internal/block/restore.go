package block

// Cover says where restored events stand.
type Cover struct {
	First, Upto uint64   // the positions that the block covers
	Seqs        []uint64 // ascending positions of the events within them
	Received    []int64  // when each event was received (µs since 1970)
	Backfill    bool
	Bodies      bool // the events were added with their bodies; without, the block has no frames
}

// Restore packs what was gathered into a block with holes and starts anew. It is for engines that keep an event a row
// and make blocks of them again: Build is for events that follow each other.
func (w *Builder) Restore(c Cover) *Block {
	b := w.Build(c.First, 0, c.Backfill)
	b.Upto, b.Received = c.Upto, nil
	for _, at := range c.Received {
		if k := len(b.Received); k > 0 && b.Received[k-1].At == at {
			b.Received[k-1].N++
		} else {
			b.Received = append(b.Received, Run{1, at})
		}
	}
	if uint64(len(c.Seqs)) != c.Upto-c.First+1 {
		b.Seqs = clone(c.Seqs)
	}
	if !c.Bodies {
		b.Frames, b.BodyBytes = nil, 0
	}
	return b
}
