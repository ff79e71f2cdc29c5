package sqlite

import (
	"bytes"
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"sort"

	"golang.org/x/sync/errgroup"

	"github.com/statscache/statscache/internal/block"
)

// part is what was read of a block's header: all of it, or the events at some places.
type part struct {
	*block.Block
	places []int // ascending; nil for all events
}

// at gives where the block's event i is in the part.
func (p part) at(i int) (int, bool) {
	if p.places == nil {
		return i, i < p.Len()
	}
	return slices.BinarySearch(p.places, i)
}

// place is the opposite of at.
func (p part) place(k int) int {
	if p.places == nil {
		return k
	}
	return p.places[k]
}

// read gives a block's header.
func (f *finding) read(src *blockSource) (part, error) {
	if src.hot != nil {
		return part{src.hot, nil}, nil
	}
	if p, ok := f.parts[src]; ok && p.places == nil {
		return p, nil
	}
	b, err := readBlock(f.c, src.id, false)
	return part{b, nil}, err
}

// pick gives the events at some places of a block.
func (f *finding) pick(src *blockSource, places []int) (part, error) {
	if src.hot != nil {
		return part{src.hot, nil}, nil
	}
	var err error
	if f.header, err = f.c.blobIn(f.header, "SELECT d FROM col WHERE id=?", src.id); err != nil {
		return part{}, err
	}
	b, err := block.Pick(f.header, places)
	if err != nil {
		return part{}, fmt.Errorf("block %d: %w", src.id, err)
	}
	return part{b, places}, nil
}

// mostPlaces is how many events are rather picked out of a header than found in all that it says.
const mostPlaces = 16

// candidates gives the part of a block that a question has to look at.
func (f *finding) candidates(p place) (part, error) {
	if p.in == nil || !p.sure || p.blk.hot != nil || p.in.within(p.blk.n) > mostPlaces {
		return f.read(p.blk)
	}
	places := []int{} // not nil, also where the marks are of places without an event
	for i := range p.blk.n {
		if p.in.has(i) {
			places = append(places, i)
		}
	}
	return f.pick(p.blk, places)
}

// mostKept bounds the parts of blocks that a question keeps, of up to about 100 KB each.
const mostKept = 128

// keep remembers what will be read again for the page.
func (f *finding) keep(src *blockSource, p part) {
	if f.parts == nil || len(f.parts) >= mostKept {
		f.parts = map[*blockSource]part{}
	}
	f.parts[src] = p
}

// frameCache holds the frame that was asked for last, and some that will be.
type frameCache struct {
	c *conn
	unpacked
	ahead []*unpacked
	// wanted are pieces of text; without says that the frame has none of them.
	wanted  [][]byte
	without bool
}

// unpacked is a frame of a block, or room for one.
type unpacked struct {
	src    *blockSource // nil for none
	no     int
	u      block.Unpacker
	packed []byte
}

// load makes the frame of an event the one that is held.
func (x *frameCache) load(src *blockSource, i int) error {
	no := i / block.FrameEvents
	if x.src == src && x.no == no {
		return nil
	}
	if k := slices.IndexFunc(x.ahead, func(u *unpacked) bool { return u.src == src && u.no == no }); k >= 0 {
		x.unpacked, *x.ahead[k] = *x.ahead[k], x.unpacked
	} else if err := x.fetch(x.c, src, no); err != nil {
		return err
	} else if err := x.unpack(); err != nil {
		return err
	}
	// All bodies together are looked at faster than each.
	x.without = len(x.wanted) > 0 && !slices.ContainsFunc(x.wanted, func(piece []byte) bool { return bytes.Contains(x.u.Raw, piece) })
	return nil
}

// fetch reads a frame as it is stored.
func (u *unpacked) fetch(c *conn, src *blockSource, no int) (err error) {
	u.src, u.no = src, no
	switch {
	case src.hot == nil:
		u.packed, err = c.blobIn(u.packed, "SELECT d FROM body WHERE id=?", src.id<<frameBits|int64(no))
	case no < len(src.hot.Frames):
		u.packed = append(u.packed[:0], src.hot.Frames[no]...)
	default:
		u.packed = nil
	}
	if err != nil {
		u.src = nil
	}
	return err
}

func (u *unpacked) unpack() error {
	if err := u.u.Unpack(u.packed); err != nil {
		err = fmt.Errorf("bodies %d of block %d: %w", u.no, u.src.id, err)
		u.src = nil
		return err
	}
	return nil
}

// framesAhead is how many frames of about 80 KB are unpacked at once.
const framesAhead = 8

// prepare unpacks the frames that come first in a list side by side: of a rare name every event has one of its own.
func (x *frameCache) prepare(list []*draft) error {
	n := 0
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, d := range list {
		no := d.i / block.FrameEvents
		if n > 0 && x.ahead[n-1].src == d.src && x.ahead[n-1].no == no {
			continue
		}
		if n == framesAhead {
			break
		}
		if n == len(x.ahead) {
			x.ahead = append(x.ahead, &unpacked{})
		}
		u := x.ahead[n]
		if err := u.fetch(x.c, d.src, no); err != nil {
			_ = g.Wait() // the other one is the error
			return err
		}
		g.Go(u.unpack)
		n++
	}
	return g.Wait()
}

// has says whether the frame of an event is there.
func (x *frameCache) has(src *blockSource, i int) bool {
	no := i / block.FrameEvents
	return x.src == src && x.no == no || slices.ContainsFunc(x.ahead, func(u *unpacked) bool { return u.src == src && u.no == no })
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
	b, err := f.candidates(p)
	if err != nil {
		return err
	}
	worst, full := int64(0), len(f.hits) > f.req.Limit
	if full {
		worst = f.key(f.hits[f.req.Limit].time)
	}
	added := false
	err = f.each(p.blk, b, p.in, p.sure, func(k int) error {
		if full && f.key(b.Time[k]) < worst {
			return nil
		}
		i := b.place(k)
		if f.req.After != nil && b.Time[k] == f.req.After.Time {
			body, err := f.frame.body(p.blk, i)
			if err != nil {
				return err
			}
			if behind, err := f.behind(b, k, body); err != nil || !behind {
				return err
			}
		}
		if ok, err := f.text(p.blk, i); err != nil || !ok {
			return err
		}
		f.hits, added = append(f.hits, hit{b.Time[k], p.blk, i}), true
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

// each calls do for the events of a part that meet every condition but those on text, and counts what it looked at.
// sure: in has only what meets the conditions on names.
func (f *finding) each(src *blockSource, b part, in *blockSet, sure bool, do func(k int) error) error {
	if b.places == nil && b.Len() != src.n {
		return fmt.Errorf("%w: block %d has %d events for %d", block.ErrCorrupt, src.id, b.Len(), src.n)
	}
	var tests []nameTest
	for i := range f.conds {
		if !sure {
			tests = append(tests, f.conds[i].test(b.Block))
		}
	}
	for k, t := range b.Time {
		if in != nil && !in.has(b.place(k)) {
			continue
		}
		f.looked++
		if t < f.from || t >= f.to || !meets(tests, b.Block, k) {
			continue
		}
		if err := do(k); err != nil {
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

// behind says whether event k of a part, one of the cursor's moment, comes behind it.
func (f *finding) behind(b part, k int, body []byte) (bool, error) {
	id, err := b.IDOf(k, body)
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
