package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/statscache/statscache/store"
)

// bigBucket is how many rows of one bucket are sorted in memory; larger ones are walked in the dictionary's order.
const bigBucket = 4096

// Rows gives rows in order and how many match.
func (d *DB) Rows(ctx context.Context, q store.RowQuery) (rows []store.Row, total int, err error) {
	err = d.read(ctx, "rows of metric "+q.Metric, func(c *conn) error {
		t, err := servingTable(c, q.Metric, q.Interval)
		if err != nil {
			return err
		}
		lo, hi, err := t.span(c, q.From, q.To)
		if err != nil || lo >= hi {
			return err
		}
		n, err := c.int("SELECT count(*) FROM "+t.counts+" WHERE k>=? AND k<?", lo, hi)
		if total = int(n); err != nil || q.Limit <= 0 || q.Offset >= total {
			return err
		}
		p := pager{c: c, t: t, lo: lo, hi: hi, desc: q.Desc, skip: max(0, q.Offset), limit: q.Limit}
		rows, err = p.page()
		return err
	})
	return rows, total, err
}

// table is a metric's tables at an interval, as readers see them.
type table struct {
	metric         string
	seconds        int64
	counts, series string
	dims           int
	byKey, part    string  // as in counts and dictionary, "" where the metric has none
	longer         []table // of longer intervals, ascending, each a multiple of the one before; up to days
}

// servingTable finds the tables of what is shown, as of the read transaction.
func servingTable(c *conn, metric string, interval time.Duration) (t table, err error) {
	no, plugin, generation := int64(0), "", uint32(0)
	if err := c.each("SELECT m.no, m.plugin, m.generation FROM metric m JOIN plugin p ON p.id=m.plugin AND p.serving=m.generation WHERE m.id=?", func(s *sqlite.Stmt) error {
		no, plugin, generation = s.ColumnInt64(0), s.ColumnText(1), uint32(s.ColumnInt64(2))
		return nil
	}, metric); err != nil {
		return t, err
	}
	return tableOf(c, no, metricKey{plugin, generation, metric}, interval)
}

func tableOf(c *conn, no int64, key metricKey, interval time.Duration) (t table, err error) {
	if no == 0 {
		return t, fmt.Errorf("metric: %w", store.ErrUnknown)
	}
	def, err := readDefinition(c, key)
	if err != nil {
		return t, err
	}
	if !slices.Contains(def.Intervals, interval) {
		return t, fmt.Errorf("interval %s: %w", interval, store.ErrUnknown)
	}
	m := newMetric(no, def)
	x := m.intervals[interval]
	t = table{metric: key.id, seconds: x.seconds, counts: x.table, series: m.series.table, dims: len(def.Dimensions), byKey: x.byKey, part: m.series.part}
	t.longer = longerTables(m, t)
	return t, nil
}

func readDefinition(c *conn, key metricKey) (def store.Metric, err error) {
	err = c.each("SELECT metrics FROM generation WHERE plugin=? AND generation=?", func(s *sqlite.Stmt) error {
		def, err = definition(s.ColumnText(0), key.id)
		return err
	}, key.plugin, key.generation)
	return def, err
}

// span turns buckets that start in [from, to) into keys [lo, hi), cut at the horizon.
func (t table) span(c *conn, from, to int64) (lo, hi int64, err error) {
	if err := c.each("SELECT before FROM horizon WHERE metric=? AND seconds=?", func(s *sqlite.Stmt) error {
		from = max(from, s.ColumnInt64(0))
		return nil
	}, t.metric, t.seconds); err != nil {
		return 0, 0, err
	}
	return t.firstKey(from), t.firstKey(to), nil
}

// firstKey is the smallest key of buckets that start at or after a time. Times that no bucket can have are cut.
func (t table) firstKey(at int64) int64 {
	const most = math.MaxInt64 >> store.SeriesBits
	return int64(store.MakeCell(min(max(ceilDiv(at, t.seconds), -most), most), 0))
}

// pager gives one page of rows: buckets in the order of time, inside a bucket by key.
type pager struct {
	c           *conn
	t           table
	lo, hi      int64
	desc        bool
	skip, limit int
	rows        []store.Row
}

