package block

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/klauspost/compress/s2"
)

// ErrCorrupt is what decoding answers for bytes that are not what was written.
var ErrCorrupt = errors.New("corrupt block")

var castagnoli = crc32.MakeTable(crc32.Castagnoli) // immutable

// maxFrameBytes bounds what a frame may claim to unpack to: FrameEvents bodies of a block that was just not full, or
// one oversized body.
const maxFrameBytes = 64 << 20

// packFrame gives a frame: CRC-32C (4 bytes, little endian) of the rest, the number of bytes of the lengths, each
// body's length as uvarint, then the bodies one after the other as one s2 block. scratch is room to work in and comes
// back, perhaps grown; the frame has memory of its own, as it is kept for long.
func packFrame(bodies []byte, lengths []uint32, scratch []byte) (frame, room []byte) {
	var lens [FrameEvents * binary.MaxVarintLen32]byte
	l := lens[:0]
	for _, n := range lengths {
		l = binary.AppendUvarint(l, uint64(n))
	}
	out := append(scratch[:0], 0, 0, 0, 0)
	out = binary.AppendUvarint(out, uint64(len(l)))
	out = append(out, l...)
	out = slices.Grow(out, s2.MaxEncodedLen(len(bodies)))
	packed := s2.Encode(out[len(out):cap(out)], bodies)
	out = out[:len(out)+len(packed)]
	binary.LittleEndian.PutUint32(out, crc32.Checksum(out[4:], castagnoli))
	return append(make([]byte, 0, len(out)), out...), out
}

// UnpackFrame gives the bodies of a frame. They share one buffer of their own.
func UnpackFrame(frame []byte) ([][]byte, error) {
	var u Unpacker
	if err := u.Unpack(frame); err != nil {
		return nil, err
	}
	return u.Bodies, nil
}

// Unpacker unpacks one frame after the other into the same memory.
type Unpacker struct {
	Raw    []byte   // the bodies one after the other
	Bodies [][]byte // the same, apart; both are good until the next call
}

// Unpack unpacks a frame. After an error there are no bodies.
func (u *Unpacker) Unpack(frame []byte) error {
	room, list := u.Raw[:0], u.Bodies[:0]
	u.Raw, u.Bodies = room, list
	if len(frame) < 5 || binary.LittleEndian.Uint32(frame) != crc32.Checksum(frame[4:], castagnoli) {
		return fmt.Errorf("%w: frame checksum", ErrCorrupt)
	}
	d := frame[4:]
	n, k := binary.Uvarint(d)
	if k <= 0 || n > uint64(len(d)-k) {
		return fmt.Errorf("%w: frame lengths", ErrCorrupt)
	}
	lens, packed := d[k:k+int(n)], d[k+int(n):]
	size, err := s2.DecodedLen(packed)
	if err != nil || size > maxFrameBytes {
		return fmt.Errorf("%w: frame size", ErrCorrupt)
	}
	if cap(room) < size {
		room = make([]byte, size)
	}
	raw, err := s2.Decode(room[:size], packed)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	rest := raw
	if list == nil {
		list = make([][]byte, 0, FrameEvents)
	}
	for len(lens) > 0 {
		n, k := binary.Uvarint(lens)
		if k <= 0 || n > uint64(len(rest)) || len(list) == FrameEvents {
			return fmt.Errorf("%w: body length", ErrCorrupt)
		}
		list = append(list, rest[:n:n])
		rest, lens = rest[n:], lens[k:]
	}
	if len(rest) > 0 {
		return fmt.Errorf("%w: %d bytes behind the last body", ErrCorrupt, len(rest))
	}
	u.Raw, u.Bodies = raw, list
	return nil
}

// Bodies unpacks all bodies, one per event.
func (b *Block) Bodies() ([][]byte, error) {
	if b.Frames == nil && b.Len() > 0 {
		return nil, ErrNoBodies
	}
	out := make([][]byte, 0, b.Len())
	for _, f := range b.Frames {
		bodies, err := UnpackFrame(f)
		if err != nil {
			return nil, err
		}
		out = append(out, bodies...)
	}
	if len(out) != b.Len() {
		return nil, fmt.Errorf("%w: %d bodies for %d events", ErrCorrupt, len(out), b.Len())
	}
	return out, nil
}
