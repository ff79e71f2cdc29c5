package crate

import (
	"fmt"

	"github.com/statscache/statscache/internal/failpoint"
	"github.com/statscache/statscache/store"
)

// around does a step between its points. Its error has the meaning of a lost connection: before the step nothing was
// done, after it everything was and nobody was told.
func (d *DB) around(s failpoint.Step, do func() error) error {
	if err := mayPass(d.opts.Failpoint.Before(s)); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return mayPass(d.opts.Failpoint.After(s))
}

func mayPass(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
}
