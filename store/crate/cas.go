package crate

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/statscache/statscache/store"
)

// version is what a compare-and-set compares. A read by key and an update by key with both are done on the primary
// shard in real time, whatever has been refreshed.
type version struct{ seqNo, term int64 }

// held is a row as this process knows it: read, or written and acknowledged.
type held[T any] struct {
	row T
	at  version
}

// fencedRow is a row that only its owner changes. The owner is whoever raised the epoch last.
type fencedRow interface {
	comparable
	ownerEpoch() int64
}

// guard is the way to one row that is changed by compare-and-set only.
type guard[T fencedRow] struct {
	name string
	// read gets the row by its key; pgx.ErrNoRows where there is none.
	read func(context.Context) (held[T], error)
	// create inserts the row where there is none.
	create func(context.Context) error
	// take raises the epoch of the row at a version and gives the row as it is then; pgx.ErrNoRows where the version
	// is no longer the row's.
	take func(ctx context.Context, at version, epoch int64) (held[T], error)
	// set writes the row at a version; pgx.ErrNoRows where the version is no longer the row's.
	set func(ctx context.Context, at version, row T) (version, error)
}

// acquire makes this caller the owner: it raises the epoch until that is acknowledged. An attempt without an answer may
// have raised it or may do so later; the first is read, the second fails on the row's version. refuse, where not nil,
// can turn a row down.
func acquire[T fencedRow](ctx context.Context, d *DB, g guard[T], refuse func(T) error) (held[T], error) {
	var got held[T]
	err := d.retry(ctx, "take "+g.name, func(ctx context.Context) error {
		old, err := g.read(ctx)
		if errors.Is(err, pgx.ErrNoRows) {
			if err := g.create(ctx); err != nil {
				return err
			}
			old, err = g.read(ctx)
		}
		if err != nil {
			return err
		}
		if refuse != nil {
			if err := refuse(old.row); err != nil {
				return fmt.Errorf("%w: %w", errGivenUp, err)
			}
		}
		got, err = g.take(ctx, old.at, old.row.ownerEpoch()+1)
		return err
	})
	return got, err
}

// write sets the row from cur to next and gives it as acknowledged. Without an answer the row is read: with another
// epoch the owner is another one; otherwise the same values are written again, whichever of the two it shows, since a
// read is no proof (it can be dirty: shown by a copy that is lost afterwards) but an acknowledged write is. When ctx
// ends first the outcome is unknown, and the only way on is another write with the same cur and next.
func write[T fencedRow](ctx context.Context, d *DB, g guard[T], cur held[T], next T) (held[T], error) {
	if cur.row == next {
		return cur, nil
	}
	at, known := cur.at, true
	err := d.retry(ctx, "write "+g.name, func(ctx context.Context) error {
		if !known {
			now, err := g.read(ctx)
			switch {
			case errors.Is(err, pgx.ErrNoRows):
				return fmt.Errorf("%w: %w: it is gone", errGivenUp, store.ErrFenced)
			case err != nil:
				return err
			case now.row.ownerEpoch() > cur.row.ownerEpoch():
				return fmt.Errorf("%w: %w: its epoch is %d, ours %d", errGivenUp, store.ErrFenced, now.row.ownerEpoch(), cur.row.ownerEpoch())
			case now.row != cur.row && now.row != next:
				return fmt.Errorf("%w: a copy from before our last write was read", errShort) // of a shard that is cut off
			}
			at, known = now.at, true
		}
		known = false // until there is an answer
		set, err := g.set(ctx, at, next)
		if err == nil {
			at = set
		}
		return err
	})
	if err != nil {
		return cur, err
	}
	return held[T]{next, at}, nil
}
