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

// openStore opens the store that the configuration names.
func openStore(ctx context.Context, c *config.Config, readOnly bool, log *slog.Logger, now func() time.Time) (store.Store, error) {
	return openEngine(ctx, c, sqlite.Options{ReadOnly: readOnly, Logger: log, Now: now})
}

// How long a CrateDB may take to answer at the start: a daemon may be started together with it, and one statement may
// have to be repeated that was given up.
const (
	storeWithin  = 45 * time.Second
	readerWithin = 10 * time.Second
)

func openEngine(ctx context.Context, c *config.Config, o sqlite.Options) (store.Store, error) {
	if c.Store.Kind == "crate" {
		wait := storeWithin
		if o.ReadOnly {
			wait = readerWithin
		}
		s, err := crate.Open(ctx, crate.Options{URL: c.Store.URL, Logger: o.Logger, Wait: wait, Failpoint: o.Failpoint})
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
