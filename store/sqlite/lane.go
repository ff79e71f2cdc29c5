package sqlite

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"zombiezen.com/go/sqlite"

	"github.com/statscache/statscache/internal/block"
)

const (
	segmentBlocks = 256
	indexBits     = 10 // position = ordinal of the block << indexBits | index in the block
	positionBits  = 18
	bucketBits    = 11 // ids.k = segment << 16 | top bits of the hash
	segmentBits   = 24 // post.k = name << segmentBits | segment
	bitmapBytes   = 1 << positionBits / 8
)

// lane is one lane's open segment.
type lane struct {
	no         int
	blocks     []int64 // ids by ordinal
	n          int
	tmin, tmax int64
	untimed    bool
	hashes     [][]uint64            // by ordinal
	post       map[uint32]*positions // by name id
	known      map[uint64]struct{}   // hashes of the segment's blocks and of the lane's hot ones
}

type positions struct{ list []uint32 }

func newLane(no int) *lane {
	return &lane{no: no, tmin: math.MaxInt64, tmax: math.MinInt64, post: map[uint32]*positions{}, known: map[uint64]struct{}{}}
}

// add appends a block to the segment. Its hashes are in known already.
func (l *lane) add(c *conn, names *names, id int64, b *block.Block, hashes []uint64) error {
	ordinal := uint32(len(l.blocks))
	lo, hi := b.TimeRange()
	l.blocks, l.hashes = append(l.blocks, id), append(l.hashes, hashes)
	l.n += b.Len()
	l.tmin, l.tmax = min(l.tmin, lo), max(l.tmax, hi)
	local := make([]*positions, int(kinds)*len(b.Names)) // what a name of the block is in the segment
	put := func(k kind, name, at uint32) error {
		p := &local[int(k)*len(b.Names)+int(name)]
		if *p == nil {
			id, err := names.id(c, k, b.Names[name])
			if err != nil {
				return err
			}
			if l.post[id] == nil {
				l.post[id] = &positions{}
			}
			*p = l.post[id]
		}
		(*p).list = append((*p).list, at)
		return nil
	}
	for i := range b.Len() {
		at := ordinal<<indexBits | uint32(i)
		l.untimed = l.untimed || b.UntimedOf(i)
		if err := eachName(b, i, func(k kind, name uint32) error { return put(k, name, at) }); err != nil {
			return err
		}
	}
	return nil
}

// eachName calls f for every name an event is found by, each once.
func eachName(b *block.Block, i int, f func(k kind, name uint32) error) error {
	if err := f(topicName, b.Topic[i]); err != nil {
		return err
	}
	if err := f(categoryName, b.CategoryOf(i)); err != nil {
		return err
	}
	if b.Agent[i] != 0 {
		if err := f(agentName, b.Agent[i]); err != nil {
			return err
		}
	}
	for _, u := range b.UsersOf(i) {
		if err := f(userName, u); err != nil {
			return err
		}
	}
	for _, p := range b.PackagesOf(i) {
		if err := f(packageName, p); err != nil {
			return err
		}
	}
	return nil
}

// sealFull seals the lanes that might not hold what comes next: archiving one block adds up to two, itself and what
// waited in hot before it. It must not run in between, for the hashes of a block on its way are in known alone.
func (a *archive) sealFull(c *conn) error {
	for _, l := range a.lanes {
		if len(l.blocks) >= a.d.o.segmentBlocks-1 {
			if err := a.seal(c, l); err != nil {
				return fmt.Errorf("seal segment %d: %w", a.nextSeg, err)
			}
		}
	}
	return nil
}

// seal writes the open segment's indexes and starts the next one.
func (a *archive) seal(c *conn, l *lane) error {
	id := a.nextSeg
	a.nextSeg++
	names := make([]uint32, 0, len(l.post))
	for n := range l.post {
		names = append(names, n)
	}
	slices.Sort(names)
	untimed := 0
	if l.untimed {
		untimed = 1
	}
	if err := c.exec("INSERT INTO seg(id, lane, n, tmin, tmax, untimed, blocks, names) VALUES(?,?,?,?,?,?,?,?)",
		id, l.no, l.n, l.tmin, l.tmax, untimed, appendDeltas(nil, l.blocks), appendDeltas(nil, names)); err != nil {
		return err
	}
	put, err := c.prepare("INSERT INTO post VALUES(?,?)")
	if err != nil {
		return err
	}
	for _, n := range names {
		a.buf = appendPositions(a.buf[:0], l.post[n].list)
		if err := put.put(int64(n)<<segmentBits|id, a.buf); err != nil {
			return err
		}
	}
	if err := a.sealIDs(c, id, l); err != nil {
		return err
	}
	for _, b := range l.blocks {
		if err := c.exec("DELETE FROM tailid WHERE id=?", b); err != nil {
			return err
		}
	}
	a.segs = append(a.segs, segment{id, l.tmin, l.tmax, l.untimed})
	known := l.known
	clear(known) // keeps its room for the next segment
	*l = *newLane(l.no)
	l.known = known
	for _, s := range a.streams {
		for _, b := range s.hot[l.no].blocks {
			hashes, err := hashesOf(b)
			if err != nil {
				return err
			}
			for _, h := range hashes {
				known[h] = struct{}{}
			}
		}
	}
	return nil
}

