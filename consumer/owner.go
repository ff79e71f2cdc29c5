package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/statscache/statscache/consumer/config"
	"github.com/statscache/statscache/store"
)

// Owner gives the pid of the process that works in a data dir, empty where none does.
func Owner(dir string) (pid string, err error) {
	running, err := Running(dir)
	if err != nil || !running {
		return "", err
	}
	f, err := os.Open(filepath.Join(dir, "lock"))
	if err != nil {
		return "", fmt.Errorf("data dir %s: %w", dir, unwrapPath(err))
	}
	defer func() { _ = f.Close() }() // only read from
	return lockPID(f), nil
}

// KnownStreams lists the streams that the store of a data dir has, beside a daemon or without one; none where there is
// no store yet.
func KnownStreams(ctx context.Context, c *config.Config) (out []store.Stream, err error) {
	if _, err := os.Stat(c.Store.Path); c.Store.Kind == "sqlite" && errors.Is(err, os.ErrNotExist) {
		return []store.Stream{}, nil
	}
	s, err := openStore(ctx, c, true, slog.New(slog.DiscardHandler), time.Now)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if out, err = s.Streams(ctx); err != nil {
		return nil, fmt.Errorf("list streams: %w", err)
	}
	return append([]store.Stream{}, out...), nil
}
