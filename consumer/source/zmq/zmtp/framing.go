package zmtp

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// What a peer may do wrong. ErrProtocol is wrapped by all of them.
var (
	ErrProtocol = errors.New("ZMTP broken")
	ErrSize     = fmt.Errorf("%w: frame or message too large", ErrProtocol)
	ErrFrames   = fmt.Errorf("%w: message of too many frames", ErrProtocol)
)

// Limits bound what a peer may send. Frame and Message must be set, or nothing passes.
type Limits struct {
	Handshake uint64 // bytes of the first frame, which carries the peer's metadata
	Frame     uint64 // bytes of any other frame
	Message   uint64 // bytes of all frames of a message
	Frames    int    // frames of a message
}

const (
	greetingBytes = 64
	signature     = 0xFF // first byte of a greeting
	flagMore      = 1
	flagLong      = 2
	flagCommand   = 4
)

// The parts of the stream, in the order they come.
const (
	inGreeting = iota
	inFlags
	inShortSize
	inLongSize
	inBody
)

// framing follows a ZMTP stream without keeping it (https://rfc.zeromq.org/spec/23/).
type framing struct {
	limits       Limits
	part         int
	left         uint64 // of greeting or body
	flags        byte
	size         [8]byte
	sizeBytes    int
	handshaken   bool
	frames       int    // of the current message
	bytes        uint64 // of the current message
	seen         uint64 // all bytes vetted
	whole        uint64 // seen when the last message or command was whole
	major, minor byte
}

// vet follows b and gives how much of it is good, with the error of what comes next. The offending header is never
// whole within what is good.
func (f *framing) vet(b []byte) (good int, err error) {
	for good < len(b) {
		rest := b[good:]
		n := 1
		switch f.part {
		case inGreeting:
			n = int(min(uint64(len(rest)), f.left))
			err = f.greeting(rest[:n])
		case inFlags:
			err = f.header(rest[0])
		case inShortSize:
			err = f.body(uint64(rest[0]), f.seen+1)
		case inLongSize:
			n = copy(f.size[f.sizeBytes:], rest)
			if f.sizeBytes += n; f.sizeBytes == len(f.size) {
				err = f.body(binary.BigEndian.Uint64(f.size[:]), f.seen+uint64(n))
			}
		case inBody:
			n = int(min(uint64(len(rest)), f.left))
			if f.left -= uint64(n); f.left == 0 {
				f.end(f.seen + uint64(n))
			}
		}
		if err != nil {
			return good, err
		}
		good += n
		f.seen += uint64(n)
	}
	return good, nil
}

func (f *framing) greeting(b []byte) error {
	at := greetingBytes - int(f.left)
	for i, c := range b {
		switch at + i {
		case 0:
			if c != signature {
				return fmt.Errorf("%w: greeting begins with %#02x", ErrProtocol, c)
			}
		case 10:
			if f.major = c; c < 3 {
				return fmt.Errorf("%w: peer speaks ZMTP %d.x, 3.0 is needed", ErrProtocol, c)
			}
		case 11:
			f.minor = c
		}
	}
	if f.left -= uint64(len(b)); f.left == 0 {
		f.part = inFlags
	}
	return nil
}

func (f *framing) header(flags byte) error {
	if flags&^(flagMore|flagLong|flagCommand) != 0 {
		return fmt.Errorf("%w: reserved flags %#02x", ErrProtocol, flags)
	}
	if flags&flagCommand != 0 && (flags&flagMore != 0 || f.frames > 0) {
		return fmt.Errorf("%w: command within a message", ErrProtocol)
	}
	f.flags, f.sizeBytes, f.part = flags, 0, inShortSize
	if flags&flagLong != 0 {
		f.part = inLongSize
	}
	return nil
}

// body begins a body of so many bytes; at is where it begins in the stream.
func (f *framing) body(size, at uint64) error {
	limit := f.limits.Frame
	if !f.handshaken {
		limit = min(limit, f.limits.Handshake)
	}
	if size > limit {
		return fmt.Errorf("%w: frame of %d bytes, allowed are %d", ErrSize, size, limit)
	}
	if f.frames++; f.frames > f.limits.Frames {
		return fmt.Errorf("%w: more than %d", ErrFrames, f.limits.Frames)
	}
	if f.bytes += size; f.bytes > f.limits.Message {
		return fmt.Errorf("%w: message of more than %d bytes", ErrSize, f.limits.Message)
	}
	f.left, f.part = size, inBody
	if size == 0 {
		f.end(at)
	}
	return nil
}

// end ends a frame; at is where the next one begins.
func (f *framing) end(at uint64) {
	f.part, f.handshaken = inFlags, true
	if f.flags&flagMore == 0 {
		f.frames, f.bytes, f.whole = 0, 0, at
	}
}
