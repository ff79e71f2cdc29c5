package host

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
)

// division is who works on what, as a test wants it.
type division struct {
	m *memory

	mu    sync.Mutex
	owner map[string]int // process by stream
	lost  int
	looks [2]int // by process: at what it is to work on
}

// seat is one process's place in a division.
type seat struct {
	*division
	process int
}

func (s seat) Mine(_ string, streams []string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks[s.process]++
	var out []string
	for _, x := range streams {
		if o, ok := s.owner[x]; ok && (o == s.process || o < 0) {
			out = append(out, x)
		}
	}
	return out
}

func (s seat) Lost(string, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost++
}

func (s seat) GenerationsOf(_ context.Context, plugin, fingerprint string) (store.Generations, error) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	g := s.m.gens[plugin]
	switch {
	case s.m.plugins[plugin].Fingerprint != fingerprint:
		return store.Generations{}, nil
	case g.Building != 0:
		return store.Generations{Building: g.Building}, nil
	}
	return g, nil
}

// give has a process work on a stream; below 0 all do.
func (d *division) give(stream string, process int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.owner[stream] = process
}

func (d *division) losses() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lost
}

func (d *division) looked() [2]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.looks
}

// twoHosts runs a plugin in two processes' places.
func twoHosts(t *testing.T, m *memory, name string) (*division, []*Host, func()) {
	d := &division{m: m, owner: map[string]int{}}
	var hosts []*Host
	var stops []func()
	for i := range 2 {
		p := program(t, name)
		p.ID = "volume"
		h, stop := runHost(t, Options{Programs: []Program{p}, Store: m, Feed: feedOf{m}, Limits: quick(), Share: seat{d, i}})
		hosts, stops = append(hosts, h), append(stops, stop)
	}
	return d, hosts, func() {
		for _, stop := range stops {
			stop()
		}
	}
}

func TestShare_StreamsGoToAndFro_EveryEventCountsOnce(t *testing.T) {
	m := newMemory()
	d, hosts, stop := twoHosts(t, m, "volume")
	r := rand.New(rand.NewPCG(21, 1))
	var all []*block.Block
	for i := range 4 {
		name := fmt.Sprint("stream", i)
		blocks := sample(rand.New(rand.NewPCG(21, uint64(10+i))), 12, 50)
		all = append(all, blocks...)
		m.mu.Lock()
		m.retired[name] = i == 0
		m.mu.Unlock()
		m.add(name, blocks...)
	}
	for range 30 {
		d.give(fmt.Sprint("stream", r.IntN(4)), r.IntN(2))
		time.Sleep(time.Duration(r.IntN(8)) * time.Millisecond) // the two are to meet at any moment of their work
	}
	for i := range 4 {
		d.give(fmt.Sprint("stream", i), i%2)
	}
	for _, h := range hosts { // each knows what the other one has done, too
		waitCaughtUp(t, h, m.ends())
		if s := h.Plugins()[0]; s.State == Quarantined || s.Lag != 0 {
			t.Errorf("%+v", s)
		}
	}
	stop()
	sameRows(t, m.counters, brute("volume", 1, all, nil))
}

func TestShare_BothWorkOnAStream_OneIsFencedAndStaysWell(t *testing.T) {
	m := newMemory()
	d, hosts, stop := twoHosts(t, m, "volume")
	d.give("s", -1)
	blocks := sample(rand.New(rand.NewPCG(22, 1)), 40, 50)
	for i := range blocks {
		m.add("s", blocks[i])
		time.Sleep(time.Millisecond) // so that both have a chance to be the one
	}
	until(t, func() bool { return d.losses() > 0 })
	d.give("s", 0)
	for _, h := range hosts {
		waitCaughtUp(t, h, m.ends())
		if s := h.Plugins()[0]; s.State == Quarantined || s.DeadLetters > 0 {
			t.Errorf("%+v", s)
		}
	}
	stop()
	sameRows(t, m.counters, brute("volume", 1, blocks, nil))
}

func TestShare_AGenerationIsPromotedWhenAllProcessesAreThrough(t *testing.T) {
	m := newMemory()
	var all []*block.Block
	for i := range 2 {
		blocks := sample(rand.New(rand.NewPCG(23, uint64(i))), 8, 50)
		all = append(all, blocks...)
		m.add(fmt.Sprint("stream", i), blocks...)
	}
	h, stopFirst := runHost(t, Options{Programs: []Program{program(t, "volume")}, Store: m, Feed: feedOf{m}, Limits: quick()})
	waitCaughtUp(t, h, m.ends())
	stopFirst()
	d, hosts, stop := twoHosts(t, m, "upgraded")
	d.give("stream0", 0) // and nobody works on the other one yet
	until(t, func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.pos[store.CheckpointKey{Plugin: "volume", Generation: 2, Stream: "stream0"}] == m.end("stream0")
	})
	before := d.looked()
	until(t, func() bool { // ten looks of each, each with a chance to promote
		now := d.looked()
		return now[0] >= before[0]+10 && now[1] >= before[1]+10
	})
	m.mu.Lock()
	if g := m.gens["volume"]; g.Building != 2 {
		t.Errorf("promoted before all streams were counted: %+v", g)
	}
	m.mu.Unlock()
	d.give("stream1", 1)
	for _, h := range hosts {
		waitCaughtUp(t, h, m.ends())
	}
	stop()
	if g := m.gens["volume"]; g != (store.Generations{Serving: 2}) {
		t.Errorf("generations %+v", g)
	}
	want := brute("volume", 2, all, nil)
	maps.DeleteFunc(want, func(r row, _ int64) bool { return r.metric == "volume" })
	sameRows(t, m.counters, want)
}
