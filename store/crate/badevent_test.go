package crate

import (
	"strings"
	"testing"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
)

// TestInsert_OfAnEventThatIsRefused_KeepsItWithoutItsNames: a column with an index takes no long text. Such a text is cut
// before it comes so far; here it isn't.
func TestInsert_OfAnEventThatIsRefused_KeepsItWithoutItsNames(t *testing.T) {
	d := emptied(t)(t)
	ctx := testContext(t)
	if _, err := d.Attach(ctx, "s"); err != nil {
		t.Fatal(err)
	}
	var list []pending
	w := block.NewBuilder(func(string) string { return "cat" })
	for _, id := range []string{"a", "bad", "c"} {
		w.Add(&block.Event{ID: []byte(id), IDAt: -1, Topic: []byte("t." + id), Time: 1e15, Users: [][]byte{[]byte("u")}, Body: []byte(`{}`)})
	}
	b := w.Build(1, 5, false)
	for i, id := range []string{"a", "bad", "c"} {
		e := eventOf(b, i, id, []byte(`{}`))
		if id == "bad" {
			e.topic = strings.Repeat("x", 40_000)
		}
		list = append(list, pending{event: e, owned: new(bool)})
	}
	if err := d.insert(ctx, "s", list); err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if !*e.owned {
			t.Errorf("event %s is not owned", e.id)
		}
	}
	if _, err := d.Archive(ctx, "s", []*block.Block{b}); err != nil { // finds them, and announces
		t.Fatal(err)
	}
	blocks, upto, err := d.Read(ctx, store.ReadRequest{Stream: "s", Bodies: true})
	if err != nil || upto != 3 || len(blocks) != 1 || blocks[0].Len() != 3 {
		t.Fatalf("%d blocks up to %d, %v; want one of 3", len(blocks), upto, err)
	}
	if got := blocks[0].Names[blocks[0].Topic[1]]; got != "t.bad" || len(blocks[0].UsersOf(1)) != 1 {
		t.Errorf("it is read back with topic %q and %d users", got, len(blocks[0].UsersOf(1)))
	}
}
