package crate

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/statscache/statscache/store"
)

const (
	// wholeWithin is how long a read tries to see whole commits only: writers of other processes may be too fast for it.
	wholeWithin = 3 * time.Second
	// patientReads is how often it tries before it holds up those of this process.
	patientReads = 2
	spanArgs     = 5 // arguments that say which counts
)

// moment is a state of a generation's counts in which every stream stands at a commit's end.
//
// The rows of a commit become visible one by one. So a row holds what it was before the last commit that changed it:
// at the moment that the settled positions of the streams make, a row of a later commit is what it was before. Only a
// row that two commits have changed since is lost to it; then the read begins again.
type moment struct {
	where string // metric, generation and interval, buckets in a span
	args  []any  // of where, then of the rest
	n     string // what a row counts at the moment
	seen  string // 1 where it was there
	torn  string // 1 where that is lost
	least int64  // of the settled positions
	alone bool   // there is one stream: each row is a cell
}

// momentOf reads the settled positions, then makes everything up to them visible.
func (d *DB) momentOf(ctx context.Context, m store.ServedMetric, interval time.Duration, from, to int64) (*moment, error) {
	if err := d.refresh(ctx, "checkpoints"); err != nil {
		return nil, err
	}
	x := &moment{where: "metric = $1 AND generation = $2 AND gran = $3 AND bucket >= $4 AND bucket < $5", n: "n", seen: "1", torn: "0",
		args: []any{m.ID, int64(m.Generation), int64(interval / time.Second), bounded(from), bounded(to)}}
	var cases strings.Builder
	streams := 0
	reset := func() {
		streams = 0
		x.args, x.least = x.args[:spanArgs], math.MaxInt64
		cases.Reset()
	}
	err := d.query(ctx, "read positions", reset, func(r pgx.Rows) error {
		var stream string
		var pos int64
		var retired bool
		if err := r.Scan(&stream, &pos, &retired); err != nil {
			return err
		}
		if streams++; retired {
			return nil // settled for good
		}
		x.args, x.least = append(x.args, stream, pos), min(x.least, pos)
		fmt.Fprintf(&cases, " WHEN $%d THEN $%d::bigint", len(x.args)-1, len(x.args))
		return nil
	}, "SELECT stream, pos, retired FROM checkpoints WHERE plugin = $1 AND generation = $2", m.Plugin, int64(m.Generation))
	if err != nil {
		return nil, err
	}
	x.alone = streams == 1
	if cases.Len() > 0 {
		at := fmt.Sprintf("CASE slot%s ELSE %d END", cases.String(), int64(math.MaxInt64))
		x.n = "CASE WHEN pos > " + at + " THEN was ELSE n END"
		x.seen = "CASE WHEN pos > " + at + " AND was_pos = 0 THEN 0 ELSE 1 END"
		x.torn = "CASE WHEN was_pos > " + at + " THEN 1 ELSE 0 END"
	}
	return x, d.refresh(ctx, "counters")
}

// cells is a query of the cells of the moment: bucket, dkey, n and shown. One that a repair has set to 0 is not
// shown: it can't be removed, since a statement that comes late would make it again.
func (x *moment) cells() string {
	if x.alone {
		return "SELECT bucket, dkey, " + x.n + " AS n, " + x.seen + " = 1 AS shown FROM counters WHERE " + x.where
	}
	return "SELECT bucket, dkey, sum(" + x.n + ") AS n, max(" + x.seen + ") = 1 AND (sum(" + x.n + ") <> 0 OR " +
		"max(CASE WHEN slot = '" + repairStream + "' THEN 1 ELSE 0 END) = 0) AS shown " +
		"FROM counters WHERE " + x.where + " GROUP BY bucket, dkey"
}

// Rows gives rows in order and how many match.
func (d *DB) Rows(ctx context.Context, q store.RowQuery) (rows []store.Row, total int, err error) {
	if q.Interval <= 0 {
		return nil, 0, fmt.Errorf("%w interval %s of metric %s", store.ErrUnknown, q.Interval, q.Metric)
	}
	m, err := d.served(ctx, q.Metric, q.Interval)
	if err != nil {
		return nil, 0, err
	}
	from := max(q.From, d.behind(q.Metric, int64(q.Interval/time.Second)))
	if from >= q.To {
		return nil, 0, nil
	}
	err = d.atMoment(ctx, m, q.Interval, from, q.To, func(x *moment) error {
		if rows, err = d.page(ctx, x, q); err != nil {
			return err
		}
		return d.query(ctx, "count rows of "+q.Metric, func() {}, func(r pgx.Rows) error { return r.Scan(&total) },
			"SELECT count(*) FROM ("+x.cells()+") AS t WHERE shown", x.args...)
	})
	return rows, total, err
}

