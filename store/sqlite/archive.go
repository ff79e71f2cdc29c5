package sqlite

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/zeebo/xxh3"
	"zombiezen.com/go/sqlite"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/internal/failpoint"
	"github.com/statscache/statscache/store"
)

const (
	lanes         = 2          // live and backfill: mixed, a segment spans all times and queries get slow
	smallEvents   = 512        // a block below it waits in hot to be merged
	smallBytes    = 1 << 20    // of bodies; likewise
	hotAge        = time.Hour  // after which what waits in hot is merged, however little it is
	timeTolerance = int64(1e6) // copies of an event may have been through a relay that rounds its time (µs)
	frameBits     = 5          // body.id = block << frameBits | frame
	horizonKey    = "archive_horizon"
	nextBlockKey  = "next_block" // ids of blocks that retention removed are not given again: segments still name them
)

// archive is what memory holds of the archive. It is changed inside transactions; when one fails it is thrown away and
// loaded again.
type archive struct {
	d       *DB
	lanes   [lanes]*lane
	segs    []segment // sealed, by id
	names   *names
	ids     *idCache
	streams map[string]*stream
	horizon int64
	nextBlk int64
	nextHot int64
	nextSeg int64
	buf     []byte
	put     statements
}

// statements are those that every block runs.
type statements struct{ blk, col, body, tailid, hot, archived *stmt }

// stream is a stream with its blocks that wait to be merged.
type stream struct {
	no         int64
	archivedTo uint64
	owned      uint64 // events ever archived
	hot        [lanes]hotQueue
}

// hotQueue holds small blocks of one stream and lane: rows of hot, kept to be merged from memory.
type hotQueue struct {
	blocks []*block.Block
	events int
	bytes  int
	since  time.Time
}

// segment is a sealed segment.
type segment struct {
	id, tmin, tmax int64
	untimed        bool // holds events whose copies may have any time
}

func laneOf(b *block.Block) int {
	if b.Backfill {
		return 1
	}
	return 0
}

// Attach registers a stream and gives its archived_to.
func (d *DB) Attach(ctx context.Context, id string) (archivedTo uint64, err error) {
	err = d.write(ctx, "attach stream "+id, func(c *conn) error {
		if err := c.exec("INSERT INTO stream(id, archived_to) VALUES(?, 0) ON CONFLICT DO NOTHING", id); err != nil {
			return err
		}
		n, err := c.int("SELECT archived_to FROM stream WHERE id=?", id)
		archivedTo = uint64(n)
		return err
	})
	return archivedTo, err
}

// Streams lists all streams by id.
func (d *DB) Streams(ctx context.Context) (out []store.Stream, err error) {
	err = d.read(ctx, "list streams", func(c *conn) error {
		return c.each("SELECT id, archived_to, owned, retired FROM stream ORDER BY id", func(s *sqlite.Stmt) error {
			out = append(out, store.Stream{ID: s.ColumnText(0), ArchivedTo: uint64(s.ColumnInt64(1)), Owned: uint64(s.ColumnInt64(2)), Retired: s.ColumnBool(3)})
			return nil
		})
	})
	return out, err
}

