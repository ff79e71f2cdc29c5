package host

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/statscache/statscache/internal/block"
	pb "github.com/statscache/statscache/plugins/proto"
)

// maxSeconds bounds the times that can be counted: beyond it a bucket's number no longer fits into a cell.
const maxSeconds = 1 << 38

// columns says which of the costly columns a plugin is sent.
type columns struct{ bodies, ids bool }

// frames says whether blocks must be read with their frames to get the columns.
func (c columns) frames() bool { return c.bodies || c.ids }

// batch is what a plugin gets at once: events of one block, in order.
type batch struct {
	lane    *lane // nil in a recount
	id      uint64
	block   *block.Block
	events  []int  // positions in the block; all of them where whole
	whole   bool   // the events are all of the block's
	upto    uint64 // the stream is done up to here when this is answered
	lo, hi  int64  // of the events' times, seconds
	refused []int  // positions of events whose time can't be counted
	frame   frame  // nil where there is nothing to send

	bodies [][]byte // of the events, where this batch alone was encoded with them
}

// batchID gives numbers to batches; the same batch has the same number for every plugin it is sent to.
type batchID struct{ last atomic.Uint64 }

func (b *batchID) next() uint64 { return b.last.Add(1) }

// len is the number of events sent.
func (b *batch) len() int { return len(b.events) }

// seq is the sequence number of the batch's event i.
func (b *batch) seq(i int) uint64 { return b.block.Seq(b.events[i]) }

// time is the time of the batch's event i in µs.
func (b *batch) time(i int) int64 { return b.block.Time[b.events[i]] }

