package crate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/statscache/statscache/store"
)

// repairStream is the slot of what repairs add. Its checkpoint is one of each generation: a repair is a commit of it,
// so that it happens once and whole, and goes together with whatever is counted meanwhile. No inbox has this name.
const repairStream = store.Loose

const (
	replaceLatest = "UPDATE latest SET ts = $1, id = $2, doc = $3 WHERE metric = $4 AND generation = $5 AND dkey = $6 AND _seq_no = $7 AND _primary_term = $8"
	removeLatest  = "DELETE FROM latest WHERE metric = $1 AND generation = $2 AND dkey = $3 AND _seq_no = $4 AND _primary_term = $5"
)

// Repair adds what the counts lack, read while the generation stands where it should: that difference is right whenever
// it is added. Latest values are replaced as long as nobody else has changed them since.
func (d *DB) Repair(ctx context.Context, r store.Repair) error {
	metrics, err := d.metricsOf(ctx, r.Plugin, r.Generation)
	if err != nil {
		return err
	}
	c, err := d.looseWriter(ctx, r.Plugin, r.Generation, repairStream)
	if err != nil {
		return err
	}
	if err := c.finish(ctx); err != nil {
		return err
	}
	p := &plan{Version: planVersion, From: c.cur.row.intent, To: c.cur.row.intent + 1}
	if err := d.standsAt(ctx, r); err != nil {
		return err
	}
	if err := errors.Join(d.refresh(ctx, "counters"), d.planCells(ctx, p, metrics, r), d.planLatest(ctx, p, metrics, r)); err != nil {
		return err
	}
	if err := d.standsAt(ctx, r); err != nil || p.empty() {
		return err
	}
	next := c.cur.row
	next.pos, next.intent = next.intent, p.To
	if next.redo, err = p.encode(); err != nil {
		return err
	}
	c.next, c.to, c.plan = &next, p.To, p
	return c.finish(ctx)
}

// looseWriter takes the checkpoint of a generation's repairs, or of what was taken back in a stream.
func (d *DB) looseWriter(ctx context.Context, plugin string, generation uint32, stream string) (*checkpoint, error) {
	key := store.CheckpointKey{Plugin: plugin, Generation: generation, Stream: stream}
	c := &checkpoint{db: d, key: key, guard: d.checkpointGuard(key)}
	var err error
	c.cur, err = acquire(ctx, d, c.guard, nil)
	return c, err
}

// finishLoose does what is left of a repair or a revival that was broken off.
func (d *DB) finishLoose(ctx context.Context, plugin string, generation uint32, stream string) error {
	key := store.CheckpointKey{Plugin: plugin, Generation: generation, Stream: stream}
	left := false
	err := d.retry(ctx, "read repairs of "+plugin, func(ctx context.Context) error {
		h, err := d.checkpointGuard(key).read(ctx)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		left = h.row.redo != ""
		return err
	})
	if err != nil || !left {
		return err
	}
	c, err := d.looseWriter(ctx, plugin, generation, stream)
	if err != nil {
		return err
	}
	return c.finish(ctx)
}

// standsAt compares a generation's positions with those that its numbers were read at.
func (d *DB) standsAt(ctx context.Context, r store.Repair) error {
	now, err := d.Positions(ctx, r.Plugin, r.Generation)
	if err != nil {
		return err
	}
	if !slices.Equal(now, r.At) || slices.ContainsFunc(now, func(p store.Position) bool { return p.Pos != p.Intent }) {
		return store.ErrMoved
	}
	return nil
}

