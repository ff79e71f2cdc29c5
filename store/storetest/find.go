package storetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
)

// Finder is what the group Find asks of an engine.
type Finder interface {
	store.Archive
	store.Finder
	ExpireArchive(ctx context.Context, before int64) (events int64, err error)
	Close() error
}

// Find holds an engine to the contract of store.Finder. Every question is held against a look at each event.
func Find[E Finder](t *testing.T, fresh Fresh[E]) {
	cases(t, as(fresh, func(e E) Finder { return e }), map[string]func(*testing.T, Open[Finder]){
		"EmptyArchive_HasNothing":          findNothing,
		"Event_ByID":                       findEvent,
		"OneMoment_IsPagedByID":            findMoment,
		"Bodies_AreBounded":                findBodies,
		"Scan_GoesOnWhereItWasEnded":       findScan,
		"Count_BeyondItsBound_IsRefused":   findCostly,
		"BehindTheHorizon_IsNotThere":      findExpired,
		"WhatIsArchived_IsThereAtOnce":     findAtOnce,
		"Cancelled_Ends":                   findCancelled,
		"Random_EqualsBruteForce/seed=1":   func(t *testing.T, o Open[Finder]) { findRandom(t, o, 1) },
		"Random_EqualsBruteForce/seed=2":   func(t *testing.T, o Open[Finder]) { findRandom(t, o, 2) },
		"Random_EqualsBruteForce/seed=3":   func(t *testing.T, o Open[Finder]) { findRandom(t, o, 3) },
		"BroadPrefix_OfMoreThanAFewTopics": findBroad,
	})
}

// truth is what an archive should hold.
type truth []store.Event

// give archives a block and remembers its events.
func (w *truth) give(t testing.TB, f Finder, stream string, b *block.Block) {
	t.Helper()
	archive(t, f, stream, b)
	w.add(t, stream, b)
}

// add remembers the events of a block with its bodies.
func (w *truth) add(t testing.TB, stream string, b *block.Block) {
	t.Helper()
	ids, err := b.IDs()
	noError(t, err)
	bodies, err := b.Bodies()
	noError(t, err)
	for i := range b.Len() {
		e := store.Event{Stream: stream, Seq: b.Seq(i), ID: ids[i], Topic: b.Names[b.Topic[i]], Category: b.Names[b.CategoryOf(i)], Time: b.Time[i],
			Received: b.ReceivedOf(i), Source: b.Names[b.Source[i]], Agent: b.Names[b.Agent[i]], Signed: b.SignedOf(i), Body: bodies[i]}
		for _, x := range b.UsersOf(i) {
			e.Users = append(e.Users, b.Names[x])
		}
		for _, x := range b.PackagesOf(i) {
			e.Packages = append(e.Packages, b.Names[x])
		}
		*w = append(*w, e)
	}
}

// find is the brute force: every event is looked at.
func (w truth) find(f store.EventFilter, desc bool) (out []store.Event) {
	for _, e := range w {
		if e.Time >= f.From && e.Time < f.To && named(f.Users, e.Users...) && named(f.Packages, e.Packages...) && named(f.Agents, e.Agent) &&
			named(f.Topics, e.Topic) && named(f.Categories, e.Category) && begins(e.Topic, f.TopicPrefixes) &&
			(len(f.Contains) == 0 || holdsOne(e.Body, f.Contains)) && !holdsOne(e.Body, f.NotContains) {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b store.Event) int {
		x := cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(a.ID, b.ID))
		if desc {
			return -x
		}
		return x
	})
	return out
}

func named(n store.Names, have ...string) bool {
	in := func(list []string) bool {
		return slices.ContainsFunc(have, func(s string) bool { return s != "" && slices.Contains(list, s) })
	}
	return (len(n.In) == 0 || in(n.In)) && !in(n.NotIn)
}

func begins(topic string, prefixes []string) bool {
	return len(prefixes) == 0 || slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(topic, p) })
}

func holdsOne(body []byte, pieces []string) bool {
	return slices.ContainsFunc(pieces, func(p string) bool { return strings.Contains(string(body), p) })
}

var anyTime = store.EventFilter{From: math.MinInt64, To: math.MaxInt64} // immutable

func line(e store.Event) string {
	return fmt.Sprintf("%d %s %s/%d %s %s %s %q %q %q %s %d %s", e.Time-Base, e.ID, e.Stream, e.Seq, e.Topic, e.Category, e.Source, e.Users, e.Packages,
		e.Agent, e.Signed, e.Received-Base, e.Body)
}

func eventLines(list []store.Event) (out []string) {
	for _, e := range list {
		out = append(out, line(e))
	}
	return out
}

