package block

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"slices"
)

// Pick reads only the events at these places of a header, ascending: a block of them, without frames or hashes. It walks
// over everything else, which takes less than half of DecodeHeader's time and allocates next to nothing: a page of a rare
// name needs one event of each block that it comes from.
func Pick(header []byte, places []int) (*Block, error) {
	d, b, n, flags, err := openHeader(header)
	if err != nil {
		return nil, err
	}
	for i, at := range places {
		if d.err == "" && (at < 0 || at >= n || i > 0 && at <= places[i-1]) {
			return nil, fmt.Errorf("event %d asked of a block of %d", at, n)
		}
	}
	p := picker{reader: d, b: b, places: places, n: n}
	p.skipNames()
	p.seqs(flags&hasSeqs != 0)
	_, b.Time, _ = p.sums(true, math.MaxUint64)
	p.received()
	b.Topic, b.Source, b.Agent = p.indexes(), p.indexes(), p.indexes()
	b.UserEnd, b.Users = p.lists()
	b.PkgEnd, b.Pkgs = p.lists()
	b.Flags = p.flags()
	p.ids()
	if flags&hasHashes != 0 {
		p.bytes(8 * n)
	}
	p.names()
	if err := p.end(); err != nil {
		return nil, err
	}
	return b, nil
}

// picker is a reader that keeps the entries of some places.
type picker struct {
	reader
	b      *Block
	places []int
	n      int // events of the block

	pieces []namePiece
	known  []uint32 // known[i] is the index in the header of the i-th name that is kept
}

// namePiece is where a name stands in the header, and its category.
type namePiece struct{ from, to, category uint32 }

// The loops below go over thousands of numbers, almost all of one byte: a call for each would double their time.

// long gives a number at d[at] and where it ends, 0 where there is none.
func long(d []byte, at int) (x uint64, end int) {
	if at > len(d) {
		return 0, 0
	}
	x, k := binary.Uvarint(d[at:])
	if k <= 0 {
		return 0, 0
	}
	return x, at + k
}

// skip gives where the n numbers from d[at] on end, 0 where there are not so many: each has one byte below 0x80.
func skip(d []byte, at, n int) int {
	for ; n > 8 && at+8 <= len(d); at += 8 {
		n -= bits.OnesCount64(^binary.LittleEndian.Uint64(d[at:]) & highBits)
	}
	for ; n > 0; at++ {
		if at >= len(d) {
			return 0
		}
		if d[at] < 0x80 {
			n--
		}
	}
	return at
}

const highBits = 0x8080808080808080

// eight gives the sum of eight numbers of one byte each.
func eight(x uint64) int64 {
	const even = 0x00ff00ff00ff00ff
	return int64((x&even + x>>8&even) * 0x0001000100010001 >> 48)
}

// skipNames notes where the names stand.
func (p *picker) skipNames() {
	n := p.count(p.left())
	p.pieces = make([]namePiece, 1, n+1)
	d, at := p.d, p.at
	for range n {
		size, from, category, end := uint64(0), at+1, uint64(0), 0
		if at < len(d) && d[at] < 0x80 {
			size = uint64(d[at])
		} else {
			size, from = long(d, at)
		}
		if from == 0 || size > uint64(len(d)-from) {
			p.fail("name")
			return
		}
		at = from + int(size)
		if at < len(d) && d[at] < 0x80 {
			category, end = uint64(d[at]), at+1
		} else {
			category, end = long(d, at)
		}
		if end == 0 || category > uint64(n) {
			p.fail("name")
			return
		}
		p.pieces = append(p.pieces, namePiece{uint32(from), uint32(from) + uint32(size), uint32(category)})
		at = end
	}
	p.at = at
	p.known = append(p.known, 0) // Names[0] is ""
}

// sums adds up a number of every event, limit at most, and gives the sums before and after those at the places, and of
// all. For signed numbers there is no limit, and what comes behind the last place is not added.
func (p *picker) sums(signed bool, limit uint64) (before, after []int64, total int64) {
	before, after = make([]int64, len(p.places)), make([]int64, len(p.places))
	k, d, at := 0, p.d, p.at
	for i := 0; i < p.n; {
		wanted := p.n
		if k < len(p.places) {
			wanted = p.places[k]
		}
		if signed && wanted == p.n {
			if at = skip(d, at, p.n-i); at == 0 {
				p.fail("number")
			}
			break
		}
		if !signed && limit > 0x7f && i+8 <= wanted && at+8 <= len(d) {
			if x := binary.LittleEndian.Uint64(d[at:]); x&highBits == 0 {
				total, at, i = total+eight(x), at+8, i+8
				continue
			}
		}
		x := uint64(0)
		if at < len(d) && d[at] < 0x80 {
			x = uint64(d[at])
			at++
		} else {
			x, at = long(d, at)
		}
		if at == 0 || x > limit {
			p.fail("number")
			break
		}
		was := total
		if signed {
			total += int64(x>>1) ^ -int64(x&1)
		} else {
			total += int64(x)
		}
		if i == wanted {
			before[k], after[k] = was, total
			k++
		}
		i++
	}
	if p.err != "" {
		return before, after, 0
	}
	p.at = at
	return before, after, total
}

