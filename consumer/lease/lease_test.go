package lease

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/statscache/statscache/store"
)

// table is a store of leases in memory.
type table struct {
	mu   sync.Mutex
	rows map[string]store.Lease
	away bool
}

var errAway = errors.New("away")

func (t *table) ListLeases(_ context.Context, prefix string) ([]store.Lease, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.away {
		return nil, errAway
	}
	var out []store.Lease
	for name, l := range t.rows {
		if strings.HasPrefix(name, prefix) {
			out = append(out, l)
		}
	}
	return out, nil
}

func (t *table) SwapLease(_ context.Context, l store.Lease) (store.Lease, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.away {
		return l, errAway
	}
	if t.rows[l.Name].Beat != l.Beat {
		return l, store.ErrFenced
	}
	l.Beat++
	t.rows[l.Name] = l
	return l, nil
}

func (t *table) DropLease(_ context.Context, l store.Lease) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now, ok := t.rows[l.Name]; ok && now.Beat != l.Beat {
		return store.ErrFenced
	}
	delete(t.rows, l.Name)
	return nil
}

func (t *table) owner(name string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.rows[name].Owner
}

// world is some processes over one table with one clock, of which each sees only differences.
type world struct {
	t     *testing.T
	table *table
	now   time.Time
	nodes []*process
}

type process struct {
	*Keeper
	works map[string][]string // streams by plugin, all that there are
	lanes map[string]bool     // what is worked on
	stood bool                // dead or stopped
}

func newWorld(t *testing.T) *world {
	return &world{t: t, table: &table{rows: map[string]store.Lease{}}, now: time.Unix(1e9, 0)}
}

