package sqlite

import (
	"fmt"

	"github.com/statscache/statscache/internal/failpoint"
	"github.com/statscache/statscache/store"
)

// before and after are the points around a step. Most steps share a transaction with others: where "after" one is
// inside it, the step is written and not durable yet; "after" the last one is after the COMMIT.
func (d *DB) before(s failpoint.Step) error { return passing(d.o.Failpoint.Before(s)) }

func (d *DB) after(s failpoint.Step) error { return passing(d.o.Failpoint.After(s)) }

// around does a step between its points.
func (d *DB) around(s failpoint.Step, do func() error) error {
	if err := d.before(s); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return d.after(s)
}

// passing gives a failpoint's error the meaning that a disk's error has: it may pass.
func passing(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
}
