package consumer

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/statscache/statscache/consumer/fedmsg"
	"github.com/statscache/statscache/consumer/gaps/counter"
	"github.com/statscache/statscache/consumer/journal"
	"github.com/statscache/statscache/consumer/rejects"
	"github.com/statscache/statscache/consumer/source/zmq"
	"github.com/statscache/statscache/internal/block"
)

const (
	// linger is how long an event waits for company before its block goes to the inbox.
	linger = 4 * time.Millisecond
	// historyLinger is the same for history, of which nobody waits for the last event: whoever does asks by flush.
	historyLinger = 100 * time.Millisecond
	// queuedBatches bounds what waits to be decoded. A source that finds it full stops reading its socket.
	queuedBatches = 64
	// queuedBlocks bounds what waits for the inbox; one append takes all of it, so it is also the largest group that
	// shares an fsync.
	queuedBlocks = 16
	// retryPause is how long the inbox is left alone after a failed append.
	retryPause = 200 * time.Millisecond
)

// inbox is what ingest needs of consumer/journal.
type inbox interface {
	Next() uint64
	Append(blocks []*block.Block) error
	WaitRoom(ctx context.Context) error
}

// ingest decodes what sources deliver, gathers it in blocks and appends them to the inbox. Its two goroutines are
// joined by a short queue: while one block is written, the next is decoded.
type ingest struct {
	inbox    inbox
	rejects  *rejects.Keeper
	metrics  *metrics
	log      *slog.Logger
	now      func() time.Time
	maxBytes int
	rules    atomic.Pointer[fedmsg.Rules] // in force from the next batch on
	tallies  *tallies
	counters *counter.Watch
	lines    chan *decoder // idle decoders of files; nil entries are yet to be made

	batches chan batch
	blocks  chan sealed
	stalled atomic.Pointer[string] // why the inbox takes nothing at the moment
	stopped chan struct{}
	once    sync.Once
}

// batch is what one source handed over at once.
type batch struct {
	source   string
	messages [][][]byte // frames of each message; of a line of a file the one frame is the body
	backfill bool       // lines of a file rather than messages of a socket
	received int64      // µs since 1970
	// lane, where set, takes in the publisher's own numbers; remote is where they come from.
	lane   *counter.Lane
	remote string
	// tally, where set, counts what becomes of the events.
	tally *importTally
	// kept says that messages refused are among the kept rejects already: they come from there.
	kept bool
	// bad, where set, is told of every message refused, by its index.
	bad func(i int, reason fedmsg.Reason, detail string)
	// ready is a block that was decoded before: lines of a file, or the events of a stream whose consumer is gone.
	ready *block.Block
	// done, where set, is told the last position once all before it is in the inbox.
	done chan<- uint64
}

// sealed is a block on its way to the inbox, or a question how far it has come.
type sealed struct {
	block *block.Block
	done  chan<- uint64
}

func newIngest(in inbox, keeper *rejects.Keeper, m *metrics, log *slog.Logger, now func() time.Time, maxBytes int) *ingest {
	g := &ingest{inbox: in, rejects: keeper, metrics: m, log: log, now: now, maxBytes: maxBytes, tallies: newTallies(), counters: counter.NewWatch(),
		batches: make(chan batch, queuedBatches), blocks: make(chan sealed, queuedBlocks), stopped: make(chan struct{})}
	g.lines = make(chan *decoder, runtime.GOMAXPROCS(0))
	for range cap(g.lines) {
		g.lines <- nil
	}
	return g
}

var errStopped = errors.New("the daemon is stopping")

// Deliver takes messages of a source as they came from the bus. It blocks while the inbox is behind: what was not
// taken is still the publisher's.
func (g *ingest) Deliver(ctx context.Context, from zmq.Peer, messages [][][]byte) error {
	return g.submit(ctx, batch{source: from.Name, messages: messages, received: g.now().UnixMicro(),
		lane: g.counters.Lane(counter.Address(from.Endpoint)), remote: from.Remote})
}

// submit queues a batch.
func (g *ingest) submit(ctx context.Context, b batch) error {
	select {
	case g.batches <- b:
		return nil
	case <-g.stopped:
		return errStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

// flush waits until everything delivered before it is in the inbox, and answers its last position.
func (g *ingest) flush(ctx context.Context) (uint64, error) {
	done := make(chan uint64, 1)
	if err := g.submit(ctx, batch{done: done}); err != nil {
		return 0, err
	}
	select {
	case to := <-done:
		return to, nil
	case <-g.stopped:
		return 0, errStopped
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// run decodes and appends until ctx ends; then what was delivered by then is still appended, as long as the inbox
// takes it.
func (g *ingest) run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		g.append(ctx)
	}()
	g.decode(ctx)
	close(g.blocks)
	wg.Wait()
	g.once.Do(func() { close(g.stopped) })
}

// append writes blocks to the inbox, all that wait in one go. While the inbox is full or fails nothing is taken from
// the queue, so the sources come to a stop behind it.
func (g *ingest) append(ctx context.Context) {
	var group []*block.Block
	last := g.inbox.Next() - 1
	for s := range g.blocks {
		var asked []chan<- uint64
		group = group[:0]
		for more := true; more; {
			if s.block != nil {
				group = append(group, s.block)
			} else {
				asked = append(asked, s.done)
			}
			select {
			case s, more = <-g.blocks:
			default:
				more = false
			}
		}
		if len(group) > 0 {
			if !g.appendAll(ctx, group) {
				continue // stopping: the queue is emptied without effect, its events were never acknowledged
			}
			last = group[len(group)-1].Upto
		}
		for _, done := range asked {
			done <- last
		}
	}
}

// appendAll tries until the inbox has taken the group; false when the daemon stops before it did.
func (g *ingest) appendAll(ctx context.Context, group []*block.Block) bool {
	for {
		err := g.inbox.Append(group)
		if err == nil {
			if g.stalled.Swap(nil) != nil {
				g.log.Info("the inbox takes events again")
			}
			return true
		}
		text := err.Error()
		if g.stalled.Swap(&text) == nil {
			g.log.Error("the inbox takes nothing: sockets are not read until it does", "error", err)
		}
		if errors.Is(err, journal.ErrClosed) || ctx.Err() != nil {
			return false
		}
		if errors.Is(err, journal.ErrFull) {
			if g.inbox.WaitRoom(ctx) != nil {
				return false
			}
			continue
		}
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
			return false
		}
	}
}
