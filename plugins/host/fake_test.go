package host

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
)

// memory is a store and a feed in memory. It adds every commit up once and remembers what could go wrong.
type memory struct {
	mu       sync.Mutex
	changed  chan struct{}
	blocks   map[string][]*block.Block
	retired  map[string]bool
	order    []string
	plugins  map[string]store.Plugin
	gens     map[string]store.Generations
	owners   map[string]string // metric id to plugin
	pos      map[store.CheckpointKey]uint64
	epoch    map[store.CheckpointKey]int
	series   map[string]map[string]uint32
	keys     map[string][]string
	counters map[row]int64
	puts     map[putRow]store.Put
	dead     []store.StreamDeadLetter
	fail     error // of every call, while set
	odd      error // of the next commit, which is applied nevertheless
	commits  int
	shortest int  // blocks per read, 0 for all
	blind    bool // commits are not added up
}

type row struct {
	plugin     string
	generation uint32
	metric     string
	interval   time.Duration
	bucket     int64
	key        string
}

type putRow struct {
	generation  uint32
	metric, key string
}

func newMemory() *memory {
	return &memory{
		changed: make(chan struct{}), blocks: map[string][]*block.Block{}, retired: map[string]bool{},
		plugins: map[string]store.Plugin{}, gens: map[string]store.Generations{}, owners: map[string]string{},
		pos: map[store.CheckpointKey]uint64{}, epoch: map[store.CheckpointKey]int{}, series: map[string]map[string]uint32{},
		keys: map[string][]string{}, counters: map[row]int64{}, puts: map[putRow]store.Put{},
	}
}

func (m *memory) add(stream string, blocks ...*block.Block) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.blocks[stream]; !ok {
		m.order = append(m.order, stream)
	}
	m.blocks[stream] = append(m.blocks[stream], blocks...)
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *memory) end(stream string) uint64 {
	if l := m.blocks[stream]; len(l) > 0 {
		return l[len(l)-1].Upto
	}
	return 0
}

func (m *memory) ends() map[string]uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string]uint64{}
	for s := range m.blocks {
		out[s] = m.end(s)
	}
	return out
}

func (m *memory) setFail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}

// feedOf is the memory as a feed: its Streams is another one than the store's.
type feedOf struct{ *memory }

func (f feedOf) Streams(context.Context) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var first, then []string
	for _, s := range f.order {
		if f.retired[s] {
			first = append(first, s)
		} else {
			then = append(then, s)
		}
	}
	return append(first, then...), nil
}

func (f feedOf) Next(ctx context.Context, stream string, after uint64, bodies bool) ([]*block.Block, uint64, error) {
	for {
		f.mu.Lock()
		var out []*block.Block
		upto := after
		for _, b := range f.blocks[stream] {
			if b.Upto > after && (f.shortest == 0 || len(out) < f.shortest) {
				if !bodies {
					cut := *b
					cut.Frames = nil
					b = &cut
				}
				if b.Len() > 0 {
					out = append(out, b)
				}
				upto = b.Upto
			}
		}
		changed := f.changed
		f.mu.Unlock()
		if upto > after {
			return out, upto, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
}

func (m *memory) Read(ctx context.Context, r store.ReadRequest) ([]*block.Block, uint64, error) {
	m.mu.Lock()
	end := m.end(r.Stream)
	m.mu.Unlock()
	if r.After >= end {
		return nil, r.After, nil
	}
	return feedOf{m}.Next(ctx, r.Stream, r.After, r.Bodies)
}

func (m *memory) Streams(context.Context) ([]store.Stream, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []store.Stream
	for s := range m.blocks {
		out = append(out, store.Stream{ID: s, ArchivedTo: m.end(s), Retired: m.retired[s]})
	}
	return out, m.fail
}

func (m *memory) Register(_ context.Context, p store.Plugin) (store.Generations, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return store.Generations{}, m.fail
	}
	for _, x := range p.Metrics {
		if o := m.owners[x.ID]; o != "" && o != p.ID {
			return store.Generations{}, fmt.Errorf("metric %s of plugin %s belongs to plugin %s", x.ID, p.ID, o)
		}
	}
	for _, x := range p.Metrics {
		m.owners[x.ID] = p.ID
	}
	old, known := m.plugins[p.ID]
	g := m.gens[p.ID]
	switch {
	case !known:
		g = store.Generations{Serving: 1}
	case old.Fingerprint != p.Fingerprint:
		g.Building = max(g.Serving, g.Building) + 1
	}
	m.plugins[p.ID], m.gens[p.ID] = p, g
	return g, nil
}

func (m *memory) Promote(_ context.Context, plugin string, generation uint32) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gens[plugin].Serving == generation {
		return nil // another process was faster
	}
	if m.gens[plugin].Building != generation {
		return errors.New("not the building generation")
	}
	m.gens[plugin] = store.Generations{Serving: generation}
	maps.DeleteFunc(m.counters, func(r row, _ int64) bool { return r.plugin == plugin && r.generation != generation })
	return m.fail
}

