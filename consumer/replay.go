package consumer

import (
	"context"
	"fmt"
	"sync"

	"github.com/statscache/statscache/consumer/fedmsg"
	"github.com/statscache/statscache/consumer/rejects"
)

// ReplaySummary is what became of the messages that were kept whole.
type ReplaySummary struct {
	Messages int            `json:"messages"`
	Accepted int            `json:"accepted"`
	Owned    int            `json:"owned"`    // of the accepted: new events, counted; the others were known before or have expired
	Rejected map[string]int `json:"rejected"` // refused again, by reason: they are kept on
}

// ReplayRejects gives the messages that were kept whole in again and removes those that are accepted now. They are
// removed once they are archived: a crash before that leaves them, and what is replayed twice counts once. Nothing else
// may be received meanwhile.
func (d *Daemon) ReplayRejects(ctx context.Context) (ReplaySummary, error) {
	sum := ReplaySummary{Rejected: map[string]int{}}
	var mu sync.Mutex // bad is called by the decoder
	accepted, known, before := map[int]bool{}, 0, d.archiver.owned.Load()
	keeper := d.ingest.rejects
	if err := keeper.Whole(func(int, rejects.Reject) error { known++; return nil }); err != nil {
		return sum, err
	}
	err := keeper.Whole(func(i int, r rejects.Reject) error {
		if !r.Whole || i >= known { // the second: what is refused again is kept again, as long as this takes
			return nil
		}
		mu.Lock()
		accepted[i] = true
		mu.Unlock()
		sum.Messages++
		b := batch{source: r.Source, received: r.At.UnixMicro(), bad: func(_ int, reason fedmsg.Reason, _ string) {
			mu.Lock()
			defer mu.Unlock()
			delete(accepted, i)
			sum.Rejected[string(reason)]++
		}}
		if r.Reason == string(fedmsg.TimeReason) {
			b.received = d.now().UnixMicro() // it was ahead of the clock then
		}
		if len(r.Topic) == 0 || r.Source == "import" {
			b.backfill, b.messages = true, [][][]byte{{r.Body}}
		} else {
			b.messages = [][][]byte{{r.Topic, r.Body}}
		}
		return d.ingest.submit(ctx, b)
	})
	if err != nil {
		return sum, err
	}
	to, err := d.ingest.flush(ctx)
	if err != nil {
		return sum, fmt.Errorf("write to the inbox: %w", err)
	}
	if err := d.waitArchived(ctx, to); err != nil {
		return sum, err
	}
	mu.Lock()
	sum.Accepted = len(accepted)
	mu.Unlock()
	sum.Owned = int(d.archiver.owned.Load() - before)
	if sum.Messages > 0 {
		if err := keeper.Drop(func(i int) bool { return accepted[i] || i >= known }); err != nil {
			return sum, err
		}
	}
	return sum, d.waitComputed(ctx)
}
