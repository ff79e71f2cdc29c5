package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/statscache/statscache/consumer/config"
	"github.com/statscache/statscache/store"
)

// upkeepEvery is how often retention is applied.
const upkeepEvery = 10 * time.Minute

// horizons gives how far back the buckets of a metric are kept at now: the setting for the interval, or the plugin's
// own wish where that is shorter and the configuration says nothing of the interval.
func horizons(c *config.Config, m store.Metric, now time.Time) []store.Horizon {
	var out []store.Horizon
	for _, interval := range m.Intervals {
		keep := c.Retention[interval]
		if m.Retention > 0 && !c.RetentionGiven[interval] && (keep == 0 || m.Retention < keep) {
			keep = m.Retention
		}
		if keep == 0 {
			continue
		}
		step := int64(interval / time.Second)
		before := now.Add(-keep).Unix()
		before -= ((before % step) + step) % step // the start of a bucket
		out = append(out, store.Horizon{Metric: m.ID, Interval: interval, Before: before})
	}
	return out
}

// keptStore records the horizons of a plugin's metrics before the first of its numbers is written, so that history
// brought in later never fills intervals that would be removed right away.
type keptStore struct {
	store.Store
	daemon *Daemon
}

func (s keptStore) Register(ctx context.Context, p store.Plugin) (store.Generations, error) {
	g, err := s.Store.Register(ctx, p)
	if err != nil {
		return g, err
	}
	var all []store.Horizon
	for _, m := range p.Metrics {
		all = append(all, horizons(s.daemon.current.Load(), m, s.daemon.now())...)
	}
	if len(all) == 0 {
		return g, nil
	}
	if _, err := s.Store.ExpireCounters(ctx, all); err != nil {
		return g, fmt.Errorf("apply retention: %w", err)
	}
	return g, nil
}

// firstUpkeep applies retention where the store can be reached; else the next one does.
func (d *Daemon) firstUpkeep(ctx context.Context) error {
	defer d.keeping.Store(nil)
	err := d.upkeep(ctx, func(done, total int) { d.keeping.Store(&share{done, total}) })
	if errors.Is(err, store.ErrUnavailable) {
		d.postponed(err)
		return nil
	}
	return err
}

func (d *Daemon) postponed(err error) {
	d.log.Error("retention could not be applied; it is tried again", "error", err, "after", upkeepEvery)
}

// startUpkeep applies retention again and again, with now also at once; kept is closed then.
func (d *Daemon) startUpkeep(kept chan<- struct{}, now bool) {
	if now {
		d.keeping.Store(&share{})
	}
	d.background("retention", func(ctx context.Context) error {
		if now {
			if err := d.firstUpkeep(ctx); err != nil {
				return err
			}
			close(kept)
		}
		tick := time.NewTicker(upkeepEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			case <-d.retained:
			}
			if err := d.upkeep(ctx, func(int, int) {}); err != nil && ctx.Err() == nil {
				d.postponed(err)
			}
		}
	})
}

// after gives run for when a channel is closed.
func after(done <-chan struct{}, run func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-done:
			return run(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

// share is how much of something is done.
type share struct{ done, total int }

// retaining says how far the first retention is, which archive and plugins wait for; "" once it is done.
func (d *Daemon) retaining() string {
	s := d.keeping.Load()
	switch {
	case s == nil:
		return ""
	case s.total == 0:
		return "retention runs first"
	}
	return fmt.Sprintf("retention runs first: %d of %d metrics are done", s.done, s.total)
}

// upkeep removes what is past its retention, metric by metric. Horizons are recorded by the store before anything is
// removed.
func (d *Daemon) upkeep(ctx context.Context, progress func(done, total int)) error {
	if d.moved.Load() {
		return nil // what is copied must not change
	}
	metrics, err := d.store.Metrics(ctx)
	if err != nil {
		return fmt.Errorf("list metrics: %w", err)
	}
	now, c := d.now(), d.current.Load()
	rows := int64(0)
	for i, m := range metrics {
		progress(i, len(metrics))
		list := horizons(c, m.Metric, now)
		if len(list) == 0 {
			continue
		}
		n, err := d.store.ExpireCounters(ctx, list)
		if rows += n; err != nil {
			return fmt.Errorf("remove old rows of %s: %w", m.ID, err)
		}
	}
	progress(len(metrics), len(metrics))
	events, letters := int64(0), 0
	if keep := c.ArchiveRetention; keep > 0 {
		if events, err = d.store.ExpireArchive(ctx, now.Add(-keep).UnixMicro()); err != nil {
			return fmt.Errorf("remove old events: %w", err)
		}
		if letters, err = d.expireLetters(ctx, events > 0); err != nil {
			return err
		}
	}
	if rows > 0 || events > 0 || letters > 0 {
		d.log.Info("retention removed what is no longer kept", "rows", rows, "events", events, "dead_letters", letters)
	}
	return nil
}

// expireLetters removes the dead letters whose events are archived no more: where some were just removed, and once after
// the start, for the last life may have ended in between.
func (d *Daemon) expireLetters(ctx context.Context, removed bool) (n int, err error) {
	s, ok := d.store.(store.LetterExpirer)
	if !ok || !removed && d.lettersSeen {
		return 0, nil
	}
	gone, err := s.ExpireLetters(ctx)
	for _, k := range gone {
		n += k
	}
	d.host.Unburied(gone)
	if err != nil {
		return n, fmt.Errorf("remove dead letters of old events: %w", err)
	}
	d.lettersSeen = true
	return n, nil
}
