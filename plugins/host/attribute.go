package host

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"sync"

	"github.com/statscache/statscache/internal/block"
	pb "github.com/statscache/statscache/plugins/proto"
	"github.com/statscache/statscache/store"
)

// ErrOtherPlugin is what Attribute answers where the program is not the plugin that is asked for, or counts otherwise.
var ErrOtherPlugin = errors.New("another plugin")

// Attribution asks which events a count is made of.
type Attribution struct {
	Plugin   string // the id that the program must say
	Metric   string
	From, To int64 // the bucket: starts and ends in [From, To), seconds since 1970
	Match    func(key string) bool
	Limit    int // events to name, at most
	Found    func(Contribution)
}

// Contribution is an event that counts. Body is the block's own and must not be kept.
type Contribution struct {
	Block *block.Block
	Event int // its position in the block
	ID    string
	Body  []byte
	N     int64
}

// parts is into how many parts a batch is split whose answer counts.
const parts = 8

// Attribute runs a fresh process of a plugin over blocks, which need frames, and tells which events add to a count. The
// sum is exact; it comes from whole blocks. Of those that add anything, ever smaller parts are asked for again, down to
// single events, until enough are named.
func (h *Host) Attribute(ctx context.Context, program Program, fingerprint string, blocks iter.Seq2[*block.Block, error], a Attribution) (total int64, err error) {
	outer := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	session, def, err := h.described(ctx, program)
	if err != nil {
		return 0, err
	}
	defer session.Close()
	if def.plugin.ID != a.Plugin || def.plugin.Fingerprint != fingerprint {
		return 0, fmt.Errorf("%s: %w", program.ID, ErrOtherPlugin)
	}
	metric := -1
	for i, m := range def.metrics {
		if m.id == a.Metric && m.kind == store.Counter {
			metric = i
		}
	}
	if metric < 0 {
		return 0, fmt.Errorf("plugin %s counts no metric %s: %w", a.Plugin, a.Metric, store.ErrUnknown)
	}
	if err := session.Open(ctx, h.Config[def.plugin.ID]); err != nil {
		return 0, err
	}
	s := &splitter{Attribution: a, def: def, metric: uint32(metric), ids: h.sharer.ids, changed: make(chan struct{}, 1), asked: map[*batch]*piece{}}
	batches := make(chan *batch)
	var readErr error
	go func() {
		defer close(batches)
		readErr = s.feed(ctx, blocks, batches)
	}()
	p := &pump{session: session, def: def, deadline: def.limit(h.Limits), source: batches, most: h.Limits.Window,
		window: func() int { return h.Limits.Window }, answered: s.answered}
	err = p.run(ctx)
	cancel()
	for range batches { // the reader has ended when it is closed
	}
	var f *fault
	switch {
	case outer.Err() != nil:
		err = outer.Err()
	case readErr != nil && !errors.Is(readErr, context.Canceled):
		err = readErr
	case errors.As(err, &f) && f.broken:
		err = session.explain(f.err)
	}
	if err != nil {
		return 0, fmt.Errorf("plugin %s: %w", a.Plugin, err)
	}
	return s.total, nil
}

// piece is some events of a block that a plugin is asked about.
type piece struct {
	block  *block.Block
	ids    []string // of the block's events
	bodies [][]byte
	events []int
	whole  bool // not split yet: its answer counts for the sum
}

// splitter asks for blocks, and again for parts of those that count.
type splitter struct {
	Attribution
	def     *definition
	metric  uint32
	ids     *batchID
	changed chan struct{}

	mu    sync.Mutex
	asked map[*batch]*piece // under way
	todo  []*piece          // the last one first, so that few blocks are held at a time
	named int
	total int64
}

