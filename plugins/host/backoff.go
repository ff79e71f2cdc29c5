package host

import (
	"context"
	"time"
)

// backoff doubles the time between attempts.
type backoff struct {
	least, most, next time.Duration
}

func newBackoff(least, most time.Duration) *backoff {
	return &backoff{least: least, most: max(least, most), next: least}
}

// step gives the time to wait now.
func (b *backoff) step() time.Duration {
	d := b.next
	b.next = min(2*b.next, b.most)
	return d
}

func (b *backoff) reset() { b.next = b.least }

// wait waits; it is false where ctx ended first.
func (b *backoff) wait(ctx context.Context) bool { return sleep(ctx, b.step()) }

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
