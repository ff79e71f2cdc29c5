// Package block holds events in columns: the unit that the inbox, the archive, the feeders and the plugins hand on.
package block

import (
	"errors"
	"fmt"
	"slices"
	"sort"
)

const (
	// MaxEvents is how many events a block holds at most.
	MaxEvents = 1024
	// MaxBytes is how many bytes of bodies (uncompressed) make a block full, whatever its number of events. One body
	// may exceed it: such a block holds that event alone.
	MaxBytes = 4 << 20
	// FrameEvents is how many bodies are compressed together: the smallest piece that a reader of one body unpacks.
	FrameEvents = 128
)

// ErrNoBodies is what Bodies and IDs answer when a block was read without its frames.
var ErrNoBodies = errors.New("block was read without bodies")

// Signature says what is known of an event's signature. The values are stored; they never change their meaning.
type Signature uint8

// The states of a signature.
const (
	Unchecked Signature = iota // nobody looked
	Unsigned                   // looked, there is none
	Verified                   // looked, it is good
)

// String gives the word that the API shows.
func (s Signature) String() string {
	switch s {
	case Unsigned:
		return "unsigned"
	case Verified:
		return "verified"
	}
	return "unchecked"
}

// Event is one accepted message on its way into a block. The builder copies what it keeps: the slices may be reused
// after Add.
type Event struct {
	ID       []byte    // msg_id, or the hash of the canonical message where there is none
	IDAt     int       // where ID stands verbatim in Body, -1 where it does not
	Topic    []byte    // the full topic
	Time     int64     // µs since 1970, UTC
	Untimed  bool      // the envelope had no timestamp: Time is when the event was received
	Source   string    // name of the endpoint or import it came from
	Users    [][]byte  // distinct
	Packages [][]byte  // distinct
	Agent    []byte    // who caused it; empty where unknown
	Signed   Signature // what is known of its signature
	Body     []byte    // the envelope as received
}

// Run is a piece of a run-length column: the next N events were received at At (µs since 1970).
type Run struct {
	N  uint32
	At int64
}

// Block is up to MaxEvents events of one stream in the order of their sequence numbers. Columns have one entry per
// event; name columns hold indexes into Names. A Block is never changed once built, so that any number of readers may
// share it.
type Block struct {
	First    uint64   // sequence number of the first position the block covers
	Upto     uint64   // last position it covers: events that are not ours are holes, also at its end
	Seqs     []uint64 // the events' sequence numbers, nil where they are First, First+1, ... Upto
	Backfill bool     // history rather than live events: kept apart in the archive

	Names    []string // distinct; Names[0] is ""
	Category []uint32 // per name that is a topic: the name of its category; 0 for other names

	Time      []int64 // µs since 1970, UTC
	Received  []Run
	Topic     []uint32
	Source    []uint32
	Agent     []uint32 // 0 where unknown
	UserEnd   []uint32 // event i has Users[UserEnd[i-1]:UserEnd[i]]
	Users     []uint32
	PkgEnd    []uint32
	Pkgs      []uint32
	Flags     []uint8  // Signature in bits 0-1, flagUntimed
	Hash      []uint64 // xxh3 of the ID; nil where it was stored without
	idPos     []uint32 // offset of the ID in the body + 1, 0 where it is in extraIDs
	idLen     []uint16
	extraIDs  []string // IDs that stand in no body, in the order of their events
	BodyBytes int      // all bodies together, uncompressed

	Frames [][]byte // FrameEvents bodies each, as frame.go packs them; nil where the block was read without bodies
}

const flagUntimed = 4

// Len is the number of events.
func (b *Block) Len() int { return len(b.Time) }

// Seq is the sequence number of event i.
func (b *Block) Seq(i int) uint64 {
	if b.Seqs == nil {
		return b.First + uint64(i)
	}
	return b.Seqs[i]
}

