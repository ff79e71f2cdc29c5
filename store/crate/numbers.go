package crate

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/statscache/statscache/store"
)

// each calls f for every row of an answer as it comes. Unlike query it can't begin again once f has seen a row, so an
// answer that breaks off is an error.
func (d *DB) each(ctx context.Context, what string, f func(pgx.Rows) error, sql string, args ...any) error {
	var rows pgx.Rows
	err := d.retry(ctx, what, func(context.Context) (err error) {
		rows, err = d.pool.Query(ctx, sql, args...)
		return err
	})
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// EachCell gives the sums over all streams.
func (d *DB) EachCell(ctx context.Context, q store.CellQuery, f func(store.Row) error) error {
	if err := d.refresh(ctx, "counters"); err != nil {
		return err
	}
	return d.each(ctx, "read "+q.Metric, func(r pgx.Rows) error {
		var row store.Row
		if err := r.Scan(&row.Time, &row.Key, &row.N); err != nil {
			return err
		}
		return f(row)
	}, "SELECT bucket, dkey, sum(n)::bigint FROM counters WHERE metric = $1 AND generation = $2 AND gran = $3 AND bucket >= $4 AND bucket < $5 "+
		"GROUP BY bucket, dkey", q.Metric, int64(q.Generation), int64(q.Interval/time.Second), bounded(q.From), bounded(q.To))
}

// EachLatest gives the latest values of a generation's metric.
func (d *DB) EachLatest(ctx context.Context, _, metric string, generation uint32, f func(store.LatestRow) error) error {
	if err := d.refresh(ctx, "latest"); err != nil {
		return err
	}
	return d.each(ctx, "read "+metric, func(r pgx.Rows) error {
		var row store.LatestRow
		var doc string
		if err := r.Scan(&row.Key, &row.Time, &row.ID, &doc); err != nil {
			return err
		}
		row.Value = []byte(doc)
		return f(row)
	}, "SELECT dkey, ts, id, doc FROM latest WHERE metric = $1 AND generation = $2", metric, int64(generation))
}

// DeadLetters lists a plugin's dead letters, newest first.
func (d *DB) DeadLetters(ctx context.Context, plugin string, limit int) (list []store.StreamDeadLetter, total int, err error) {
	if err := d.refresh(ctx, "dead_letters"); err != nil {
		return nil, 0, err
	}
	err = d.query(ctx, "count dead letters", func() {}, func(r pgx.Rows) error { return r.Scan(&total) },
		"SELECT count(*) FROM dead_letters WHERE plugin = $1", plugin)
	if err != nil {
		return nil, 0, err
	}
	err = d.query(ctx, "read dead letters", func() { list = nil }, func(r pgx.Rows) error {
		var l store.StreamDeadLetter
		var seq, at int64
		err := r.Scan(&l.Stream, &seq, &l.ID, &l.Error, &at)
		l.Seq, l.At = uint64(seq), time.UnixMicro(at).UTC()
		list = append(list, l)
		return err
	}, "SELECT stream, seq, id, error, at FROM dead_letters WHERE plugin = $1 ORDER BY at DESC, stream, seq DESC LIMIT $2", plugin, int64(max(limit, 0)))
	return list, total, err
}