// sealIDs writes the segment's hashes in sorted buckets.
func (a *archive) sealIDs(c *conn, id int64, l *lane) error {
	buckets := make([][]uint64, 1<<bucketBits)
	for ordinal, hashes := range l.hashes {
		for i, h := range hashes {
			k := h >> (64 - bucketBits)
			buckets[k] = append(buckets[k], idEntry(h, uint32(ordinal)<<indexBits|uint32(i)))
		}
	}
	put, err := c.prepare("INSERT INTO ids VALUES(?,?)")
	if err != nil {
		return err
	}
	for k, list := range buckets {
		if len(list) == 0 {
			continue
		}
		slices.Sort(list)
		a.buf = appendHashes(a.buf[:0], list)
		if err := put.put(id<<16|int64(k), a.buf); err != nil {
			return err
		}
	}
	return nil
}

// idEntry packs the 46 bits of a hash below its bucket's and a position.
func idEntry(h uint64, position uint32) uint64 {
	return h<<bucketBits>>positionBits<<positionBits | uint64(position)
}

func appendHashes(dst []byte, list []uint64) []byte {
	for _, h := range list {
		dst = binary.LittleEndian.AppendUint64(dst, h)
	}
	return dst
}

// appendDeltas appends an ascending list as uvarint differences.
func appendDeltas[T int64 | uint32](dst []byte, list []T) []byte {
	prev := T(0)
	for _, x := range list {
		dst = binary.AppendUvarint(dst, uint64(x-prev))
		prev = x
	}
	return dst
}

// readDeltas reads what appendDeltas wrote.
func readDeltas[T int64 | uint32](d []byte) ([]T, error) {
	var out []T
	prev := T(0)
	for len(d) > 0 {
		x, k := binary.Uvarint(d)
		if k <= 0 {
			return nil, fmt.Errorf("list of ids ends within a number")
		}
		prev += T(x)
		out, d = append(out, prev), d[k:]
	}
	return out, nil
}

// appendPositions appends ascending positions: as differences, or as a bitmap where that is shorter.
func appendPositions(dst []byte, list []uint32) []byte {
	start := len(dst)
	prev := uint32(0)
	for _, p := range list {
		dst = binary.AppendUvarint(dst, uint64(p-prev))
		prev = p
		if len(dst)-start >= bitmapBytes {
			dst = append(dst[:start], make([]byte, bitmapBytes)...)
			for _, p := range list {
				dst[start+int(p>>3)] |= 1 << (p & 7)
			}
			return dst
		}
	}
	return dst
}

// loadTail rebuilds the open segments from the blocks that no segment holds yet.
func (a *archive) loadTail(c *conn) error {
	type row struct {
		id     int64
		lane   int64
		hashes []uint64
	}
	var rows []row
	if err := c.each("SELECT id, lane, d FROM tailid ORDER BY id", func(s *sqlite.Stmt) error {
		raw := columnBytes(s, 2)
		r := row{id: s.ColumnInt64(0), lane: s.ColumnInt64(1) & 1, hashes: make([]uint64, len(raw)/8)}
		for i := range r.hashes {
			r.hashes[i] = binary.LittleEndian.Uint64(raw[8*i:])
		}
		rows = append(rows, r)
		return nil
	}); err != nil {
		return err
	}
	for _, r := range rows {
		l := a.lanes[r.lane]
		for _, h := range r.hashes {
			l.known[h] = struct{}{}
		}
		d, err := c.blob("SELECT d FROM col WHERE id=?", r.id)
		if err != nil {
			return err
		}
		if d == nil { // retention has removed the block; its place in the segment stays
			l.blocks, l.hashes = append(l.blocks, r.id), append(l.hashes, r.hashes)
			l.untimed = true // it may have held some
			continue
		}
		b, err := block.DecodeHeader(d, nil)
		if err == nil && b.Len() != len(r.hashes) {
			err = fmt.Errorf("%w: %d events and %d hashes", block.ErrCorrupt, b.Len(), len(r.hashes))
		}
		if err != nil {
			return fmt.Errorf("block %d: %w", r.id, err)
		}
		if err := l.add(c, a.names, r.id, b, r.hashes); err != nil {
			return err
		}
	}
	return nil
}

// loadHot reads the small blocks that wait to be merged.
func (a *archive) loadHot(c *conn) error {
	return c.each("SELECT stream.id, hot.d FROM hot JOIN stream ON stream.no=hot.stream ORDER BY hot.id", func(row *sqlite.Stmt) error {
		b, err := block.Decode(columnBytes(row, 1))
		if err != nil {
			return err
		}
		s, err := a.stream(c, row.ColumnText(0))
		if err != nil {
			return err
		}
		hashes, err := hashesOf(b)
		if err != nil {
			return err
		}
		l := laneOf(b)
		for _, h := range hashes {
			a.lanes[l].known[h] = struct{}{}
		}
		s.hot[l].add(b, a.d.now())
		return nil
	})
}
