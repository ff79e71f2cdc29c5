package sqlite

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"zombiezen.com/go/sqlite"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
)

// draft is an event of a page on its way.
type draft struct {
	hit
	e     store.Event
	size  int  // of its body
	whole bool // nothing is missing in e
}

// assemble makes the page of the hits: more is where to go on when the search was ended early.
func (f *finding) assemble(more *store.EventCursor) (page store.Page, err error) {
	list := make([]*draft, len(f.hits))
	for i, h := range f.hits {
		list[i] = &draft{hit: h}
	}
	// Many events of one moment: only their ids say which of them are wanted.
	if err := f.fill(list, len(list) > 2*f.req.Limit); err != nil {
		return page, err
	}
	slices.SortFunc(list, func(a, b *draft) int {
		x := cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(a.e.ID, b.e.ID))
		if f.req.Desc {
			return -x
		}
		return x
	})
	n, size := 0, 0
	for n < len(list) && n < f.req.Limit {
		if size += list[n].size; n > 0 && f.req.MaxBytes > 0 && size > f.req.MaxBytes {
			break
		}
		n++
	}
	if n < len(list) {
		list = list[:n]
		more = &store.EventCursor{Time: list[n-1].time, ID: list[n-1].e.ID}
	}
	page.Next = more
	if err := f.fill(list, false); err != nil {
		return page, err
	}
	for _, d := range list {
		page.Events = append(page.Events, d.e)
	}
	return page, nil
}

// fill completes the drafts that are not whole, in the order of the file, so that every block and frame is read once.
// light: only the ids. It stops keeping bodies where they exceed MaxBytes: what is left out is filled once it is
// known which events the page has room for.
func (f *finding) fill(list []*draft, light bool) (err error) {
	list = slices.DeleteFunc(slices.Clone(list), func(d *draft) bool { return d.whole })
	slices.SortFunc(list, func(a, b *draft) int { return cmp.Or(a.src.compare(b.src), cmp.Compare(a.i, b.i)) })
	kept := 0
	for at := 0; at < len(list); {
		src := list[at].src
		end := at + 1
		for end < len(list) && list[end].src == src {
			end++
		}
		if err := f.ctx.Err(); err != nil {
			return err
		}
		if !f.frame.has(src, list[at].i) {
			if err := f.frame.prepare(list[at:]); err != nil {
				return err
			}
		}
		if err := f.fillBlock(src, list[at:end], light, &kept); err != nil {
			return err
		}
		at = end
	}
	return nil
}

