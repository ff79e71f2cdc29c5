package host

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/statscache/statscache/internal/block"
	pb "github.com/statscache/statscache/plugins/proto"
	"github.com/statscache/statscache/store"
)

// lane is one plugin generation's way through one stream: what has been answered, and the commits of it. It outlives
// the plugin's processes: what was answered once is never asked again.
type lane struct {
	host       *Host
	runner     *Runner
	stream     string
	def        *definition
	checkpoint store.Checkpoint
	cancel     context.CancelFunc
	closing    context.Context
	done       chan struct{} // closed when the last commit is over

	mu     sync.Mutex
	acc    *accumulator
	acked  uint64 // answered up to here
	bisect *bisect
	room   chan struct{} // closed when the accumulator is emptied
	err    error         // why there are no more commits
	// Events given up by a plugin that has not answered anything yet are not committed as dead letters before it
	// does, or has stood by for a while without failing again: where it is stopped instead, it was not they who were at fault.
	doubtful int
	doubt    time.Time // until when; zero for no doubt

	changed chan struct{} // there is something to commit
	moved   chan struct{} // nothing but the position has changed
	full    chan struct{} // it must not wait
}

// openLane opens the checkpoint and starts the commits. They end with ctx, or with close.
func (r *Runner) openLane(ctx context.Context, def *definition, generation uint32, stream string) (*lane, error) {
	cp, err := r.host.Store.Checkpoint(ctx, store.CheckpointKey{Plugin: def.plugin.ID, Generation: generation, Stream: stream})
	if err != nil {
		return nil, fmt.Errorf("checkpoint of plugin %s over stream %s: %w", def.plugin.ID, stream, err)
	}
	l := &lane{
		host: r.host, runner: r, stream: stream, def: def, checkpoint: cp, done: make(chan struct{}),
		acc: newAccumulator(def), acked: cp.Pos(), bisect: newBisect(), room: make(chan struct{}),
		changed: make(chan struct{}, 1), moved: make(chan struct{}, 1), full: make(chan struct{}, 1),
	}
	l.closing, l.cancel = context.WithCancel(ctx)
	go l.commits(l.closing)
	return l, nil
}

// close commits what is answered, as far as that goes quickly, and releases the checkpoint.
func (l *lane) close() {
	l.cancel()
	<-l.done
}

// feed cuts batches from where the answers end and hands them over until ctx ends. Errors of the feed are waited out.
func (l *lane) feed(ctx context.Context, to chan<- *batch) {
	l.mu.Lock()
	pos := l.acked
	l.mu.Unlock()
	backlog := l.newBacklog(pos)
	topics := &topicFilter{prefixes: l.def.topics}
	pause := newBackoff(l.host.Limits.BackoffMin, 5*time.Second)
	for ctx.Err() == nil {
		blocks, upto, err := l.host.Feed.Next(ctx, l.stream, pos, l.def.columns.frames())
		if err == nil && upto < pos {
			err = fmt.Errorf("the feed went back from position %d to %d", pos, upto)
		}
		if err != nil {
			if ctx.Err() == nil {
				l.runner.complain(fmt.Errorf("feed of stream %s: %w", l.stream, err))
				pause.wait(ctx)
			}
			continue
		}
		if len(blocks) == 0 && upto == pos { // a feed should wait by itself
			sleep(ctx, l.host.Limits.BackoffMin)
			continue
		}
		pause.reset()
		if backlog.skip(blocks) {
			if pos = upto; upto < l.runner.end(l.stream) {
				continue
			}
			blocks = nil // at the end the position counts, or nobody could tell that the plugin has caught up
		}
		for _, b := range blocks {
			if b.Upto > pos && !l.feedBlock(ctx, b, pos, topics, to) {
				return
			}
		}
		if !l.hand(ctx, &batch{lane: l, upto: upto}, to) {
			return
		}
		pos = upto
	}
}

// feedBlock hands over what of a block lies behind pos. It is false where ctx ended.
func (l *lane) feedBlock(ctx context.Context, b *block.Block, pos uint64, topics *topicFilter, to chan<- *batch) bool {
	from := 0
	for from < b.Len() && b.Seq(from) <= pos {
		from++
	}
	for from < b.Len() {
		l.mu.Lock()
		size := l.bisect.size
		l.mu.Unlock()
		var next *batch
		next, from = cutBatch(b, from, size, topics)
		next.lane = l
		pause := newBackoff(l.host.Limits.BackoffMin, 5*time.Second)
		for {
			err := l.host.sharer.encode(next, l.def.columns)
			if err == nil {
				break
			}
			// The archive can't be read: waiting is all there is to do, for nothing may be left out.
			l.runner.complain(fmt.Errorf("stream %s: %w", l.stream, err))
			if !pause.wait(ctx) {
				return false
			}
		}
		if !l.hand(ctx, next, to) {
			return false
		}
	}
	return true
}

// hand gives a batch to the pump once there is room for its answer.
func (l *lane) hand(ctx context.Context, b *batch, to chan<- *batch) bool {
	for {
		l.mu.Lock()
		full, room := l.acc.size >= l.host.Limits.MaxCells, l.room
		l.mu.Unlock()
		if !full {
			break
		}
		select {
		case <-room:
		case <-ctx.Done():
			return false
		}
	}
	select {
	case to <- b:
		return true
	case <-ctx.Done():
		return false
	}
}

