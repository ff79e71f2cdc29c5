package sqlite

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"zombiezen.com/go/sqlite"

	"github.com/statscache/statscache/internal/block"
)

// mostSegments bounds the segments whose lists of blocks are kept in memory, of about 10 KB each.
const mostSegments = 1024

// findCache keeps, for readers, what does not change once it is committed: which blocks a segment has, the names and
// hashes of the blocks that no segment holds yet, and the small blocks. It is filled from the file, so it serves a
// process that only reads as well.
type findCache struct {
	mu   sync.Mutex
	segs map[int64]*segmentIndex
	tail map[int64]*tailIndex
	hot  map[hotKey]*blockSource
	last map[*conn]lastView // what each reader saw last: between commits nothing has to be listed again

	prefixMu sync.Mutex
	prefixes map[prefixKey]*nameList
}

// lastView is a view and the connection's PRAGMA data_version of that moment.
type lastView struct {
	version int64
	view    *view
}

// view is the archive at the moment of a read transaction.
type view struct {
	horizon int64
	segs    []*segmentIndex
	tail    []*tailIndex
	hot     []*blockSource
}

// segmentIndex is a sealed segment.
type segmentIndex struct {
	id, n, tmin, tmax int64
	blocks            atomic.Pointer[[]blockSource] // nil until they are asked for
}

// blockSource is a block that events are read from.
type blockSource struct {
	id         int64 // of blk; 0 for a small block
	stream     int64
	n          int // 0: retention has removed it
	tmin, tmax int64
	hot        *block.Block // whole; nil for a block of blk
}

// tailIndex is a block that no segment holds yet, with what its segment will say of it.
type tailIndex struct {
	src    blockSource
	names  []uint64 // nameHash of all names, ascending
	ends   []uint32 // where each name's positions end in at
	at     []uint16
	hashes []uint64 // of the ids
	few    hashSieve
}

// hashSieve says of most hashes that are not among a block's that they are not: one of eight passes.
type hashSieve [8 << indexBits / 64]uint64

func (s *hashSieve) add(h uint64) { s[h>>57] |= 1 << (h >> 51 & 63) }

func (s *hashSieve) mayHave(h uint64) bool { return s[h>>57]>>(h>>51&63)&1 == 1 }

// positions gives where a name stands.
func (t *tailIndex) positions(hash uint64) []uint16 {
	i, ok := slices.BinarySearch(t.names, hash)
	if !ok {
		return nil
	}
	from := uint32(0)
	if i > 0 {
		from = t.ends[i-1]
	}
	return t.at[from:t.ends[i]]
}

// hotKey names a small block: positions of a stream are given once, ids of rows are not.
type hotKey struct{ stream, lane, first, upto int64 }

