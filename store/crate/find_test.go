package crate

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
	"github.com/statscache/statscache/store/storetest"
)

// Pages and counts are held against a walk over all events: names, times, order, cursors, bodies.
func TestFind_AgreesWithAWalkOverTheArchive(t *testing.T) {
	d := emptied(t)(t)
	ctx := testContext(t)
	attach(t, d, "s", 0)
	in := storetest.Block(1, storetest.Events("e", 0, 300))
	if _, err := d.Archive(ctx, "s", []*block.Block{in}); err != nil {
		t.Fatal(err)
	}
	above := attempt{db: d, stream: "s", above: 300} // inserted, not archived yet
	if err := above.all(ctx, []*block.Block{storetest.Block(301, storetest.Events("late", 0, 10))}); err != nil {
		t.Fatal(err)
	}
	if err := d.refresh(ctx, "events"); err != nil {
		t.Fatal(err)
	}
	whole := store.EventFilter{From: math.MinInt64, To: math.MaxInt64}
	var all []store.Event
	page, err := d.Find(ctx, store.FindRequest{EventFilter: whole, Limit: 1000, Bodies: true})
	if all = page.Events; err != nil || len(all) != 300 || page.Next != nil {
		t.Fatalf("%d events, next %v, %v; want 300 and no more", len(all), page.Next, err)
	}
	for name, x := range map[string]struct {
		change func(*store.EventFilter)
		fits   func(store.Event) bool
	}{
		"span": {func(f *store.EventFilter) { f.From, f.To = storetest.Base+10e6, storetest.Base+20e6 }, func(e store.Event) bool { return e.Time >= storetest.Base+10e6 && e.Time < storetest.Base+20e6 }},
		"user": {func(f *store.EventFilter) { f.Users.In = []string{all[5].Agent, "user3"} }, func(e store.Event) bool {
			return slices.Contains(e.Users, all[5].Agent) || slices.Contains(e.Users, "user3")
		}},
		"category": {func(f *store.EventFilter) { f.Categories.NotIn = []string{"cat1"} }, func(e store.Event) bool { return e.Category != "cat1" }},
		"prefix":   {func(f *store.EventFilter) { f.TopicPrefixes = []string{"org.fedoraproject.prod.cat2"} }, func(e store.Event) bool { return e.Category == "cat2" }},
		"body":     {func(f *store.EventFilter) { f.Contains = []string{`"e-17`} }, func(e store.Event) bool { return e.ID == "e-17" || len(e.ID) == 5 && e.ID[:4] == "e-17" }},
	} {
		for _, desc := range []bool{false, true} {
			f := whole
			x.change(&f)
			var want, got []string
			for _, e := range all {
				if x.fits(e) {
					want = append(want, e.ID)
				}
			}
			if desc {
				slices.Reverse(want)
			}
			r := store.FindRequest{EventFilter: f, Desc: desc, Limit: 7}
			for pages := 0; pages < 100; pages++ {
				p, err := d.Find(ctx, r)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range p.Events {
					got = append(got, e.ID)
				}
				if r.After = p.Next; p.Next == nil {
					break
				}
			}
			if !slices.Equal(got, want) || len(want) == 0 {
				t.Errorf("%s, desc %v: %v, want %v", name, desc, got, want)
			}
			if n, err := d.CountEvents(ctx, f, 0); err != nil || int(n) != len(want) {
				t.Errorf("%s: %d events counted, %v; want %d", name, n, err, len(want))
			}
		}
	}
	if e, err := d.Event(ctx, "e-42"); err != nil || fmt.Sprint(e) != fmt.Sprint(all[42]) {
		t.Errorf("%v, %v; want %v", e, err, all[42])
	}
	for _, id := range []string{"nobody", "late-3"} {
		if _, err := d.Event(ctx, id); !errors.Is(err, store.ErrUnknown) {
			t.Errorf("%s: %v, want ErrUnknown", id, err)
		}
	}
}