// planCells adds the difference of each cell that is not behind its horizon.
func (d *DB) planCells(ctx context.Context, p *plan, metrics []store.Metric, r store.Repair) error {
	rooms := map[string]*room{}
	seen := map[store.CellFix]bool{}
	for _, f := range r.Cells {
		m, err := pick(metrics, f.Metric, f.Interval)
		if err == nil && f.Interval <= 0 {
			err = fmt.Errorf("%w interval %s of metric %s", store.ErrUnknown, f.Interval, f.Metric)
		}
		if err != nil {
			return err
		}
		gran := int64(f.Interval / time.Second)
		key := keyText(f.Key)
		switch {
		case f.Time%gran != 0:
			return fmt.Errorf("metric %s at interval %s: no bucket starts at %d", f.Metric, f.Interval, f.Time)
		case len(key) > store.MaxKeyBytes:
			return fmt.Errorf("metric %s: a key of %d bytes, want at most %d", f.Metric, len(key), store.MaxKeyBytes)
		case f.N > maxDelta || f.N < -maxDelta:
			return fmt.Errorf("metric %s: %d is too much for one cell", f.Metric, f.N)
		}
		cell := f
		cell.Key, cell.N = key, 0
		if f.Time < d.behind(f.Metric, gran) || seen[cell] {
			continue
		}
		seen[cell] = true
		n, slots := int64(0), 0
		err = d.query(ctx, "read a count of "+f.Metric, func() { n, slots = 0, 0 }, func(row pgx.Rows) error { return row.Scan(&n, &slots) },
			"SELECT coalesce(sum(n), 0)::bigint, count(*)::int FROM counters WHERE metric = $1 AND generation = $2 AND gran = $3 AND bucket = $4 AND dkey = $5",
			f.Metric, int64(r.Generation), gran, f.Time, key)
		if err != nil {
			return err
		}
		if n == f.N {
			continue
		}
		if slots == 0 && key != store.OtherKey {
			if rooms[m.ID] == nil {
				rooms[m.ID] = &room{db: d, generation: r.Generation, metric: m}
			}
			if err := rooms[m.ID].take(ctx, key); err != nil {
				return err
			}
		}
		p.Counters = append(p.Counters, countPlan{Metric: f.Metric, Gran: gran, Dimensions: len(m.Dimensions),
			Buckets: []int64{f.Time}, Keys: []string{key}, N: []int64{f.N - n}})
	}
	return nil
}

// room keeps a metric's series limit for keys that a repair brings.
type room struct {
	db         *DB
	generation uint32
	metric     store.Metric
	known      map[string]bool
}

func (r *room) take(ctx context.Context, key string) error {
	if r.known == nil {
		known, err := r.db.loadSeries(ctx, r.metric, r.generation)
		if err != nil {
			return err
		}
		r.known = known
	}
	if !r.known[key] && len(r.known) >= seriesLimit(r.metric) {
		return fmt.Errorf("metric %s: the series limit of %d leaves no room for %q: recount the metric instead", r.metric.ID, seriesLimit(r.metric), key)
	}
	r.known[key] = true
	return nil
}

// planLatest notes what becomes of latest values, each with the version that its row has now.
func (d *DB) planLatest(ctx context.Context, p *plan, metrics []store.Metric, r store.Repair) error {
	for _, f := range r.Latest {
		if _, err := pick(metrics, f.Metric, 0); err != nil {
			return fmt.Errorf("latest value: %w", err)
		}
		var puts plan
		if f.Row.Value != nil {
			put := store.Put{Metric: f.Metric, Key: f.Row.Key, Time: f.Row.Time, ID: f.Row.ID, Value: f.Row.Value}
			if err := puts.addPuts(newSeriesSet(metrics, nil), []store.Put{put}); err != nil {
				return err
			}
		}
		x := fixPlan{Metric: f.Metric, Key: keyText(f.Row.Key)}
		found, same := false, false
		err := d.query(ctx, "read a latest value of "+f.Metric, func() { found = false }, func(row pgx.Rows) error {
			found = true
			var ts int64
			var id, doc string
			if err := row.Scan(&ts, &id, &doc, &x.SeqNo, &x.Term); err != nil {
				return err
			}
			same = len(puts.Latest) > 0 && puts.Latest[0].Time == ts && puts.Latest[0].ID == id && puts.Latest[0].Value == doc
			return nil
		}, "SELECT ts, id, doc, _seq_no, _primary_term FROM latest WHERE metric = $1 AND generation = $2 AND dkey = $3", f.Metric, int64(r.Generation), x.Key)
		switch {
		case err != nil:
			return err
		case !found:
			p.Latest = append(p.Latest, puts.Latest...)
		case !same:
			if f.Row.Value != nil {
				q := puts.Latest[0]
				x.Time, x.ID, x.Value = q.Time, q.ID, &q.Value
			}
			p.Fixes = append(p.Fixes, x)
		}
	}
	return nil
}

// sendFixes replaces latest values. One that is no longer what it was has been replaced before, or is newer.
func (d *DB) sendFixes(ctx context.Context, key store.CheckpointKey, list []fixPlan) error {
	for _, f := range list {
		var err error
		if f.Value == nil {
			err = d.exec(ctx, "remove a latest value", removeLatest, f.Metric, int64(key.Generation), f.Key, f.SeqNo, f.Term)
		} else {
			err = d.exec(ctx, "replace a latest value", replaceLatest, f.Time, f.ID, *f.Value, f.Metric, int64(key.Generation), f.Key, f.SeqNo, f.Term)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
