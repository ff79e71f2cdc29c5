package host

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
)

func TestHost_NextHost_GoesOnWhereTheLastOneCommitted(t *testing.T) {
	blocks := sample(rand.New(rand.NewPCG(11, 1)), 10, 50)
	m := newMemory()
	for i := range blocks {
		m.add("s", blocks[i])
		h, stop := runHost(t, Options{Programs: []Program{program(t, "volume")}, Store: m, Feed: feedOf{m}, Limits: quick()})
		if i%2 == 0 {
			waitCaughtUp(t, h, m.ends())
		} else {
			until(t, func() bool { return h.Plugins()[0].PID != 0 }) // stopped in the middle of whatever it does
		}
		stop()
	}
	h, stop := runHost(t, Options{Programs: []Program{program(t, "volume")}, Store: m, Feed: feedOf{m}, Limits: quick()})
	waitCaughtUp(t, h, m.ends())
	stop()
	sameRows(t, m.counters, brute("volume", 1, blocks, nil))
}

func TestHost_ChangedDataVersion_IsBuiltBesideTheOldOneAndPromoted(t *testing.T) {
	blocks := sample(rand.New(rand.NewPCG(12, 1)), 10, 50)
	m := newMemory()
	m.add("s", blocks...)
	h, stop := runHost(t, Options{Programs: []Program{program(t, "volume")}, Store: m, Feed: feedOf{m}, Limits: quick()})
	waitCaughtUp(t, h, m.ends())
	stop()
	upgraded := program(t, "upgraded")
	upgraded.ID = "volume"
	h, stop = runHost(t, Options{Programs: []Program{upgraded}, Store: m, Feed: feedOf{m}, Limits: quick()})
	waitCaughtUp(t, h, m.ends())
	if s := h.Plugins()[0]; s.DataVersion != 2 || len(s.Metrics) != 4 {
		t.Errorf("status %+v", s)
	}
	stop()
	if g := m.gens["volume"]; g != (store.Generations{Serving: 2}) {
		t.Errorf("generations %+v", g)
	}
	want := brute("volume", 2, blocks, nil)
	maps.DeleteFunc(want, func(r row, _ int64) bool { return r.metric == "volume" })
	sameRows(t, m.counters, want)
}

func TestHost_Backlog_OldEventsArePassedOver(t *testing.T) {
	for name, c := range map[string]struct{ after, counted int }{
		"some are recent": {6, 6}, "all are": {0, 0}, "none is": {12, 12},
	} {
		t.Run(name, func(t *testing.T) {
			blocks := sample(rand.New(rand.NewPCG(19, 1)), 12, 50)
			now := time.Unix(1e9, 0)
			for i, b := range blocks {
				for k := range b.Time {
					b.Time[k] = now.Add(-90 * time.Minute).UnixMicro() // too old, and so are some later ones
					if i >= c.after && k%2 == 0 {
						b.Time[k] = now.Add(-30 * time.Minute).UnixMicro()
					}
				}
			}
			m := newMemory()
			m.shortest = 1
			m.add("s", blocks...)
			h, stop := runHost(t, Options{Programs: []Program{program(t, "recent")}, Store: m, Feed: feedOf{m}, Limits: quick(), Now: func() time.Time { return now }})
			waitCaughtUp(t, h, m.ends())
			stop()
			sameRows(t, m.counters, brute("recent", 1, blocks[c.counted:], nil))
		})
	}
}

func TestHost_SeveralStreams_RetiredOnesFirst(t *testing.T) {
	m := newMemory()
	var all []*block.Block
	for i := range 5 {
		blocks := sample(rand.New(rand.NewPCG(13, uint64(i))), 4, 50)
		all = append(all, blocks...)
		name := fmt.Sprint("stream", i)
		m.retired[name] = i < 3
		m.add(name, blocks...)
	}
	h, stop := runHost(t, Options{Programs: []Program{program(t, "volume")}, Store: m, Feed: feedOf{m}, Limits: quick()})
	waitCaughtUp(t, h, m.ends())
	late := sample(rand.New(rand.NewPCG(13, 100)), 4, 50)
	m.add("one more", late...)
	waitCaughtUp(t, h, m.ends())
	stop()
	sameRows(t, m.counters, brute("volume", 1, append(all, late...), nil))
}

