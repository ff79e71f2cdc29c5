package sqlite

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"sort"

	"github.com/statscache/statscache/internal/block"
)

// read gives the header of a block.
func (f *finding) read(src *blockSource) (*block.Block, error) {
	if src.hot != nil {
		return src.hot, nil
	}
	if b := f.blocks[src]; b != nil {
		return b, nil
	}
	return readBlock(f.c, src.id, false)
}

// mostKept bounds the blocks that a question keeps, of about 100 KB each.
const mostKept = 128

// keep remembers a block that will be read again for the page.
func (f *finding) keep(src *blockSource, b *block.Block) {
	if f.blocks == nil || len(f.blocks) >= mostKept {
		f.blocks = map[*blockSource]*block.Block{}
	}
	f.blocks[src] = b
}

// frameCache holds the frame that was unpacked last.
type frameCache struct {
	c   *conn
	src *blockSource
	no  int
	u   block.Unpacker
	// wanted are pieces of text; without says that the frame has none of them.
	wanted  [][]byte
	without bool
}

// load makes the frame of an event the one that is held.
func (x *frameCache) load(src *blockSource, i int) error {
	no := i / block.FrameEvents
	if x.src == src && x.no == no {
		return nil
	}
	var d []byte
	if src.hot != nil {
		if no < len(src.hot.Frames) {
			d = src.hot.Frames[no]
		}
	} else {
		var err error
		if d, err = x.c.blob("SELECT d FROM body WHERE id=?", src.id<<frameBits|int64(no)); err != nil {
			return err
		}
	}
	x.src = nil
	if err := x.u.Unpack(d); err != nil {
		return fmt.Errorf("bodies %d of block %d: %w", no, src.id, err)
	}
	x.src, x.no = src, no
	// All bodies together are looked at faster than each.
	x.without = len(x.wanted) > 0 && !slices.ContainsFunc(x.wanted, func(piece []byte) bool { return bytes.Contains(x.u.Raw, piece) })
	return nil
}

// body gives the body of an event. It is valid until the next call.
func (x *frameCache) body(src *blockSource, i int) ([]byte, error) {
	if err := x.load(src, i); err != nil {
		return nil, err
	}
	if i %= block.FrameEvents; i >= len(x.u.Bodies) {
		return nil, fmt.Errorf("%w: block %d has no body %d", block.ErrCorrupt, src.id, i)
	}
	return x.u.Bodies[i], nil
}

// search adds the hits of a block.
func (f *finding) search(p place) error {
	b, err := f.read(p.blk)
	if err != nil {
		return err
	}
	worst, full := int64(0), len(f.hits) > f.req.Limit
	if full {
		worst = f.key(f.hits[f.req.Limit].time)
	}
	added := false
	err = f.each(p.blk, b, p.in, p.sure, func(i int) error {
		if full && f.key(b.Time[i]) < worst {
			return nil
		}
		if f.req.After != nil && b.Time[i] == f.req.After.Time {
			behind, err := f.behind(p.blk, b, i)
			if err != nil || !behind {
				return err
			}
		}
		if ok, err := f.text(p.blk, i); err != nil || !ok {
			return err
		}
		f.hits, added = append(f.hits, hit{b.Time[i], p.blk, i}), true
		return nil
	})
	if err != nil || !added {
		return err
	}
	f.keep(p.blk, b)
	slices.SortFunc(f.hits, func(a, b hit) int { return cmp.Compare(f.key(b.time), f.key(a.time)) })
	if l := f.req.Limit; len(f.hits) > l {
		// All of one moment are kept: which of them come first is not known before their ids are.
		worst := f.key(f.hits[l].time)
		end := l + sort.Search(len(f.hits)-l, func(i int) bool { return f.key(f.hits[l+i].time) < worst })
		f.hits = f.hits[:end]
	}
	return nil
}

// each calls do for the events of a block that meet every condition but those on text, and counts what it looked at.
// sure: in has only what meets the conditions on names.
func (f *finding) each(src *blockSource, b *block.Block, in *blockSet, sure bool, do func(i int) error) error {
	if b.Len() != src.n {
		return fmt.Errorf("%w: block %d has %d events for %d", block.ErrCorrupt, src.id, b.Len(), src.n)
	}
	var tests []nameTest
	for i := range f.conds {
		if !sure {
			tests = append(tests, f.conds[i].test(b))
		}
	}
	for i, t := range b.Time {
		if in != nil && !in.has(i) {
			continue
		}
		f.looked++
		if t < f.from || t >= f.to || !meets(tests, b, i) {
			continue
		}
		if err := do(i); err != nil {
			return err
		}
	}
	return nil
}

// nameTest is a condition in the names of one block.
type nameTest struct {
	kind   kind
	not    bool
	wanted []bool // by index in the block's names
}

func (k *condition) test(b *block.Block) nameTest {
	t := nameTest{k.kind, k.not, make([]bool, len(b.Names))}
	for i, s := range b.Names[1:] { // the first one stands for none
		t.wanted[i+1] = k.holds(s)
	}
	return t
}

func meets(tests []nameTest, b *block.Block, i int) bool {
	for _, t := range tests {
		if t.has(b, i) == t.not {
			return false
		}
	}
	return true
}

func (t *nameTest) has(b *block.Block, i int) bool {
	switch t.kind {
	case topicName:
		return t.wanted[b.Topic[i]]
	case categoryName:
		return t.wanted[b.CategoryOf(i)]
	case agentName:
		return t.wanted[b.Agent[i]]
	case userName:
		return slices.ContainsFunc(b.UsersOf(i), func(x uint32) bool { return t.wanted[x] })
	}
	return slices.ContainsFunc(b.PackagesOf(i), func(x uint32) bool { return t.wanted[x] })
}

// behind says whether an event of the cursor's moment comes behind it.
func (f *finding) behind(src *blockSource, b *block.Block, i int) (bool, error) {
	body, err := f.frame.body(src, i)
	if err != nil {
		return false, err
	}
	id, err := b.IDOf(i, body)
	if f.req.Desc {
		return id < f.req.After.ID, err
	}
	return id > f.req.After.ID, err
}

// text says whether a body meets the conditions on text.
func (f *finding) text(src *blockSource, i int) (bool, error) {
	if f.contains[0] == nil && f.contains[1] == nil {
		return true, nil
	}
	if f.frame.src != src || f.frame.no != i/block.FrameEvents {
		if err := f.ctx.Err(); err != nil {
			return false, err
		}
	}
	body, err := f.frame.body(src, i)
	if err != nil || f.frame.without {
		return false, err
	}
	in := func(piece []byte) bool { return bytes.Contains(body, piece) }
	return (f.contains[0] == nil || slices.ContainsFunc(f.contains[0], in)) && !slices.ContainsFunc(f.contains[1], in), nil
}
