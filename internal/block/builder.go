package block

import (
	"math"

	"github.com/zeebo/xxh3"
)

// maxInterned bounds the strings a builder remembers from one block to the next.
const maxInterned = 1 << 16

// Builder gathers events into a block. It is for one goroutine.
type Builder struct {
	category func(topic string) string
	interned map[string]string // saves allocating the same names block after block
	index    map[string]uint32
	b        Block
	lengths  []uint32
	raw      []byte
	scratch  []byte
}

// NewBuilder makes a builder. category gives a topic's category; it is asked once per topic and block.
func NewBuilder(category func(topic string) string) *Builder {
	w := &Builder{category: category, interned: map[string]string{}, index: map[string]uint32{}}
	w.reset()
	return w
}

func (w *Builder) reset() {
	clear(w.index)
	w.index[""] = 0
	w.b = Block{
		Names: append(w.b.Names[:0], ""), Category: append(w.b.Category[:0], 0),
		Time: w.b.Time[:0], Topic: w.b.Topic[:0], Source: w.b.Source[:0], Agent: w.b.Agent[:0],
		UserEnd: w.b.UserEnd[:0], Users: w.b.Users[:0], PkgEnd: w.b.PkgEnd[:0], Pkgs: w.b.Pkgs[:0],
		Flags: w.b.Flags[:0], Hash: w.b.Hash[:0], idPos: w.b.idPos[:0], idLen: w.b.idLen[:0],
	}
	w.lengths = w.lengths[:0]
	if cap(w.raw) > 2*MaxBytes {
		w.raw, w.scratch = nil, nil
	}
	w.raw = w.raw[:0]
}

// Len is the number of events gathered.
func (w *Builder) Len() int { return len(w.lengths) }

// Full says whether the block is to be built before n more bytes of body are added.
func (w *Builder) Full(n int) bool {
	return len(w.lengths) >= MaxEvents || len(w.lengths) > 0 && len(w.raw)+n > MaxBytes
}

// Add puts an event at the end. The caller builds before adding to a full builder.
func (w *Builder) Add(e *Event) {
	b := &w.b
	b.Time = append(b.Time, e.Time)
	topic := w.name(e.Topic)
	if b.Category[topic] == 0 {
		b.Category[topic] = w.nameString(w.category(b.Names[topic])) // may grow Category: index it afterwards
	}
	b.Topic = append(b.Topic, topic)
	b.Source = append(b.Source, w.nameString(e.Source))
	b.Agent = append(b.Agent, w.name(e.Agent))
	for _, u := range e.Users {
		b.Users = append(b.Users, w.name(u))
	}
	b.UserEnd = append(b.UserEnd, uint32(len(b.Users)))
	for _, p := range e.Packages {
		b.Pkgs = append(b.Pkgs, w.name(p))
	}
	b.PkgEnd = append(b.PkgEnd, uint32(len(b.Pkgs)))
	flags := uint8(e.Signed) & 3
	if e.Untimed {
		flags |= flagUntimed
	}
	b.Flags = append(b.Flags, flags)
	b.Hash = append(b.Hash, xxh3.Hash(e.ID))
	if e.IDAt >= 0 && len(e.ID) <= math.MaxUint16 {
		b.idPos, b.idLen = append(b.idPos, uint32(e.IDAt)+1), append(b.idLen, uint16(len(e.ID)))
	} else {
		b.idPos, b.idLen = append(b.idPos, 0), append(b.idLen, 0)
		b.extraIDs = append(b.extraIDs, string(e.ID))
	}
	w.raw = append(w.raw, e.Body...)
	w.lengths = append(w.lengths, uint32(len(e.Body)))
}

func (w *Builder) name(s []byte) uint32 {
	if i, ok := w.index[string(s)]; ok {
		return i
	}
	str, ok := w.interned[string(s)]
	if !ok {
		str = string(s)
		w.intern(str)
	}
	return w.addName(str)
}

func (w *Builder) nameString(s string) uint32 {
	if i, ok := w.index[s]; ok {
		return i
	}
	return w.addName(s)
}

func (w *Builder) intern(s string) {
	if len(w.interned) >= maxInterned {
		clear(w.interned)
	}
	w.interned[s] = s
}

func (w *Builder) addName(s string) uint32 {
	i := uint32(len(w.b.Names))
	w.b.Names, w.b.Category = append(w.b.Names, s), append(w.b.Category, 0)
	w.index[s] = i
	return i
}

// Peek gives the columns of what was gathered, without bodies and positions. They change with the next call.
func (w *Builder) Peek() *Block { return &w.b }

// Drop forgets what was gathered.
func (w *Builder) Drop() { w.reset() }

// Build packs what was gathered and starts anew. Event 0 gets the sequence number first; received is when the events
// came in (µs since 1970).
func (w *Builder) Build(first uint64, received int64, backfill bool) *Block {
	src := &w.b
	n := src.Len()
	b := &Block{
		First: first, Upto: first + uint64(n) - 1, Backfill: backfill,
		Names: clone(src.Names), Category: clone(src.Category),
		Time: clone(src.Time), Received: []Run{{uint32(n), received}},
		Topic: clone(src.Topic), Source: clone(src.Source), Agent: clone(src.Agent),
		UserEnd: clone(src.UserEnd), Users: clone(src.Users), PkgEnd: clone(src.PkgEnd), Pkgs: clone(src.Pkgs),
		Flags: clone(src.Flags), Hash: clone(src.Hash), idPos: clone(src.idPos), idLen: clone(src.idLen),
		extraIDs: src.extraIDs, BodyBytes: len(w.raw),
	}
	b.Frames, w.scratch = packFrames(w.raw, w.lengths, w.scratch)
	w.reset()
	return b
}

func clone[T any](s []T) []T { return append(make([]T, 0, len(s)), s...) }

func packFrames(raw []byte, lengths []uint32, scratch []byte) (frames [][]byte, room []byte) {
	out := make([][]byte, 0, (len(lengths)+FrameEvents-1)/FrameEvents)
	for len(lengths) > 0 {
		k, size := min(FrameEvents, len(lengths)), 0
		for _, n := range lengths[:k] {
			size += int(n)
		}
		var frame []byte
		frame, scratch = packFrame(raw[:size], lengths[:k], scratch)
		out = append(out, frame)
		raw, lengths = raw[size:], lengths[k:]
	}
	return out, scratch
}