// page skips whole buckets inside SQLite and goes on bucket by bucket, so that only buckets of the page are sorted.
func (p *pager) page() ([]store.Row, error) {
	order := ""
	if p.desc {
		order = " DESC"
	}
	if p.skip > 0 {
		k, err := p.c.int("SELECT k FROM "+p.t.counts+" WHERE k>=? AND k<? ORDER BY k"+order+" LIMIT 1 OFFSET ?", p.lo, p.hi, p.skip)
		if err != nil {
			return nil, err
		}
		from, to := p.lo, int64(store.MakeCell(store.Cell(k).Bucket(), 0)) // what lies before the bucket that k is in
		if p.desc {
			from, to = int64(store.MakeCell(store.Cell(k).Bucket()+1, 0)), p.hi
			p.hi = from
		} else {
			p.lo = to
		}
		n, err := p.c.int("SELECT count(*) FROM "+p.t.counts+" WHERE k>=? AND k<?", from, to)
		if err != nil {
			return nil, err
		}
		p.skip -= int(n)
	}
	bucket, list := int64(0), []store.Delta(nil)
	err := p.c.each("SELECT k, n FROM "+p.t.counts+" WHERE k>=? AND k<? ORDER BY k"+order, func(s *sqlite.Stmt) error {
		cell := store.Cell(s.ColumnInt64(0))
		if len(list) > 0 && cell.Bucket() != bucket {
			if err := p.bucket(bucket, list); err != nil || len(p.rows) >= p.limit {
				return cmp.Or(err, errStop)
			}
			list = list[:0]
		}
		bucket = cell.Bucket()
		if len(list) <= bigBucket { // of larger ones only the number of rows matters
			list = append(list, store.Delta{Cell: cell, N: s.ColumnInt64(1)})
		}
		return nil
	}, p.lo, p.hi)
	if err == nil && len(list) > 0 && len(p.rows) < p.limit {
		err = p.bucket(bucket, list)
	}
	return p.rows, err
}

// bucket adds a bucket's rows to the page; list holds them all unless there are more than bigBucket.
func (p *pager) bucket(bucket int64, list []store.Delta) error {
	if len(list) > bigBucket {
		return p.walk(bucket)
	}
	rows := make([]store.Row, 0, len(list))
	for _, x := range list {
		r := store.Row{Time: bucket * p.t.seconds, N: x.N}
		if err := p.c.each("SELECT key FROM "+p.t.series+" WHERE id=?", func(s *sqlite.Stmt) error {
			r.Key = s.ColumnText(0)
			return nil
		}, x.Cell.Series()); err != nil {
			return err
		}
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(a, b store.Row) int { return strings.Compare(a.Key, b.Key) })
	skipped := min(p.skip, len(rows))
	p.skip -= skipped
	p.rows = append(p.rows, rows[skipped:min(len(rows), skipped+p.limit-len(p.rows))]...)
	return nil
}

// walk reads a large bucket in the order of the dictionary's keys.
func (p *pager) walk(bucket int64) error {
	skip := p.skip
	p.skip = 0 // page has skipped the buckets before: what is left lies in the first one
	return p.c.each("SELECT s.key, t.n FROM "+p.t.series+" s CROSS JOIN "+p.t.counts+" t ON t.k=?+s.id ORDER BY s.key LIMIT ? OFFSET ?", func(s *sqlite.Stmt) error {
		p.rows = append(p.rows, store.Row{Time: bucket * p.t.seconds, Key: s.ColumnText(0), N: s.ColumnInt64(1)})
		return nil
	}, int64(store.MakeCell(bucket, 0)), p.limit-len(p.rows), skip)
}

// Latest gives the latest values of a metric, by key.
func (d *DB) Latest(ctx context.Context, metric string) (out []store.LatestRow, err error) {
	err = d.read(ctx, "latest values of metric "+metric, func(c *conn) error {
		no, err := c.int("SELECT m.no FROM metric m JOIN plugin p ON p.id=m.plugin AND p.serving=m.generation WHERE m.id=?", metric)
		if err != nil {
			return err
		}
		if no == 0 {
			return store.ErrUnknown
		}
		return eachLatest(c, no, func(r store.LatestRow) error {
			out = append(out, r)
			return nil
		})
	})
	return out, err
}

