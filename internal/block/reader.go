package block

import "encoding/binary"

// reader takes a header apart. The first thing that does not fit ends it: everything after reads as zero, and err says
// what it was.
type reader struct {
	d   []byte
	err string
}

func (r *reader) fail(what string) {
	if r.err == "" {
		r.err = what
	}
	r.d = nil
}

func (r *reader) uvarint() uint64 {
	x, k := binary.Uvarint(r.d)
	if k <= 0 {
		r.fail("number")
		return 0
	}
	r.d = r.d[k:]
	return x
}

func (r *reader) varint() int64 {
	x, k := binary.Varint(r.d)
	if k <= 0 {
		r.fail("number")
		return 0
	}
	r.d = r.d[k:]
	return x
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
	if n < 0 || n > len(r.d) {
		r.fail("length")
		return nil
	}
	out := r.d[:n:n]
	r.d = r.d[n:]
	return out
}

func (r *reader) names(b *Block) {
	n := r.count(len(r.d))
	b.Names, b.Category = make([]string, 1, n+1), make([]uint32, 1, n+1)
	all := string(r.d) // one copy that every name shares, cut to what the names take below
	base := len(r.d)
	type piece struct{ from, to int }
	pieces := make([]piece, 0, n)
	for range n {
		s := r.bytes(r.count(len(r.d)))
		to := base - len(r.d)
		pieces = append(pieces, piece{to - len(s), to})
		b.Category = append(b.Category, uint32(r.count(n)))
		if r.err != "" {
			return
		}
	}
	if n > 0 {
		all = string([]byte(all[:pieces[n-1].to]))
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
	for i := range out {
		switch width {
		case 1:
			out[i] = uint32(raw[i])
		case 2:
			out[i] = uint32(binary.LittleEndian.Uint16(raw[2*i:]))
		default:
			out[i] = binary.LittleEndian.Uint32(raw[4*i:])
		}
		if out[i] >= names {
			r.fail("name index")
			return nil
		}
	}
	return out
}

func (r *reader) lists(n, width int, names uint32) (end, all []uint32) {
	end = make([]uint32, n)
	total := 0
	for i := range end {
		total += r.count(len(r.d))
		end[i] = uint32(total)
	}
	if total > len(r.d)/width {
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
		s := r.bytes(r.count(len(r.d)))
		if r.err != "" {
			return
		}
		b.extraIDs = append(b.extraIDs, string(s))
	}
}
