package consumer

import (
	"context"
	"time"

	"github.com/statscache/statscache/api"
	"github.com/statscache/statscache/store"
)

const (
	// healthEvery is how often the database is asked how it does.
	healthEvery = 5 * time.Second
	// healthWait bounds one such question.
	healthWait = 10 * time.Second
)

// healther is a store whose database tells what is wrong with it.
type healther interface {
	Health(ctx context.Context) ([]store.Ailment, error)
}

// watchHealth asks the database how it does until ctx ends.
func (c *cluster) watchHealth(ctx context.Context) error {
	h, ok := c.sharedStore.(healther)
	if !ok {
		return nil
	}
	tick := time.NewTicker(healthEvery)
	defer tick.Stop()
	for {
		list := lookAtHealth(ctx, h)
		c.health.Store(&list)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func lookAtHealth(ctx context.Context, h healther) []api.HealthStatus {
	ctx, cancel := context.WithTimeout(ctx, healthWait)
	defer cancel()
	list, err := h.Health(ctx)
	if err != nil {
		return []api.HealthStatus{{What: "database", Severity: "red", Why: err.Error(), Do: "see that CrateDB runs and can be reached; nothing is lost meanwhile"}}
	}
	out := []api.HealthStatus{}
	for _, a := range list {
		out = append(out, api.HealthStatus{What: a.What, Severity: a.Severity, Why: a.Why, Do: a.Do})
	}
	return out
}