// UsersOf gives the user names of event i as indexes into Names.
func (b *Block) UsersOf(i int) []uint32 { return span(b.UserEnd, b.Users, i) }

// PackagesOf gives the package names of event i as indexes into Names.
func (b *Block) PackagesOf(i int) []uint32 { return span(b.PkgEnd, b.Pkgs, i) }

func span(end, all []uint32, i int) []uint32 {
	from := uint32(0)
	if i > 0 {
		from = end[i-1]
	}
	return all[from:end[i]]
}

// CategoryOf gives the category of event i as an index into Names.
func (b *Block) CategoryOf(i int) uint32 { return b.Category[b.Topic[i]] }

// SignedOf says what is known of the signature of event i.
func (b *Block) SignedOf(i int) Signature { return Signature(b.Flags[i] & 3) }

// UntimedOf is true where the envelope of event i had no timestamp.
func (b *Block) UntimedOf(i int) bool { return b.Flags[i]&flagUntimed != 0 }

// ReceivedOf is when event i was received (µs since 1970).
func (b *Block) ReceivedOf(i int) int64 {
	for _, r := range b.Received {
		if i < int(r.N) {
			return r.At
		}
		i -= int(r.N)
	}
	return 0
}

// TimeRange gives the earliest and the latest time of the events; zeros for an empty block.
func (b *Block) TimeRange() (lo, hi int64) {
	if len(b.Time) == 0 {
		return 0, 0
	}
	return slices.Min(b.Time), slices.Max(b.Time)
}

// Bytes is about what the block occupies in memory, for bounding queues.
func (b *Block) Bytes() int {
	n := 64*b.Len() + 8*(len(b.Users)+len(b.Pkgs))
	for _, s := range b.Names {
		n += 16 + len(s)
	}
	for _, f := range b.Frames {
		n += len(f)
	}
	return n
}

// IDOf gives the ID of event i, whose body is given: most of them stand in it.
func (b *Block) IDOf(i int, body []byte) (string, error) {
	if b.idPos[i] == 0 {
		extra := 0
		for _, p := range b.idPos[:i] {
			if p == 0 {
				extra++
			}
		}
		return b.extraIDs[extra], nil
	}
	at := int(b.idPos[i]) - 1
	if at+int(b.idLen[i]) > len(body) {
		return "", fmt.Errorf("%w: id of event %d lies outside its body", ErrCorrupt, b.Seq(i))
	}
	return string(body[at : at+int(b.idLen[i])]), nil
}

// IDs gives every event's ID. It unpacks the bodies, where most of them stand.
func (b *Block) IDs() ([]string, error) {
	bodies, err := b.Bodies()
	if err != nil {
		return nil, err
	}
	out := make([]string, b.Len())
	extra := 0
	for i := range out {
		if b.idPos[i] == 0 {
			out[i] = b.extraIDs[extra]
			extra++
			continue
		}
		at, body := int(b.idPos[i])-1, bodies[i]
		if at+int(b.idLen[i]) > len(body) {
			return nil, fmt.Errorf("%w: id of event %d lies outside its body", ErrCorrupt, b.Seq(i))
		}
		out[i] = string(body[at : at+int(b.idLen[i])])
	}
	return out, nil
}

// After gives the events with sequence numbers above seq: the block itself where that is all of them. With frames it
// repacks the bodies, so it is for the rare cut and not for every batch.
func (b *Block) After(seq uint64) (*Block, error) {
	n := b.Len()
	from := sort.Search(n, func(i int) bool { return b.Seq(i) > seq })
	if from == 0 && seq < b.First {
		return b, nil
	}
	keep := make([]bool, n)
	for i := from; i < n; i++ {
		keep[i] = true
	}
	out, err := b.Keep(keep)
	if err != nil {
		return nil, err
	}
	cut := *out // Keep may have answered b itself, which others share
	cut.First = max(cut.First, seq+1)
	return &cut, nil
}
