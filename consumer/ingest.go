package consumer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/statscache/statscache/consumer/fedmsg"
	"github.com/statscache/statscache/consumer/journal"
	"github.com/statscache/statscache/consumer/rejects"
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
	// tally, where set, counts what becomes of the events.
	tally *importTally
	// kept says that messages refused are among the kept rejects already: they come from there.
	kept bool
	// bad, where set, is told of every message refused, by its index.
	bad func(i int, reason fedmsg.Reason, detail string)
	// ready is a block that was decoded before: the events of a stream whose consumer is gone.
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
	return &ingest{inbox: in, rejects: keeper, metrics: m, log: log, now: now, maxBytes: maxBytes, tallies: newTallies(),
		batches: make(chan batch, queuedBatches), blocks: make(chan sealed, queuedBlocks), stopped: make(chan struct{})}
}

var errStopped = errors.New("the daemon is stopping")

// Deliver takes messages of a source as they came from the bus. It blocks while the inbox is behind: what was not
// taken is still the publisher's.
func (g *ingest) Deliver(ctx context.Context, source string, messages [][][]byte) error {
	return g.submit(ctx, batch{source: source, messages: messages, received: g.now().UnixMicro()})
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

// decode turns batches into blocks. A block is closed when it is full, when its first event has waited for linger, or
// when an event of the other lane or of another import comes.
func (g *ingest) decode(ctx context.Context) {
	d := decoder{ingest: g, builder: block.NewBuilder(fedmsg.Category), next: g.inbox.Next(),
		scanner: fedmsg.NewScanner(fedmsg.Limits{MaxBytes: g.maxBytes, Future: 24 * time.Hour})}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait := time.Hour
		if d.builder.Len() > 0 {
			wait = max(d.linger()-g.now().Sub(d.born), 0)
		}
		timer.Reset(wait)
		select {
		case b := <-g.batches:
			d.batch(b)
		case <-timer.C:
			d.seal()
		case <-ctx.Done():
			for {
				select {
				case b := <-g.batches: // a source that got its batch in before the end keeps it
					d.batch(b)
					continue
				default:
				}
				d.seal()
				return
			}
		}
		if d.builder.Len() > 0 && g.now().Sub(d.born) > d.linger() {
			d.seal()
		}
	}
}

// decoder is the state of decode's goroutine.
type decoder struct {
	*ingest
	scanner  *fedmsg.Scanner
	builder  *block.Builder
	event    block.Event
	next     uint64 // the position of the block under way
	born     time.Time
	received int64
	backfill bool
	tally    *importTally
}

// linger is how long the block under way may wait for more.
func (d *decoder) linger() time.Duration {
	if d.backfill {
		return historyLinger
	}
	return linger
}

func (d *decoder) batch(b batch) {
	if b.ready != nil {
		d.again(b.ready)
		return
	}
	d.scanner.SetRules(d.rules.Load())
	for i, frames := range b.messages {
		topic, body, reason := d.split(b, frames)
		if reason != "" {
			d.reject(b, i, topic, bytes.Join(frames, []byte{0}), reason, framesDetail(frames))
			continue
		}
		if b.backfill && len(body) == 0 {
			continue // an empty line
		}
		if reason = d.scanner.Scan(topic, body, b.received, &d.event); reason != "" {
			d.reject(b, i, topic, body, reason, d.scanner.Detail())
			continue
		}
		if d.builder.Len() > 0 && (d.backfill != b.backfill || d.tally != b.tally || d.builder.Full(len(body))) {
			d.seal()
		}
		if d.builder.Len() == 0 {
			d.born, d.backfill, d.tally = d.now(), b.backfill, b.tally
		}
		d.received = b.received
		d.event.Source = b.source
		d.builder.Add(&d.event)
	}
	if len(b.messages) > 0 {
		d.metrics.received(b.source, len(b.messages))
	}
	if b.done != nil {
		d.seal()
		d.blocks <- sealed{done: b.done}
	}
}

// again numbers a block's events anew, as if they had just been received.
func (d *decoder) again(b *block.Block) {
	d.seal()
	if b.Len() == 0 {
		return
	}
	x := *b // others may share it
	x.First, x.Seqs, x.Upto = d.next, nil, d.next+uint64(b.Len())-1
	d.next = x.Upto + 1
	d.blocks <- sealed{block: &x}
}

// split finds topic and body in the frames of a message.
func (d *decoder) split(b batch, frames [][]byte) (topic, body []byte, reason fedmsg.Reason) {
	if b.backfill {
		return nil, frames[0], ""
	}
	return fedmsg.Frames(frames)
}

// framesDetail says why no topic and body were found.
func framesDetail(frames [][]byte) string {
	switch len(frames) {
	case 1:
		return "one frame without a NUL between topic and body"
	case 2:
		return "the topic frame is empty"
	}
	return fmt.Sprintf("%d frames instead of topic and body", len(frames))
}

func (d *decoder) reject(b batch, i int, topic, body []byte, reason fedmsg.Reason, detail string) {
	d.metrics.reject(b.source, string(reason))
	if b.bad != nil {
		b.bad(i, reason, detail)
	}
	if b.kept {
		return
	}
	d.rejects.Keep(rejects.Reject{At: time.UnixMicro(b.received).UTC(), Source: b.source, Reason: string(reason), Detail: detail, Topic: topic, Body: body})
}

func (d *decoder) seal() {
	if d.builder.Len() == 0 {
		return
	}
	b := d.builder.Build(d.next, d.received, d.backfill)
	d.next = b.Upto + 1
	if d.tally != nil {
		d.tallies.expect(b.First, d.tally)
	}
	d.blocks <- sealed{block: b}
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
