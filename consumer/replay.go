package consumer

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/statscache/statscache/consumer/control"
	"github.com/statscache/statscache/consumer/fedmsg"
	"github.com/statscache/statscache/consumer/rejects"
)

// ReplaySummary is what became of the messages that were kept whole.
type ReplaySummary = control.ReplaySummary

// ReplayRejects gives the refused messages that were kept whole in again, beside a running daemon or without one, with
// the same result. See Daemon.ReplayRejects.
func ReplayRejects(ctx context.Context, o Options) (sum ReplaySummary, err error) {
	err = Work(ctx, o, func(ctx context.Context, d *Daemon) (err error) {
		sum, err = d.ReplayRejects(ctx)
		return err
	}, func(ctx context.Context, c *control.Client) (err error) {
		sum, err = c.ReplayRejects(ctx)
		return err
	})
	return sum, err
}

// ReplayRejects gives the messages that were kept whole in again and removes those that are accepted now. They are
// removed once they are archived: a crash before that leaves them, and what is replayed twice counts once. It returns
// when the plugins have caught up.
func (d *Daemon) ReplayRejects(ctx context.Context) (ReplaySummary, error) {
	if !d.roles.Consume {
		return ReplaySummary{}, errNoConsume
	}
	if !d.replaying.TryLock() {
		return ReplaySummary{}, errors.New("rejects are being replayed already")
	}
	defer d.replaying.Unlock()
	r := replay{daemon: d, accepted: map[int]bool{}, sum: ReplaySummary{Rejected: map[string]int{}}}
	keeper, tally := d.ingest.rejects, &importTally{}
	if err := keeper.Whole(func(i int, x rejects.Reject) error { return r.give(ctx, i, x, tally) }); err != nil {
		return r.sum, err
	}
	to, err := d.ingest.flush(ctx)
	if err != nil {
		return r.sum, fmt.Errorf("write to the inbox: %w", err)
	}
	if err := d.waitArchived(ctx, to); err != nil {
		return r.sum, err
	}
	r.mu.Lock()
	r.sum.Accepted = len(r.accepted)
	r.mu.Unlock()
	r.sum.Owned, r.sum.Duplicates, r.sum.Expired = int(tally.owned.Load()), int(tally.duplicates.Load()), int(tally.expired.Load())
	if r.sum.Accepted > 0 {
		if err := keeper.Drop(func(i int) bool { return r.accepted[i] }); err != nil {
			return r.sum, err
		}
	}
	return r.sum, d.waitComputed(ctx)
}

// replay is a replay under way.
type replay struct {
	daemon   *Daemon
	mu       sync.Mutex // what follows is changed by the decoder, too
	accepted map[int]bool
	sum      ReplaySummary
}

// give gives a message in again.
func (r *replay) give(ctx context.Context, i int, x rejects.Reject, tally *importTally) error {
	if !x.Whole {
		return nil
	}
	r.mu.Lock()
	r.accepted[i] = true // until the decoder says otherwise
	r.sum.Messages++
	r.mu.Unlock()
	b := batch{source: x.Source, received: x.At.UnixMicro(), tally: tally, kept: true, bad: func(_ int, reason fedmsg.Reason, _ string) {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.accepted, i)
		r.sum.Rejected[string(reason)]++
	}}
	if x.Reason == string(fedmsg.TimeReason) {
		b.received = r.daemon.now().UnixMicro() // it was ahead of the clock then
	}
	if len(x.Topic) == 0 || x.Source == "import" {
		b.backfill, b.messages = true, [][][]byte{{x.Body}}
	} else {
		b.messages = [][][]byte{{x.Topic, x.Body}}
	}
	return r.daemon.ingest.submit(ctx, b)
}