func TestHost_OneMetricOfTwoPlugins_TheSecondIsRefused(t *testing.T) {
	m := newMemory()
	m.add("s", sample(rand.New(rand.NewPCG(14, 1)), 2, 50)...)
	m.owners["volume-by-user"] = "another"
	h, _ := runHost(t, Options{Programs: []Program{program(t, "volume")}, Store: m, Feed: feedOf{m}, Limits: quick()})
	until(t, func() bool { return h.Plugins()[0].State == Quarantined })
	if s := h.Plugins()[0]; !strings.Contains(s.Error, "another") || s.PID != 0 {
		t.Errorf("status %+v", s)
	}
	waitCaughtUp(t, h, m.ends()) // nobody waits for it
}

func TestHost_OneIDOfTwoPrograms_TheFirstOneHasIt(t *testing.T) {
	m := newMemory()
	m.add("s", sample(rand.New(rand.NewPCG(15, 1)), 2, 50)...)
	first, second := program(t, "latest"), program(t, "latest")
	first.Builtin, second.Builtin = false, false
	first.ID, second.ID = "slow", "fast"
	h, _ := runHost(t, Options{Programs: []Program{first, second, program(t, "volume")}, Store: m, Feed: feedOf{m}, Limits: quick()})
	until(t, func() bool { return h.Plugins()[1].State == Quarantined })
	waitCaughtUp(t, h, m.ends())
	list := h.Plugins()
	if list[0].State != Running || list[0].ID != "latest" || !strings.Contains(list[1].Error, "belongs to") || list[2].State != Running {
		t.Errorf("status %+v", list)
	}
}

func TestHost_Disabled_IsNotRun(t *testing.T) {
	m := newMemory()
	m.add("s", sample(rand.New(rand.NewPCG(15, 1)), 2, 50)...)
	dropped := program(t, "latest") // of a folder: what it is called there says nothing
	dropped.Builtin, dropped.ID = false, "some-file"
	h, _ := runHost(t, Options{Programs: []Program{program(t, "volume"), dropped}, Store: m, Feed: feedOf{m}, Limits: quick(), Disabled: []string{"volume", "latest"}})
	until(t, func() bool { return h.Plugins()[0].State == Disabled && h.Plugins()[1].State == Disabled })
	waitCaughtUp(t, h, m.ends())
	if len(m.plugins) != 0 {
		t.Errorf("registered: %v", m.plugins)
	}
}

func TestHost_LatestValues_NewestTimeAndIDWin(t *testing.T) {
	blocks := sample(rand.New(rand.NewPCG(16, 1)), 10, 100)
	m := newMemory()
	m.shortest = 1
	m.add("s", blocks...)
	h, stop := runHost(t, Options{Programs: []Program{program(t, "latest")}, Store: m, Feed: feedOf{m}, Limits: quick()})
	waitCaughtUp(t, h, m.ends())
	stop()
	want := latestOf(t, blocks)
	if len(m.puts) != len(want) || len(m.dead) > 0 {
		t.Errorf("%d values, want %d; dead %v", len(m.puts), len(want), m.dead)
	}
	for k, id := range want {
		p := m.puts[putRow{1, "last-messages", k}]
		if p.ID != id || string(p.Value) != fmt.Sprintf(`{"id":%q}`, id) {
			t.Errorf("%q: %s %s, want %s", k, p.ID, p.Value, id)
		}
	}
}

// latestOf gives the id of the newest event per category and topic.
func latestOf(t *testing.T, blocks []*block.Block) map[string]string {
	type newest struct {
		time int64
		id   string
	}
	best := map[string]newest{}
	for _, b := range blocks {
		ids, err := b.IDs()
		if err != nil {
			t.Fatal(err)
		}
		for i, id := range ids {
			k := b.Names[b.CategoryOf(i)] + "\x00" + b.Names[b.Topic[i]]
			if o, ok := best[k]; !ok || b.Time[i] > o.time || b.Time[i] == o.time && id > o.id {
				best[k] = newest{b.Time[i], id}
			}
		}
	}
	out := map[string]string{}
	for k, n := range best {
		out[k] = n.id
	}
	return out
}

