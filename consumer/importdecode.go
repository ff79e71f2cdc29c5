package consumer

import (
	"context"

	"github.com/statscache/statscache/internal/block"
)

// knowing is what imports may ask of a store: whether all events of a block are archived.
type knowing interface {
	Known(ctx context.Context, b *block.Block) (bool, error)
}

// lineDecoding decodes batches of lines of one file on all cores and gives their blocks to ingest in the order of the
// lines. What the archive has already does not go through the inbox a second time.
type lineDecoding struct {
	ingest *ingest
	tally  *importTally
	store  knowing // nil where the store can't say
	room   func(context.Context) error
	told   func(lines int) // of a batch that was taken in
	bad    func(b *lineBatch, r refusal)

	ctx   context.Context
	fail  context.CancelCauseFunc
	queue chan chan decodedLines
	done  chan struct{} // closed when everything in the queue was taken in
}

// decodedLines is what became of a batch of lines.
type decodedLines struct {
	from    *lineBatch
	batch   batch
	blocks  []*block.Block // numbered from 1: ingest numbers them anew
	known   int            // events that are archived already
	refused []refusal
}

// start begins; end must follow.
func (x *lineDecoding) start(ctx context.Context) {
	x.ctx, x.fail = context.WithCancelCause(ctx)
	x.queue, x.done = make(chan chan decodedLines, 2*cap(x.ingest.lines)), make(chan struct{})
	go func() {
		defer close(x.done)
		for c := range x.queue {
			if err := x.take(<-c); err != nil {
				x.fail(err) // the rest of the queue is emptied without effect
			}
		}
	}()
}

// give hands a batch over.
func (x *lineDecoding) give(b lineBatch) error {
	out := make(chan decodedLines, 1)
	select {
	case x.queue <- out:
	case <-x.ctx.Done():
		return context.Cause(x.ctx)
	}
	go func() { out <- x.decode(&b) }()
	return nil
}

// end waits until everything was taken in.
func (x *lineDecoding) end() error {
	close(x.queue)
	<-x.done
	err := context.Cause(x.ctx)
	x.fail(nil)
	return err
}

// decode turns lines into blocks, whenever a decoder is free.
func (x *lineDecoding) decode(from *lineBatch) (out decodedLines) {
	g := x.ingest
	d := <-g.lines
	if d == nil {
		d = g.newDecoder()
	}
	defer func() {
		d.emit, d.refuse, d.known, d.tally = nil, nil, nil, nil // what they refer to is gone with this batch
		g.lines <- d
	}()
	out.from = from
	if x.ctx.Err() != nil {
		return out
	}
	d.next = 1
	d.emit = func(b *block.Block) { out.blocks = append(out.blocks, b) }
	d.refuse = func(_ *batch, r refusal) { out.refused = append(out.refused, r) }
	d.known = func(b *block.Block) bool {
		if x.store == nil || !x.tally.again.Load() {
			return false
		}
		all, err := x.store.Known(x.ctx, b) // what goes wrong here does so again on the ordinary way, which says so
		if err != nil || !all {
			x.tally.again.Store(false)
			return false
		}
		out.known += b.Len()
		return true
	}
	out.batch = batch{source: "import", messages: from.messages, backfill: true, tally: x.tally, received: g.now().UnixMicro()}
	d.batch(out.batch)
	d.seal()
	return out
}

// take hands the blocks of a batch on.
func (x *lineDecoding) take(l decodedLines) error {
	if err := x.ctx.Err(); err != nil {
		return context.Cause(x.ctx)
	}
	for _, r := range l.refused {
		x.ingest.refuse(&l.batch, r)
		x.bad(l.from, r)
	}
	x.tally.duplicates.Add(int64(l.known))
	x.ingest.metrics.duplicate.Add(float64(l.known))
	for _, b := range l.blocks {
		if err := x.room(x.ctx); err != nil {
			return err
		}
		if err := x.ingest.submit(x.ctx, batch{ready: b, tally: x.tally}); err != nil {
			return err
		}
	}
	x.told(len(l.from.messages))
	return nil
}
