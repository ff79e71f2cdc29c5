package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/statscache/statscache/api"
	"github.com/statscache/statscache/consumer/config"
	"github.com/statscache/statscache/store"
)

// Reader is a store to read numbers from.
type Reader interface {
	store.Store
}

// StoredPlugins says how far each plugin has come, as the store knows it: whoever reads numbers is told of those that
// lag behind the archive.
func StoredPlugins(ctx context.Context, r Reader) ([]api.PluginStatus, error) {
	return storedPlugins(ctx, r, nil)
}

// OpenReader opens the store that the configuration names to read from, beside a running daemon or without one.
func OpenReader(ctx context.Context, c *config.Config, log *slog.Logger) (Reader, error) {
	if _, err := os.Stat(c.Store.Path); c.Store.Kind == "sqlite" && errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("there is nothing to count: %s does not exist", c.Store.Path)
	}
	return openStore(ctx, c, true, log, time.Now)
}
