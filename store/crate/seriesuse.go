package crate

import (
	"context"
	"time"

	"github.com/statscache/statscache/store"
)

var (
	_ store.SeriesUser = (*DB)(nil)
	_ store.Committer  = (*DB)(nil)
)

const (
	// recountAfter is how old a count of series may be at least.
	recountAfter = time.Minute
	// recountShare is how many times longer than the counting itself a count stands: so it never is the database's work.
	recountShare = 100
)

// seriesCount is how many series a generation of a metric had at a version.
type seriesCount struct {
	n          int
	generation uint32
	version    uint64
	until      time.Time // not counted again before
}

// SeriesUse gives how many series the serving metrics have. In the database a series is only its key, so they are
// counted now and then.
func (d *DB) SeriesUse(ctx context.Context) (map[string]store.SeriesUse, error) {
	metrics, err := d.Metrics(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string]store.SeriesUse{}
	for _, m := range metrics {
		if m.Kind != store.Counter || len(m.Intervals) == 0 {
			continue
		}
		n, err := d.seriesOf(ctx, m)
		if err != nil {
			return nil, err
		}
		out[m.ID] = store.SeriesUse{Series: n, Limit: seriesLimit(m.Metric)}
	}
	return out, nil
}

// seriesOf counts the series of a metric where that is due.
func (d *DB) seriesOf(ctx context.Context, m store.ServedMetric) (int, error) {
	began := time.Now()
	d.mu.Lock()
	c, ok := d.series[m.ID]
	d.mu.Unlock()
	if ok && c.generation == m.Generation && (c.version == m.Version || began.Before(c.until)) {
		return c.n, nil
	}
	if err := d.refresh(ctx, "counters"); err != nil {
		return 0, err
	}
	n, err := d.countSeries(ctx, m.Metric, m.Generation)
	if err != nil {
		return 0, err
	}
	c = seriesCount{n: n, generation: m.Generation, version: m.Version, until: time.Now().Add(max(recountAfter, recountShare*time.Since(began)))}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.series[m.ID] = c
	return c.n, nil
}