// Archive keeps the events of the blocks that are not there yet, all in one transaction.
func (d *DB) Archive(ctx context.Context, id string, blocks []*block.Block) ([]store.Archived, error) {
	out := make([]store.Archived, 0, len(blocks))
	if err := d.before(failpoint.ArchiveInsert); err != nil {
		return nil, err
	}
	err := d.write(ctx, "archive into stream "+id, func(c *conn) (err error) {
		if d.arch == nil {
			if d.arch, err = loadArchive(c, d); err != nil {
				return err
			}
		}
		a := d.arch
		d.archDirty = true
		s, err := a.stream(c, id)
		if err != nil {
			return err
		}
		for _, b := range blocks {
			r, err := a.add(c, s, b)
			if err != nil {
				return fmt.Errorf("block at %d: %w", b.First, err)
			}
			s.owned += uint64(r.Owned.Len())
			out = append(out, r)
		}
		if err := d.after(failpoint.ArchiveInsert); err != nil {
			return err
		}
		if err := a.put.archived.each(nil, s.archivedTo, s.owned, s.no); err != nil {
			return err
		}
		return d.before(failpoint.ArchiveArchivedTo) // of its COMMIT
	})
	if err == nil {
		err = d.after(failpoint.ArchiveArchivedTo)
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

// stream gives a stream that Attach has registered.
func (a *archive) stream(c *conn, id string) (*stream, error) {
	if s := a.streams[id]; s != nil {
		return s, nil
	}
	s := &stream{}
	found := false
	err := c.each("SELECT no, archived_to, owned FROM stream WHERE id=?", func(row *sqlite.Stmt) error {
		found = true
		s.no, s.archivedTo, s.owned = row.ColumnInt64(0), uint64(row.ColumnInt64(1)), uint64(row.ColumnInt64(2))
		return nil
	}, id)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, fmt.Errorf("%w stream %s", store.ErrUnknown, id)
	}
	a.streams[id] = s
	return s, nil
}

// add archives one block.
func (a *archive) add(c *conn, s *stream, b *block.Block) (store.Archived, error) {
	if b.First > s.archivedTo+1 {
		return store.Archived{}, fmt.Errorf("it leaves out positions %d-%d", s.archivedTo+1, b.First-1)
	}
	r, keep, err := a.admit(c, s.archivedTo, b)
	if err != nil {
		return r, err
	}
	if !slices.Contains(keep, true) {
		r.Owned = &block.Block{First: b.First, Upto: b.Upto, Seqs: []uint64{}, Backfill: b.Backfill, Names: []string{""}, Category: []uint32{0}, Frames: [][]byte{}}
	} else {
		if r.Owned, err = b.Keep(keep); err != nil {
			return r, err
		}
		kept := *r.Owned
		kept.First = max(kept.First, s.archivedTo+1)
		if err := a.keep(c, s, &kept); err != nil {
			return r, err
		}
	}
	s.archivedTo = max(s.archivedTo, b.Upto)
	return r, a.sealFull(c)
}

// keep stores a block of owned events: small ones in hot, where they wait to be merged.
func (a *archive) keep(c *conn, s *stream, b *block.Block) error {
	q := &s.hot[laneOf(b)]
	if q.events > 0 && (q.events+b.Len() > 2*a.d.o.smallEvents || q.bytes+b.BodyBytes > block.MaxBytes || a.d.now().Sub(q.since) > hotAge) {
		if err := a.mergeHot(c, s, laneOf(b)); err != nil {
			return err
		}
	}
	if q.events == 0 && (b.Len() >= a.d.o.smallEvents || b.BodyBytes >= smallBytes) {
		return a.store(c, s, b)
	}
	a.buf = b.Append(a.buf[:0])
	p := a.put.hot.s
	for i, x := range [...]int64{a.nextHot, s.no, int64(laneOf(b)), int64(b.First), int64(b.Upto), int64(b.Len())} {
		p.BindInt64(i+1, x)
	}
	p.BindBytes(7, a.buf)
	if err := a.put.hot.step(); err != nil {
		return err
	}
	a.nextHot++
	q.add(b, a.d.now())
	return nil
}

func (q *hotQueue) add(b *block.Block, now time.Time) {
	if q.events == 0 {
		q.since = now
	}
	q.blocks = append(q.blocks, b)
	q.events += b.Len()
	q.bytes += b.BodyBytes
}

// mergeHot makes one block of those of a stream and lane that wait in hot.
func (a *archive) mergeHot(c *conn, s *stream, lane int) error {
	q := &s.hot[lane]
	if q.events == 0 {
		return nil
	}
	b, err := block.Merge(q.blocks)
	if err != nil {
		return err
	}
	*q = hotQueue{blocks: clearBlocks(q.blocks)}
	if err := c.exec("DELETE FROM hot WHERE stream=? AND lane=?", s.no, lane); err != nil {
		return err
	}
	return a.store(c, s, b)
}

func clearBlocks(list []*block.Block) []*block.Block {
	clear(list)
	return list[:0]
}

// store writes a block's rows and adds it to its lane's open segment.
func (a *archive) store(c *conn, s *stream, b *block.Block) error {
	id := a.nextBlk
	a.nextBlk++
	lo, hi := b.TimeRange()
	p := a.put.blk.s
	for i, x := range [...]int64{id, int64(laneOf(b)), s.no, int64(b.First), int64(b.Upto), int64(b.Len()), lo, hi} {
		p.BindInt64(i+1, x)
	}
	if err := a.put.blk.step(); err != nil {
		return err
	}
	a.buf = b.AppendHeader(a.buf[:0], false)
	if err := a.put.col.put(id, a.buf); err != nil {
		return err
	}
	for i, f := range b.Frames {
		if err := a.put.body.put(id<<frameBits|int64(i), f); err != nil {
			return err
		}
	}
	hashes, err := hashesOf(b)
	if err != nil {
		return err
	}
	a.buf = appendHashes(a.buf[:0], hashes)
	a.put.tailid.s.BindInt64(3, int64(laneOf(b)))
	if err := a.put.tailid.put(id, a.buf); err != nil {
		return err
	}
	return a.lanes[laneOf(b)].add(c, a.names, id, b, hashes)
}

// hashesOf gives a block's hashes; a block that was stored without them is hashed again.
func hashesOf(b *block.Block) ([]uint64, error) {
	if b.Hash != nil {
		return b.Hash, nil
	}
	ids, err := b.IDs()
	if err != nil {
		return nil, err
	}
	out := make([]uint64, len(ids))
	for i, id := range ids {
		out[i] = xxh3.HashString(id)
	}
	return out, nil
}

// admit decides which events of a block become ours: those behind archivedTo, not expired and not there yet. Their
// hashes count as there from now on.
func (a *archive) admit(c *conn, archivedTo uint64, b *block.Block) (r store.Archived, keep []bool, err error) {
	hashes, err := hashesOf(b)
	if err != nil {
		return r, nil, err
	}
	keep = make([]bool, b.Len())
	own := a.lanes[laneOf(b)].known
	near := a.overlapping(b)
	for i, h := range hashes {
		if b.Seq(i) <= archivedTo {
			continue
		}
		if b.Time[i] < a.horizon {
			r.Expired++
			continue
		}
		there := a.open(h)
		if !there && len(near) > 0 {
			if there, err = a.sealed(c, near, h, b.Time[i], b.UntimedOf(i)); err != nil {
				return r, nil, err
			}
		}
		if there {
			r.Duplicates++
			continue
		}
		own[h] = struct{}{}
		keep[i] = true
	}
	return r, keep, nil
}

// open says whether an event is in a segment that is still open, or in hot.
func (a *archive) open(h uint64) bool {
	for _, l := range a.lanes {
		if len(l.known) > 0 {
			if _, ok := l.known[h]; ok {
				return true
			}
		}
	}
	return false
}

// overlapping gives the sealed segments that may hold copies of a block's events.
func (a *archive) overlapping(b *block.Block) []segment {
	lo, hi := b.TimeRange()
	untimed := false
	for i := range b.Flags {
		untimed = untimed || b.UntimedOf(i)
	}
	var out []segment
	for _, g := range a.segs {
		if g.covers(lo, hi) || untimed && g.untimed {
			out = append(out, g)
		}
	}
	return out
}

func (g segment) covers(lo, hi int64) bool {
	return g.tmin <= hi+timeTolerance && g.tmax >= lo-timeTolerance
}

// sealed says whether one of the segments holds an event.
func (a *archive) sealed(c *conn, near []segment, h uint64, at int64, untimed bool) (bool, error) {
	for i := len(near) - 1; i >= 0; i-- { // the newest first: most copies follow at once
		if !near[i].covers(at, at) && !(untimed && near[i].untimed) {
			continue
		}
		if found, err := a.ids.has(c, near[i].id, h); found || err != nil {
			return found, err
		}
	}
	return false, nil
}

// loadArchive reads what memory holds of the archive from the file. It runs inside a transaction.
func loadArchive(c *conn, d *DB) (*archive, error) {
	a := &archive{d: d, names: newNames(), ids: newIDCache(), streams: map[string]*stream{}, horizon: math.MinInt64}
	for i := range a.lanes {
		a.lanes[i] = newLane(i)
	}
	if err := a.prepare(c); err != nil {
		return nil, err
	}
	for key, v := range map[string]*int64{horizonKey: &a.horizon, nextBlockKey: &a.nextBlk} {
		if err := c.each("SELECT v FROM setting WHERE k=?", func(s *sqlite.Stmt) error {
			*v = s.ColumnInt64(0)
			return nil
		}, key); err != nil {
			return nil, err
		}
	}
	for q, n := range map[string]*int64{"SELECT max(id) FROM blk": &a.nextBlk, "SELECT max(id) FROM hot": &a.nextHot, "SELECT max(id) FROM seg": &a.nextSeg,
		"SELECT max(id) FROM name": &a.names.next} {
		x, err := c.int(q)
		if err != nil {
			return nil, err
		}
		*n = max(*n, x+1)
	}
	if err := c.each("SELECT id, tmin, tmax, untimed FROM seg ORDER BY id", func(s *sqlite.Stmt) error {
		a.segs = append(a.segs, segment{s.ColumnInt64(0), s.ColumnInt64(1), s.ColumnInt64(2), s.ColumnBool(3)})
		return nil
	}); err != nil {
		return nil, err
	}
	if err := a.loadTail(c); err != nil {
		return nil, fmt.Errorf("read the open segments: %w", err)
	}
	if err := a.loadHot(c); err != nil {
		return nil, fmt.Errorf("read the small blocks: %w", err)
	}
	return a, nil
}

func (a *archive) prepare(c *conn) (err error) {
	for q, s := range map[string]**stmt{
		"INSERT INTO blk(id, lane, stream, first, upto, n, tmin, tmax) VALUES(?,?,?,?,?,?,?,?)": &a.put.blk,
		"INSERT INTO col VALUES(?,?)":                                                &a.put.col,
		"INSERT INTO body VALUES(?,?)":                                               &a.put.body,
		"INSERT INTO tailid(id, d, lane) VALUES(?,?,?)":                              &a.put.tailid,
		"INSERT INTO hot(id, stream, lane, first, upto, n, d) VALUES(?,?,?,?,?,?,?)": &a.put.hot,
		"UPDATE stream SET archived_to=?, owned=? WHERE no=?":                        &a.put.archived,
	} {
		if *s, err = c.prepare(q); err != nil {
			return err
		}
	}
	return nil
}