func (m *memory) Plugins(context.Context) ([]store.Plugin, error)       { return nil, nil }
func (m *memory) Metrics(context.Context) ([]store.ServedMetric, error) { return nil, nil }
func (m *memory) Version(string) uint64                                 { return 0 }

func (m *memory) Positions(_ context.Context, plugin string, generation uint32) ([]store.Position, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []store.Position
	for k, p := range m.pos {
		if k.Plugin == plugin && k.Generation == generation {
			out = append(out, store.Position{Stream: k.Stream, Pos: p, Intent: p})
		}
	}
	return out, m.fail
}

func (m *memory) Checkpoint(_ context.Context, key store.CheckpointKey) (store.Checkpoint, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	m.epoch[key]++
	m.pos[key] += 0
	return &memoryCheckpoint{m: m, key: key, epoch: m.epoch[key]}, nil
}

type memoryCheckpoint struct {
	m     *memory
	key   store.CheckpointKey
	epoch int
}

func (c *memoryCheckpoint) Pos() uint64 {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	return c.m.pos[c.key]
}

func (c *memoryCheckpoint) Series(metric, key string) (uint32, error) {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	if c.m.series[metric] == nil {
		c.m.series[metric] = map[string]uint32{}
	}
	n, ok := c.m.series[metric][key]
	if !ok {
		n = uint32(len(c.m.keys[metric]))
		c.m.series[metric][key] = n
		c.m.keys[metric] = append(c.m.keys[metric], key)
	}
	return n, nil
}

func (c *memoryCheckpoint) Commit(_ context.Context, x *store.Commit) error {
	m := c.m
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.fail != nil:
		return m.fail
	case m.epoch[c.key] != c.epoch:
		return store.ErrFenced
	case x.To < m.pos[c.key]:
		return errors.New("commit goes back")
	case x.To == m.pos[c.key]:
		return nil
	}
	for _, d := range x.Counters {
		if m.blind {
			break
		}
		if !slices.IsSortedFunc(d.Cells, func(a, b store.Delta) int { return int(min(1, max(-1, int64(a.Cell-b.Cell)))) }) {
			return errors.New("cells are not sorted")
		}
		for i, cell := range d.Cells {
			if i > 0 && d.Cells[i-1].Cell == cell.Cell {
				return errors.New("a cell is there twice")
			}
			m.counters[row{c.key.Plugin, c.key.Generation, d.Metric, d.Interval, cell.Cell.Bucket(), m.keys[d.Metric][cell.Cell.Series()]}] += cell.N
		}
	}
	for _, p := range x.Puts {
		k := putRow{c.key.Generation, p.Metric, p.Key}
		if old, ok := m.puts[k]; !ok || p.Time > old.Time || p.Time == old.Time && p.ID > old.ID {
			m.puts[k] = p
		}
	}
	for _, d := range x.Dead {
		m.dead = append(m.dead, store.StreamDeadLetter{Stream: c.key.Stream, DeadLetter: d})
	}
	m.pos[c.key] = x.To
	m.commits++
	odd := m.odd
	m.odd = nil
	return odd
}

func (c *memoryCheckpoint) Close() error { return nil }