// view lists what a transaction sees.
func (x *findCache) view(c *conn) (*view, error) {
	version, err := c.int("PRAGMA data_version") // begins the transaction's view
	if err != nil {
		return nil, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if last, ok := x.last[c]; ok && last.version == version {
		return last.view, nil
	}
	v := &view{horizon: math.MinInt64}
	if err := c.each("SELECT v FROM setting WHERE k=?", func(s *sqlite.Stmt) error {
		v.horizon = s.ColumnInt64(0)
		return nil
	}, horizonKey); err != nil {
		return nil, err
	}
	if err := x.segments(c, v); err != nil {
		return nil, err
	}
	if err := x.tails(c, v); err != nil {
		return nil, fmt.Errorf("read the open segments: %w", err)
	}
	if err := x.small(c, v); err != nil {
		return nil, fmt.Errorf("read the small blocks: %w", err)
	}
	if x.last == nil {
		x.last = map[*conn]lastView{}
	}
	x.last[c] = lastView{version, v}
	return v, nil
}

func (x *findCache) segments(c *conn, v *view) error {
	if len(x.segs) > mostSegments {
		x.segs = nil
	}
	if x.segs == nil {
		x.segs = map[int64]*segmentIndex{}
	}
	return c.each("SELECT id, n, tmin, tmax FROM seg ORDER BY id", func(s *sqlite.Stmt) error {
		g := x.segs[s.ColumnInt64(0)]
		// An id may come again once retention has removed the last segments.
		if g == nil || g.n != s.ColumnInt64(1) || g.tmin != s.ColumnInt64(2) || g.tmax != s.ColumnInt64(3) {
			g = &segmentIndex{id: s.ColumnInt64(0), n: s.ColumnInt64(1), tmin: s.ColumnInt64(2), tmax: s.ColumnInt64(3)}
			x.segs[g.id] = g
		}
		v.segs = append(v.segs, g)
		return nil
	})
}

// load gives the segment's blocks by ordinal. What was removed since they were read lies behind the horizon and is
// passed over for its time.
func (g *segmentIndex) load(c *conn) ([]blockSource, error) {
	if b := g.blocks.Load(); b != nil {
		return *b, nil
	}
	ids, err := g.blockIDs(c)
	if err != nil {
		return nil, err
	}
	out := make([]blockSource, len(ids))
	i := 0
	row := func(s *sqlite.Stmt) error {
		id := s.ColumnInt64(0)
		for i < len(ids) && ids[i] < id {
			i++
		}
		if i < len(ids) && ids[i] == id {
			out[i] = sourceOf(s)
		}
		return nil
	}
	if first, last := ids[0], ids[len(ids)-1]; last-first < 4*int64(len(ids)) {
		err = c.each(blockColumns+" BETWEEN ? AND ? ORDER BY id", row, first, last)
	} else { // a lane that fills slowly: the other one's blocks lie between
		for _, id := range ids {
			if err = c.each(blockColumns+"=?", row, id); err != nil {
				break
			}
		}
	}
	if err != nil {
		return nil, err
	}
	g.blocks.Store(&out)
	return out, nil
}

// block gives one of the segment's blocks, without reading all where they are not known; n is 0 where it was removed or
// there is none.
func (g *segmentIndex) block(c *conn, ordinal int) (*blockSource, error) {
	if b := g.blocks.Load(); b != nil {
		if ordinal >= len(*b) {
			return &blockSource{}, nil
		}
		return &(*b)[ordinal], nil
	}
	ids, err := g.blockIDs(c)
	if err != nil || ordinal >= len(ids) {
		return &blockSource{}, err
	}
	out := &blockSource{}
	return out, c.each(blockColumns+"=?", func(s *sqlite.Stmt) error {
		*out = sourceOf(s)
		return nil
	}, ids[ordinal])
}

func (g *segmentIndex) blockIDs(c *conn) ([]int64, error) {
	d, err := c.blob("SELECT blocks FROM seg WHERE id=?", g.id)
	if err != nil {
		return nil, err
	}
	ids, err := readDeltas[int64](d)
	if err == nil && (len(ids) == 0 || len(ids) > segmentBlocks) {
		err = fmt.Errorf("%w: %d blocks", block.ErrCorrupt, len(ids))
	}
	if err != nil {
		return nil, fmt.Errorf("segment %d: %w", g.id, err)
	}
	return ids, nil
}

const blockColumns = "SELECT id, stream, n, tmin, tmax FROM blk WHERE id"

func sourceOf(s *sqlite.Stmt) blockSource {
	return blockSource{id: s.ColumnInt64(0), stream: s.ColumnInt64(1), n: int(s.ColumnInt64(2)), tmin: s.ColumnInt64(3), tmax: s.ColumnInt64(4)}
}

// tails reads the blocks that no segment holds, those that are not known yet with their names.
func (x *findCache) tails(c *conn, v *view) error {
	known := make(map[int64]*tailIndex, len(x.tail))
	var missing []blockSource
	if err := c.each("SELECT b.id, b.stream, b.n, b.tmin, b.tmax FROM tailid t JOIN blk b ON b.id=t.id ORDER BY t.id", func(s *sqlite.Stmt) error {
		if t := x.tail[s.ColumnInt64(0)]; t != nil {
			known[t.src.id] = t
			v.tail = append(v.tail, t)
			return nil
		}
		missing = append(missing, blockSource{id: s.ColumnInt64(0), stream: s.ColumnInt64(1), n: int(s.ColumnInt64(2)), tmin: s.ColumnInt64(3), tmax: s.ColumnInt64(4)})
		return nil
	}); err != nil {
		return err
	}
	x.tail = known
	for _, src := range missing {
		t, err := readTail(c, src)
		if err != nil {
			return err
		}
		known[src.id] = t
		v.tail = append(v.tail, t)
	}
	return nil
}

func readTail(c *conn, src blockSource) (*tailIndex, error) {
	b, err := readBlock(c, src.id, false)
	if err != nil {
		return nil, err
	}
	raw, err := c.blob("SELECT d FROM tailid WHERE id=?", src.id)
	if err == nil && (len(raw) != 8*b.Len() || b.Len() != src.n || src.n > 1<<indexBits) {
		err = fmt.Errorf("%w: block %d has %d events, %d bytes of hashes", block.ErrCorrupt, src.id, b.Len(), len(raw))
	}
	if err != nil {
		return nil, err
	}
	t := &tailIndex{src: src, hashes: make([]uint64, b.Len())}
	for i := range t.hashes {
		t.hashes[i] = binary.LittleEndian.Uint64(raw[8*i:])
		t.few.add(t.hashes[i])
	}
	return t, t.index(b)
}

// index counts each name's positions, gives it that much room, and fills it: blocks are many and names more.
func (t *tailIndex) index(b *block.Block) error {
	room := make([]uint32, int(kinds)*len(b.Names)) // by kind and name
	each := func(f func(at int, i uint16)) error {
		for i := range b.Len() {
			if err := eachName(b, i, func(k kind, name uint32) error {
				f(int(k)*len(b.Names)+int(name), uint16(i))
				return nil
			}); err != nil {
				return err
			}
		}
		return nil
	}
	if err := each(func(at int, _ uint16) { room[at]++ }); err != nil {
		return err
	}
	type named struct {
		hash uint64
		at   int
	}
	var list []named
	for at, n := range room {
		if n > 0 {
			list = append(list, named{nameHash(kind(at/len(b.Names)), b.Names[at%len(b.Names)]), at})
		}
	}
	slices.SortFunc(list, func(a, b named) int { return cmp.Compare(a.hash, b.hash) })
	total := uint32(0)
	t.names, t.ends = make([]uint64, len(list)), make([]uint32, len(list))
	for i, x := range list {
		n := room[x.at]
		room[x.at] = total // from here on: where its next position goes
		total += n
		t.names[i], t.ends[i] = x.hash, total
	}
	t.at = make([]uint16, total)
	return each(func(at int, i uint16) {
		t.at[room[at]] = i
		room[at]++
	})
}

// small reads the blocks that wait to be merged.
func (x *findCache) small(c *conn, v *view) error {
	known := make(map[hotKey]*blockSource, len(x.hot))
	type row struct {
		id  int64
		key hotKey
	}
	var missing []row
	if err := c.each("SELECT id, stream, lane, first, upto FROM hot ORDER BY id", func(s *sqlite.Stmt) error {
		k := hotKey{s.ColumnInt64(1), s.ColumnInt64(2), s.ColumnInt64(3), s.ColumnInt64(4)}
		if b := x.hot[k]; b != nil {
			known[k] = b
			v.hot = append(v.hot, b)
			return nil
		}
		missing = append(missing, row{s.ColumnInt64(0), k})
		return nil
	}); err != nil {
		return err
	}
	x.hot = known
	for _, r := range missing {
		d, err := c.blob("SELECT d FROM hot WHERE id=?", r.id)
		if err != nil {
			return err
		}
		b, err := block.Decode(d)
		if err != nil {
			return fmt.Errorf("small block %d: %w", r.id, err)
		}
		lo, hi := b.TimeRange()
		src := &blockSource{stream: r.key.stream, n: b.Len(), tmin: lo, tmax: hi, hot: b}
		known[r.key] = src
		v.hot = append(v.hot, src)
	}
	return nil
}