// feed sends all blocks, each followed by the parts of it that were found worth asking for.
func (s *splitter) feed(ctx context.Context, blocks iter.Seq2[*block.Block, error], to chan<- *batch) error {
	topics := &topicFilter{prefixes: s.def.topics}
	for b, err := range blocks {
		if err != nil {
			return err
		}
		for from := 0; from < b.Len(); {
			var next *batch
			next, from = cutBatch(b, from, block.MaxEvents, topics)
			if next.len() == 0 {
				continue
			}
			p := &piece{block: b, events: next.events, whole: true}
			if p.ids, err = b.IDs(); err != nil {
				return fmt.Errorf("ids of events %d to %d: %w", b.First, b.Upto, err)
			}
			if p.bodies, err = b.Bodies(); err != nil {
				return fmt.Errorf("bodies of events %d to %d: %w", b.First, b.Upto, err)
			}
			if err := s.send(ctx, p, to); err != nil {
				return err
			}
		}
		if err := s.rest(ctx, to, false); err != nil {
			return err
		}
	}
	return s.rest(ctx, to, true)
}

// rest sends the parts that are known; to the end it goes on until nothing is under way.
func (s *splitter) rest(ctx context.Context, to chan<- *batch, end bool) error {
	for {
		s.mu.Lock()
		var next *piece
		if n := len(s.todo); n > 0 {
			next = s.todo[n-1]
			s.todo = s.todo[:n-1]
		}
		idle := len(s.asked) == 0
		s.mu.Unlock()
		if next != nil {
			if err := s.send(ctx, next, to); err != nil {
				return err
			}
			continue
		}
		if idle || !end {
			return nil
		}
		select {
		case <-s.changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *splitter) send(ctx context.Context, p *piece, to chan<- *batch) error {
	b := &batch{id: s.ids.next(), block: p.block, events: p.events, lo: math.MaxInt64, hi: math.MinInt64}
	for _, i := range p.events {
		second := floorDiv(p.block.Time[i], 1e6)
		b.lo, b.hi = min(b.lo, second), max(b.hi, second)
	}
	w := b.wire()
	for _, i := range p.events {
		if s.def.columns.bodies {
			w.bodies = append(w.bodies, p.bodies[i])
		}
		if s.def.columns.ids {
			w.ids = append(w.ids, p.ids[i])
		}
	}
	b.frame = w.frame(b.id)
	s.mu.Lock()
	s.asked[b] = p
	s.mu.Unlock()
	select {
	case to <- b:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// answered takes an answer: its part of the count, or what to ask for next.
func (s *splitter) answered(b *batch, r *pb.Result) error {
	n, counts := s.count(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.asked[b]
	delete(s.asked, b)
	if p.whole {
		s.total += n
	}
	if counts && s.named < s.Limit {
		if len(p.events) == 1 {
			i := p.events[0]
			s.named++
			s.Found(Contribution{Block: p.block, Event: i, ID: p.ids[i], Body: p.bodies[i], N: n})
		} else {
			s.split(p)
		}
	}
	select {
	case s.changed <- struct{}{}:
	default:
	}
	return nil
}

// split leaves the parts to be asked for, the first on top.
func (s *splitter) split(p *piece) {
	step := (len(p.events) + parts - 1) / parts
	for to := len(p.events); to > 0; {
		from := (to - 1) / step * step
		s.todo = append(s.todo, &piece{block: p.block, ids: p.ids, bodies: p.bodies, events: p.events[from:to]})
		to = from
	}
}

// count adds up what an answer adds to the count that is asked about; counts says whether it adds anything at all.
func (s *splitter) count(r *pb.Result) (n int64, counts bool) {
	m := &s.def.metrics[s.metric]
	verdicts := map[string]bool{}
	values := make([]string, m.dims)
	for _, c := range r.GetCounters() {
		if c.Metric != s.metric {
			continue
		}
		at := int64(0)
		for i, delta := range c.TimeS {
			at += delta
			if start := floorDiv(at, m.step) * m.step; start < s.From || start >= s.To {
				continue
			}
			for k, x := range c.Dims[i*m.dims : (i+1)*m.dims] {
				values[k] = r.Names[x]
			}
			key := seriesKey(values)
			ok, known := verdicts[key]
			if !known {
				ok = s.Match(key)
				verdicts[key] = ok
			}
			if ok {
				n, counts = n+c.N[i], true
			}
		}
	}
	return n, counts
}
