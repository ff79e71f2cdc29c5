package crate

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
)

// An archive of some months, most of whose events lie together, is walked in both directions by small pages of names that
// many events have, few, and none: as one page has them.
func TestFind_NearbyFirstLosesNothing(t *testing.T) {
	d := emptied(t)(t)
	ctx := testContext(t)
	attach(t, d, "s", 0)
	w := block.NewBuilder(func(string) string { return "c" })
	begin := time.Date(2018, 1, 20, 0, 0, 0, 0, time.UTC)
	for i := range 1000 {
		at := begin.Add(time.Duration(i) * time.Minute)
		if i >= 700 {
			at = begin.Add(time.Duration(i-600) * 12 * time.Hour) // up to August
		}
		user := fmt.Sprintf("user%d", i%2)
		if i%97 == 0 {
			user = "rare"
		}
		id := fmt.Sprintf("n-%04d", i)
		w.Add(&block.Event{ID: []byte(id), IDAt: 1, Topic: []byte("a.b.c.c"), Time: at.UnixMicro(), Source: "t", Users: [][]byte{[]byte(user)}, Body: []byte(`"` + id + `"`)})
	}
	if _, err := d.Archive(ctx, "s", []*block.Block{w.Build(1, 1, false)}); err != nil {
		t.Fatal(err)
	}
	if err := d.refresh(ctx, "events"); err != nil {
		t.Fatal(err)
	}
	ids := func(list []store.Event) (out []string) {
		for _, e := range list {
			out = append(out, e.ID)
		}
		return out
	}
	for _, user := range []string{"", "user1", "rare", "nobody"} {
		for _, desc := range []bool{false, true} {
			r := store.FindRequest{EventFilter: store.EventFilter{From: 0, To: math.MaxInt64}, Desc: desc, Limit: 1001}
			if user != "" {
				r.Users.In = []string{user}
			}
			page, err := d.Find(ctx, r)
			if err != nil {
				t.Fatal(err)
			}
			want := fmt.Sprint(ids(page.Events))
			var got []store.Event
			for r.Limit = 7; ; r.After = page.Next {
				if page, err = d.Find(ctx, r); err != nil {
					t.Fatal(err)
				}
				got = append(got, page.Events...)
				if page.Next == nil {
					break
				}
			}
			if fmt.Sprint(ids(got)) != want {
				t.Fatalf("user %q, desc %v: %d events by pages are not what one page has, or in another order", user, desc, len(got))
			}
		}
	}
	q, err := d.finding(ctx, store.EventFilter{From: 0, To: math.MaxInt64})
	if err != nil {
		t.Fatal(err)
	}
	for _, desc := range []bool{false, true} {
		if len(q.nearby(ctx, nil, desc, 1)) == 0 {
			t.Errorf("desc %v: nothing is looked at first, so this test shows nothing", desc)
		}
	}
}

// Text searches go on behind the last event of a number of them, which may have an ID that is no key as it is.
func TestFind_GoesOnBehindALongID(t *testing.T) {
	d := emptied(t)(t)
	ctx := testContext(t)
	attach(t, d, "s", 0)
	w := block.NewBuilder(func(string) string { return "c" })
	const events = findAhead + 40
	for i := range events {
		id := fmt.Sprintf("%0600d", i)
		w.Add(&block.Event{ID: []byte(id), IDAt: 1, Topic: []byte("a.b.c.c"), Time: 1_524_736_800_000_000 + int64(i/50), Source: "t", Body: []byte(`"` + id + `"`)})
	}
	if _, err := d.Archive(ctx, "s", []*block.Block{w.Build(1, 1, false)}); err != nil {
		t.Fatal(err)
	}
	f := store.EventFilter{From: 0, To: math.MaxInt64, Contains: []string{"0"}}
	if n, err := d.CountEvents(ctx, f, 0); err != nil || n != events {
		t.Errorf("%d events with the text (%v), want %d", n, err, events)
	}
	seen := map[string]bool{}
	for r := (store.FindRequest{EventFilter: f, Desc: true, Limit: 25, MaxScan: 60}); ; {
		page, err := d.Find(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Events {
			if seen[e.ID] {
				t.Fatalf("event %s comes twice", e.ID[590:])
			}
			seen[e.ID] = true
		}
		if r.After = page.Next; r.After == nil {
			break
		}
	}
	if len(seen) != events {
		t.Errorf("pages give %d events, want %d", len(seen), events)
	}
}
