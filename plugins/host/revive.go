package host

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/statscache/statscache/internal/block"
	pb "github.com/statscache/statscache/plugins/proto"
	"github.com/statscache/statscache/store"
)

// lettersAtOnce is how many dead letters are read at once.
const lettersAtOnce = 1024

// letters are dead letters of one stream whose events stand in one block.
type letters struct {
	stream string
	block  *block.Block
	list   []store.DeadLetter // ascending by position
}

// bind looks how many dead letters there are. Where the plugin has become another one since the last process, a new
// generation of its numbers is being made, with dead letters of its own.
func (q *requeue) bind(ctx context.Context, r *Runner) error {
	if q.bound && q.generation == r.generation {
		return nil
	}
	q.close()
	err := r.persist(ctx, func() (err error) {
		_, q.total, err = r.host.Store.(store.Requeuer).Buried(ctx, r.def.plugin.ID, r.generation, store.Place{}, 0)
		return err
	})
	if err != nil {
		return fmt.Errorf("count the dead letters of plugin %s: %w", r.def.plugin.ID, err)
	}
	q.bound, q.generation, q.result = true, r.generation, Requeued{}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.after, q.page, q.todo = store.Place{}, nil, nil
	q.tell()
	return nil
}

// tell tells how far it is.
func (q *requeue) tell() {
	if q.progress != nil {
		q.progress(q.result.Taken+q.result.Dead+q.result.Expired, q.total)
	}
}

// feed hands batches over until there are no more dead letters or ctx ends.
func (q *requeue) feed(ctx context.Context, r *Runner, to chan<- *batch) error {
	for {
		l, err := q.next(ctx, r)
		if err != nil || l == nil {
			return err
		}
		b, err := l.batch(r)
		q.mu.Lock()
		if err != nil {
			q.todo = append(q.todo, l)
		} else {
			q.asked[b] = l
		}
		q.mu.Unlock()
		if err != nil {
			return err
		}
		select {
		case to <- b:
		case <-ctx.Done():
			return nil
		}
	}
}

// next gives dead letters that were put back, or reads further ones; nil at the end.
func (q *requeue) next(ctx context.Context, r *Runner) (*letters, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if n := len(q.todo); n > 0 {
		l := q.todo[n-1]
		q.todo = q.todo[:n-1]
		return l, nil
	}
	for {
		if len(q.page) == 0 {
			err := r.persist(ctx, func() (err error) {
				q.page, _, err = r.host.Store.(store.Requeuer).Buried(ctx, r.def.plugin.ID, q.generation, q.after, lettersAtOnce)
				return err
			})
			if err != nil {
				return nil, fmt.Errorf("read the dead letters of plugin %s: %w", r.def.plugin.ID, err)
			}
			if len(q.page) == 0 {
				return nil, nil
			}
			last := q.page[len(q.page)-1]
			q.after = store.Place{Stream: last.Stream, Seq: last.Seq}
		}
		l, err := q.sameBlock(ctx, r)
		if err != nil || l != nil {
			return l, err
		}
	}
}

