package crate

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
)

// Retire ends a stream for good, whoever has it: what it archived up to archived_to stays its own, and nothing more
// will come. It gives archived_to. Repeated it changes nothing.
//
// A consumer that is thought dead may still insert events for it. They lie above archived_to, so nobody reads them, and
// stand in the way of their copies until a stream that is alive adopts them: see Orphans.
func (d *DB) Retire(ctx context.Context, stream string) (archivedTo uint64, err error) {
	g := d.streamGuard(stream)
	err = d.retry(ctx, "retire "+g.name, func(ctx context.Context) error {
		now, err := g.read(ctx)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("%w: %w stream", errGivenUp, store.ErrUnknown)
		}
		if err != nil {
			return err
		}
		next := now.row
		next.epoch, next.retired = next.epoch+1, true
		if _, err = g.set(ctx, now.at, next); err == nil { // only an acknowledged one counts, so it is written even where it is retired
			archivedTo = uint64(next.archivedTo)
		}
		return err
	})
	return archivedTo, err
}

// Orphans calls f for the events that were inserted for retired streams above their archived_to. Whoever sweeps hands
// them to the inbox of a stream that is alive, as if they had been received: Archive then adopts them.
func (d *DB) Orphans(ctx context.Context, f func(stream string, b *block.Block) error) error {
	streams, err := d.Streams(ctx)
	if err != nil {
		return err
	}
	refreshed := false
	for _, s := range streams {
		if !s.Retired {
			continue
		}
		if !refreshed {
			if err := d.refresh(ctx, "events"); err != nil {
				return err
			}
			refreshed = true
		}
		sel := selection{"stream = $1", []any{s.ID}}
		for after, more := s.ArchivedTo, true; more; {
			var blocks []*block.Block
			if blocks, after, more, err = d.readBlocks(ctx, sel, after, scanEvents, true); err != nil {
				return fmt.Errorf("orphans of stream %s: %w", s.ID, err)
			}
			for _, b := range blocks {
				if err := f(s.ID, b); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

const adoptEvent = "UPDATE events SET ts = $3, stream = $4, seq = $5, topic = $6, category = $7, users = $8, packages = $9, agent = $10, " +
	"source = $11, signed = $12, untimed = $13, received = $14, backfill = $15, size = $16, exact = $17, body = $18 " +
	"WHERE part = $1 AND id = $2 AND _seq_no = $19 AND _primary_term = $20"

// adopt makes the rows ours that belong to nobody: those of retired streams above their archived_to. The position is
// fixed by our inbox, so an attempt without an answer is repeated with the same. It gives the events that another stream
// was adopting at the same time, whose rows must be looked at again.
func (d *DB) adopt(ctx context.Context, stream string, list []stranger) (again []pending, err error) {
	owners := map[string]held[streamRow]{}
	b := &pgx.Batch{}
	var asked []stranger
	for _, x := range list {
		owner, ok := owners[x.stream]
		if !ok {
			owner, err = d.streamGuard(x.stream).read(ctx)
			if err != nil && !errors.Is(err, pgx.ErrNoRows) {
				return nil, err
			}
			owners[x.stream] = owner
		}
		if owner.row.retired && x.seq > owner.row.archivedTo {
			b.Queue(adoptEvent, append(x.args(stream), x.at.seqNo, x.at.term)...)
			asked = append(asked, x)
		}
	}
	if len(asked) == 0 {
		return nil, nil
	}
	r := d.pool.SendBatch(ctx, b)
	for _, x := range asked {
		tag, err := r.Exec()
		if err != nil {
			return nil, errors.Join(err, r.Close())
		}
		if *x.owned = tagCount(tag) == 1; !*x.owned {
			again = append(again, x.pending)
		}
	}
	return again, r.Close()
}
