package sqlite

import (
	"container/heap"
	"context"
	"fmt"
	"math"

	"github.com/statscache/statscache/store"
)

var _ store.Finder = (*DB)(nil)

// Find gives a page of archived events. Segments and blocks come out of a heap by their newest time (oldest where the
// order is ascending), and the page is done when it beats what the heap would give next. Segments that hold none of
// the names are passed over by one look-up, however many events they have.
func (d *DB) Find(ctx context.Context, r store.FindRequest) (page store.Page, err error) {
	if r.Limit < 1 {
		return page, fmt.Errorf("find events: a page of %d events", r.Limit)
	}
	err = d.read(ctx, "find events", func(c *conn) error {
		f, err := d.newFinding(ctx, c, r.EventFilter)
		if err != nil {
			return err
		}
		f.req = r
		page, err = f.page()
		return err
	})
	return page, err
}

// finding is a question under way. It belongs to one read transaction.
type finding struct {
	ctx      context.Context
	c        *conn
	v        *view
	req      store.FindRequest
	from, to int64 // of the filter, the horizon and the cursor together
	conds    []condition
	contains [2][][]byte // pieces to have one of, and to have none of
	frame    frameCache
	header   []byte                // the room that headers are read into
	parts    map[*blockSource]part // of blocks with hits, so that they are read once
	streams  map[int64]string      // ids by number
	set, or  *bitset               // room for the segment at hand
	looked   int                   // events looked at so far
	heap     places
	hits     []hit
}

// hit is an event that is chosen.
type hit struct {
	time int64
	src  *blockSource
	i    int
}

func (d *DB) newFinding(ctx context.Context, c *conn, filter store.EventFilter) (*finding, error) {
	v, err := d.found.view(c)
	if err != nil {
		return nil, err
	}
	f := &finding{ctx: ctx, c: c, v: v, from: max(filter.From, v.horizon), to: filter.To, set: &bitset{}, or: &bitset{}}
	f.frame.c = c
	if f.conds, err = d.found.conditions(c, filter); err != nil {
		return nil, err
	}
	for i, list := range [...][]string{filter.Contains, filter.NotContains} {
		for _, s := range list {
			f.contains[i] = append(f.contains[i], []byte(s))
		}
	}
	f.frame.wanted = f.contains[0]
	return f, nil
}

// place is where events may be: a segment, or a block.
type place struct {
	key int64 // nothing in it comes before this time in the order asked for: the larger one comes first
	seg *segmentIndex
	blk *blockSource
	in  *blockSet // candidates in blk; nil for all of them

	sure bool // candidates meet every condition on names
}

type places []place

func (h places) Len() int           { return len(h) }
func (h places) Less(i, j int) bool { return h[i].key > h[j].key }
func (h places) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *places) Push(x any)        { *h = append(*h, x.(place)) }
func (h *places) Pop() any {
	old := *h
	x := old[len(old)-1]
	old[len(old)-1] = place{}
	*h = old[:len(old)-1]
	return x
}

// key turns a time into one that is larger the earlier it comes in the order asked for.
func (f *finding) key(t int64) int64 {
	if f.req.Desc {
		return t
	}
	return -t
}

func (f *finding) push(lo, hi int64, p place) {
	if hi < f.from || lo >= f.to {
		return
	}
	if p.key = f.key(hi); !f.req.Desc {
		p.key = f.key(lo)
	}
	f.heap = append(f.heap, p)
}

// page gathers the hits and turns them into events.
func (f *finding) page() (store.Page, error) {
	if a := f.req.After; a != nil {
		switch {
		case f.req.Desc && a.ID == "":
			f.to = min(f.to, a.Time)
		case f.req.Desc:
			f.to = min(f.to, saturated(a.Time))
		default:
			f.from = max(f.from, a.Time)
		}
	}
	if f.from >= f.to {
		return store.Page{}, nil
	}
	for _, g := range f.v.segs {
		f.push(g.tmin, g.tmax, place{seg: g})
	}
	for _, t := range f.v.tail {
		if in, x := f.tailSet(t); x.some {
			f.push(t.src.tmin, t.src.tmax, place{blk: &t.src, in: in, sure: x.sure})
		}
	}
	for _, b := range f.v.hot {
		f.push(b.tmin, b.tmax, place{blk: b})
	}
	heap.Init(&f.heap)
	more, err := f.gather()
	if err != nil {
		return store.Page{}, err
	}
	return f.assemble(more)
}

func saturated(t int64) int64 {
	if t == math.MaxInt64 {
		return t
	}
	return t + 1
}

// gather takes places out of the heap until the page is full or too much was looked at. In that case it gives the
// place to go on at.
func (f *finding) gather() (*store.EventCursor, error) {
	if len(f.heap) == 0 {
		return nil, nil
	}
	first := min(f.heap[0].key, -max(f.from, math.MinInt64+1)) // what comes before is not asked for
	if f.req.Desc {
		first = min(f.heap[0].key, f.to-1)
	}
	for len(f.heap) > 0 {
		next := f.heap[0].key
		if len(f.hits) > f.req.Limit && f.key(f.hits[f.req.Limit].time) > next {
			return nil, nil
		}
		// A page must get somewhere: places that all begin at one time are never split.
		if f.req.MaxScan > 0 && f.looked >= f.req.MaxScan && next < first {
			return f.resume(next), nil
		}
		if err := f.ctx.Err(); err != nil {
			return nil, err
		}
		p := heap.Pop(&f.heap).(place)
		var err error
		if p.seg != nil {
			err = f.expand(p.seg)
		} else {
			err = f.search(p)
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// resume drops the hits that places still in the heap may come before, and gives the cursor in front of those places.
func (f *finding) resume(next int64) *store.EventCursor {
	for i, h := range f.hits {
		if f.key(h.time) <= next {
			f.hits = f.hits[:i]
			break
		}
	}
	if f.req.Desc {
		return &store.EventCursor{Time: saturated(next)}
	}
	return &store.EventCursor{Time: -next}
}

// expand puts the blocks of a segment that may hold hits into the heap.
func (f *finding) expand(g *segmentIndex) error {
	x, err := f.segmentSet(g, mostInPage)
	if err != nil || !x.some {
		return err
	}
	blocks, err := g.load(f.c)
	if err != nil {
		return err
	}
	for i := range blocks {
		b := &blocks[i]
		if b.n == 0 || b.tmax < f.from || b.tmin >= f.to {
			continue
		}
		p := place{blk: b, sure: x.sure}
		if !x.all {
			if p.in = f.set.block(i); p.in == nil {
				continue
			}
		}
		if p.key = f.key(b.tmax); !f.req.Desc {
			p.key = f.key(b.tmin)
		}
		heap.Push(&f.heap, p)
	}
	return nil
}

// CountEvents counts the events that a filter chooses: of whole segments and blocks by their indexes alone.
func (d *DB) CountEvents(ctx context.Context, filter store.EventFilter, maxScan int) (n int64, err error) {
	err = d.read(ctx, "count events", func(c *conn) error {
		f, err := d.newFinding(ctx, c, filter)
		if err != nil {
			return err
		}
		f.req.MaxScan = maxScan
		n, err = f.count()
		return err
	})
	return n, err
}