func eachLatest(c *conn, no int64, f func(store.LatestRow) error) error {
	return c.each("SELECT key, time, event, value FROM latest WHERE metric=? ORDER BY key", func(s *sqlite.Stmt) error {
		return f(store.LatestRow{Key: s.ColumnText(0), Time: s.ColumnInt64(1), ID: s.ColumnText(2), Value: columnBytes(s, 3)})
	}, no)
}

// EachLatest calls f for every latest value of a generation's metric. While it runs the file's log can't be shortened.
func (d *DB) EachLatest(ctx context.Context, plugin, metric string, generation uint32, f func(store.LatestRow) error) error {
	return d.read(ctx, "latest values of metric "+metric, func(c *conn) error {
		no, err := c.int("SELECT no FROM metric WHERE plugin=? AND generation=? AND id=?", plugin, generation, metric)
		if err != nil {
			return err
		}
		if no == 0 {
			return store.ErrUnknown
		}
		return keepStop(eachLatest(c, no, f))
	})
}

// keepStop is for errors of a caller's function: none of them is ours.
func keepStop(err error) error {
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

// Span gives the starts of the first and the last bucket of a metric at an interval.
func (d *DB) Span(ctx context.Context, metric string, interval time.Duration) (first, last int64, ok bool, err error) {
	err = d.read(ctx, "span of metric "+metric, func(c *conn) error {
		t, err := servingTable(c, metric, interval)
		if err != nil {
			return err
		}
		lo, hi, err := t.span(c, math.MinInt64, math.MaxInt64)
		if err != nil {
			return err
		}
		for _, x := range []struct {
			order string
			at    *int64
		}{{"", &first}, {" DESC", &last}} {
			if err := c.each("SELECT k FROM "+t.counts+" WHERE k>=? AND k<? ORDER BY k"+x.order+" LIMIT 1", func(s *sqlite.Stmt) error {
				*x.at, ok = store.Cell(s.ColumnInt64(0)).Bucket()*t.seconds, true
				return nil
			}, lo, hi); err != nil {
				return err
			}
		}
		return nil
	})
	return first, last, ok, err
}

// EachCell calls f for every row of a generation. While it runs the file's log can't be shortened.
func (d *DB) EachCell(ctx context.Context, q store.CellQuery, f func(store.Row) error) error {
	return d.read(ctx, "cells of metric "+q.Metric, func(c *conn) error {
		no, err := c.int("SELECT no FROM metric WHERE plugin=? AND generation=? AND id=?", q.Plugin, q.Generation, q.Metric)
		if err != nil {
			return err
		}
		t, err := tableOf(c, no, metricKey{q.Plugin, q.Generation, q.Metric}, q.Interval)
		if err != nil {
			return err
		}
		lo, hi, err := t.span(c, q.From, q.To)
		if err != nil {
			return err
		}
		return c.each("SELECT t.k, t.n, s.key FROM "+t.counts+" t CROSS JOIN "+t.series+" s ON s.id=t.k&16777215 WHERE t.k>=? AND t.k<? ORDER BY t.k", func(s *sqlite.Stmt) error {
			return f(store.Row{Time: store.Cell(s.ColumnInt64(0)).Bucket() * t.seconds, N: s.ColumnInt64(1), Key: s.ColumnText(2)})
		}, lo, hi)
	})
}

// DeadLetters lists a plugin's dead letters, newest first, and how many there are.
func (d *DB) DeadLetters(ctx context.Context, plugin string, limit int) (list []store.StreamDeadLetter, total int, err error) {
	err = d.read(ctx, "dead letters of plugin "+plugin, func(c *conn) error {
		n, err := c.int("SELECT count(*) FROM dead WHERE plugin=?", plugin)
		if total = int(n); err != nil {
			return err
		}
		return c.each("SELECT stream, seq, event, error, at FROM dead WHERE plugin=? ORDER BY at DESC, id DESC LIMIT ?", func(s *sqlite.Stmt) error {
			list = append(list, store.StreamDeadLetter{Stream: s.ColumnText(0), DeadLetter: store.DeadLetter{
				Seq: uint64(s.ColumnInt64(1)), ID: s.ColumnText(2), Error: s.ColumnText(3), At: time.UnixMicro(s.ColumnInt64(4)).UTC()}})
			return nil
		}, plugin, max(limit, 0))
	})
	return list, total, err
}
