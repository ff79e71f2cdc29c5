package block

import "fmt"

// Keep gives a block of the events that keep marks; it covers the same positions. Where all are kept it is the block
// itself. Bodies, where there are any, are packed anew.
func (b *Block) Keep(keep []bool) (*Block, error) {
	n := 0
	for _, k := range keep {
		if k {
			n++
		}
	}
	if n == b.Len() {
		return b, nil
	}
	m := newMerger(n)
	if err := m.add(b, keep); err != nil {
		return nil, err
	}
	return m.finish(b.First, b.Upto, b.Backfill, b.Frames != nil), nil
}

// Merge makes one block of several that follow each other in one stream and lane and hold at most MaxEvents events
// together. It is how small live blocks become one row of the archive.
func Merge(blocks []*Block) (*Block, error) {
	n, bodies := 0, true
	for i, b := range blocks {
		n += b.Len()
		bodies = bodies && (b.Frames != nil || b.Len() == 0)
		if i > 0 && (b.First <= blocks[i-1].Upto || b.Backfill != blocks[0].Backfill) {
			return nil, fmt.Errorf("merge: block at %d does not follow the one up to %d", b.First, blocks[i-1].Upto)
		}
	}
	if n > MaxEvents || len(blocks) == 0 {
		return nil, fmt.Errorf("merge: %d events in %d blocks", n, len(blocks))
	}
	m := newMerger(n)
	for _, b := range blocks {
		if err := m.add(b, nil); err != nil {
			return nil, err
		}
	}
	return m.finish(blocks[0].First, blocks[len(blocks)-1].Upto, blocks[0].Backfill, bodies), nil
}

// merger copies events out of blocks into one with a name table of its own.
type merger struct {
	out     Block
	index   map[string]uint32
	remap   []uint32
	raw     []byte
	lengths []uint32
	hashes  bool
}

func newMerger(n int) *merger {
	m := &merger{index: map[string]uint32{"": 0}, hashes: true}
	m.out = Block{Names: []string{""}, Category: []uint32{0}, Seqs: make([]uint64, 0, n), Time: make([]int64, 0, n),
		Topic: make([]uint32, 0, n), Source: make([]uint32, 0, n), Agent: make([]uint32, 0, n),
		UserEnd: make([]uint32, 0, n), PkgEnd: make([]uint32, 0, n), Flags: make([]uint8, 0, n),
		Hash: make([]uint64, 0, n), idPos: make([]uint32, 0, n), idLen: make([]uint16, 0, n)}
	return m
}

const unmapped = ^uint32(0)

// name gives the merged index of name i of b.
func (m *merger) name(b *Block, i uint32) uint32 {
	if m.remap[i] != unmapped {
		return m.remap[i]
	}
	s := b.Names[i]
	x, ok := m.index[s]
	if !ok {
		x = uint32(len(m.out.Names))
		m.out.Names, m.out.Category = append(m.out.Names, s), append(m.out.Category, 0)
		m.index[s] = x
	}
	m.remap[i] = x
	return x
}

func (m *merger) add(b *Block, keep []bool) error {
	m.remap = m.remap[:0]
	for range b.Names {
		m.remap = append(m.remap, unmapped)
	}
	var bodies [][]byte
	if b.Frames != nil {
		var err error
		if bodies, err = b.Bodies(); err != nil {
			return err
		}
	}
	m.hashes = m.hashes && (b.Hash != nil || b.Len() == 0)
	extra := 0
	for i := range b.Time {
		kept := keep == nil || keep[i]
		if kept {
			m.event(b, i)
			if b.idPos[i] == 0 {
				m.out.extraIDs = append(m.out.extraIDs, b.extraIDs[extra])
			}
			if bodies != nil {
				m.raw = append(m.raw, bodies[i]...)
				m.lengths = append(m.lengths, uint32(len(bodies[i])))
			}
		}
		if b.idPos[i] == 0 {
			extra++
		}
	}
	return nil
}

func (m *merger) event(b *Block, i int) {
	o := &m.out
	o.Seqs, o.Time = append(o.Seqs, b.Seq(i)), append(o.Time, b.Time[i])
	topic := m.name(b, b.Topic[i])
	if o.Category[topic] == 0 {
		o.Category[topic] = m.name(b, b.CategoryOf(i))
	}
	o.Topic, o.Source, o.Agent = append(o.Topic, topic), append(o.Source, m.name(b, b.Source[i])), append(o.Agent, m.name(b, b.Agent[i]))
	for _, u := range b.UsersOf(i) {
		o.Users = append(o.Users, m.name(b, u))
	}
	o.UserEnd = append(o.UserEnd, uint32(len(o.Users)))
	for _, p := range b.PackagesOf(i) {
		o.Pkgs = append(o.Pkgs, m.name(b, p))
	}
	o.PkgEnd = append(o.PkgEnd, uint32(len(o.Pkgs)))
	o.Flags, o.idPos, o.idLen = append(o.Flags, b.Flags[i]), append(o.idPos, b.idPos[i]), append(o.idLen, b.idLen[i])
	if m.hashes {
		o.Hash = append(o.Hash, b.Hash[i])
	}
	at := b.ReceivedOf(i)
	if k := len(o.Received); k > 0 && o.Received[k-1].At == at {
		o.Received[k-1].N++
	} else {
		o.Received = append(o.Received, Run{1, at})
	}
}

func (m *merger) finish(first, upto uint64, backfill, frames bool) *Block {
	b := &m.out
	b.First, b.Upto, b.Backfill = first, upto, backfill
	if uint64(len(b.Seqs)) == upto-first+1 {
		b.Seqs = nil // no holes
	}
	if !m.hashes {
		b.Hash = nil
	}
	if frames {
		b.Frames, _ = packFrames(m.raw, m.lengths, nil)
		b.BodyBytes = len(m.raw)
	}
	return b
}
