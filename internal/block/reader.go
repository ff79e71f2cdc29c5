package block

import (
	"encoding/binary"
	"fmt"
)

// reader takes a header apart. The first thing that does not fit ends it: everything after reads as zero, and err says
// what it was.
type reader struct {
	d   []byte
	at  int // an index: to cut d instead would cost a write barrier a number
	err string
}

func (r *reader) fail(what string) {
	if r.err == "" {
		r.err = what
	}
	r.d, r.at = nil, 0
}

// end says what did not fit, if only that there is more.
func (r *reader) end() error {
	if r.err == "" && r.left() > 0 {
		r.fail("length")
	}
	if r.err != "" {
		return fmt.Errorf("%w: header %s", ErrCorrupt, r.err)
	}
	return nil
}

// left is how many bytes there still are.
func (r *reader) left() int { return len(r.d) - r.at }

// uvarint is small so that it stands in the loops that call it: almost every number has one byte.
func (r *reader) uvarint() uint64 {
	if r.at < len(r.d) && r.d[r.at] < 0x80 {
		r.at++
		return uint64(r.d[r.at-1])
	}
	return r.long()
}

// long reads a number of any length.
func (r *reader) long() uint64 {
	x, k := binary.Uvarint(r.d[r.at:])
	if k <= 0 {
		r.fail("number")
		return 0
	}
	r.at += k
	return x
}

func (r *reader) varint() int64 {
	x := r.uvarint()
	return int64(x>>1) ^ -int64(x&1)
}

// count reads a number that must not exceed limit; nothing is allocated for one that does.
func (r *reader) count(limit int) int {
	x := r.uvarint()
	if x > uint64(limit) {
		r.fail("count")
		return 0
	}
	return int(x)
}

func (r *reader) bytes(n int) []byte {
	if n < 0 || n > r.left() {
		r.fail("length")
		return nil
	}
	r.at += n
	return r.d[r.at-n : r.at : r.at]
}

func (r *reader) names(b *Block) {
	n := r.count(r.left())
	b.Names, b.Category = make([]string, 1, n+1), make([]uint32, 1, n+1)
	raw, begin := r.d, r.at
	type piece struct{ from, to int }
	pieces := make([]piece, 0, n)
	for range n {
		s := r.bytes(r.count(r.left()))
		pieces = append(pieces, piece{r.at - len(s) - begin, r.at - begin})
		b.Category = append(b.Category, uint32(r.count(n)))
		if r.err != "" {
			return
		}
	}
	all := "" // one copy that every name shares
	if n > 0 {
		all = string(raw[begin : begin+pieces[n-1].to])
	}
	for _, p := range pieces {
		b.Names = append(b.Names, all[p.from:p.to])
	}
}

func (r *reader) seqs(b *Block, n int) {
	b.Seqs = make([]uint64, n)
	prev := b.First
	for i := range b.Seqs {
		delta := r.uvarint()
		prev += delta
		if i > 0 && delta == 0 || prev > b.Upto || delta > b.Upto {
			r.fail("sequence numbers")
			return
		}
		b.Seqs[i] = prev
	}
}

func (r *reader) times(b *Block, n int) {
	b.Time = make([]int64, n)
	prev := int64(0)
	for i := range b.Time {
		prev += r.varint()
		b.Time[i] = prev
	}
	total := uint64(0)
	for range r.count(MaxEvents) {
		run := Run{N: uint32(r.count(MaxEvents)), At: r.varint()}
		total += uint64(run.N)
		b.Received = append(b.Received, run)
	}
	if total != uint64(n) {
		r.fail("times of receipt")
	}
}

func (r *reader) indexes(n, width int, names uint32) []uint32 {
	raw := r.bytes(n * width)
	out := make([]uint32, len(raw)/width)
	largest := uint32(0)
	switch width {
	case 1:
		for i := range out {
			out[i] = uint32(raw[i])
			largest = max(largest, out[i])
		}
	case 2:
		for i := range out {
			out[i] = uint32(binary.LittleEndian.Uint16(raw[2*i:]))
			largest = max(largest, out[i])
		}
	default:
		for i := range out {
			out[i] = binary.LittleEndian.Uint32(raw[4*i:])
			largest = max(largest, out[i])
		}
	}
	if len(out) > 0 && largest >= names {
		r.fail("name index")
		return nil
	}
	return out
}

func (r *reader) lists(n, width int, names uint32) (end, all []uint32) {
	end = make([]uint32, n)
	total := 0
	for i := range end {
		total += r.count(r.left())
		end[i] = uint32(total)
	}
	if total > r.left()/width {
		r.fail("list")
		return nil, nil
	}
	return end, r.indexes(total, width, names)
}

func (r *reader) ids(b *Block, n int) {
	b.idPos, b.idLen = make([]uint32, n), make([]uint16, n)
	extra := 0
	for i := range b.idPos {
		b.idPos[i] = uint32(r.count(1 << 30))
		if b.idPos[i] == 0 {
			extra++
		} else {
			b.idLen[i] = uint16(r.count(1<<16 - 1))
		}
	}
	for range extra {
		s := r.bytes(r.count(r.left()))
		if r.err != "" {
			return
		}
		b.extraIDs = append(b.extraIDs, string(s))
	}
}
