package consumer

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/statscache/statscache/consumer/config"
	"github.com/statscache/statscache/store"
	"github.com/statscache/statscache/store/crate"
	"github.com/statscache/statscache/store/sqlite"
)

// openStore opens the store that the configuration names, for a command.
func openStore(ctx context.Context, c *config.Config, readOnly bool, log *slog.Logger, now func() time.Time) (store.Store, error) {
	p := patience{within: storeWithin}
	if readOnly {
		p.within = readerWithin
	}
	return openEngine(ctx, c, p, sqlite.Options{ReadOnly: readOnly, Logger: log, Now: now})
}

const (
	// storeWithin is how long a CrateDB may be silent when a command begins that writes: one statement may have to be
	// repeated that was given up.
	storeWithin = 45 * time.Second
	// readerWithin is the same for a command that somebody waits for.
	readerWithin = 10 * time.Second
)

// patience is how long to wait for a CrateDB that does not answer; 0 is for ever. away, where set, is told why each time.
type patience struct {
	within time.Duration
	away   func(error)
}

// openEngine opens the store, with so much patience where it is a CrateDB.
func openEngine(ctx context.Context, c *config.Config, p patience, o sqlite.Options) (store.Store, error) {
	if c.Store.Kind == "crate" {
		s, err := crate.Open(ctx, crate.Options{URL: c.Store.URL, Logger: o.Logger, Wait: p.within, Away: p.away, Failpoint: o.Failpoint})
		if err != nil {
			return nil, fmt.Errorf("store %s: %w", c.Store, err)
		}
		return s, nil
	}
	o.Path = c.Store.Path
	s, err := sqlite.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	return s, nil
}
