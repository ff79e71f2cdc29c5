package crate

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/block"
)

// odd makes events that CrateDB's columns can't take as they are.
func odd() []*block.Event {
	long := strings.Repeat("ü", 40_000)
	return []*block.Event{
		{ID: []byte("plain"), Topic: []byte("t"), Body: []byte(`{"id":"plain"}`)},
		{ID: []byte(""), Topic: []byte(""), Body: nil},
		{ID: []byte("not \xff UTF-8"), Topic: []byte("\xfe"), Users: [][]byte{[]byte("\xfd"), []byte("x")}, Body: []byte("body \xfc")},
		{ID: []byte(long), Topic: []byte(long), Agent: []byte(long), Packages: [][]byte{[]byte(long)}, Source: long, Body: []byte(long)},
		{ID: []byte("sha256:looks like a hash"), Topic: []byte("t"), Body: []byte("{}")},
		{ID: []byte("it's; DROP TABLE events --"), Topic: []byte("'"), Users: [][]byte{[]byte("")}, Body: []byte("\\u0000 \x00")},
		{ID: []byte("nul\x00and\nlines"), Topic: []byte("\x00"), Body: []byte("nul\x00and\nlines")},
		{ID: []byte("far"), Time: math.MaxInt64, Topic: []byte("t"), Body: []byte("{}")},
		{ID: []byte("early"), Time: math.MinInt64, Untimed: true, Topic: []byte("t"), Body: []byte("{}")},
	}
}

func oddBlock() *block.Block {
	w := block.NewBuilder(func(topic string) string { return "category of " + topic })
	for _, e := range odd() {
		e.IDAt = -1
		w.Add(e)
	}
	return w.Build(1, math.MaxInt64, false)
}

func sameBlocks(t *testing.T, got []*block.Block, want *block.Block) {
	t.Helper()
	if len(got) != 1 {
		t.Fatalf("%d blocks", len(got))
	}
	g := got[0]
	gotIDs, err1 := g.IDs()
	wantIDs, err2 := want.IDs()
	gotBodies, err3 := g.Bodies()
	wantBodies, err4 := want.Bodies()
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil || g.Len() != want.Len() {
		t.Fatal(err1, err2, err3, err4, g.Len(), want.Len())
	}
	names := func(b *block.Block, list []uint32) (out []string) {
		for _, x := range list {
			out = append(out, b.Names[x])
		}
		return out
	}
	for i := range g.Len() {
		if gotIDs[i] != wantIDs[i] || !bytes.Equal(gotBodies[i], wantBodies[i]) || g.Time[i] != want.Time[i] || g.ReceivedOf(i) != want.ReceivedOf(i) ||
			g.Names[g.Topic[i]] != want.Names[want.Topic[i]] || g.Names[g.CategoryOf(i)] != want.Names[want.CategoryOf(i)] ||
			g.Names[g.Agent[i]] != want.Names[want.Agent[i]] || g.Names[g.Source[i]] != want.Names[want.Source[i]] || g.Flags[i] != want.Flags[i] ||
			!slices.Equal(names(g, g.UsersOf(i)), names(want, want.UsersOf(i))) || !slices.Equal(names(g, g.PackagesOf(i)), names(want, want.PackagesOf(i))) ||
			g.Seq(i) != want.Seq(i) || g.Hash[i] != want.Hash[i] {
			t.Errorf("event %d (%.40q) is not what it was", i, wantIDs[i])
		}
	}
}

func TestRow_OddEvents_ComeBackExactly(t *testing.T) {
	b := oddBlock()
	ids, err := b.IDs()
	if err != nil {
		t.Fatal(err)
	}
	bodies, err := b.Bodies()
	if err != nil {
		t.Fatal(err)
	}
	var list []event
	keys := map[string]bool{}
	for i := range ids {
		e := eventOf(b, i, ids[i], bodies[i])
		if keys[e.id] || len(e.id) > maxKeyID || len(e.topic) > maxText+3 {
			t.Errorf("event %d has the key %.80q", i, e.id)
		}
		keys[e.id] = true
		// What the columns and the exact text hold is all that is left of it.
		list = append(list, event{id: e.id, ts: e.ts, seq: e.seq, topic: e.topic, category: e.category, users: e.users, packages: e.packages,
			agent: e.agent, source: e.source, signed: e.signed, untimed: e.untimed, received: e.received, size: e.size, exact: e.exact, body: e.body})
	}
	got, err := build(list, 1, uint64(len(ids)), true)
	if err != nil {
		t.Fatal(err)
	}
	sameBlocks(t, got, b)
}

func TestMonth_PartitionsAreBounded(t *testing.T) {
	at := func(s string) int64 {
		x, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t.Fatal(err)
		}
		return x.UnixMicro()
	}
	for _, c := range []struct {
		us      int64
		untimed bool
		want    int32
	}{
		{at("2018-04-30T23:59:59.999999Z"), false, 201804}, {at("2018-05-01T00:00:00Z"), false, 201805}, {at("2018-05-01T00:00:00Z"), true, 0},
		{at("1999-12-31T23:59:59.9Z"), false, 1}, {math.MinInt64, false, 1}, {at("2100-01-01T00:00:00Z"), false, 210001}, {math.MaxInt64, false, 210001},
	} {
		if got := month(c.us, c.untimed); got != c.want {
			t.Errorf("month of %d (untimed %v) is %d, want %d", c.us, c.untimed, got, c.want)
		}
	}
}
