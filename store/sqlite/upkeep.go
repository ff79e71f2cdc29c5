package sqlite

import (
	"context"
	"fmt"
	"math"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/statscache/statscache/internal/failpoint"
	"github.com/statscache/statscache/store"
)

// Rows and blocks removed in one transaction: the writer is held no longer than for that.
const (
	rowsPerStep   = 10_000
	blocksPerStep = 64
)

// Horizons gives what retention has removed so far.
func (d *DB) Horizons(ctx context.Context) (h store.Horizons, err error) {
	h.Archive = math.MinInt64
	err = d.read(ctx, "horizons", func(c *conn) error {
		if err := c.each("SELECT v FROM setting WHERE k=?", func(s *sqlite.Stmt) error {
			h.Archive = s.ColumnInt64(0)
			return nil
		}, horizonKey); err != nil {
			return err
		}
		return c.each("SELECT metric, seconds, before FROM horizon ORDER BY metric, seconds", func(s *sqlite.Stmt) error {
			h.Counters = append(h.Counters, store.Horizon{Metric: s.ColumnText(0), Interval: time.Duration(s.ColumnInt64(1)) * time.Second, Before: s.ColumnInt64(2)})
			return nil
		})
	})
	return h, err
}

// ExpireCounters records the horizons, then removes the rows behind them, of all generations.
func (d *DB) ExpireCounters(ctx context.Context, list []store.Horizon) (rows int64, err error) {
	if err := d.around(failpoint.RetentionHorizon, func() error { return d.moveHorizons(ctx, list) }); err != nil {
		return 0, err
	}
	err = d.around(failpoint.RetentionCounters, func() (err error) {
		rows, err = d.removeBehind(ctx, list)
		return err
	})
	return rows, err
}

// removeBehind removes the rows behind horizons.
func (d *DB) removeBehind(ctx context.Context, list []store.Horizon) (rows int64, err error) {
	for _, h := range list {
		var tables []*counts
		err := d.read(ctx, "expire metric "+h.Metric, func(c *conn) error {
			return c.each("SELECT no FROM metric WHERE id=?", func(s *sqlite.Stmt) error {
				m := newMetric(s.ColumnInt64(0), store.Metric{Intervals: []time.Duration{h.Interval}})
				there, err := c.has("SELECT 1 FROM sqlite_schema WHERE type='table' AND name=?", m.intervals[h.Interval].table)
				if there {
					tables = append(tables, m.intervals[h.Interval])
				}
				return err
			}, h.Metric)
		})
		if err != nil {
			return rows, err
		}
		for _, t := range tables {
			n, err := d.removeRows(ctx, t, int64(store.MakeCell(ceilDiv(h.Before, t.seconds), 0)))
			if rows += n; err != nil {
				return rows, err
			}
		}
	}
	return rows, nil
}