// sameBlock takes the first of the page and all others whose events stand in the same block; nil where the first one's
// event is archived no more.
func (q *requeue) sameBlock(ctx context.Context, r *Runner) (*letters, error) {
	first := q.page[0]
	var blocks []*block.Block
	err := r.persist(ctx, func() (err error) {
		blocks, _, err = r.host.Store.Read(ctx, store.ReadRequest{Stream: first.Stream, After: first.Seq - 1, Events: 1, Bodies: true})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read event %d of stream %s: %w", first.Seq, first.Stream, err)
	}
	i := slices.IndexFunc(blocks, func(b *block.Block) bool { return indexOf(b, first.Seq) >= 0 })
	if i < 0 {
		q.page = q.page[1:]
		q.result.Expired++
		q.tell()
		return nil, nil
	}
	l := &letters{stream: first.Stream, block: blocks[i]}
	for len(q.page) > 0 && q.page[0].Stream == l.stream && indexOf(l.block, q.page[0].Seq) >= 0 {
		l.list = append(l.list, q.page[0].DeadLetter)
		q.page = q.page[1:]
	}
	return l, nil
}

// indexOf gives the place of a position in a block, -1 where it isn't there.
func indexOf(b *block.Block, seq uint64) int {
	i := sort.Search(b.Len(), func(i int) bool { return b.Seq(i) >= seq })
	if i == b.Len() || b.Seq(i) != seq {
		return -1
	}
	return i
}

// batch makes a batch of the letters' events: of those that the plugin wants. The others are taken, too, and count
// nothing.
func (l *letters) batch(r *Runner) (*batch, error) {
	keep := make([]bool, l.block.Len())
	for _, d := range l.list {
		keep[indexOf(l.block, d.Seq)] = true
	}
	kept, err := l.block.Keep(keep)
	if err != nil {
		return nil, fmt.Errorf("events of stream %s from %d on: %w", l.stream, l.list[0].Seq, err)
	}
	b, _ := cutBatch(kept, 0, block.MaxEvents, &topicFilter{prefixes: r.def.topics})
	b.whole = false // nobody shares it
	if err := r.host.sharer.encode(b, r.def.columns); err != nil {
		return nil, fmt.Errorf("stream %s: %w", l.stream, err)
	}
	return b, nil
}

// answered commits what a batch of dead letters came to.
func (q *requeue) answered(ctx context.Context, r *Runner, b *batch, result *pb.Result) error {
	q.mu.Lock()
	l := q.asked[b]
	q.mu.Unlock()
	checkpoint, err := q.checkpoint(ctx, r, l.stream)
	if err != nil {
		return err
	}
	acc := newAccumulator(r.def)
	if result != nil {
		var res *resolved
		err := r.persist(ctx, func() (err error) {
			res, err = r.def.resolve(b, result, checkpoint.Series)
			return err
		})
		if err != nil {
			return err
		}
		acc.add(b, result, res)
	}
	errs := map[uint64]string{}
	for _, i := range b.refused {
		errs[b.block.Seq(i)] = fmt.Sprintf("its time (%d µs) can't be counted", b.block.Time[i])
	}
	for _, e := range result.GetErrors() {
		errs[b.seq(int(e.Event))] = e.Error
	}
	c := acc.commit(0, &q.sorter)
	if err := q.revive(ctx, r, checkpoint, &store.Revival{Taken: l.list, Counters: c.Counters, Puts: c.Puts}, errs); err != nil {
		return err
	}
	r.overflow(r.def, acc.other)
	q.mu.Lock()
	delete(q.asked, b)
	q.mu.Unlock()
	return nil
}

// revive commits a revival and counts it; errs says what is dead again, by position.
func (q *requeue) revive(ctx context.Context, r *Runner, c store.Checkpoint, x *store.Revival, errs map[uint64]string) error {
	now := r.host.now().Truncate(time.Microsecond)
	for _, d := range x.Taken {
		if text, again := errs[d.Seq]; again {
			at := now
			if !at.After(d.At) {
				at = d.At.Add(time.Microsecond) // its time tells it from the one before
			}
			x.Dead = append(x.Dead, store.DeadLetter{Seq: d.Seq, ID: d.ID, Error: clip(text, maxErrorBytes), At: at})
		}
	}
	if err := r.persist(ctx, func() error { return r.reviveUnheld(ctx, c.(store.Reviver), x) }); err != nil {
		return err
	}
	r.unburied(len(x.Taken) - len(x.Dead))
	q.mu.Lock()
	defer q.mu.Unlock()
	q.result.Taken += len(x.Taken) - len(x.Dead)
	q.result.Dead += len(x.Dead)
	q.tell()
	return nil
}

// reviveUnheld commits a revival once nobody holds the plugin's commits.
func (r *Runner) reviveUnheld(ctx context.Context, c store.Reviver, x *store.Revival) error {
	for {
		if !r.unheld(ctx) {
			return ctx.Err()
		}
		r.reviving.Lock()
		r.mu.Lock()
		held := len(r.holds) > 0
		r.mu.Unlock()
		if held { // in between
			r.reviving.Unlock()
			continue
		}
		err := c.Revive(ctx, x)
		r.reviving.Unlock()
		return err
	}
}

// checkpoint opens a stream's checkpoint. Between two lives nobody else has it.
func (q *requeue) checkpoint(ctx context.Context, r *Runner, stream string) (store.Checkpoint, error) {
	if c := q.checkpoints[stream]; c != nil {
		return c, nil
	}
	var c store.Checkpoint
	err := r.persist(ctx, func() (err error) {
		c, err = r.host.Store.Checkpoint(ctx, store.CheckpointKey{Plugin: r.def.plugin.ID, Generation: q.generation, Stream: stream})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("checkpoint of plugin %s over stream %s: %w", r.def.plugin.ID, stream, err)
	}
	q.checkpoints[stream] = c
	return c, nil
}

// putBack leaves to the next process what this one has not answered, in order, but for what it failed over: that it
// gives.
func (q *requeue) putBack(f *fault) (blamed *letters) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if f != nil && f.blamed != nil {
		blamed = q.asked[f.blamed]
		delete(q.asked, f.blamed)
	}
	var rest []*letters
	for _, l := range q.asked {
		rest = append(rest, l)
	}
	clear(q.asked)
	slices.SortFunc(rest, func(a, b *letters) int { // the first one last: it is taken from the end
		return cmp.Or(cmp.Compare(b.stream, a.stream), cmp.Compare(b.list[0].Seq, a.list[0].Seq))
	})
	q.todo = append(q.todo, rest...)
	return blamed
}

// blame has the letters that a process failed over given to the next one in halves; a single one is dead again: it had
// its two strikes before.
func (q *requeue) blame(ctx context.Context, r *Runner, f *fault, l *letters) (buried bool, err error) {
	if f.blamed.len() == 1 {
		seq := f.blamed.seq(0)
		c, err := q.checkpoint(ctx, r, l.stream)
		if err != nil {
			q.again(l)
			return false, err
		}
		i := slices.IndexFunc(l.list, func(d store.DeadLetter) bool { return d.Seq == seq })
		if err := q.revive(ctx, r, c, &store.Revival{Taken: l.list[i : i+1]}, map[uint64]string{seq: f.err.Error()}); err != nil {
			q.again(l)
			return false, err
		}
		if rest := slices.Delete(slices.Clone(l.list), i, i+1); len(rest) > 0 {
			q.again(&letters{l.stream, l.block, rest})
		}
		return true, nil
	}
	half := len(l.list) / 2
	q.again(&letters{l.stream, l.block, l.list[half:]}, &letters{l.stream, l.block, l.list[:half]})
	return false, nil
}

// again leaves letters to be asked next, the last ones first.
func (q *requeue) again(l ...*letters) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.todo = append(q.todo, l...)
}
