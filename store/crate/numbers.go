package crate

import (
	"context"
	"math"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/statscache/statscache/store"
)

const (
	everAfter = math.MaxInt64 - 1
	// windowRows is about how many rows of counts are read or removed by one statement: it must end in time.
	windowRows = 50_000
)

// windows calls f for spans of buckets [from, to) with about windowRows rows each, until to.
func (d *DB) windows(ctx context.Context, from, to int64, where string, args []any, f func(from, to int64) error) error {
	from, to = bounded(from), bounded(to)
	args = append(args, from, to)
	n := len(args)
	sql := "SELECT bucket FROM counters WHERE " + where + " AND bucket >= " + parameter(n-1) + " AND bucket < " + parameter(n) +
		" ORDER BY bucket LIMIT 1 OFFSET " + strconv.Itoa(windowRows)
	for from < to {
		end, found := to, false
		args[n-2] = from
		err := d.query(ctx, "measure counters", func() { end, found = to, false }, func(r pgx.Rows) error {
			found = true
			return r.Scan(&end)
		}, sql, args...)
		if err != nil {
			return err
		}
		if found {
			end++ // all of a bucket at once
		}
		if err := f(from, end); err != nil {
			return err
		}
		from = end
	}
	return nil
}

func parameter(n int) string { return "$" + strconv.Itoa(n) }

// EachCell gives the sums over all streams.
func (d *DB) EachCell(ctx context.Context, q store.CellQuery, f func(store.Row) error) error {
	if _, err := d.metricOf(ctx, q.Plugin, q.Generation, q.Metric, q.Interval); err != nil {
		return err
	}
	if err := d.refresh(ctx, "counters"); err != nil {
		return err
	}
	const where = "metric = $1 AND generation = $2 AND gran = $3"
	gran := int64(q.Interval / time.Second)
	args := []any{q.Metric, int64(q.Generation), gran}
	return d.windows(ctx, max(q.From, d.behind(q.Metric, gran)), q.To, where, args, func(from, to int64) error {
		type sum struct {
			n      int64
			mended bool
		}
		var sums map[store.Row]sum // by time and key
		err := d.query(ctx, "read "+q.Metric, func() { sums = map[store.Row]sum{} }, func(r pgx.Rows) error {
			var k store.Row
			var n int64
			var slot string
			err := r.Scan(&k.Time, &k.Key, &slot, &n)
			x := sums[k]
			sums[k] = sum{x.n + n, x.mended || slot == repairStream}
			return err
		}, "SELECT bucket, dkey, slot, n FROM counters WHERE "+where+" AND bucket >= $4 AND bucket < $5", append(args, from, to)...)
		if err != nil {
			return err
		}
		for row, x := range sums {
			if x.n == 0 && x.mended {
				continue // a repair has removed it
			}
			row.N = x.n
			if err := f(row); err != nil {
				return err
			}
		}
		return nil
	})
}

// EachLatest gives the latest values of a generation's metric.
func (d *DB) EachLatest(ctx context.Context, plugin, metric string, generation uint32, f func(store.LatestRow) error) error {
	if _, err := d.metricOf(ctx, plugin, generation, metric, 0); err != nil {
		return err
	}
	list, err := d.latestOf(ctx, metric, generation)
	if err != nil {
		return err
	}
	for _, row := range list {
		if err := f(row); err != nil {
			return err
		}
	}
	return nil
}

// latestOf reads all latest values of a generation's metric, in no order.
func (d *DB) latestOf(ctx context.Context, metric string, generation uint32) (list []store.LatestRow, err error) {
	if err := d.refresh(ctx, "latest"); err != nil {
		return nil, err
	}
	err = d.query(ctx, "read "+metric, func() { list = nil }, func(r pgx.Rows) error {
		var row store.LatestRow
		var doc string
		err := r.Scan(&row.Key, &row.Time, &row.ID, &doc)
		row.Value = []byte(doc)
		list = append(list, row)
		return err
	}, "SELECT dkey, ts, id, doc FROM latest WHERE metric = $1 AND generation = $2", metric, int64(generation))
	return list, err
}

// DeadLetters lists a plugin's dead letters, newest first.
func (d *DB) DeadLetters(ctx context.Context, plugin string, limit int) (list []store.StreamDeadLetter, total int, err error) {
	if err := d.refresh(ctx, "dead_letters"); err != nil {
		return nil, 0, err
	}
	err = d.query(ctx, "count dead letters", func() {}, func(r pgx.Rows) error { return r.Scan(&total) },
		"SELECT count(*) FROM dead_letters WHERE plugin = $1 AND "+letterThere, plugin)
	if err != nil {
		return nil, 0, err
	}
	err = d.query(ctx, "read dead letters", func() { list = nil }, func(r pgx.Rows) error {
		l, err := scanLetter(r)
		list = append(list, l)
		return err
	}, "SELECT stream, seq, id, error, at FROM dead_letters WHERE plugin = $1 AND "+letterThere+" ORDER BY at DESC, stream, seq DESC LIMIT $2", plugin, int64(max(limit, 0)))
	return list, total, err
}