// pages asks for page after page, and checks what must hold for each.
func pages(t testing.TB, f Finder, r store.FindRequest) (all []store.Event) {
	t.Helper()
	for n := 0; ; n++ {
		p, err := f.Find(patience(t), r)
		noError(t, err)
		if len(p.Events) > r.Limit {
			t.Fatalf("%d events on a page of %d", len(p.Events), r.Limit)
		}
		all = append(all, p.Events...)
		if p.Next == nil {
			return all
		}
		if r.After != nil && *p.Next == *r.After || n > 20_000 {
			t.Fatalf("page %d goes on at its own beginning, %v", n, *p.Next)
		}
		if r.MaxScan == 0 && r.MaxBytes == 0 && len(p.Events) < r.Limit {
			t.Fatalf("a page of %d events, %d asked for, and more to come", len(p.Events), r.Limit)
		}
		r.After = p.Next
	}
}

// holdFind compares all pages of a question, and its count, with the brute force.
func holdFind(t testing.TB, f Finder, w truth, r store.FindRequest) {
	t.Helper()
	want := w.find(r.EventFilter, r.Desc)
	if !r.Bodies {
		for i := range want {
			want[i].Body = nil
		}
	}
	got := pages(t, f, r)
	if !slices.Equal(eventLines(got), eventLines(want)) {
		t.Errorf("%+v: %d events, want %d", r, len(got), len(want))
		sameLines(t, eventLines(got), eventLines(want))
	}
	n, err := f.CountEvents(patience(t), r.EventFilter, 0)
	noError(t, err)
	if n != int64(len(want)) {
		t.Fatalf("%+v: counted %d, want %d", r.EventFilter, n, len(want))
	}
}

func findNothing(t *testing.T, open Open[Finder]) {
	f := opened(t, open)
	holdFind(t, f, nil, store.FindRequest{EventFilter: anyTime, Desc: true, Limit: 5})
	_, err := f.Event(patience(t), "x")
	if !errors.Is(err, store.ErrUnknown) {
		t.Fatalf("event of an empty archive: %v", err)
	}
	if _, err := f.Find(patience(t), store.FindRequest{EventFilter: anyTime}); err == nil {
		t.Fatal("a page of no events is not refused")
	}
}

func findEvent(t *testing.T, open Open[Finder]) {
	f := opened(t, open)
	attach(t, f, "a", 0)
	var w truth
	at := uint64(1)
	for k := range 12 {
		list := Events("e", k*100, 100)
		list[7].Bare, list[9].Untimed = true, true
		w.give(t, f, "a", Build(at, k%3 == 0, list))
		at += 100
	}
	for i, e := range w {
		if i%13 == 0 || i%100 == 7 {
			got, err := f.Event(patience(t), e.ID)
			noError(t, err)
			if line(got) != line(e) {
				t.Fatalf("got  %s\nwant %s", line(got), line(e))
			}
		}
	}
	for _, id := range []string{"", "e-1200", "e-0 ", "E-1", "\x00"} {
		if _, err := f.Event(patience(t), id); !errors.Is(err, store.ErrUnknown) {
			t.Fatalf("event %q: %v", id, err)
		}
	}
}

func findMoment(t *testing.T, open Open[Finder]) {
	f := opened(t, open)
	attach(t, f, "a", 0)
	var w truth
	at := uint64(1)
	for k := range 8 {
		list := Events(fmt.Sprint("x", 9-k), k*90, 90)
		for i := range list {
			list[i].Time = int64(i/30) * 1e6 // three moments in all
		}
		w.give(t, f, "a", Build(at, k%2 == 0, list))
		at += 90
	}
	for _, desc := range []bool{false, true} {
		for _, limit := range []int{1 + 6*len(w), 239, 100, 7} {
			holdFind(t, f, w, store.FindRequest{EventFilter: anyTime, Desc: desc, Limit: limit, Bodies: limit < 100})
		}
		holdFind(t, f, w, store.FindRequest{EventFilter: anyTime, Desc: desc, Limit: 50, MaxScan: 10})
	}
}

func findBodies(t *testing.T, open Open[Finder]) {
	f := opened(t, open)
	attach(t, f, "a", 0)
	var w truth
	list := Events("b", 0, 60)
	for i := range list {
		list[i].Body = fmt.Sprintf(`{"msg_id":"%s","x":"%s"}`, list[i].ID, strings.Repeat("y", 10*i))
	}
	w.give(t, f, "a", Block(1, list))
	r := store.FindRequest{EventFilter: anyTime, Desc: true, Limit: 50, Bodies: true, MaxBytes: 2000}
	holdFind(t, f, w, r)
	p, err := f.Find(patience(t), r)
	noError(t, err)
	if len(p.Events) != 3 || p.Next == nil {
		t.Fatalf("%d events for 2000 bytes", len(p.Events))
	}
	r.MaxBytes = 10
	if p, err = f.Find(patience(t), r); err != nil || len(p.Events) != 1 {
		t.Fatalf("%d events, %v: one is given however large it is", len(p.Events), err)
	}
}