// moveHorizons records the horizons that move forward; from then on nothing behind them is written or shown.
func (d *DB) moveHorizons(ctx context.Context, list []store.Horizon) error {
	raised := map[string]uint64{}
	moved := map[horizonOf]int64{}
	err := d.write(ctx, "record horizons", func(c *conn) (err error) {
		for _, h := range list {
			if h.Interval < time.Second || h.Interval%time.Second != 0 {
				return fmt.Errorf("metric %s: interval %s is not whole seconds", h.Metric, h.Interval)
			}
			key := horizonOf{h.Metric, int64(h.Interval / time.Second)}
			if err := c.exec("INSERT INTO horizon VALUES(?,?,?) ON CONFLICT DO UPDATE SET before=excluded.before WHERE excluded.before>before", key.metric, key.seconds, h.Before); err != nil {
				return err
			}
			if c.c.Changes() == 0 {
				continue
			}
			moved[key] = h.Before
			if raised[h.Metric], err = d.raiseVersion(c, h.Metric); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	d.ledger.mu.Lock()
	for key, before := range moved {
		if old, ok := d.ledger.horizons[key]; !ok || before > old {
			d.ledger.horizons[key] = before
		}
	}
	d.ledger.mu.Unlock()
	d.publish(raised)
	return nil
}

// removeRows removes the rows of a table before a key, in steps.
func (d *DB) removeRows(ctx context.Context, t *counts, before int64) (rows int64, err error) {
	for {
		n := int64(0)
		err := d.write(ctx, "remove rows of "+t.table, func(c *conn) error {
			upto := before
			if err := c.each("SELECT k FROM "+t.table+" WHERE k<? ORDER BY k LIMIT 1 OFFSET ?", func(s *sqlite.Stmt) error {
				upto = s.ColumnInt64(0)
				return nil
			}, before, rowsPerStep); err != nil {
				return err
			}
			if t.byKey != "" {
				if err := c.each("SELECT k FROM "+t.table+" WHERE k<?", func(s *sqlite.Stmt) error {
					return c.exec("DELETE FROM "+t.byKey+" WHERE k=?", byKey(store.Cell(s.ColumnInt64(0))))
				}, upto); err != nil {
					return err
				}
			}
			err := c.exec("DELETE FROM "+t.table+" WHERE k<?", upto)
			n = int64(c.c.Changes())
			return err
		})
		if rows += n; err != nil || n < rowsPerStep {
			return rows, err
		}
	}
}

// sweep removes the tables of a plugin's generations that are neither shown nor being built.
func (d *DB) sweep(ctx context.Context, plugin string) error {
	type gone struct {
		no  int64
		key metricKey
	}
	var list []gone
	err := d.read(ctx, "old generations of plugin "+plugin, func(c *conn) error {
		return c.each("SELECT m.no, m.generation, m.id FROM metric m JOIN plugin p ON p.id=m.plugin WHERE p.id=? AND m.generation NOT IN (p.serving, p.building)", func(s *sqlite.Stmt) error {
			list = append(list, gone{s.ColumnInt64(0), metricKey{plugin, uint32(s.ColumnInt64(1)), s.ColumnText(2)}})
			return nil
		}, plugin)
	})
	if err != nil {
		return err
	}
	for _, g := range list {
		if err := d.removeMetric(ctx, g.no, g.key); err != nil {
			return err
		}
	}
	return d.write(ctx, "old generations of plugin "+plugin, func(c *conn) error {
		for _, table := range []string{"generation", "dead"} {
			if err := c.exec("DELETE FROM "+table+" WHERE plugin=? AND generation NOT IN (SELECT serving FROM plugin WHERE id=? UNION SELECT building FROM plugin WHERE id=?)", plugin, plugin, plugin); err != nil {
				return err
			}
		}
		return nil
	})
}

// removeMetric empties a metric's tables in steps, then drops them.
func (d *DB) removeMetric(ctx context.Context, no int64, key metricKey) error {
	var m *metric
	if err := d.read(ctx, "definition of metric "+key.id, func(c *conn) error {
		def, err := readDefinition(c, key)
		m = newMetric(no, def)
		return err
	}); err != nil {
		return err
	}
	for _, t := range m.intervals {
		if _, err := d.removeRows(ctx, t, math.MaxInt64); err != nil {
			return err
		}
	}
	return d.write(ctx, "drop metric "+key.id, func(c *conn) error {
		tables := []string{m.series.table}
		if m.series.part != "" {
			tables = append(tables, m.series.part)
		}
		for _, t := range m.intervals {
			tables = append(tables, t.tables()...)
		}
		for _, t := range tables {
			c.forget(upsertQuery(t, 1), upsertQuery(t, rowsAtOnce))
			q := "DROP TABLE IF EXISTS " + t
			if err := c.exec(q); err != nil {
				return err
			}
			c.forget(q)
		}
		if err := c.exec("DELETE FROM latest WHERE metric=?", no); err != nil {
			return err
		}
		if err := c.exec("DELETE FROM metric WHERE no=?", no); err != nil {
			return err
		}
		return d.ledger.reload(c)
	})
}

// ExpireArchive records the archive's horizon and removes the blocks that lie wholly behind it. The hashes of a
// segment stay until all of it is behind: until then a copy of one of its events is still told from a new one.
func (d *DB) ExpireArchive(ctx context.Context, before int64) (events int64, err error) {
	if err := d.write(ctx, "record the archive's horizon", func(c *conn) (err error) {
		if err := raiseSetting(c, horizonKey, before); err != nil {
			return err
		}
		if d.arch, err = loadArchive(c, d); err != nil {
			return err
		}
		d.archDirty = true
		return d.arch.mergeOld(c, before-timeTolerance)
	}); err != nil {
		return 0, err
	}
	before -= timeTolerance // a copy whose time was rounded up must still find what it is a copy of
	err = d.around(failpoint.RetentionArchive, func() error {
		for {
			n, more, err := d.expireBlocks(ctx, before)
			if events += n; err != nil {
				return err
			}
			if !more {
				return d.expireSegments(ctx, before)
			}
		}
	})
	return events, err
}

func raiseSetting(c *conn, key string, v int64) error {
	return c.exec("INSERT INTO setting VALUES(?,?) ON CONFLICT DO UPDATE SET v=excluded.v WHERE excluded.v>v", key, v)
}

// mergeOld merges the small blocks of streams that have nothing newer: whole blocks can be removed.
func (a *archive) mergeOld(c *conn, before int64) error {
	for _, s := range a.streams {
		for lane := range s.hot {
			old := true
			for _, b := range s.hot[lane].blocks {
				_, hi := b.TimeRange()
				old = old && hi < before
			}
			if old {
				if err := a.mergeHot(c, s, lane); err != nil {
					return err
				}
				if err := a.sealFull(c); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// expireBlocks removes some blocks that lie wholly behind.
func (d *DB) expireBlocks(ctx context.Context, before int64) (events int64, more bool, err error) {
	err = d.write(ctx, "expire blocks", func(c *conn) error {
		d.arch = nil
		var list []int64
		next, err := c.int("SELECT max(id) FROM blk")
		if err != nil {
			return err
		}
		if err := raiseSetting(c, nextBlockKey, next+1); err != nil {
			return err
		}
		if err := c.each("SELECT id, n FROM blk WHERE tmax<? LIMIT ?", func(s *sqlite.Stmt) error {
			list = append(list, s.ColumnInt64(0))
			events += s.ColumnInt64(1)
			return nil
		}, before, blocksPerStep); err != nil {
			return err
		}
		more = len(list) == blocksPerStep
		for _, id := range list {
			if err := c.exec("DELETE FROM body WHERE id BETWEEN ? AND ?", id<<frameBits, (id+1)<<frameBits-1); err != nil {
				return err
			}
			if err := c.exec("DELETE FROM col WHERE id=?", id); err != nil {
				return err
			}
			if err := c.exec("DELETE FROM blk WHERE id=?", id); err != nil {
				return err
			}
		}
		return nil
	})
	return events, more, err
}

// expireSegments removes the indexes of segments that lie wholly behind.
func (d *DB) expireSegments(ctx context.Context, before int64) error {
	for {
		id := int64(0)
		err := d.write(ctx, "expire segments", func(c *conn) (err error) {
			if id, err = c.int("SELECT id FROM seg WHERE tmax<? LIMIT 1", before); err != nil || id == 0 {
				return err
			}
			d.arch = nil
			d0, err := c.blob("SELECT names FROM seg WHERE id=?", id)
			if err != nil {
				return err
			}
			names, err := readDeltas[uint32](d0)
			if err != nil {
				return fmt.Errorf("segment %d: %w", id, err)
			}
			for _, n := range names {
				if err := c.exec("DELETE FROM post WHERE k=?", int64(n)<<segmentBits|id); err != nil {
					return err
				}
			}
			if err := c.exec("DELETE FROM ids WHERE k BETWEEN ? AND ?", id<<16, (id+1)<<16-1); err != nil {
				return err
			}
			return c.exec("DELETE FROM seg WHERE id=?", id)
		})
		if err != nil || id == 0 {
			return err
		}
	}
}