// pairRows counts what the plugin "pairs" does, the plain way.
func pairRows(t *testing.T, blocks []*block.Block) map[row]int64 {
	out := map[row]int64{}
	for _, b := range blocks {
		bodies, err := b.Bodies()
		if err != nil {
			t.Fatal(err)
		}
		for i := range b.Time {
			topic := b.Names[b.Topic[i]]
			if !strings.HasPrefix(topic, "org.x.prod.cat1.") && !strings.HasPrefix(topic, "org.x.prod.cat3") {
				continue
			}
			var n int64
			text := string(bodies[i])
			if _, err := fmt.Sscanf(text[strings.LastIndex(text, ":")+1:], "%d", &n); err != nil {
				t.Fatal(err)
			}
			for _, every := range []time.Duration{4 * time.Second, 6 * time.Second, time.Hour} {
				bucket := b.Time[i] / every.Microseconds()
				if b.Time[i]%every.Microseconds() < 0 {
					bucket--
				}
				for _, u := range b.UsersOf(i) {
					out[row{"topics-and-users-pairs", 1, "topics-and-users-pairs", every, bucket, topic + "\x00" + b.Names[u]}] += n
				}
			}
		}
	}
	return out
}

func TestHost_TopicsBodiesAndSeveralDimensions(t *testing.T) {
	blocks := sample(rand.New(rand.NewPCG(17, 1)), 10, 100)
	m := newMemory()
	m.add("s", blocks...)
	p := program(t, "pairs")
	p.Builtin = false
	h, stop := runHost(t, Options{Programs: []Program{p}, Store: m, Feed: feedOf{m}, Limits: quick()})
	waitCaughtUp(t, h, m.ends())
	stop()
	want := pairRows(t, blocks)
	for k := range m.counters {
		if m.counters[k] == 0 {
			delete(m.counters, k) // 0 was added: nothing to see
		}
	}
	maps.DeleteFunc(want, func(_ row, n int64) bool { return n == 0 })
	sameRows(t, m.counters, want)
	if len(m.dead) > 0 {
		t.Errorf("dead letters %v", m.dead)
	}
}

func TestRecompute_GivesWhatTheHostCommits(t *testing.T) {
	blocks := sample(rand.New(rand.NewPCG(18, 1)), 10, 100)
	h, _ := runHost(t, Options{Limits: quick(), Store: newMemory(), Feed: feedOf{newMemory()}})
	all := func(yield func(*block.Block, error) bool) {
		for _, b := range blocks {
			if !yield(b, nil) {
				return
			}
		}
	}
	got, puts := map[row]int64{}, map[string]string{}
	sink := Sink{
		Row: func(metric string, interval time.Duration, start int64, key string, n int64) error {
			got[row{"volume", 1, metric, interval, start / int64(interval/time.Second), key}] += n
			return nil
		},
		Put: func(p store.Put) error { puts[p.Key] = p.ID; return nil },
	}
	p, err := h.Recompute(t.Context(), program(t, "volume"), all, sink)
	if err != nil || p.ID != "volume" || p.Fingerprint == "" {
		t.Fatalf("%+v %v", p, err)
	}
	sameRows(t, got, brute("volume", 1, blocks, nil))
	if _, err := h.Recompute(t.Context(), program(t, "latest"), all, sink); err != nil || !maps.Equal(puts, latestOf(t, blocks)) {
		t.Fatalf("latest: %v %v", puts, err)
	}
	if _, frames, err := h.Definition(t.Context(), program(t, "latest")); err != nil || !frames {
		t.Errorf("definition: %v %v", frames, err)
	}

	broken := func(yield func(*block.Block, error) bool) {
		_ = yield(blocks[0], nil) && yield(nil, errors.New("disk is gone"))
	}
	if _, err := h.Recompute(t.Context(), program(t, "volume"), broken, sink); err == nil || !strings.Contains(err.Error(), "disk is gone") {
		t.Errorf("broken archive: %v", err)
	}
	blocks = withTopics(2, 3, 100, map[uint64]string{150: "exit", 151: "exit", 152: "exit"})
	if _, err := h.Recompute(t.Context(), program(t, "moody"), all, sink); err == nil || !strings.Contains(err.Error(), "over events") {
		t.Errorf("poison: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Recompute(ended, program(t, "volume"), all, sink); err == nil {
		t.Error("a recount that was called off gives an answer")
	}
}
