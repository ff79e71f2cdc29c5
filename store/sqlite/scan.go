package sqlite

import (
	"context"
	"fmt"

	"zombiezen.com/go/sqlite"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
)

var _ store.Scanner = (*DB)(nil)

// Scan calls f for blocks that hold events of a span of time. While it runs the file's log can't be shortened.
func (d *DB) Scan(ctx context.Context, r store.ScanRequest, f func(stream string, b *block.Block) error) error {
	return d.read(ctx, "scan the archive", func(c *conn) error {
		type place struct {
			id     int64
			stream string
		}
		var blocks []place // listed first: a statement must not be stepped while f uses the connection's others
		if err := c.each("SELECT blk.id, stream.id FROM blk JOIN stream ON stream.no=blk.stream WHERE blk.tmin<? AND blk.tmax>=? ORDER BY blk.id", func(s *sqlite.Stmt) error {
			blocks = append(blocks, place{s.ColumnInt64(0), s.ColumnText(1)})
			return nil
		}, r.To, r.From); err != nil {
			return err
		}
		for _, p := range blocks {
			b, err := readBlock(c, p.id, r.Bodies)
			if err == nil {
				err = within(b, r, p.stream, f)
			}
			if err != nil {
				return keepStop(err)
			}
		}
		return keepStop(c.each("SELECT stream.id, hot.d FROM hot JOIN stream ON stream.no=hot.stream ORDER BY hot.id", func(s *sqlite.Stmt) error {
			b, err := block.Decode(columnBytes(s, 1))
			if err != nil {
				return fmt.Errorf("small block: %w", err)
			}
			if !r.Bodies {
				bare := *b
				bare.Frames = nil
				b = &bare
			}
			return within(b, r, s.ColumnText(0), f)
		}))
	})
}

// within hands on the events of a block that lie in the span.
func within(b *block.Block, r store.ScanRequest, stream string, f func(stream string, b *block.Block) error) error {
	keep := make([]bool, b.Len())
	some := false
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
