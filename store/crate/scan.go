package crate

import (
	"context"
	"fmt"
	"math"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
)

// scanEvents is how many events are read at once.
const scanEvents = 4 * block.MaxEvents

// Scan calls f for blocks that hold events of a span of time, up to where each stream stands when it begins.
func (d *DB) Scan(ctx context.Context, r store.ScanRequest, f func(stream string, b *block.Block) error) error {
	streams, err := d.Streams(ctx)
	if err != nil || r.From >= r.To {
		return err
	}
	from, to := bounded(r.From), bounded(r.To-1)
	for _, s := range streams {
		// The month is the partition, so that only those of the span are searched.
		sel := selection{"stream = $1 AND seq <= $2 AND ts >= $3 AND ts <= $4 AND (part = 0 OR part >= $5 AND part <= $6)",
			[]any{s.ID, int64(min(s.ArchivedTo, math.MaxInt64)), from, to, int64(month(from, false)), int64(month(to, false))}}
		for after, more := uint64(0), true; more; {
			var blocks []*block.Block
			if blocks, after, more, err = d.readBlocks(ctx, sel, after, scanEvents, r.Bodies); err != nil {
				return fmt.Errorf("scan stream %s: %w", s.ID, err)
			}
			for _, b := range blocks {
				if err := within(b, r, s.ID, f); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// within hands on the events of a block that lie in the span: times at the very ends of int64 are not exact in their
// column.
func within(b *block.Block, r store.ScanRequest, stream string, f func(stream string, b *block.Block) error) error {
	keep, some := make([]bool, b.Len()), false
	for i, t := range b.Time {
		keep[i] = t >= r.From && t < r.To
		some = some || keep[i]
	}
	if !some {
		return nil
	}
	kept, err := b.Keep(keep)
	if err != nil {
		return fmt.Errorf("block at %d: %w", b.First, err)
	}
	return f(stream, kept)
}
