package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/statscache/statscache/api"
	"github.com/statscache/statscache/consumer/config"
	"github.com/statscache/statscache/consumer/lease"
)

// beatWithin is how long a look from outside waits for the others' next beats.
const beatWithin = 3 * time.Second

// KnownCluster tells who works on a shared store, without being one of them: who raises his beat while it looks lives.
// nil where the store is not shared.
func KnownCluster(ctx context.Context, c *config.Config) (out *api.ClusterStatus, err error) {
	if c.Store.Kind != "crate" {
		return nil, nil
	}
	log := slog.New(slog.DiscardHandler)
	s, err := openStore(ctx, c, true, log, time.Now)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	shared, ok := s.(sharedStore)
	if !ok {
		return nil, nil
	}
	k := cluster{sharedStore: shared, Keeper: lease.NewKeeper(lease.Options{Store: shared, TTL: beatWithin}), follow: newFollower(s), log: log}
	k.follow.look(ctx)
	if h, ok := s.(healther); ok {
		list := lookAtHealth(ctx, h)
		k.health.Store(&list)
	}
	for range int(beatWithin/time.Second) + 2 { // the last look sees whose beat has stood still all the time
		if err := k.Look(ctx); err != nil {
			return nil, fmt.Errorf("list leases: %w", err)
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return k.status(), nil
}
