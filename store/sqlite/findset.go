package sqlite

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"github.com/zeebo/xxh3"
	"zombiezen.com/go/sqlite"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
)

// The names of one condition beyond which its postings are not read: looking at the events costs less then.
const (
	mostInPage  = 128     // in a segment, for a page: so many names are common together
	mostInCount = 4096    // in a segment, for a count
	mostNames   = 1 << 15 // altogether
	fewNames    = 32      // looked up one by one, without asking first which of them a segment holds
)

const (
	segmentWords = 1 << positionBits / 64
	blockWords   = 1 << indexBits / 64
)

// bitset marks positions of a segment, blockSet those of one block.
type (
	bitset   [segmentWords]uint64
	blockSet [blockWords]uint64
)

// block gives what is marked of a block, nil for nothing.
func (s *bitset) block(ordinal int) *blockSet {
	marked := s[ordinal*blockWords : (ordinal+1)*blockWords]
	if !slices.ContainsFunc(marked, func(w uint64) bool { return w != 0 }) {
		return nil // most of them: nothing is allocated
	}
	b := blockSet(marked)
	return &b
}

func (s *blockSet) has(i int) bool { return s[i>>6]>>(i&63)&1 == 1 }

// within counts what is marked of the first n: what excludes names marks places without an event as well.
func (s *blockSet) within(n int) (count int) {
	for i, w := range s {
		if left := n - 64*i; left <= 0 {
			break
		} else if left < 64 {
			w &= 1<<left - 1
		}
		count += bits.OnesCount64(w)
	}
	return count
}

// add marks the positions that appendPositions wrote.
func (s *bitset) add(d []byte) error {
	if len(d) == bitmapBytes {
		for i := range s {
			s[i] |= binary.LittleEndian.Uint64(d[8*i:])
		}
		return nil
	}
	at := uint64(0)
	for len(d) > 0 {
		x, k := binary.Uvarint(d)
		if at += x; k <= 0 || at >= 1<<positionBits {
			return fmt.Errorf("%w: list of positions", block.ErrCorrupt)
		}
		s[at>>6] |= 1 << (at & 63)
		d = d[k:]
	}
	return nil
}

// condition is one that names must meet.
type condition struct {
	kind     kind
	not      bool
	names    map[string]struct{}
	prefixes []string
	wide     bool     // too many names to look them up
	ids      []uint32 // of those that the archive has ever seen, ascending
	hashes   []uint64 // of the same names, see nameHash
}

// nameHash stands for a name in the indexes that memory holds.
func nameHash(k kind, s string) uint64 { return xxh3.HashStringSeed(s, uint64(k)) }