// atMoment calls f with a moment that was not lost while it read. As long as nothing is lost to it afterwards, nothing
// was before.
func (d *DB) atMoment(ctx context.Context, m store.ServedMetric, interval time.Duration, from, to int64, f func(*moment) error) error {
	began := time.Now()
	for try := 0; ; try++ {
		if try == patientReads {
			defer d.commits.hold()()
		}
		x, err := d.momentOf(ctx, m, interval, from, to)
		if err != nil {
			return err
		}
		if err := f(x); err != nil {
			return err
		}
		torn := 0
		err = d.query(ctx, "look for later commits", func() {}, func(r pgx.Rows) error { return r.Scan(&torn) },
			"SELECT coalesce(max("+x.torn+"), 0)::int FROM counters WHERE "+x.where+" AND was_pos > "+strconv.FormatInt(x.least, 10), x.args...)
		if err != nil || torn == 0 || try > 2*patientReads && time.Since(began) > wholeWithin {
			return err
		}
	}
}

func (d *DB) page(ctx context.Context, x *moment, q store.RowQuery) (rows []store.Row, err error) {
	if q.Limit <= 0 || q.Offset > math.MaxInt32 {
		return nil, nil
	}
	order := ""
	if q.Desc {
		order = " DESC"
	}
	sql := fmt.Sprintf("SELECT bucket, dkey, n FROM (%s) AS t WHERE shown ORDER BY bucket%s, dkey LIMIT %d OFFSET %d",
		x.cells(), order, min(q.Limit, math.MaxInt32-max(q.Offset, 0)), max(q.Offset, 0))
	err = d.query(ctx, "read rows of "+q.Metric, func() { rows = nil }, func(r pgx.Rows) error {
		var row store.Row
		err := r.Scan(&row.Time, &row.Key, &row.N)
		rows = append(rows, row)
		return err
	}, sql, x.args...)
	return rows, err
}

// Latest gives the latest values of a metric, by key.
func (d *DB) Latest(ctx context.Context, metric string) ([]store.LatestRow, error) {
	m, err := d.served(ctx, metric, 0)
	if err != nil {
		return nil, err
	}
	list, err := d.latestOf(ctx, metric, m.Generation)
	slices.SortFunc(list, func(a, b store.LatestRow) int { return cmp.Compare(a.Key, b.Key) })
	return list, err
}

// Span gives the starts of the first and the last bucket.
func (d *DB) Span(ctx context.Context, metric string, interval time.Duration) (first, last int64, ok bool, err error) {
	if interval <= 0 {
		return 0, 0, false, fmt.Errorf("%w interval %s of metric %s", store.ErrUnknown, interval, metric)
	}
	m, err := d.served(ctx, metric, interval)
	if err != nil {
		return 0, 0, false, err
	}
	if err := d.refresh(ctx, "counters"); err != nil {
		return 0, 0, false, err
	}
	gran := int64(interval / time.Second)
	var lo, hi *int64
	err = d.query(ctx, "read the span of "+metric, func() {}, func(r pgx.Rows) error { return r.Scan(&lo, &hi) },
		"SELECT min(bucket), max(bucket) FROM counters WHERE metric = $1 AND generation = $2 AND gran = $3 AND bucket >= $4",
		metric, int64(m.Generation), gran, bounded(d.behind(metric, gran)))
	if err != nil || lo == nil || hi == nil {
		return 0, 0, false, err
	}
	return *lo, *hi, true, nil
}

// gate holds up who waits at it, while it is held.
type gate struct {
	mu   sync.Mutex
	n    int
	open chan struct{}
}

// hold closes the gate until what it gives is called.
func (g *gate) hold() (release func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n++; g.n == 1 {
		g.open = make(chan struct{})
	}
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.n--; g.n == 0 {
			close(g.open)
		}
	}
}

// wait waits until the gate is open or ctx ends.
func (g *gate) wait(ctx context.Context) {
	g.mu.Lock()
	open, held := g.open, g.n > 0
	g.mu.Unlock()
	if held {
		select {
		case <-ctx.Done():
		case <-open:
		}
	}
}
