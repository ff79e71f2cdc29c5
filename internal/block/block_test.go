package block

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

func category(topic string) string {
	if p := strings.Split(topic, "."); len(p) > 3 {
		return p[3]
	}
	return "Unclassified"
}

// sample makes n random events; some have no ID in their body, no timestamp, several users.
func sample(r *rand.Rand, n int) []*Event {
	out := make([]*Event, 0, n)
	for i := range n {
		id := fmt.Sprintf("2018-%08x-%d", r.Uint32(), i)
		body := fmt.Sprintf(`{"msg_id":"%s","pad":"%s"}`, id, strings.Repeat("x", r.IntN(300)))
		e := &Event{ID: []byte(id), IDAt: strings.Index(body, id), Topic: fmt.Appendf(nil, "org.x.prod.cat%d.t%d", r.IntN(9), r.IntN(400)),
			Time: int64(r.IntN(1e9))*1e6 - 1e12, Source: fmt.Sprintf("ep%d", r.IntN(3)), Signed: Signature(r.IntN(3)), Body: []byte(body)}
		if r.IntN(10) == 0 {
			e.IDAt, e.Untimed = -1, true
		}
		for range r.IntN(3) {
			e.Users = append(e.Users, fmt.Appendf(nil, "user%d", r.IntN(300)))
			e.Packages = append(e.Packages, fmt.Appendf(nil, "pkg%d", r.IntN(300)))
		}
		if r.IntN(2) == 0 {
			e.Agent = fmt.Appendf(nil, "user%d", r.IntN(300))
		}
		out = append(out, e)
	}
	return out
}

func build(events []*Event, first uint64) *Block {
	w := NewBuilder(category)
	for _, e := range events {
		w.Add(e)
	}
	return w.Build(first, 77, false)
}

// check compares every attribute of a block's events with the events it should hold.
func check(t *testing.T, b *Block, want []*Event, seqs []uint64) {
	t.Helper()
	if b.Len() != len(want) {
		t.Fatalf("%d events, want %d", b.Len(), len(want))
	}
	ids, err := b.IDs()
	if err != nil {
		t.Fatal(err)
	}
	bodies, err := b.Bodies()
	if err != nil {
		t.Fatal(err)
	}
	names := func(list []uint32) (out []string) {
		for _, x := range list {
			out = append(out, b.Names[x])
		}
		return
	}
	text := func(list [][]byte) (out []string) {
		for _, x := range list {
			out = append(out, string(x))
		}
		return
	}
	for i, e := range want {
		got := fmt.Sprint(b.Seq(i), ids[i], b.Names[b.Topic[i]], b.Names[b.CategoryOf(i)], b.Time[i], b.UntimedOf(i), b.Names[b.Source[i]],
			names(b.UsersOf(i)), names(b.PackagesOf(i)), b.Names[b.Agent[i]], b.SignedOf(i), b.ReceivedOf(i))
		exp := fmt.Sprint(seqs[i], string(e.ID), string(e.Topic), category(string(e.Topic)), e.Time, e.Untimed, e.Source,
			text(e.Users), text(e.Packages), string(e.Agent), e.Signed, 77)
		if got != exp {
			t.Fatalf("event %d:\n got %s\nwant %s", i, got, exp)
		}
		if !bytes.Equal(bodies[i], e.Body) {
			t.Fatalf("event %d: body differs", i)
		}
	}
}

func upTo(first uint64, n int) []uint64 {
	out := make([]uint64, n)
	for i := range out {
		out[i] = first + uint64(i)
	}
	return out
}

func TestBlock_RoundTripsThroughItsBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 7, 128, 129, 1024} {
		events := sample(r, n)
		b := build(events, 42)
		got, err := Decode(b.Append(nil))
		if err != nil {
			t.Fatal(err)
		}
		check(t, got, events, upTo(42, n))
		if !reflect.DeepEqual(got.Hash, b.Hash) || got.BodyBytes != b.BodyBytes {
			t.Fatal("hashes or size differ")
		}
		short, err := DecodeHeader(b.AppendHeader(nil, false), nil)
		if err != nil {
			t.Fatal(err)
		}
		if short.Hash != nil {
			t.Fatal("hashes came back though they were left out")
		}
		if _, err := short.Bodies(); err != ErrNoBodies {
			t.Fatalf("bodies of a block without frames: %v", err)
		}
	}
}

