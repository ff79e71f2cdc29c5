package sqlite

import (
	"encoding/binary"
	"sort"

	"zombiezen.com/go/sqlite"
)

// kind says what a name is the name of. The values are stored; they never change their meaning.
type kind uint8

const (
	topicName kind = iota
	categoryName
	userName
	packageName
	agentName
	kinds
)

const (
	maxNames   = 1 << 18  // kept in memory; the rest is looked up
	maxIDBytes = 16 << 20 // of id buckets kept in memory: seven segments full; a live bus asks for the last two
)

// names numbers the names that events are found by.
type names struct {
	ids  map[nameKey]uint32
	next int64
}

type nameKey struct {
	k kind
	s string
}

func newNames() *names { return &names{ids: map[nameKey]uint32{}} }

// id gives a name's number, a new one to a new name.
func (n *names) id(c *conn, k kind, s string) (uint32, error) {
	key := nameKey{k, s}
	if id, ok := n.ids[key]; ok {
		return id, nil
	}
	if len(n.ids) >= maxNames {
		clear(n.ids)
	}
	id, err := c.int("SELECT id FROM name WHERE kind=? AND s=?", int64(k), s)
	if err != nil {
		return 0, err
	}
	if id == 0 {
		id = n.next
		if err := c.exec("INSERT INTO name VALUES(?,?,?)", id, int64(k), s); err != nil {
			return 0, err
		}
		n.next++
	}
	n.ids[key] = uint32(id)
	return uint32(id), nil
}

// idCache holds buckets of sealed segments' hashes: those that were asked for, of the segments that were asked last.
type idCache struct {
	segs  map[int64]*idSegment
	tick  int64
	bytes int
}

type idSegment struct {
	buckets [1 << bucketBits][]byte // nil where not read yet
	bytes   int
	used    int64
}

func newIDCache() *idCache { return &idCache{segs: map[int64]*idSegment{}} }

// has says whether a sealed segment holds a hash.
func (x *idCache) has(c *conn, seg int64, h uint64) (bool, error) {
	x.tick++
	g := x.segs[seg]
	if g == nil {
		g = &idSegment{}
		g.bytes = len(g.buckets) * 24
		x.bytes += g.bytes
		x.segs[seg] = g
	}
	g.used = x.tick
	k := h >> (64 - bucketBits)
	d := g.buckets[k]
	if d == nil {
		var err error
		if d, err = readBucket(c, seg<<16|int64(k)); err != nil {
			return false, err
		}
		g.buckets[k] = d
		g.bytes, x.bytes = g.bytes+len(d), x.bytes+len(d)
		x.shrink(g)
	}
	want := idEntry(h, 0) >> positionBits
	n := len(d) / 8
	i := sort.Search(n, func(i int) bool { return binary.LittleEndian.Uint64(d[8*i:])>>positionBits >= want })
	return i < n && binary.LittleEndian.Uint64(d[8*i:])>>positionBits == want, nil
}

func readBucket(c *conn, k int64) (d []byte, err error) {
	d = []byte{}
	err = c.each("SELECT d FROM ids WHERE k=?", func(s *sqlite.Stmt) error {
		d = columnBytes(s, 0)
		return nil
	}, k)
	return d, err
}

// shrink lets go of the segments that were not asked for the longest.
func (x *idCache) shrink(keep *idSegment) {
	for x.bytes > maxIDBytes {
		oldest := int64(-1)
		for id, g := range x.segs {
			if g != keep && (oldest < 0 || g.used < x.segs[oldest].used) {
				oldest = id
			}
		}
		if oldest < 0 {
			return
		}
		x.bytes -= x.segs[oldest].bytes
		delete(x.segs, oldest)
	}
}
