package sqlite

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sort"

	"github.com/zeebo/xxh3"
	"golang.org/x/sync/errgroup"

	"github.com/statscache/statscache/store"
)

// idReaders is how many connections look for an id at once, and idShare how many segments one of them is worth.
const (
	idReaders = 4
	idShare   = 8
)

// idPlace is where an event of a wanted hash stands.
type idPlace struct {
	segment  int64
	position int
}

// Event gives one event by the hash of its id: from the small blocks, the open segments, then the sealed ones, newest
// first. Each sealed segment has to be asked, with files that are not in memory by a disk access: several are asked at
// once. What a later transaction finds of a segment is what it was, or nothing any more.
func (d *DB) Event(ctx context.Context, id string) (e store.Event, err error) {
	hash := xxh3.HashString(id)
	var found *store.Event
	var sealed []*segmentIndex
	err = d.finding(ctx, id, func(f *finding) error {
		sealed = f.v.segs
		found, err = f.unsealed(id, hash)
		return err
	})
	if err != nil {
		return e, err
	}
	if found == nil {
		places, err := d.sealedPlaces(ctx, id, sealed, hash)
		if err != nil {
			return e, err
		}
		if len(places) > 0 {
			if err := d.finding(ctx, id, func(f *finding) error {
				found, err = f.sealed(id, places)
				return err
			}); err != nil {
				return e, err
			}
		}
	}
	if found == nil {
		return e, fmt.Errorf("event %s: %w: there is none", id, store.ErrUnknown)
	}
	return *found, nil
}

// finding calls f with a question for an event.
func (d *DB) finding(ctx context.Context, id string, do func(f *finding) error) error {
	return d.read(ctx, "event "+id, func(c *conn) error {
		f, err := d.newFinding(ctx, c, store.EventFilter{From: math.MinInt64, To: math.MaxInt64})
		if err != nil {
			return err
		}
		f.req.Bodies = true
		return do(f)
	})
}

// unsealed looks for an event in what no segment holds.
func (f *finding) unsealed(id string, hash uint64) (*store.Event, error) {
	for _, src := range f.v.hot {
		hashes, err := hashesOf(src.hot)
		if err != nil {
			return nil, err
		}
		for i, h := range hashes {
			if h == hash {
				if e, err := f.named(id, src, i); e != nil || err != nil {
					return e, err
				}
			}
		}
	}
	for _, t := range f.v.tail {
		if !t.few.mayHave(hash) {
			continue
		}
		for i, h := range t.hashes {
			if h == hash {
				if e, err := f.named(id, &t.src, i); e != nil || err != nil {
					return e, err
				}
			}
		}
	}
	return nil, nil
}

// sealedPlaces gives where sealed segments have an id of this hash, newest first.
func (d *DB) sealedPlaces(ctx context.Context, id string, segs []*segmentIndex, hash uint64) (out []idPlace, err error) {
	shares := make([][]idPlace, min(idReaders, (len(segs)+idShare-1)/idShare))
	g, ctx := errgroup.WithContext(ctx)
	for share := range shares {
		g.Go(func() error {
			return d.read(ctx, "event "+id, func(c *conn) (err error) {
				for i := share; i < len(segs) && err == nil; i += len(shares) {
					shares[share], err = placesIn(c, shares[share], segs[i].id, hash)
				}
				return err
			})
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	out = slices.Concat(shares...)
	slices.SortFunc(out, func(a, b idPlace) int { return cmp.Compare(b.segment, a.segment) })
	return out, nil
}

// placesIn adds where a segment has ids of this hash.
func placesIn(c *conn, out []idPlace, segment int64, hash uint64) ([]idPlace, error) {
	d, err := readBucket(c, segment<<16|int64(hash>>(64-bucketBits)))
	if err != nil {
		return out, err
	}
	want := idEntry(hash, 0) >> positionBits
	n := len(d) / 8
	for i := sort.Search(n, func(i int) bool { return binary.LittleEndian.Uint64(d[8*i:])>>positionBits >= want }); i < n; i++ {
		x := binary.LittleEndian.Uint64(d[8*i:])
		if x>>positionBits != want {
			break
		}
		out = append(out, idPlace{segment, int(x & (1<<positionBits - 1))})
	}
	return out, nil
}

// sealed gives the event of an id that stands at one of the places.
func (f *finding) sealed(id string, places []idPlace) (*store.Event, error) {
	for _, p := range places {
		i, ok := slices.BinarySearchFunc(f.v.segs, p.segment, func(g *segmentIndex, id int64) int { return cmp.Compare(g.id, id) })
		if !ok {
			continue // retention has removed it
		}
		b, err := f.v.segs[i].block(f.c, p.position>>indexBits)
		if err != nil {
			return nil, err
		}
		at := p.position & (1<<indexBits - 1)
		if at >= b.n {
			continue
		}
		if e, err := f.named(id, b, at); e != nil || err != nil {
			return e, err
		}
	}
	return nil, nil
}

// named gives the event at a place if it is the one of that id and not behind the horizon.
func (f *finding) named(id string, src *blockSource, i int) (*store.Event, error) {
	if src.tmax < f.from {
		return nil, nil
	}
	b, err := f.pick(src, []int{i})
	if err != nil {
		return nil, err
	}
	k, ok := b.at(i)
	if !ok || b.Time[k] < f.from {
		return nil, nil
	}
	body, err := f.frame.body(src, i)
	if err != nil {
		return nil, err
	}
	e, err := f.event(src, b.Block, k, body)
	if err != nil || e.ID != id {
		return nil, err
	}
	return &e, nil
}
