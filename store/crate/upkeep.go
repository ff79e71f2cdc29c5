package crate

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/statscache/statscache/internal/failpoint"
	"github.com/statscache/statscache/store"
)

// timeTolerance is how far apart the times of copies of one event may be: a relay rounds them (µs).
const timeTolerance = int64(1e6)

// Horizons gives what retention has removed so far.
func (d *DB) Horizons(ctx context.Context) (h store.Horizons, err error) {
	h.Archive = math.MinInt64
	if err := d.readHorizons(ctx); err != nil {
		return h, err
	}
	for k, before := range d.horizonMap() {
		if k.metric == "" {
			h.Archive = before
			continue
		}
		h.Counters = append(h.Counters, store.Horizon{Metric: k.metric, Interval: time.Duration(k.gran) * time.Second, Before: before})
	}
	slices.SortFunc(h.Counters, func(a, b store.Horizon) int {
		return cmp.Or(cmp.Compare(a.Metric, b.Metric), cmp.Compare(a.Interval, b.Interval))
	})
	return h, nil
}

// record moves a horizon forward, in the database and here.
func (d *DB) record(ctx context.Context, h horizonOf, before int64) error {
	var now int64
	err := d.retry(ctx, "record a horizon", func(ctx context.Context) error {
		return d.pool.QueryRow(ctx, "INSERT INTO horizons (metric, gran, before) VALUES ($1, $2, $3) ON CONFLICT (metric, gran) DO UPDATE SET "+
			"before = CASE WHEN excluded.before > before THEN excluded.before ELSE before END RETURNING before", h.metric, h.gran, bounded(before)).Scan(&now)
	})
	if err == nil {
		d.learn(h, now)
	}
	return err
}

// ExpireCounters records the horizons, then removes the rows behind them, of all generations. A writer that has not
// heard of a horizon yet may still make a row behind it: it is not read, and the next call removes it.
func (d *DB) ExpireCounters(ctx context.Context, list []store.Horizon) (rows int64, err error) {
	var due []horizonOf
	before := map[horizonOf]int64{}
	for _, h := range list {
		if h.Interval < time.Second || h.Interval%time.Second != 0 {
			return 0, fmt.Errorf("metric %s: interval %s is not whole seconds", h.Metric, h.Interval)
		}
		if err := checkName("metric", h.Metric); err != nil {
			return 0, err
		}
		k := horizonOf{h.Metric, int64(h.Interval / time.Second)}
		if d.behind(k.metric, k.gran) < h.Before {
			due, before[k] = append(due, k), h.Before
		}
	}
	if err := d.recordAll(ctx, due, before); err != nil {
		return 0, err
	}
	if err := d.refresh(ctx, "counters"); err != nil {
		return 0, err
	}
	err = d.around(failpoint.RetentionCounters, func() error {
		var changed []string // also where the one who recorded the horizon has died before he could say so
		for _, h := range list {
			n, err := d.removeCounts(ctx, h.Before, "metric = $1 AND gran = $2", h.Metric, int64(h.Interval/time.Second))
			if rows += n; err != nil {
				return err
			}
			if n > 0 && !slices.Contains(changed, h.Metric) {
				changed = append(changed, h.Metric)
			}
		}
		return d.raise(ctx, changed)
	})
	return rows, err
}

// recordAll moves horizons of counts forward, and says so to readers.
func (d *DB) recordAll(ctx context.Context, due []horizonOf, before map[horizonOf]int64) error {
	if len(due) == 0 {
		return nil
	}
	var moved []string
	err := d.around(failpoint.RetentionHorizon, func() error {
		for _, k := range due {
			if err := d.record(ctx, k, before[k]); err != nil {
				return err
			}
			moved = append(moved, k.metric)
		}
		return nil
	})
	if err != nil {
		return err
	}
	slices.Sort(moved)
	return d.raise(ctx, slices.Compact(moved))
}

// removeCounts removes rows of buckets that start before a time, after a refresh.
func (d *DB) removeCounts(ctx context.Context, before int64, where string, args ...any) (rows int64, err error) {
	n := len(args)
	sql := "DELETE FROM counters WHERE " + where + " AND bucket >= " + parameter(n+1) + " AND bucket < " + parameter(n+2)
	err = d.windows(ctx, math.MinInt64, before, where, args, func(from, to int64) error {
		return d.retry(ctx, "remove counters", func(ctx context.Context) error {
			tag, err := d.pool.Exec(ctx, sql, append(slices.Clone(args), from, to)...)
			if err != nil {
				return err
			}
			if tagCount(tag) == tagFailed {
				return fmt.Errorf("%w: %q", errShort, tag.String())
			}
			rows += int64(max(tagCount(tag), 0))
			return nil
		})
	})
	return rows, err
}

// ExpireArchive records the archive's horizon and drops the months that lie wholly behind it. Events without a time of
// their own have a partition in which they go by when they were received.
func (d *DB) ExpireArchive(ctx context.Context, before int64) (events int64, err error) {
	if err := d.record(ctx, horizonOf{}, before); err != nil {
		return 0, err
	}
	before = max(before, math.MinInt64+2*timeTolerance) - timeTolerance // a copy whose time was rounded up must find what it is a copy of
	if err := d.refresh(ctx, "events"); err != nil {
		return 0, err
	}
	err = d.around(failpoint.RetentionArchive, func() error {
		for _, x := range []struct {
			where string
			arg   int64
		}{{"part > 0 AND part < $1", int64(month(before, false))}, {"part = 0 AND ts < $1", before}} {
			n, err := d.removeEvents(ctx, x.where, x.arg)
			if events += n; err != nil {
				return err
			}
		}
		return nil
	})
	return events, err
}

func (d *DB) removeEvents(ctx context.Context, where string, arg int64) (n int64, err error) {
	err = d.query(ctx, "count old events", func() { n = 0 }, func(r pgx.Rows) error { return r.Scan(&n) }, "SELECT count(*) FROM events WHERE "+where, arg)
	if err != nil || n == 0 {
		return 0, err
	}
	return n, d.exec(ctx, "remove old events", "DELETE FROM events WHERE "+where, arg)
}

// archiveHorizon reads the archive's horizon by its key: as it is now, whoever moved it.
func (d *DB) archiveHorizon(ctx context.Context) (before int64, err error) {
	err = d.query(ctx, "read the archive's horizon", func() { before = math.MinInt64 }, func(r pgx.Rows) error { return r.Scan(&before) },
		"SELECT before FROM horizons WHERE metric = '' AND gran = 0")
	if err == nil && before != math.MinInt64 {
		d.learn(horizonOf{}, before)
	}
	return before, err
}