func TestBlock_KeepLeavesHolesAndAfterCuts(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	events := sample(r, 500)
	b := build(events, 100)
	var kept []*Event
	var seqs []uint64
	keep := make([]bool, 500)
	for i := range keep {
		if keep[i] = r.IntN(3) > 0; keep[i] {
			kept, seqs = append(kept, events[i]), append(seqs, 100+uint64(i))
		}
	}
	k, err := b.Keep(keep)
	if err != nil {
		t.Fatal(err)
	}
	if k.First != 100 || k.Upto != 599 {
		t.Fatalf("covers %d to %d", k.First, k.Upto)
	}
	if k, err = Decode(k.Append(nil)); err != nil {
		t.Fatal(err)
	}
	check(t, k, kept, seqs)
	for _, cut := range []uint64{99, 100, 350, 598, 599, 700} {
		a, err := k.After(cut)
		if err != nil {
			t.Fatal(err)
		}
		from := 0
		for from < len(seqs) && seqs[from] <= cut {
			from++
		}
		check(t, a, kept[from:], seqs[from:])
	}
	if k.First != 100 {
		t.Fatal("After changed the block it was asked of")
	}
}

func TestMerge_JoinsBlocksOfOneStream(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	events := sample(r, 300)
	var parts []*Block
	for at := 0; at < 300; {
		n := min(1+r.IntN(8), 300-at)
		parts = append(parts, build(events[at:at+n], uint64(1+at)))
		at += n
	}
	m, err := Merge(parts)
	if err != nil {
		t.Fatal(err)
	}
	if m.Seqs != nil {
		t.Fatal("no holes, but sequence numbers are kept")
	}
	check(t, m, events, upTo(1, 300))
	if _, err := Merge([]*Block{parts[1], parts[0]}); err == nil {
		t.Fatal("blocks out of order were merged")
	}
}

func TestDecode_RefusesEveryFlippedByte(t *testing.T) {
	data := build(sample(rand.New(rand.NewPCG(7, 8)), 40), 9).Append(nil)
	for i := range data {
		bad := bytes.Clone(data)
		bad[i] ^= 0x20
		b, err := Decode(bad)
		if err == nil {
			_, err = b.Bodies()
		}
		if err == nil {
			t.Fatalf("flip at %d went unnoticed", i)
		}
	}
}

func FuzzDecodeHeader(f *testing.F) {
	h := build(sample(rand.New(rand.NewPCG(7, 8)), 3), 9).AppendHeader(nil, true)
	f.Add(h[:len(h)-4])
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := DecodeHeader(sealed(data), nil)
		if err != nil {
			return
		}
		for i := range b.Time { // whatever decodes can be read through without a panic
			_, _, _, _ = b.Seq(i), b.UsersOf(i), b.PackagesOf(i), b.CategoryOf(i)
		}
		if _, err := DecodeHeader(b.AppendHeader(nil, true), nil); err != nil {
			t.Fatalf("what was decoded does not encode: %v", err)
		}
		pickedAlike(t, b, sealed(data), upto(b.Len()))
	})
}

func sealed(data []byte) []byte {
	return binary.LittleEndian.AppendUint32(bytes.Clone(data), crc32.Checksum(data, castagnoli))
}

func FuzzUnpackFrame(f *testing.F) {
	frame, _ := packFrame([]byte("abcdef"), []uint32{2, 4}, nil)
	f.Add(frame[4:])
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = UnpackFrame(append(binary.LittleEndian.AppendUint32(nil, crc32.Checksum(data, castagnoli)), data...))
	})
}
