package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"zombiezen.com/go/sqlite"

	"github.com/statscache/statscache/store"
)

var _ store.Mender = (*DB)(nil)

// Repair makes numbers what they should be, in one transaction.
func (d *DB) Repair(ctx context.Context, r store.Repair) error {
	raised := map[string]uint64{}
	op := fmt.Sprintf("repair generation %d of plugin %s", r.Generation, r.Plugin)
	metrics := d.ledger.of(r.Plugin, r.Generation)
	if err := d.numberAll(metrics, r.Cells); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	err := d.write(ctx, op, func(c *conn) (err error) {
		if err := standsAt(c, r); err != nil {
			return err
		}
		if err := writeSeries(c, metrics, r.Cells); err != nil {
			return err
		}
		for _, f := range r.Cells {
			m := metrics[f.Metric]
			if m == nil || m.intervals[f.Interval] == nil {
				return fmt.Errorf("metric %s at interval %s: %w", f.Metric, f.Interval, store.ErrUnknown)
			}
			if err := d.repairCell(c, m, f); err != nil {
				return fmt.Errorf("metric %s at interval %s: %w", f.Metric, f.Interval, err)
			}
			raised[f.Metric] = 0
		}
		for _, f := range r.Latest {
			m := metrics[f.Metric]
			if m == nil {
				return fmt.Errorf("metric %s: %w", f.Metric, store.ErrUnknown)
			}
			if err := repairLatest(c, m, f); err != nil {
				return fmt.Errorf("latest value of metric %s: %w", f.Metric, err)
			}
			raised[f.Metric] = 0
		}
		for id := range raised {
			if raised[id], err = d.raiseVersion(c, id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	d.publish(raised)
	return nil
}

// numberAll gives every key that is to have a count a number, as the checkpoints that are open do: they share the
// dictionaries, and what they have numbered and not written yet must keep its meaning.
func (d *DB) numberAll(metrics map[string]*metric, fixes []store.CellFix) error {
	for _, f := range fixes {
		m := metrics[f.Metric]
		if m == nil || f.N == 0 || f.Key == store.OtherKey {
			continue // an unknown metric is said later
		}
		n, err := m.series.number(d, f.Key)
		if err != nil {
			return fmt.Errorf("metric %s: %w", f.Metric, err)
		}
		if n == otherSeries {
			return fmt.Errorf("metric %s: the series limit of %d leaves no room for %q: recount the metric instead", f.Metric, m.series.limit, f.Key)
		}
	}
	return nil
}

// writeSeries writes the keys that are numbered and not written yet, of all metrics that counts are set of.
func writeSeries(c *conn, metrics map[string]*metric, fixes []store.CellFix) error {
	done := map[*dictionary]bool{}
	for _, f := range fixes {
		m := metrics[f.Metric]
		if m == nil || f.N == 0 || done[m.series] {
			continue
		}
		done[m.series] = true
		n, err := m.series.write(c)
		if err != nil {
			return fmt.Errorf("new series of metric %s: %w", f.Metric, err)
		}
		c.committed = append(c.committed, func() { m.series.settle(n) })
	}
	return nil
}

// standsAt compares a generation's positions with those that its numbers were read at.
func standsAt(c *conn, r store.Repair) error {
	found, err := c.has("SELECT 1 FROM generation WHERE plugin=? AND generation=?", r.Plugin, r.Generation)
	if err != nil {
		return err
	}
	if !found {
		return store.ErrUnknown
	}
	var now []store.Position
	if err := c.each("SELECT stream, pos FROM checkpoint WHERE plugin=? AND generation=? AND stream<>? ORDER BY stream", func(s *sqlite.Stmt) error {
		pos := uint64(s.ColumnInt64(1))
		now = append(now, store.Position{Stream: s.ColumnText(0), Pos: pos, Intent: pos})
		return nil
	}, r.Plugin, r.Generation, store.Loose); err != nil {
		return err
	}
	if !slices.Equal(now, r.At) {
		return store.ErrMoved
	}
	return nil
}

// repairCell writes one count, in the order of time and in that of series.
func (d *DB) repairCell(c *conn, m *metric, f store.CellFix) error {
	t := m.intervals[f.Interval]
	if f.Time%t.seconds != 0 {
		return fmt.Errorf("no bucket starts at %d", f.Time)
	}
	series, err := seriesOf(c, m, f.Key)
	if err != nil {
		return err
	}
	if series < 0 {
		return nil // nothing is stored of it, and nothing should be
	}
	cell := store.MakeCell(f.Time/t.seconds, uint32(series))
	if len(d.ledger.kept(f.Metric, t.seconds, []store.Delta{{Cell: cell, N: 1}})) == 0 {
		return nil
	}
	if err := setCount(c, t.table, int64(cell), f.N); err != nil || t.byKey == "" {
		return err
	}
	return setCount(c, t.byKey, byKey(cell), f.N)
}

func setCount(c *conn, table string, k, n int64) error {
	if n == 0 {
		return c.exec("DELETE FROM "+table+" WHERE k=?", k)
	}
	return c.exec("INSERT INTO "+table+" VALUES(?,?) ON CONFLICT(k) DO UPDATE SET n=excluded.n", k, n)
}

// seriesOf finds a key's number in the file, -1 where there is none.
func seriesOf(c *conn, m *metric, key string) (n int64, err error) {
	if key == store.OtherKey {
		return otherSeries, nil
	}
	n = -1
	err = c.each("SELECT id FROM "+m.series.table+" WHERE key=?", func(s *sqlite.Stmt) error {
		n = s.ColumnInt64(0)
		return nil
	}, key)
	return n, err
}

func repairLatest(c *conn, m *metric, f store.LatestFix) error {
	if f.Row.Value == nil {
		return c.exec("DELETE FROM latest WHERE metric=? AND key=?", m.no, f.Row.Key)
	}
	return c.exec(`INSERT INTO latest(metric, key, time, event, value) VALUES(?,?,?,?,?)
		ON CONFLICT DO UPDATE SET time=excluded.time, event=excluded.event, value=excluded.value`, m.no, f.Row.Key, f.Row.Time, f.Row.ID, []byte(f.Row.Value))
}

// Rebuild begins a new generation of a plugin beside the serving one.
func (d *DB) Rebuild(ctx context.Context, plugin string) (g store.Generations, err error) {
	err = d.write(ctx, "rebuild plugin "+plugin, func(c *conn) error {
		k, err := knownPlugin(c, plugin)
		if err != nil {
			return err
		}
		if !k.found {
			return store.ErrUnknown
		}
		p := store.Plugin{ID: plugin}
		list := ""
		if err := c.each("SELECT fingerprint, metrics FROM plugin WHERE id=?", func(s *sqlite.Stmt) error {
			p.Fingerprint, list = s.ColumnText(0), s.ColumnText(1)
			return json.Unmarshal([]byte(list), &p.Metrics)
		}, plugin); err != nil {
			return err
		}
		g = store.Generations{Serving: k.serving, Building: k.generations + 1}
		if err := c.exec("UPDATE plugin SET building=?, generations=? WHERE id=?", g.Building, g.Building, plugin); err != nil {
			return err
		}
		if err := define(c, p, g.Building, list); err != nil {
			return err
		}
		if err := fenceOld(c, plugin, g); err != nil {
			return err
		}
		return d.ledger.reload(c)
	})
	if err != nil {
		return store.Generations{}, err
	}
	return g, d.sweep(ctx, plugin)
}
