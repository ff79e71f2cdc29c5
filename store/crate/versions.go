package crate

import (
	"context"
	"fmt"
	"maps"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

const (
	// pollEvery is how often a process looks for what others have changed: a change is known everywhere within half a
	// second.
	pollEvery = 400 * time.Millisecond
	pollWait  = 5 * time.Second // for an answer
	// pollShare is how many times longer than a look itself the time to the next one is at least.
	pollShare = 3
)

// horizonOf names a horizon: a metric and an interval in seconds. The archive's is the zero one, in µs.
type horizonOf struct {
	metric string
	gran   int64
}

// raised is a version and when it was made, by the database's clock, in ms since 1970; 0 where that is not known.
type raised struct {
	n  uint64
	at int64
}

// Version is the version of a metric as last known to this process.
func (d *DB) Version(metric string) uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.versions[metric].n
}

// Committed gives a metric's version as last known to this process and when it was raised.
func (d *DB) Committed(_ context.Context, metric string) (version uint64, at time.Time, err error) {
	d.mu.Lock()
	v := d.versions[metric]
	d.mu.Unlock()
	if v.at != 0 {
		at = time.UnixMilli(v.at).UTC()
	}
	return v.n, at, nil
}

// publish makes a version known here; it never goes back.
func (d *DB) publish(metric string, v raised) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if v.n > d.versions[metric].n {
		d.versions[metric] = v
	}
}

// raise raises the versions of metrics, after what changed them has been acknowledged. Raised once too often does no
// harm.
func (d *DB) raise(ctx context.Context, metrics []string) error {
	if len(metrics) == 0 {
		return nil
	}
	return d.retry(ctx, "raise versions", func(ctx context.Context) error {
		n := 0
		err := d.queryOnce(ctx, func(r pgx.Rows) error {
			n++
			return d.takeVersion(r, nil)
		}, "INSERT INTO metrics (id, plugin, version, raised) (SELECT m, '', 1, CURRENT_TIMESTAMP::bigint FROM UNNEST($1::text[]) AS u(m)) "+
			"ON CONFLICT (id) DO UPDATE SET version = version + 1, raised = excluded.raised RETURNING id, version, raised", metrics)
		if err == nil && n != len(metrics) {
			err = fmt.Errorf("%w: versions of %d metrics of %d", errShort, n, len(metrics))
		}
		return err
	})
}

func (d *DB) takeVersion(r pgx.Rows, into map[string]uint64) error {
	var id string
	var n int64
	var at pgtype.Int8
	if err := r.Scan(&id, &n, &at); err != nil {
		return err
	}
	d.publish(id, raised{uint64(n), at.Int64})
	if into != nil {
		into[id] = uint64(n)
	}
	return nil
}

// readVersions reads all versions and makes them known.
func (d *DB) readVersions(ctx context.Context) (all map[string]uint64, err error) {
	if err := d.refresh(ctx, "metrics"); err != nil {
		return nil, err
	}
	err = d.query(ctx, "read versions", func() { all = map[string]uint64{} }, func(r pgx.Rows) error { return d.takeVersion(r, all) },
		"SELECT id, version, raised FROM metrics")
	return all, err
}

// readHorizons reads all horizons and makes them known.
func (d *DB) readHorizons(ctx context.Context) error {
	if err := d.refresh(ctx, "horizons"); err != nil {
		return err
	}
	return d.query(ctx, "read horizons", func() {}, func(r pgx.Rows) error {
		var h horizonOf
		var before int64
		if err := r.Scan(&h.metric, &h.gran, &before); err != nil {
			return err
		}
		d.learn(h, before)
		return nil
	}, "SELECT metric, gran, before FROM horizons")
}

// learn takes over a horizon; they only move forward. The map is never changed once it is to be seen.
func (d *DB) learn(h horizonOf, before int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if old, ok := d.horizons[h]; ok && old >= before {
		return
	}
	next := maps.Clone(d.horizons)
	next[h] = before
	d.horizons = next
}

// horizonMap gives the horizons as known here, not to be changed.
func (d *DB) horizonMap() map[horizonOf]int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.horizons
}

// behind gives the horizon of a metric at an interval, the beginning of time where there is none.
func (d *DB) behind(metric string, gran int64) int64 {
	if before, ok := d.horizonMap()[horizonOf{metric, gran}]; ok {
		return before
	}
	return math.MinInt64
}

// look takes over what other processes have changed.
func (d *DB) look(ctx context.Context) error {
	_, err := d.readVersions(ctx)
	if err != nil {
		return err
	}
	return d.readHorizons(ctx)
}

// watch looks again and again. While the database is away the last state known stands; the calls that need the
// database say that it is away.
func (d *DB) watch(ctx context.Context) {
	t := time.NewTimer(pollEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		began := time.Now()
		short, cancel := context.WithTimeout(ctx, pollWait)
		if err := d.look(short); err != nil && ctx.Err() == nil {
			d.log.Debug("looking for changes of other processes failed", "error", err)
		}
		cancel()
		t.Reset(max(pollEvery, pollShare*time.Since(began))) // a database that has too much to do is not given more
	}
}