func findScan(t *testing.T, open Open[Finder]) {
	f := opened(t, open)
	attach(t, f, "a", 0)
	var w truth
	list := Events("s", 0, 3000)
	list[17].Body = `{"msg_id":"s-17","needle":true}`
	for at := 0; at < len(list); at += 100 {
		w.give(t, f, "a", Block(uint64(at)+1, list[at:at+100]))
	}
	filter := anyTime
	filter.Contains = []string{`needle":true`}
	for _, desc := range []bool{false, true} {
		r := store.FindRequest{EventFilter: filter, Desc: desc, Limit: 5, MaxScan: 150}
		holdFind(t, f, w, r)
		p, err := f.Find(patience(t), r)
		noError(t, err)
		if p.Next == nil || desc && len(p.Events) > 0 {
			t.Fatalf("150 events looked at, %d found, next %v", len(p.Events), p.Next)
		}
	}
}

func findCostly(t *testing.T, open Open[Finder]) {
	f := opened(t, open)
	attach(t, f, "a", 0)
	for at := range 20 {
		archive(t, f, "a", Block(uint64(at)*100+1, Events("c", at*100, 100)))
	}
	filter := anyTime
	filter.Contains = []string{"käse"}
	if _, err := f.CountEvents(patience(t), filter, 500); !errors.Is(err, store.ErrTooCostly) {
		t.Fatalf("a count of text in 2000 events, 500 allowed: %v", err)
	}
	if n, err := f.CountEvents(patience(t), filter, 2000); err != nil || n != 2000 {
		t.Fatalf("%d, %v", n, err)
	}
	if n, err := f.CountEvents(patience(t), anyTime, 1); err != nil || n != 2000 {
		t.Fatalf("a count of everything looks at events: %d, %v", n, err)
	}
}

func findExpired(t *testing.T, open Open[Finder]) {
	f := opened(t, open)
	attach(t, f, "a", 0)
	var w truth
	for at := range 30 {
		w.give(t, f, "a", Build(uint64(at)*100+1, at%4 == 0, Events("h", at*100, 100)))
	}
	holdFind(t, f, w, store.FindRequest{EventFilter: anyTime, Limit: 700}) // what engines keep in memory is of before
	horizon := Base + 1234*1e6
	_, err := f.ExpireArchive(patience(t), horizon)
	noError(t, err)
	gone := w[5].ID
	w = slices.DeleteFunc(w, func(e store.Event) bool { return e.Time < horizon })
	for range 2 {
		for _, desc := range []bool{false, true} {
			holdFind(t, f, w, store.FindRequest{EventFilter: anyTime, Desc: desc, Limit: 700})
			filter := anyTime
			filter.Categories.In, filter.Users.NotIn = []string{"cat1", "cat2"}, []string{"user7", "user8", "user30"}
			holdFind(t, f, w, store.FindRequest{EventFilter: filter, Desc: desc, Limit: 50, Bodies: true})
		}
		if _, err := f.Event(patience(t), gone); !errors.Is(err, store.ErrUnknown) {
			t.Fatalf("an event behind the horizon: %v", err)
		}
		noError(t, f.Close())
		f = opened(t, open)
	}
}

func findAtOnce(t *testing.T, open Open[Finder]) {
	f := opened(t, open)
	attach(t, f, "a", 0)
	var w truth
	r := rand.New(rand.NewPCG(8, 8))
	for at := uint64(1); at < 3000; {
		list := Events("n", int(at), 1+r.IntN(60))
		w.give(t, f, "a", Block(at, list))
		at += uint64(len(list))
		p, err := f.Find(patience(t), store.FindRequest{EventFilter: anyTime, Desc: true, Limit: 3, Bodies: true})
		noError(t, err)
		sameLines(t, eventLines(p.Events), eventLines(w.find(anyTime, true)[:len(p.Events)]))
		if n, err := f.CountEvents(patience(t), anyTime, 0); err != nil || n != int64(len(w)) {
			t.Fatalf("counted %d of %d, %v", n, len(w), err)
		}
	}
}

func findCancelled(t *testing.T, open Open[Finder]) {
	f := opened(t, open)
	attach(t, f, "a", 0)
	archive(t, f, "a", Block(1, Events("c", 0, 500)))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := f.Find(ctx, store.FindRequest{EventFilter: anyTime, Limit: 1}); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled: %v", err)
	}
}

// findBroad asks for a prefix of more topics than an engine may want to look up one by one.
func findBroad(t *testing.T, open Open[Finder]) {
	f := opened(t, open)
	attach(t, f, "a", 0)
	var w truth
	for k := range 20 {
		list := Events("p", k*150, 150)
		for i := range list {
			list[i].Topic = fmt.Sprintf("org.fedoraproject.%s.wide.t%d", []string{"prod", "stg"}[i%2], k*150+i)
		}
		w.give(t, f, "a", Block(uint64(k)*150+1, list))
	}
	for _, p := range []string{"org.fedoraproject.stg.", "org.", "org.fedoraproject.prod.wide.t17", "nothing"} {
		for _, desc := range []bool{false, true} {
			filter := anyTime
			filter.TopicPrefixes = []string{p}
			holdFind(t, f, w, store.FindRequest{EventFilter: filter, Desc: desc, Limit: 400})
		}
	}
}