// name gives the index that a name of the header gets in the block.
func (p *picker) name(x uint32) uint32 {
	if int(x) >= len(p.pieces) {
		p.fail("name index")
		return 0
	}
	i := slices.Index(p.known, x)
	if i < 0 {
		i, p.known = len(p.known), append(p.known, x)
	}
	return uint32(i)
}

// names copies what name was asked for, and the categories of those.
func (p *picker) names() {
	p.b.Names, p.b.Category = []string{""}, []uint32{0}
	for i := 1; i < len(p.known); i++ { // categories are appended on the way
		if p.err != "" {
			return
		}
		piece := p.pieces[p.known[i]]
		p.b.Names = append(p.b.Names, string(p.d[piece.from:piece.to]))
		p.b.Category = append(p.b.Category, p.name(piece.category))
	}
}

func (p *picker) seqs(stored bool) {
	p.b.Seqs = make([]uint64, len(p.places))
	var after []int64
	if stored {
		_, after, _ = p.sums(false, p.b.Upto)
	}
	for k, at := range p.places {
		if p.b.Seqs[k] = p.b.First + uint64(at); stored {
			p.b.Seqs[k] = p.b.First + uint64(after[k])
		}
		if p.b.Seqs[k] > p.b.Upto {
			p.fail("sequence numbers")
		}
	}
}

func (p *picker) received() {
	k, upto := 0, 0
	for range p.count(MaxEvents) {
		n, at := p.count(MaxEvents), p.varint()
		for upto += n; k < len(p.places) && p.places[k] < upto; k++ {
			p.b.Received = append(p.b.Received, Run{N: 1, At: at})
		}
	}
	if upto != p.n {
		p.fail("times of receipt")
	}
}

// column gives the entries of a column of name indexes.
func (p *picker) column(entries int) func(i int) uint32 {
	width := indexWidth(len(p.pieces))
	raw := p.bytes(entries * width)
	return func(i int) uint32 {
		switch {
		case p.err != "":
			return 0
		case width == 1:
			return p.name(uint32(raw[i]))
		case width == 2:
			return p.name(uint32(binary.LittleEndian.Uint16(raw[2*i:])))
		}
		return p.name(binary.LittleEndian.Uint32(raw[4*i:]))
	}
}

func (p *picker) indexes() (out []uint32) {
	entry := p.column(p.n)
	for _, at := range p.places {
		out = append(out, entry(at))
	}
	return out
}

func (p *picker) lists() (end, all []uint32) {
	before, after, total := p.sums(false, uint64(p.left()))
	if total > int64(p.left()) {
		p.fail("list")
		return nil, nil
	}
	entry := p.column(int(total))
	for k := range p.places {
		for i := before[k]; i < after[k] && p.err == ""; i++ {
			all = append(all, entry(int(i)))
		}
		end = append(end, uint32(len(all)))
	}
	return end, all
}

func (p *picker) flags() (out []uint8) {
	if raw := p.bytes(p.n); p.err == "" {
		for _, at := range p.places {
			out = append(out, raw[at])
		}
	}
	return out
}

func (p *picker) ids() {
	p.b.idPos, p.b.idLen = make([]uint32, len(p.places)), make([]uint16, len(p.places))
	var extras []int // which of the IDs that stand in no body belong to the places
	k, extra, d, at := 0, 0, p.d, p.at
	for i := range p.n {
		pos, length := uint64(0), uint64(0)
		if at < len(d) && d[at] < 0x80 {
			pos = uint64(d[at])
			at++
		} else {
			pos, at = long(d, at)
		}
		if pos != 0 && at < len(d) && d[at] < 0x80 {
			length = uint64(d[at])
			at++
		} else if pos != 0 {
			length, at = long(d, at)
		}
		if at == 0 || pos > 1<<30 || length > 1<<16-1 {
			p.fail("place of an id")
			return
		}
		if k < len(p.places) && p.places[k] == i {
			if p.b.idPos[k], p.b.idLen[k] = uint32(pos), uint16(length); pos == 0 {
				extras = append(extras, extra)
			}
			k++
		}
		if pos == 0 {
			extra++
		}
	}
	p.at = at
	for i := 0; i < extra && p.err == ""; i++ {
		s := p.bytes(p.count(p.left()))
		if len(extras) > 0 && extras[0] == i {
			p.b.extraIDs, extras = append(p.b.extraIDs, string(s)), extras[1:]
		}
	}
}