func (w *world) join(id string, works map[string][]string) *process {
	p := &process{works: works, lanes: map[string]bool{}}
	p.Keeper = NewKeeper(Options{Store: w.table, Node: id, Compute: len(works) > 0, Now: func() time.Time { return w.now }})
	if err := p.Join(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.nodes = append(w.nodes, p)
	return p
}

// pass lets seconds pass. Every half of one all processes ask what is theirs; every one they look.
func (w *world) pass(seconds int) {
	w.t.Helper()
	for range seconds {
		for range 2 {
			w.now = w.now.Add(time.Second / 2)
			for _, p := range w.nodes {
				if !p.stood {
					p.ask()
				}
			}
			w.single()
		}
		for _, p := range w.nodes {
			if !p.stood {
				if err := p.round(w.t.Context()); err != nil && !errors.Is(err, errAway) {
					w.t.Fatal(err)
				}
			}
		}
	}
}

func (p *process) ask() {
	clear(p.lanes)
	for plugin, streams := range p.works {
		for _, s := range p.Mine(plugin, streams) {
			p.lanes[plugin+"/"+s] = true
		}
	}
}

// single checks that no work is done by two live processes.
func (w *world) single() {
	w.t.Helper()
	by := map[string]string{}
	for _, p := range w.nodes {
		for lane := range p.lanes {
			if p.stood {
				continue
			}
			if other, ok := by[lane]; ok {
				w.t.Fatalf("%s is worked on by %s and %s", lane, other, p.Node)
			}
			by[lane] = p.Node
		}
	}
}

func (w *world) shares(want ...int) {
	w.t.Helper()
	var got []int
	for _, p := range w.nodes {
		if !p.stood {
			got = append(got, len(p.lanes))
		}
	}
	if !slices.Equal(got, want) {
		w.t.Fatalf("shares %v, want %v", got, want)
	}
}

func work(plugins int, streams ...string) map[string][]string {
	out := map[string][]string{}
	for i := range plugins {
		out[fmt.Sprintf("p%d", i)] = streams
	}
	return out
}

func TestShare_EverybodyHasTheSame_AndItMovesWithWhoIsThere(t *testing.T) {
	w := newWorld(t)
	a := w.join("a", work(4, "s", "t"))
	w.pass(3)
	w.shares(8)
	b := w.join("b", work(4, "s", "t"))
	w.pass(6)
	w.shares(4, 4)
	w.join("c", work(4, "s", "t"))
	w.pass(8)
	w.shares(3, 3, 2)
	if err := b.Close(t.Context()); err != nil { // goes in order
		t.Fatal(err)
	}
	b.stood = true
	w.pass(3)
	w.shares(4, 4)
	a.stood = true // dies
	w.pass(7)
	w.shares(4)
	w.pass(5)
	w.shares(8)
}

func TestShare_WorkThatOnlyOneCanDo_IsDoneByIt(t *testing.T) {
	w := newWorld(t)
	w.join("a", work(6, "s"))
	w.join("b", work(1, "s"))
	w.pass(12)
	total := len(w.nodes[0].lanes) + len(w.nodes[1].lanes)
	if total != 6 || len(w.nodes[0].lanes) < 5 {
		t.Fatalf("%d and %d of 6", len(w.nodes[0].lanes), len(w.nodes[1].lanes))
	}
	before := len(w.nodes[0].lanes)
	w.pass(20) // and it does not go to and fro
	w.shares(before, 6-before)
}

func TestShare_WhatIsDoneGoes(t *testing.T) {
	w := newWorld(t)
	a := w.join("a", work(2, "s", "t"))
	w.pass(3)
	w.shares(4)
	a.works = work(2, "t")
	w.pass(3)
	w.shares(2)
	if o := w.table.rows["compute/p0/s"]; o.Beat != 0 {
		t.Fatalf("a lease of work that is done is left: %+v", o)
	}
	a.works = map[string][]string{"p0": {"t"}, "p1": nil} // p1 is disabled
	w.pass(3)
	w.shares(1)
}

func TestShare_WhatADeadProcessHadFinishedGoes(t *testing.T) {
	w := newWorld(t)
	a := w.join("a", work(1, "s"))
	w.pass(3)
	w.shares(1)
	w.join("b", work(1, "t"))
	a.stood = true
	w.pass(10)
	w.shares(1)
	if len(w.table.rows) != 3 || w.table.owner("compute/p0/t") != "b" {
		t.Fatalf("%+v", w.table.rows)
	}
}

func TestShare_FencedWorkIsPutDown(t *testing.T) {
	w := newWorld(t)
	a := w.join("a", work(1, "s"))
	w.pass(3)
	w.shares(1)
	a.Lost("p0", "s")
	if got := a.Mine("p0", []string{"s"}); len(got) != 0 {
		t.Fatalf("still %v", got)
	}
	w.pass(3)
	w.shares(1) // nobody else wants it
}

func TestKeeper_TimeCountsOnlyWhileItWatches(t *testing.T) {
	w := newWorld(t)
	b := w.join("b", nil) // looks before the owner beats
	owner := w.join("owner", nil)
	if err := owner.Hold(t.Context(), StreamLease("s")); err != nil {
		t.Fatal(err)
	}
	w.pass(3)
	w.table.away = true // ten minutes: nobody could beat, nobody could look
	w.pass(600)
	w.table.away = false
	w.pass(1)
	if b.Silent(StreamLease("s"), 0) || w.table.owner("stream/s") != "owner" {
		t.Fatal("the owner is thought dead though it had no chance to beat")
	}
	w.pass(2)
	owner.stood = true
	w.pass(5)
	if b.Silent(StreamLease("s"), 0) {
		t.Fatal("too early")
	}
	w.pass(5)
	if !b.Silent(StreamLease("s"), time.Hour) {
		t.Fatal("ten seconds without a beat")
	}
	owner.stood = false // stopped rather than dead: it goes on with what it has
	w.pass(2)
	if b.Silent(StreamLease("s"), 0) {
		t.Fatal("it beats again")
	}
}

func TestKeeper_AStoppedWatcherDoesNotTakeEverything(t *testing.T) {
	w := newWorld(t)
	a := w.join("a", work(2, "s"))
	w.pass(3)
	b := w.join("b", work(2, "s"))
	w.pass(5)
	w.shares(1, 1)
	b.stood = true
	w.now = w.now.Add(time.Second)
	for range 2 { // a goes on alone, shorter than the time to live
		w.now = w.now.Add(time.Second)
		a.ask()
		if err := a.round(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w.now = w.now.Add(time.Hour) // in which a was stopped, too
	b.stood = false
	w.pass(3)
	w.shares(1, 1)
}

func TestShare_WorkIsGivenAwayOnlyWhenItIsPutDown(t *testing.T) {
	w := newWorld(t)
	a := w.join("a", work(2, "s"))
	w.pass(3)
	w.shares(2)
	b := w.join("b", work(2, "s"))
	b.ask()
	if err := b.Join(t.Context()); err != nil { // says what it has plugins for
		t.Fatal(err)
	}
	b.stood = true // and does nothing; a sees it and makes room
	owners := func() string { return w.table.owner("compute/p0/s") + w.table.owner("compute/p1/s") }
	round := func() {
		t.Helper()
		w.now = w.now.Add(time.Second / 2)
		if err := a.round(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	round()
	for range 5 { // as long as nobody asks, nobody has put anything down
		round()
	}
	a.ask()
	if len(a.lanes) != 1 {
		t.Fatalf("%d lanes are to be kept", len(a.lanes))
	}
	round()
	if owners() != "aa" {
		t.Fatalf("given away while it is still being put down: %q", owners())
	}
	a.ask()
	round()
	if owners() != "a" {
		t.Fatalf("owners %q, want one to be free", owners())
	}
}

func TestKeeper_GivenBackStreamsAreLeftAloneForAWhile(t *testing.T) {
	w := newWorld(t)
	a, b := w.join("a", nil), w.join("b", nil)
	if err := a.Hold(t.Context(), StreamLease("s")); err != nil {
		t.Fatal(err)
	}
	w.pass(2)
	if err := a.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.stood = true
	w.pass(20)
	if b.Silent(StreamLease("s"), time.Minute) {
		t.Fatal("its owner will come back")
	}
	w.pass(60)
	if !b.Silent(StreamLease("s"), time.Minute) {
		t.Fatal("its owner does not come back")
	}
	if b.Silent(StreamLease("unknown"), time.Minute) {
		t.Fatal("a stream without a lease is given time")
	}
	w.pass(9)
	if !b.Silent(StreamLease("unknown"), time.Minute) {
		t.Fatal("a stream without a lease is nobody's")
	}
}

func TestKeeper_OneOfManyHasIt(t *testing.T) {
	w := newWorld(t)
	a, b := w.join("a", nil), w.join("b", nil)
	w.pass(1)
	for range 2 {
		x, err1 := a.TryHold(t.Context(), "sweep")
		y, err2 := b.TryHold(t.Context(), "sweep")
		if !x || y || err1 != nil || err2 != nil {
			t.Fatalf("a %v, b %v, %v, %v", x, y, err1, err2)
		}
		w.pass(1)
	}
	a.stood = true
	w.pass(10)
	if ok, err := b.TryHold(t.Context(), "sweep"); !ok || err != nil {
		t.Fatalf("b has not taken it over: %v", err)
	}
	a.stood = false
	w.pass(1)
	if ok, err := a.TryHold(t.Context(), "sweep"); ok || err != nil {
		t.Fatalf("a has it still: %v", err)
	}
}

func TestKeeper_SaysWhoIsThere(t *testing.T) {
	w := newWorld(t)
	a := w.join("a", work(1, "s"))
	a.About = func() json.RawMessage { return []byte(`{"host":"h"}`) }
	b := w.join("b", nil)
	w.pass(4)
	nodes := b.Nodes()
	if len(nodes) != 2 || !nodes[0].Alive || !nodes[0].Compute || string(nodes[0].About) != `{"host":"h"}` || nodes[1].Compute {
		t.Fatalf("%+v", nodes)
	}
	a.stood = true
	w.pass(10)
	if nodes = b.Nodes(); nodes[0].Alive || !nodes[1].Alive {
		t.Fatalf("%+v", nodes)
	}
	if l := b.Leases(); len(l) != 1 || l[0].Owner != "a" || l[0].Alive {
		t.Fatalf("%+v", l)
	}
	w.pass(300)
	if nodes = b.Nodes(); len(nodes) != 1 || nodes[0].ID != "b" || len(w.table.rows) != 1 {
		t.Fatalf("the dead are never forgotten: %+v", nodes)
	}
}
