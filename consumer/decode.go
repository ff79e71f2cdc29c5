package consumer

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/statscache/statscache/consumer/fedmsg"
	"github.com/statscache/statscache/consumer/gaps/counter"
	"github.com/statscache/statscache/consumer/rejects"
	"github.com/statscache/statscache/internal/block"
)

// decode turns batches into blocks. A block is closed when it is full, when its first event has waited for linger, or
// when an event of the other lane or of another import comes.
func (g *ingest) decode(ctx context.Context) {
	d := g.newDecoder()
	d.next = g.inbox.Next()
	d.emit = func(b *block.Block) {
		if d.tally != nil {
			d.tallies.expect(b.First, d.tally)
		}
		d.blocks <- sealed{block: b}
	}
	d.refuse = g.refuse
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

// decoder turns messages into blocks. It is for one goroutine.
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
	numbers  []counter.Number // of the messages of the batch under way

	emit   func(b *block.Block)
	refuse func(b *batch, r refusal)
	known  func(b *block.Block) bool // where set, drops a block before it is packed: it is archived already
}

// refusal is a message that was refused, by its index in the batch.
type refusal struct {
	i           int
	topic, body []byte
	reason      fedmsg.Reason
	detail      string
}

func (g *ingest) newDecoder() *decoder {
	return &decoder{ingest: g, builder: block.NewBuilder(fedmsg.Category),
		scanner: fedmsg.NewScanner(fedmsg.Limits{MaxBytes: g.maxBytes, Future: 24 * time.Hour})}
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
		d.again(&b)
		return
	}
	d.scanner.SetRules(d.rules.Load())
	d.numbers = d.numbers[:0]
	for i, frames := range b.messages {
		topic, body, reason := d.split(b, frames)
		if reason != "" {
			d.numbers = append(d.numbers, counter.Number{N: counter.Refused})
			d.refuse(&b, refusal{i, topic, bytes.Join(frames, []byte{0}), reason, framesDetail(frames)})
			continue
		}
		if b.backfill && len(body) == 0 {
			continue // an empty line
		}
		if reason = d.scanner.Scan(topic, body, b.received, &d.event); reason != "" {
			d.numbers = append(d.numbers, counter.Number{N: counter.Refused})
			d.refuse(&b, refusal{i, topic, body, reason, d.scanner.Detail()})
			continue
		}
		if b.lane != nil {
			if n, ok := d.scanner.Counter(); ok {
				d.numbers = append(d.numbers, counter.Number{N: n, At: d.event.Time})
			}
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
	if b.lane != nil {
		b.lane.Take(b.remote, d.numbers)
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
func (d *decoder) again(b *batch) {
	d.seal()
	if b.ready.Len() == 0 {
		return
	}
	x := *b.ready // others may share it
	x.First, x.Seqs, x.Upto = d.next, nil, d.next+uint64(x.Len())-1
	d.next = x.Upto + 1
	d.tally = b.tally
	d.emit(&x)
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

// refuse counts a message that was refused, tells whoever wants to know and keeps it.
func (g *ingest) refuse(b *batch, r refusal) {
	g.metrics.reject(b.source, string(r.reason))
	if b.bad != nil {
		b.bad(r.i, r.reason, r.detail)
	}
	if b.kept {
		return
	}
	g.rejects.Keep(rejects.Reject{At: time.UnixMicro(b.received).UTC(), Source: b.source, Reason: string(r.reason), Detail: r.detail, Topic: r.topic, Body: r.body})
}

func (d *decoder) seal() {
	if d.builder.Len() == 0 {
		return
	}
	if d.known != nil && d.known(d.builder.Peek()) {
		d.builder.Drop()
		return
	}
	b := d.builder.Build(d.next, d.received, d.backfill)
	d.next = b.Upto + 1
	d.emit(b)
}
