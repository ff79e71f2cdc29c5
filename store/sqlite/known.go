package sqlite

import (
	"context"
	"fmt"

	"github.com/statscache/statscache/internal/block"
)

// Known says whether the archive has all events of a block and keeps them: archiving it would own none. It looks where
// Archive does and writes nothing.
func (d *DB) Known(ctx context.Context, b *block.Block) (all bool, err error) {
	var c *conn
	select {
	case c = <-d.writer:
	case <-ctx.Done():
		return false, fmt.Errorf("look for a block: %w", ctx.Err())
	case <-d.base.Done():
		return false, fmt.Errorf("look for a block: %w", errClosed)
	}
	defer func() { d.writer <- c }()
	done := c.interruptBy(ctx)
	defer done()
	if d.arch == nil {
		return false, nil
	}
	if seen, err := c.int("PRAGMA data_version"); err != nil || seen != d.lastSeen { // else another process has written
		return false, explain(ctx, err)
	}
	if all, err = d.arch.holds(c, b); err != nil {
		return false, fmt.Errorf("look for a block: %w", explain(ctx, err))
	}
	return all, nil
}

func (a *archive) holds(c *conn, b *block.Block) (bool, error) {
	hashes, err := hashesOf(b)
	if err != nil {
		return false, err
	}
	near := a.overlapping(b)
	for i, h := range hashes {
		if b.Time[i] < a.horizon {
			return false, nil
		}
		if a.open(h) {
			continue
		}
		there, err := a.sealed(c, near, h, b.Time[i], b.UntimedOf(i))
		if !there || err != nil {
			return false, err
		}
	}
	return len(hashes) > 0, nil
}
