package host

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/statscache/statscache/internal/block"
	pb "github.com/statscache/statscache/plugins/proto"
	"github.com/statscache/statscache/store"
)

// maxRecomputeCells is how many additions of a metric are gathered before they are summed: it bounds what a recount
// takes beside its answer.
const maxRecomputeCells = 1 << 20

// ErrTooMany is what Recompute answers where the rows are more than Sink.MaxCells allows.
var ErrTooMany = errors.New("too many numbers to recompute at once") // immutable

// Sink takes what a recount came to. An error of any of its functions ends the recount. Functions may be nil.
type Sink struct {
	// Row takes a count: the metric, its interval, the start of the bucket (seconds since 1970), the key (see
	// store.JoinKey). Rows of a metric and interval come by bucket; series limits, horizons and retention are not
	// looked at.
	Row func(metric string, interval time.Duration, start int64, key string, n int64) error
	// Put takes the newest value of a key.
	Put func(store.Put) error
	// MaxCells bounds what is summed up for the rows, in cells of the finest interval; 0 for no bound.
	MaxCells int
	// Failed hears of an event that the plugin could not take.
	Failed func(seq uint64, reason string) error
}

// Recompute runs a fresh process of a plugin over blocks and gives what they add up to; the store is not asked for
// anything. Blocks need frames where the plugin wants bodies or has latest values (Definition tells). It gives the
// plugin's definition as it is registered. What the store keeps as dead letters the caller leaves out of the blocks:
// a plugin that fails over a batch is an error that names its events.
func (h *Host) Recompute(ctx context.Context, program Program, blocks iter.Seq2[*block.Block, error], sink Sink) (store.Plugin, error) {
	outer := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	session, def, err := h.described(ctx, program)
	if err != nil {
		return store.Plugin{}, err
	}
	defer session.Close()
	if err := session.Open(ctx, h.Config[def.plugin.ID]); err != nil {
		return store.Plugin{}, err
	}
	c := newRecount(def, sink)
	batches := make(chan *batch)
	var readErr error
	go func() {
		defer close(batches)
		readErr = h.cutAll(ctx, def, blocks, batches)
	}()
	p := &pump{
		session: session, def: def, deadline: def.limit(h.Limits), source: batches, most: h.Limits.Window,
		window: func() int { return h.Limits.Window }, answered: c.answered,
	}
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
	case errors.As(err, &f):
		if f.broken {
			f.err = session.explain(f.err)
		}
		if f.blamed != nil {
			err = fmt.Errorf("plugin %s failed over events %d to %d: %w", def.plugin.ID, f.blamed.seq(0), f.blamed.seq(f.blamed.len()-1), f.err)
		}
	case err == nil:
		err = c.finish()
	}
	return def.plugin, err
}

// limit is the plugin's deadline for a batch.
func (d *definition) limit(l Limits) time.Duration {
	if d.deadline > 0 {
		return min(d.deadline, l.MaxDeadline)
	}
	return l.Deadline
}

// cutAll makes batches of all blocks.
func (h *Host) cutAll(ctx context.Context, def *definition, blocks iter.Seq2[*block.Block, error], to chan<- *batch) error {
	topics := &topicFilter{prefixes: def.topics}
	for b, err := range blocks {
		if err != nil {
			return err
		}
		for from := 0; from < b.Len(); {
			var next *batch
			next, from = cutBatch(b, from, block.MaxEvents, topics)
			if err := h.sharer.encode(next, def.columns); err != nil {
				return err
			}
			select {
			case to <- next:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

// recount adds answers up by series numbers of its own.
type recount struct {
	def    *definition
	sink   Sink
	acc    *accumulator
	sorter sorter
	number []map[string]uint32 // per metric
	keys   [][]string
	byID   map[string]int
	summed []int // per metric: how many cells were left when they were last summed
}

func newRecount(def *definition, sink Sink) *recount {
	c := &recount{def: def, sink: sink, acc: newAccumulator(def), byID: map[string]int{}, summed: make([]int, len(def.metrics))}
	for i, m := range def.metrics {
		c.byID[m.id] = i
		c.number = append(c.number, map[string]uint32{})
		c.keys = append(c.keys, nil)
	}
	return c
}

func (c *recount) series(metric, key string) (uint32, error) {
	m := c.byID[metric]
	n, ok := c.number[m][key]
	if !ok {
		if n = uint32(len(c.keys[m])); n >= store.MaxSeries {
			return 0, errors.New("too many series")
		}
		c.number[m][key] = n
		c.keys[m] = append(c.keys[m], key)
	}
	return n, nil
}

func (c *recount) answered(b *batch, r *pb.Result) error {
	if r == nil {
		return nil
	}
	res, err := c.def.resolve(b, r, c.series)
	if err != nil {
		return err
	}
	c.acc.add(b, r, res)
	total := 0
	for i, cells := range c.acc.cells {
		if len(cells) > 2*c.summed[i]+maxRecomputeCells {
			c.acc.cells[i] = c.sorter.sum(cells)
			c.summed[i] = len(c.acc.cells[i])
		}
		total += c.summed[i]
	}
	if c.sink.MaxCells > 0 && total > c.sink.MaxCells {
		return ErrTooMany
	}
	if c.sink.Failed != nil {
		for _, e := range r.Errors {
			if err := c.sink.Failed(b.seq(int(e.Event)), e.Error); err != nil {
				return err
			}
		}
	}
	return nil
}

// finish hands everything over.
func (c *recount) finish() error {
	all := c.acc.commit(0, &c.sorter)
	if c.sink.Row != nil {
		for _, d := range all.Counters {
			keys, step := c.keys[c.byID[d.Metric]], int64(d.Interval/time.Second)
			for _, x := range d.Cells {
				if err := c.sink.Row(d.Metric, d.Interval, x.Cell.Bucket()*step, keys[x.Cell.Series()], x.N); err != nil {
					return err
				}
			}
		}
	}
	if c.sink.Put != nil {
		for _, p := range all.Puts {
			if err := c.sink.Put(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// described starts a process of a plugin and asks it what it is.
func (h *Host) described(ctx context.Context, program Program) (*Session, *definition, error) {
	session, err := h.launcher.start(ctx, program)
	if err != nil {
		return nil, nil, err
	}
	manifest, err := session.Describe(ctx)
	if err != nil {
		session.Close()
		return nil, nil, err
	}
	def, err := define(manifest)
	if err != nil {
		session.Close()
		return nil, nil, fmt.Errorf("manifest of plugin %s: %w", program.ID, err)
	}
	return session, def, nil
}

// Definition starts a plugin only to ask it what it is. frames says whether it must be given blocks with frames.
func (h *Host) Definition(ctx context.Context, program Program) (p store.Plugin, frames bool, err error) {
	session, def, err := h.described(ctx, program)
	if err != nil {
		return store.Plugin{}, false, err
	}
	defer session.Close()
	return def.plugin, def.columns.frames(), nil
}