// answered takes in the answer to a batch; nil for one that was not sent.
func (l *lane) answered(ctx context.Context, b *batch, r *pb.Result) error {
	var res *resolved
	if r != nil {
		err := l.runner.persist(ctx, func() (err error) {
			res, err = l.def.resolve(b, r, l.checkpoint.Series)
			return err
		})
		if err != nil {
			return err
		}
	}
	dead := l.deadLetters(ctx, b, r)
	l.mu.Lock()
	if r != nil {
		l.acc.add(b, r, res)
	}
	for _, d := range dead {
		l.acc.bury(d)
	}
	l.acked = max(l.acked, b.upto)
	l.bisect.answered(b)
	size := l.acc.size
	l.mu.Unlock()
	l.runner.buried(len(dead))
	l.wake(size)
	if r == nil {
		return nil
	}
	last := ""
	if n := len(r.Errors); n > 0 {
		last = r.Errors[n-1].Error
	}
	return l.runner.refused(b.len(), len(r.Errors), last)
}

// wake has what is answered committed, by how much of it there is.
func (l *lane) wake(size int) {
	switch {
	case size == 0:
		signal(l.moved)
	case size >= l.host.Limits.MaxCells/2:
		signal(l.full)
		fallthrough
	default:
		signal(l.changed)
	}
}

// deadLetters gives the events of a batch that could not be taken.
func (l *lane) deadLetters(ctx context.Context, b *batch, r *pb.Result) []store.DeadLetter {
	var out []store.DeadLetter
	now := l.host.now()
	for _, i := range b.refused {
		out = append(out, store.DeadLetter{Seq: b.block.Seq(i), Error: fmt.Sprintf("its time (%d µs) can't be counted", b.block.Time[i]), At: now})
	}
	for _, e := range r.GetErrors() {
		out = append(out, store.DeadLetter{Seq: b.seq(int(e.Event)), Error: clip(e.Error, maxErrorBytes), At: now})
	}
	l.name(ctx, b, out)
	return out
}

// name fills in the ids of dead letters. They stand in the bodies: where the plugin takes none, the block is read again
// with them. Without an id a dead letter still has its position.
func (l *lane) name(ctx context.Context, b *batch, dead []store.DeadLetter) {
	if len(dead) == 0 {
		return
	}
	blocks := []*block.Block{b.block}
	if b.block.Frames == nil {
		ctx, cancel := context.WithTimeout(ctx, unaryTimeout)
		defer cancel()
		var err error
		if blocks, _, err = l.host.Feed.Next(ctx, l.stream, b.block.First-1, true); err != nil {
			return
		}
	}
	ids := map[uint64]string{}
	for _, x := range blocks {
		list, err := x.IDs()
		if err != nil || x.First > b.block.Upto {
			break
		}
		for i, id := range list {
			ids[x.Seq(i)] = id
		}
	}
	for i := range dead {
		dead[i].ID = ids[dead[i].Seq]
	}
}

// blame notes that the plugin failed over a batch. An event that was alone in its batch for the second time becomes a
// dead letter: it is true then.
func (l *lane) blame(ctx context.Context, b *batch, cause error) (buried bool) {
	l.mu.Lock()
	poison := l.bisect.blame(b)
	if l.doubtful > 0 {
		l.prolongDoubt()
	}
	l.mu.Unlock()
	if !poison {
		return false
	}
	dead := []store.DeadLetter{{Seq: b.seq(0), Error: clip(cause.Error(), maxErrorBytes), At: l.host.now()}}
	for _, i := range b.refused {
		dead = append(dead, store.DeadLetter{Seq: b.block.Seq(i), Error: "its time can't be counted", At: l.host.now()})
	}
	l.name(ctx, b, dead)
	l.mu.Lock()
	for _, d := range dead {
		l.acc.bury(d)
	}
	l.acked = b.upto // it was the oldest: everything before it is answered
	doubted := !l.runner.isTrusted()
	if doubted {
		l.doubtful += len(dead)
		l.prolongDoubt()
	}
	l.mu.Unlock()
	if !doubted {
		l.runner.buried(len(dead))
	}
	signal(l.changed)
	return true
}

// prolongDoubt has the doubt last from now on. The caller holds mu.
func (l *lane) prolongDoubt() {
	bound := l.host.Limits.muteBound(l.def.limit(l.host.Limits))
	l.doubt = time.Now().Add(bound)
	time.AfterFunc(bound, func() { signal(l.changed) })
}

func (l *lane) suspicious() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bisect.suspicious()
}

// backlog passes over events that are older than a new plugin wants. Nothing is committed on the way: where the host
// ends before it is through, the next one starts over, at position 0 again.
type backlog struct{ before int64 } // µs since 1970

func (l *lane) newBacklog(pos uint64) *backlog {
	if pos > 0 || l.def.backlog == 0 {
		return &backlog{before: math.MinInt64}
	}
	return &backlog{before: l.host.now().Add(-l.def.backlog).UnixMicro()}
}

// skip says whether to pass over blocks. After the first event that is wanted none are, whatever their times.
func (k *backlog) skip(blocks []*block.Block) bool {
	if k.before == math.MinInt64 {
		return false
	}
	for _, b := range blocks {
		if _, hi := b.TimeRange(); b.Len() > 0 && hi >= k.before {
			k.before = math.MinInt64
			return false
		}
	}
	return true
}
