package consumer

import (
	"context"
	"time"

	"github.com/statscache/statscache/internal/block"
)

const (
	// sweepEvery is how often somebody looks for events that a consumer archived after its end.
	sweepEvery = 15 * time.Second
	// sweepLease is held by whoever looks for late events.
	sweepLease = "sweep"
)

// sweeper hands events that a consumer archived after it was thought dead to our own inbox, from where they are adopted.
// One process does it at a time.
type sweeper struct {
	*Daemon
	last  time.Time
	until uint64 // position of the inbox that must be archived before the next look
}

// sweep looks for late events where that is due. Before, what was in the inbox at the last look must be archived: it has
// what that one brought, and mostly copies of whatever else there is, which are adopted on the way. Otherwise a store that
// is slow would be given the same events again and again.
func (s *sweeper) sweep(ctx context.Context) error {
	if time.Since(s.last) < sweepEvery || s.feed.archivedTo() < s.until {
		return nil
	}
	if ours, err := s.cluster.TryHold(ctx, sweepLease); err != nil || !ours {
		return err
	}
	n := 0
	err := s.cluster.Orphans(ctx, func(_ string, b *block.Block) error {
		n += b.Len()
		return s.ingest.submit(ctx, batch{ready: b})
	})
	s.last, s.until = time.Now(), s.journal.Next()-1
	if n > 0 {
		s.cluster.log.Info("events that a consumer archived after its end are adopted", "events", n)
		to, late := s.ingest.flush(ctx)
		s.until = max(s.until, to)
		if err == nil {
			err = late
		}
	}
	return err
}
