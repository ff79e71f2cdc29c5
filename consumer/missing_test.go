package consumer

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/api"
	"github.com/statscache/statscache/consumer/gaps"
	"github.com/statscache/statscache/consumer/gaps/counter"
	"github.com/statscache/statscache/consumer/lease"
	"github.com/statscache/statscache/store"
)

func noted(t *testing.T, dir string, begin, end int64, down ...string) *gaps.Ledger {
	t.Helper()
	l, err := gaps.Open(filepath.Join(dir, gapsFile))
	if err == nil {
		err = l.Begin(begin)
	}
	if err == nil {
		err = l.Note(end, down)
	}
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func told(g api.Gaps) string {
	var parts []string
	for _, x := range g.Gaps {
		parts = append(parts, x.Kind+" "+x.From.Format("15:04:05")+".."+x.To.Format("15:04:05")+" "+x.Reason)
	}
	for _, x := range g.Backfilling {
		parts = append(parts, "fetching "+x.From.Format("15:04:05")+".."+x.To.Format("15:04:05"))
	}
	return strings.Join(parts, "; ")
}

// TestGaps_OfADataDir: what the file says holds whoever reads it; what was being fetched when a daemon was killed isn't
// fetched any more, and one that runs listens.
func TestGaps_OfADataDir(t *testing.T) {
	c := loaded(t, t.TempDir(), "")
	l := noted(t, c.DataDir, 1000, 1010, "a at b")
	if err := l.Fetch(&gaps.Span{From: 1001, To: 1004}); err != nil {
		t.Fatal(err)
	}
	want := func(what, text string) {
		t.Helper()
		g, err := KeptGaps(c, time.Unix(1100, 5e8))
		if err != nil || told(g) != text {
			t.Errorf("%s: %s (%v), want %s", what, told(g), err, text)
		}
	}
	want("killed", "down 00:16:40..00:16:50 endpoint a at b was down; stopped 00:16:50..00:18:20 no statscache listened")
	lock, err := lockDir(c.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	want("running", "down 00:16:40..00:16:50 endpoint a at b was down; fetching 00:16:41..00:16:44")
	if err := lock.release(); err != nil {
		t.Fatal(err)
	}
}

// TestGaps_OfACluster: a process without a ledger tells what those know that consume, and that none of them is there.
func TestGaps_OfACluster(t *testing.T) {
	now := time.Now()
	s := newSharedArchive()
	clock := now
	k := lease.NewKeeper(lease.Options{Store: s, Node: "me", TTL: 4 * time.Second, Now: func() time.Time { return clock }})
	c := &cluster{sharedStore: s, Keeper: k}
	row := func(node, role string, beat uint64, g *api.Gaps) {
		about, err := json.Marshal(map[string]any{"about": nodeAbout{Roles: []string{role}, Gaps: g}})
		if err != nil {
			t.Fatal(err)
		}
		s.leases["node/"+node] = store.Lease{Name: "node/" + node, Owner: node, Beat: beat, Info: string(about)}
	}
	look := func() {
		t.Helper()
		if err := k.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	at := func(sec int64) time.Time { return time.Unix(sec, 0).UTC() }
	row("a", "consume", 1, &api.Gaps{Gaps: []api.Gap{{From: at(20), To: at(30), Kind: api.GapDown, Reason: "x"}}, Backfilling: []api.Span{{From: at(21), To: at(22)}}})
	row("b", "consume", 1, &api.Gaps{Gaps: []api.Gap{{From: at(10), To: at(12), Kind: api.GapLost, Reason: "y", Missing: 3}}})
	row("c", "serve", 1, nil)
	row("z", "consume", 1, &api.Gaps{Gaps: []api.Gap{{From: at(20), To: at(30), Kind: api.GapDown, Reason: "x"}}}) // what a told before it was started again
	look()
	if got, want := told(c.gaps(api.Gaps{}, now)), "lost 00:00:10..00:00:12 b: y; down 00:00:20..00:00:30 a: x; fetching 00:00:21..00:00:22"; got != want {
		t.Errorf("two that consume: %s\nwant %s", got, want)
	}
	mine := api.Gaps{Gaps: []api.Gap{{From: at(20), To: at(31), Kind: api.GapDown, Reason: "x"}}}
	if got, want := told(c.gaps(mine, now)), "lost 00:00:10..00:00:12 b: y; down 00:00:20..00:00:31 x; fetching 00:00:21..00:00:22"; got != want {
		t.Errorf("a process whose former life is remembered: %s\nwant %s", got, want)
	}
	for range 8 { // both fall silent
		clock = clock.Add(time.Second)
		row("c", "serve", s.leases["node/c"].Beat+1, nil)
		look()
	}
	got := c.gaps(api.Gaps{}, now)
	if n := len(got.Gaps); n != 3 || got.Gaps[2].Kind != api.GapStopped || now.Sub(got.Gaps[2].From) != 8*time.Second || got.Backfilling != nil {
		t.Errorf("none that consumes: %s", told(got))
	}
}

func TestGaps_WhatIsSharedIsBounded(t *testing.T) {
	d := &Daemon{now: func() time.Time { return time.Unix(1e6, 0) }}
	if d.shared() != nil {
		t.Error("a process that doesn't listen shares gaps")
	}
	l := noted(t, t.TempDir(), 0, 1)
	for i := range int64(sharedGaps + 10) {
		if err := l.Note(i*100+100, []string{fmt.Sprint("endpoint ", i)}); err != nil {
			t.Fatal(err)
		}
	}
	d.gaps.Store(l)
	known := toldGaps(l, d.now())
	g := d.shared()
	if len(known.Gaps) <= sharedGaps || len(g.Gaps) != sharedGaps || !g.Gaps[0].From.Equal(known.Gaps[0].From) || g.Gaps[sharedGaps-1] != known.Gaps[len(known.Gaps)-1] {
		t.Errorf("of %d gaps %d are shared: %s", len(known.Gaps), len(g.Gaps), told(*g))
	}
}

// TestIngest_CountsWhatPublishersNumber: what was refused has come; what is left out is missing; and it can be asked for
// while the inbox takes nothing.
func TestIngest_CountsWhatPublishersNumber(t *testing.T) {
	in := newFakeInbox()
	g, ctx, cancel := startIngest(t, in)
	number := func(from, to int) (batch [][][]byte) {
		for i := from; i <= to; i++ {
			topic := "org.x.prod.a.b"
			batch = append(batch, [][]byte{[]byte(topic), fmt.Appendf(nil, `{"i":%d,"topic":%q,"msg_id":"2026-%d","timestamp":%d,"msg":{}}`, i, topic, i, 1000+i)})
		}
		return batch
	}
	refused := [][]byte{[]byte("org.x.prod.a.b"), []byte(`{"i":41`)}
	for _, batch := range [][][][]byte{number(1, 40), {refused}, number(42, 50), number(53, 60)} {
		if err := g.Deliver(ctx, peer("ep"), batch); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := g.flush(ctx); err != nil {
		t.Fatal(err)
	}
	in.set(errors.New("disk full"))
	for i := range queuedBlocks + 10 { // more than waits between the two
		if err := g.Deliver(ctx, peer("ep"), number(100+2000*i, 1400+2000*i)); err != nil {
			t.Fatal(err)
		}
	}
	where := counter.Address{Name: "ep", Address: "host:1"}
	reports := g.counters.Look([]counter.Address{where}, true)
	if len(reports) != 1 || len(reports[0].Lost) == 0 || reports[0].Lost[0] != (counter.Loss{From: 1050, To: 1054, Missing: 2}) {
		t.Errorf("%+v", reports)
	}
	cancel() // what waits is given up
}