// idsOf gives the ids of some of the batch's events, "" of all others. They stand in the bodies, which are unpacked again
// only where several plugins share what was made of them.
func (b *batch) idsOf(wanted []*pb.Put) ([]string, error) {
	out := make([]string, b.len())
	if b.bodies == nil {
		all, err := b.block.IDs()
		if err != nil {
			return nil, err
		}
		for _, p := range wanted {
			out[p.Event] = all[b.events[p.Event]]
		}
		return out, nil
	}
	for _, p := range wanted {
		if out[p.Event] != "" {
			continue
		}
		var err error
		if out[p.Event], err = b.block.IDOf(b.events[p.Event], b.bodies[p.Event]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// cutBatch makes a batch of the next at most size events of a block that the plugin wants, starting at position from.
// It gives the position behind it.
func cutBatch(b *block.Block, from, size int, topics *topicFilter) (out *batch, next int) {
	out = &batch{block: b, lo: math.MaxInt64, hi: math.MinInt64}
	i := from
	for ; i < b.Len() && len(out.events) < size; i++ {
		if !topics.wants(b, i) {
			continue
		}
		second := floorDiv(b.Time[i], 1e6)
		if second < -maxSeconds || second > maxSeconds {
			out.refused = append(out.refused, i)
			continue
		}
		if out.events == nil {
			out.events = make([]int, 0, min(size, b.Len()-i))
		}
		out.events = append(out.events, i)
		out.lo, out.hi = min(out.lo, second), max(out.hi, second)
	}
	if i == b.Len() {
		out.upto = b.Upto
	} else {
		out.upto = b.Seq(i) - 1
	}
	out.whole = len(out.events) == b.Len()
	return out, i
}

// topicFilter picks events by their topics' prefixes.
type topicFilter struct {
	prefixes []string
	block    *block.Block // the one that verdicts is about
	verdicts []int8       // per name: 0 not looked at, 1 wanted, 2 not
}

func (f *topicFilter) wants(b *block.Block, i int) bool {
	if len(f.prefixes) == 0 {
		return true
	}
	if f.block != b {
		f.block = b
		f.verdicts = append(f.verdicts[:0], make([]int8, len(b.Names))...)
	}
	t := b.Topic[i]
	if f.verdicts[t] == 0 {
		f.verdicts[t] = 2
		if slices.ContainsFunc(f.prefixes, func(p string) bool { return strings.HasPrefix(b.Names[t], p) }) {
			f.verdicts[t] = 1
		}
	}
	return f.verdicts[t] == 1
}

// wire is a batch's columns as they are sent.
type wire struct {
	names                                []string
	time                                 []int64
	topic, category, agent               []uint32
	userCount, users, pkgCount, packages []uint32
	bodies                               [][]byte
	ids                                  []string
}

// encode gives the ToPlugin message of a batch.
func (b *batch) encode(c columns) (frame, error) {
	w := b.wire()
	if !c.frames() {
		return w.frame(b.id), nil
	}
	all, err := b.block.Bodies() // ids stand in them, too
	if err != nil {
		return nil, fmt.Errorf("bodies of events %d to %d: %w", b.block.First, b.block.Upto, err)
	}
	for _, i := range b.events {
		if c.bodies {
			w.bodies = append(w.bodies, all[i])
		}
		if c.ids {
			id, err := b.block.IDOf(i, all[i])
			if err != nil {
				return nil, fmt.Errorf("ids of events %d to %d: %w", b.block.First, b.block.Upto, err)
			}
			w.ids = append(w.ids, id)
		}
	}
	if c.bodies && !b.whole {
		b.bodies = w.bodies
	}
	return w.frame(b.id), nil
}

// wire gathers the columns. Names that no event uses are left out of a part of a block.
func (b *batch) wire() *wire {
	src := b.block
	w := &wire{names: src.Names}
	name := func(x uint32) uint32 { return x }
	if !b.whole {
		seen := make([]uint32, len(src.Names))
		w.names = []string{""}
		name = func(x uint32) uint32 {
			if x != 0 && seen[x] == 0 {
				seen[x] = uint32(len(w.names))
				w.names = append(w.names, src.Names[x])
			}
			return seen[x]
		}
	}
	n := len(b.events)
	w.time, w.topic, w.category, w.agent = make([]int64, n), make([]uint32, n), make([]uint32, n), make([]uint32, n)
	w.userCount, w.pkgCount = make([]uint32, n), make([]uint32, n)
	for k, i := range b.events {
		w.time[k] = src.Time[i]
		w.topic[k], w.category[k], w.agent[k] = name(src.Topic[i]), name(src.CategoryOf(i)), name(src.Agent[i])
		users, packages := src.UsersOf(i), src.PackagesOf(i)
		w.userCount[k], w.pkgCount[k] = uint32(len(users)), uint32(len(packages))
		for _, x := range users {
			w.users = append(w.users, name(x))
		}
		for _, x := range packages {
			w.packages = append(w.packages, name(x))
		}
	}
	return w
}

// frame writes the message by hand: the columns are in the block's own types, and a message is most of what is sent.
// The field numbers are those of Batch in plugin.proto.
func (w *wire) frame(id uint64) frame {
	size := 64 + 16*len(w.names) + 16*len(w.time) + 4*(len(w.users)+len(w.packages))
	for _, s := range w.names {
		size += len(s)
	}
	for _, s := range w.bodies {
		size += len(s) + 8
	}
	for _, s := range w.ids {
		size += len(s) + 8
	}
	const room = 1 + 10 // for ToPlugin's tag and length, written last
	out := make([]byte, room, room+size)
	out = protowire.AppendVarint(protowire.AppendTag(out, 1, protowire.VarintType), id)
	for _, s := range w.names {
		out = appendText(out, 2, s)
	}
	out = appendTimes(out, 3, w.time)
	for i, column := range [][]uint32{w.topic, w.category, w.agent, w.userCount, w.users, w.pkgCount, w.packages} {
		out = appendIndexes(out, protowire.Number(4+i), column)
	}
	for _, s := range w.bodies {
		out = protowire.AppendBytes(protowire.AppendTag(out, 11, protowire.BytesType), s)
	}
	for _, s := range w.ids {
		out = appendText(out, 12, s)
	}
	var head [room]byte
	h := protowire.AppendTag(head[:0], 2, protowire.BytesType)
	h = protowire.AppendVarint(h, uint64(len(out)-room))
	start := room - len(h)
	copy(out[start:], h)
	return out[start:]
}

// appendText writes a string; what is not UTF-8 would be refused by every decoder and is mended first.
func appendText(dst []byte, number protowire.Number, s string) []byte {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	return protowire.AppendString(protowire.AppendTag(dst, number, protowire.BytesType), s)
}

func appendTimes(dst []byte, number protowire.Number, column []int64) []byte {
	if len(column) == 0 {
		return dst
	}
	size, prev := 0, int64(0)
	for _, t := range column {
		size += protowire.SizeVarint(protowire.EncodeZigZag(t - prev))
		prev = t
	}
	dst = protowire.AppendVarint(protowire.AppendTag(dst, number, protowire.BytesType), uint64(size))
	prev = 0
	for _, t := range column {
		dst = protowire.AppendVarint(dst, protowire.EncodeZigZag(t-prev))
		prev = t
	}
	return dst
}

func appendIndexes(dst []byte, number protowire.Number, column []uint32) []byte {
	if len(column) == 0 {
		return dst
	}
	size := 0
	for _, x := range column {
		size += protowire.SizeVarint(uint64(x))
	}
	dst = protowire.AppendVarint(protowire.AppendTag(dst, number, protowire.BytesType), uint64(size))
	for _, x := range column {
		dst = protowire.AppendVarint(dst, uint64(x))
	}
	return dst
}

// floorDiv divides rounding down, also before 1970. b is positive.
func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