// conditions are the ones of a filter that are about names, those that choose before those that exclude.
func (x *findCache) conditions(c *conn, f store.EventFilter) (out []condition, err error) {
	kinds := [...]struct {
		kind  kind
		names store.Names
	}{{userName, f.Users}, {packageName, f.Packages}, {agentName, f.Agents}, {topicName, f.Topics}, {categoryName, f.Categories}}
	for _, k := range kinds {
		if len(k.names.In) > 0 {
			out = append(out, condition{kind: k.kind, names: nameSet(k.names.In)})
		}
	}
	if len(f.TopicPrefixes) > 0 {
		out = append(out, condition{kind: topicName, prefixes: f.TopicPrefixes})
	}
	for _, k := range kinds {
		if len(k.names.NotIn) > 0 {
			out = append(out, condition{kind: k.kind, not: true, names: nameSet(k.names.NotIn)})
		}
	}
	for i := range out {
		if err := out[i].resolve(c, x); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func nameSet(list []string) map[string]struct{} {
	out := make(map[string]struct{}, len(list))
	for _, s := range list {
		out[s] = struct{}{}
	}
	return out
}

// resolve looks the names up.
func (k *condition) resolve(c *conn, x *findCache) error {
	for s := range k.names {
		if err := c.each("SELECT id, s FROM name WHERE kind=? AND s=?", k.take, int64(k.kind), s); err != nil {
			return err
		}
	}
	for _, p := range k.prefixes {
		list, err := x.begin(c, k.kind, p)
		if err != nil {
			return err
		}
		k.ids, k.hashes = append(k.ids, list.ids...), append(k.hashes, list.hashes...)
	}
	k.wide = len(k.ids) >= mostNames
	slices.Sort(k.ids)
	k.ids = slices.Compact(k.ids)
	return nil
}

// nameList is names by their ids and hashes.
type nameList struct {
	ids    []uint32
	hashes []uint64
	newest int64 // the id of the newest name when they were looked up
}

func (l *nameList) take(k kind, s *sqlite.Stmt) {
	l.ids = append(l.ids, uint32(s.ColumnInt64(0)))
	l.hashes = append(l.hashes, nameHash(k, s.ColumnText(1)))
}

func (k *condition) take(s *sqlite.Stmt) error {
	l := nameList{ids: k.ids, hashes: k.hashes}
	l.take(k.kind, s)
	k.ids, k.hashes = l.ids, l.hashes
	return nil
}

// prefixKey is a beginning of names, and mostPrefixes how many of them are remembered.
type prefixKey struct {
	kind kind
	text string
}

const mostPrefixes = 16

// begin gives the names that begin with a text, mostNames at most. The thousands of them that there may be are looked up
// again when the archive has new names only.
func (x *findCache) begin(c *conn, k kind, prefix string) (*nameList, error) {
	newest, err := c.int("SELECT max(id) FROM name")
	if err != nil {
		return nil, err
	}
	key := prefixKey{k, prefix}
	x.prefixMu.Lock()
	l := x.prefixes[key]
	x.prefixMu.Unlock()
	if l != nil && l.newest == newest {
		return l, nil
	}
	l = &nameList{newest: newest}
	// Text is compared byte by byte, and no byte of UTF-8 is 0xff.
	if err := c.each("SELECT id, s FROM name WHERE kind=? AND s>=? AND s<? LIMIT ?", func(s *sqlite.Stmt) error {
		l.take(k, s)
		return nil
	}, int64(k), prefix, prefix+"\xff", mostNames); err != nil {
		return nil, err
	}
	x.prefixMu.Lock()
	defer x.prefixMu.Unlock()
	if x.prefixes == nil || len(x.prefixes) >= mostPrefixes {
		x.prefixes = map[prefixKey]*nameList{}
	}
	x.prefixes[key] = l
	return l, nil
}

// holds says whether a name is one of the condition's.
func (k *condition) holds(s string) bool {
	if _, ok := k.names[s]; ok {
		return true
	}
	for _, p := range k.prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

// chosen says what indexes know of a filter's names.
type chosen struct {
	some bool // there are candidates
	all  bool // every event is one: nothing is marked
	sure bool // candidates meet every condition on names
}

// segmentSet marks in f.set the positions of a sealed segment that the names allow. Conditions with more than most
// names are left to the events themselves.
func (f *finding) segmentSet(g *segmentIndex, most int) (x chosen, err error) {
	x.all, x.sure = true, true
	for i := range f.conds {
		k := &f.conds[i]
		if k.wide {
			x.sure = false
			continue
		}
		ids := k.ids
		if len(ids) > fewNames {
			if ids, err = g.among(f.c, ids); err != nil {
				return x, err
			}
		}
		if len(ids) > most {
			x.sure = false
			continue
		}
		if len(ids) == 0 {
			if k.not {
				continue
			}
			return x, nil
		}
		if err := f.union(g, ids); err != nil {
			return x, err
		}
		if !f.combine(k.not, x.all) {
			return x, nil
		}
		x.all = false
	}
	x.some = true
	return x, nil
}

// union marks in f.or where any of the names stands in a segment.
func (f *finding) union(g *segmentIndex, ids []uint32) error {
	clear(f.or[:])
	for _, id := range ids {
		k := int64(id)<<segmentBits | g.id
		if err := f.c.each("SELECT d FROM post WHERE k=?", func(s *sqlite.Stmt) error {
			return f.or.add(columnBytes(s, 0))
		}, k); err != nil {
			return fmt.Errorf("postings %d: %w", k, err)
		}
	}
	return nil
}

// combine narrows f.set down to f.or, or to what is not in it, and says whether anything is left. first: f.set stands
// for everything.
func (f *finding) combine(not, first bool) bool {
	left := uint64(0)
	for i, w := range f.or {
		if not {
			w = ^w
		}
		if !first {
			w &= f.set[i]
		}
		f.set[i] = w
		left |= w
	}
	return left != 0
}

// among gives those of the ids that a segment has.
func (g *segmentIndex) among(c *conn, ids []uint32) (out []uint32, err error) {
	d, err := c.blob("SELECT names FROM seg WHERE id=?", g.id)
	if err != nil {
		return nil, err
	}
	names, err := readDeltas[uint32](d)
	if err != nil {
		return nil, fmt.Errorf("segment %d: %w", g.id, err)
	}
	for i, j := 0, 0; i < len(ids) && j < len(names); {
		switch {
		case ids[i] < names[j]:
			i++
		case ids[i] > names[j]:
			j++
		default:
			out = append(out, ids[i])
			i, j = i+1, j+1
		}
	}
	return out, nil
}

// tailSet gives the candidates of a block that no segment holds yet, nil for all of them.
func (f *finding) tailSet(t *tailIndex) (set *blockSet, x chosen) {
	x.all, x.sure = true, true
	for i := range f.conds {
		k := &f.conds[i]
		if k.wide || len(k.hashes) > mostInPage {
			x.sure = false
			continue
		}
		var or blockSet
		for _, h := range k.hashes {
			for _, i := range t.positions(h) {
				or[i>>6] |= 1 << (i & 63)
			}
		}
		if x.all {
			set, x.all = t.every(), false
		}
		left := uint64(0)
		for i, w := range or {
			if k.not {
				w = ^w
			}
			set[i] &= w
			left |= set[i]
		}
		if left == 0 {
			return nil, x
		}
	}
	x.some = true
	return set, x
}

// every marks all events of the block.
func (t *tailIndex) every() *blockSet {
	set := &blockSet{}
	for i := range t.src.n {
		set[i>>6] |= 1 << (i & 63)
	}
	return set
}