// fillBlock completes the drafts that lie in one block, ascending. kept counts the bytes of bodies.
func (f *finding) fillBlock(src *blockSource, list []*draft, light bool, kept *int) error {
	b, ok := f.parts[src]
	if !ok {
		places := make([]int, len(list))
		for i, d := range list {
			places[i] = d.i
		}
		var err error
		if b, err = f.pick(src, places); err != nil {
			return err
		}
	}
	for _, d := range list {
		body, err := f.frame.body(src, d.i)
		if err != nil {
			return err
		}
		k, ok := b.at(d.i)
		if !ok {
			return fmt.Errorf("%w: block %d has no event %d", block.ErrCorrupt, src.id, d.i)
		}
		d.size = len(body)
		*kept += d.size
		if light || f.req.Bodies && f.req.MaxBytes > 0 && *kept > f.req.MaxBytes && d.e.ID == "" {
			d.e.ID, err = b.IDOf(k, body)
		} else {
			d.e, err = f.event(src, b.Block, k, body)
			d.whole = true
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// compare puts blocks in the order of the file, small ones first.
func (s *blockSource) compare(o *blockSource) int {
	if x := cmp.Compare(s.id, o.id); x != 0 || s.hot == nil || o.hot == nil {
		return x
	}
	return cmp.Or(cmp.Compare(s.stream, o.stream), cmp.Compare(s.hot.First, o.hot.First))
}

// event makes an event of one in a block.
func (f *finding) event(src *blockSource, b *block.Block, i int, body []byte) (e store.Event, err error) {
	e = store.Event{Seq: b.Seq(i), Topic: b.Names[b.Topic[i]], Category: b.Names[b.CategoryOf(i)], Time: b.Time[i], Received: b.ReceivedOf(i),
		Source: b.Names[b.Source[i]], Agent: b.Names[b.Agent[i]], Signed: b.SignedOf(i)}
	for _, u := range b.UsersOf(i) {
		e.Users = append(e.Users, b.Names[u])
	}
	for _, p := range b.PackagesOf(i) {
		e.Packages = append(e.Packages, b.Names[p])
	}
	if f.req.Bodies {
		e.Body = bytes.Clone(body)
	}
	if e.ID, err = b.IDOf(i, body); err != nil {
		return e, err
	}
	e.Stream, err = f.stream(src.stream)
	return e, err
}

// stream gives a stream's id.
func (f *finding) stream(no int64) (id string, err error) {
	if id, ok := f.streams[no]; ok {
		return id, nil
	}
	if f.streams == nil {
		f.streams = map[int64]string{}
	}
	err = f.c.each("SELECT id FROM stream WHERE no=?", func(s *sqlite.Stmt) error {
		id = s.ColumnText(0)
		return nil
	}, no)
	f.streams[no] = id
	return id, err
}

// count adds up segments, blocks and, where neither is whole in the span or sure of the names, events.
func (f *finding) count() (n int64, err error) {
	if f.from >= f.to {
		return 0, nil
	}
	for _, g := range f.v.segs {
		x, err := f.countSegment(g)
		if n += x; err != nil {
			return n, err
		}
	}
	for _, t := range f.v.tail {
		if in, x := f.tailSet(t); x.some {
			m, err := f.countBlock(&t.src, in, x)
			if n += m; err != nil {
				return n, err
			}
		}
	}
	for _, src := range f.v.hot {
		m, err := f.countBlock(src, nil, chosen{some: true, all: true, sure: len(f.conds) == 0})
		if n += m; err != nil {
			return n, err
		}
	}
	return n, nil
}

func (f *finding) countSegment(g *segmentIndex) (n int64, err error) {
	if g.tmax < f.from || g.tmin >= f.to {
		return 0, nil
	}
	if err := f.ctx.Err(); err != nil {
		return 0, err
	}
	x, err := f.segmentSet(g, mostInCount)
	if err != nil || !x.some {
		return 0, err
	}
	whole := g.tmin >= f.from && g.tmax < f.to && x.sure && !f.asksText()
	if whole && x.all {
		return g.n, nil
	}
	blocks, err := g.load(f.c)
	if err != nil {
		return 0, err
	}
	for i := range blocks {
		var in *blockSet
		if !x.all {
			if in = f.set.block(i); in == nil {
				continue
			}
		}
		m, err := f.countBlock(&blocks[i], in, x)
		if n += m; err != nil {
			return n, err
		}
	}
	return n, nil
}

func (f *finding) asksText() bool { return f.contains[0] != nil || f.contains[1] != nil }

// countBlock counts the hits of a block, looking at its events only where it must.
func (f *finding) countBlock(src *blockSource, in *blockSet, x chosen) (n int64, err error) {
	if src.n == 0 || src.tmax < f.from || src.tmin >= f.to {
		return 0, nil
	}
	candidates := src.n
	if in != nil {
		candidates = in.within(src.n)
	}
	if x.sure && src.tmin >= f.from && src.tmax < f.to && !f.asksText() {
		return int64(candidates), nil
	}
	if f.req.MaxScan > 0 && f.looked+candidates > f.req.MaxScan {
		return 0, fmt.Errorf("%w: more than %d events would have to be looked at", store.ErrTooCostly, f.req.MaxScan)
	}
	if err := f.ctx.Err(); err != nil {
		return 0, err
	}
	b, err := f.read(src)
	if err != nil {
		return 0, err
	}
	err = f.each(src, b, in, x.sure, func(k int) error {
		ok, err := f.text(src, b.place(k))
		if ok {
			n++
		}
		return err
	})
	return n, err
}
