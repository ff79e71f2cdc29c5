package block

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
)

// The header of a block: its columns without the bodies. Integers are uvarint, times are zigzag deltas, name columns
// are 1, 2 or 4 bytes an entry by the number of names, strings are length and bytes. A CRC-32C ends it.
const (
	headerVersion = 1

	hasSeqs     = 1
	hasHashes   = 2
	hasBackfill = 4
)

// AppendHeader appends the header. Without hashes it is 8 bytes an event shorter: IDs are then known from the bodies
// or from wherever the caller keeps the hashes.
func (b *Block) AppendHeader(dst []byte, hashes bool) []byte {
	start := len(dst)
	hashes = hashes && b.Hash != nil
	flags := byte(0)
	if b.Seqs != nil {
		flags |= hasSeqs
	}
	if hashes {
		flags |= hasHashes
	}
	if b.Backfill {
		flags |= hasBackfill
	}
	dst = append(dst, headerVersion, flags)
	dst = binary.AppendUvarint(dst, uint64(b.Len()))
	dst = binary.AppendUvarint(dst, b.First)
	dst = binary.AppendUvarint(dst, b.Upto-b.First+1)
	dst = binary.AppendUvarint(dst, uint64(b.BodyBytes))
	dst = appendNames(dst, b)
	if b.Seqs != nil {
		prev := b.First
		for _, s := range b.Seqs {
			dst = binary.AppendUvarint(dst, s-prev)
			prev = s
		}
	}
	prev := int64(0)
	for _, t := range b.Time {
		dst = binary.AppendVarint(dst, t-prev)
		prev = t
	}
	dst = binary.AppendUvarint(dst, uint64(len(b.Received)))
	for _, r := range b.Received {
		dst = binary.AppendUvarint(dst, uint64(r.N))
		dst = binary.AppendVarint(dst, r.At)
	}
	width := indexWidth(len(b.Names))
	for _, col := range [][]uint32{b.Topic, b.Source, b.Agent} {
		dst = appendIndexes(dst, col, width)
	}
	dst = appendLists(dst, b.UserEnd, b.Users, width)
	dst = appendLists(dst, b.PkgEnd, b.Pkgs, width)
	dst = append(dst, b.Flags...)
	for i, p := range b.idPos {
		dst = binary.AppendUvarint(dst, uint64(p))
		if p != 0 {
			dst = binary.AppendUvarint(dst, uint64(b.idLen[i]))
		}
	}
	for _, s := range b.extraIDs {
		dst = appendString(dst, s)
	}
	if hashes {
		for _, h := range b.Hash {
			dst = binary.LittleEndian.AppendUint64(dst, h)
		}
	}
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

func appendNames(dst []byte, b *Block) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(b.Names)-1))
	for i, s := range b.Names {
		if i > 0 {
			dst = appendString(dst, s)
			dst = binary.AppendUvarint(dst, uint64(b.Category[i]))
		}
	}
	return dst
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func indexWidth(names int) int {
	switch {
	case names <= 1<<8:
		return 1
	case names <= 1<<16:
		return 2
	}
	return 4
}

func appendIndexes(dst []byte, col []uint32, width int) []byte {
	for _, x := range col {
		switch width {
		case 1:
			dst = append(dst, byte(x))
		case 2:
			dst = binary.LittleEndian.AppendUint16(dst, uint16(x))
		default:
			dst = binary.LittleEndian.AppendUint32(dst, x)
		}
	}
	return dst
}

func appendLists(dst []byte, end, all []uint32, width int) []byte {
	prev := uint32(0)
	for _, e := range end {
		dst = binary.AppendUvarint(dst, uint64(e-prev))
		prev = e
	}
	return appendIndexes(dst, all, width)
}

// DecodeHeader reads what AppendHeader wrote; frames (nil for none) become the block's own. It holds on to neither
// the header's bytes nor its strings' memory beyond one copy.
func DecodeHeader(data []byte, frames [][]byte) (*Block, error) {
	d, b, n, flags, err := openHeader(data)
	if err != nil {
		return nil, err
	}
	b.Frames = frames
	d.names(b)
	if flags&hasSeqs != 0 {
		d.seqs(b, n)
	}
	d.times(b, n)
	names, width := uint32(len(b.Names)), indexWidth(len(b.Names))
	b.Topic, b.Source, b.Agent = d.indexes(n, width, names), d.indexes(n, width, names), d.indexes(n, width, names)
	b.UserEnd, b.Users = d.lists(n, width, names)
	b.PkgEnd, b.Pkgs = d.lists(n, width, names)
	b.Flags = append([]uint8(nil), d.bytes(n)...)
	d.ids(b, n)
	if flags&hasHashes != 0 {
		raw := d.bytes(8 * n)
		b.Hash = make([]uint64, len(raw)/8)
		for i := range b.Hash {
			b.Hash[i] = binary.LittleEndian.Uint64(raw[8*i:])
		}
	}
	if err := d.end(); err != nil {
		return nil, err
	}
	return b, nil
}

// openHeader checks a header and reads what comes before its columns: d goes on there.
func openHeader(data []byte) (d reader, b *Block, n int, flags byte, err error) {
	if len(data) < 6 || binary.LittleEndian.Uint32(data[len(data)-4:]) != crc32.Checksum(data[:len(data)-4], castagnoli) {
		return d, nil, 0, 0, fmt.Errorf("%w: header checksum", ErrCorrupt)
	}
	if data[0] != headerVersion {
		return d, nil, 0, 0, fmt.Errorf("%w: header version %d", ErrCorrupt, data[0])
	}
	flags = data[1]
	d = reader{d: data[2 : len(data)-4]}
	n = d.count(MaxEvents)
	b = &Block{First: d.uvarint(), Backfill: flags&hasBackfill != 0}
	covers := d.uvarint()
	b.Upto, b.BodyBytes = b.First+covers-1, d.count(math.MaxInt32)
	if b.First == 0 || covers > math.MaxInt64 || b.First > math.MaxInt64 || covers < uint64(n) || flags&hasSeqs == 0 && covers != uint64(n) {
		d.fail("positions")
	}
	return d, b, n, flags, nil
}

// Append appends the whole block, header with hashes and frames: the inbox's record.
func (b *Block) Append(dst []byte) []byte {
	header := b.AppendHeader(nil, true)
	dst = binary.AppendUvarint(dst, uint64(len(header)))
	dst = append(dst, header...)
	for _, f := range b.Frames {
		dst = binary.AppendUvarint(dst, uint64(len(f)))
		dst = append(dst, f...)
	}
	return dst
}

// Decode reads what Append wrote. The frames point into data.
func Decode(data []byte) (*Block, error) {
	d := reader{d: data}
	header := d.bytes(d.count(len(data)))
	frames := [][]byte{}
	for d.err == "" && d.left() > 0 {
		frames = append(frames, d.bytes(d.count(d.left())))
	}
	if d.err != "" {
		return nil, fmt.Errorf("%w: %s", ErrCorrupt, d.err)
	}
	b, err := DecodeHeader(header, frames)
	if err != nil {
		return nil, err
	}
	if want := (b.Len() + FrameEvents - 1) / FrameEvents; len(frames) != want {
		return nil, fmt.Errorf("%w: %d frames for %d events", ErrCorrupt, len(frames), b.Len())
	}
	return b, nil
}
