package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/statscache/statscache/internal/failpoint"
	"github.com/statscache/statscache/store"
)

func upsertQuery(table string, rows int) string {
	return "INSERT INTO " + table + " VALUES(?,?)" + strings.Repeat(",(?,?)", rows-1) + " ON CONFLICT(k) DO UPDATE SET n=n+excluded.n"
}

// known is what the file says of a plugin.
type known struct {
	found                          bool
	serving, building, generations uint32
}

// Register records a plugin as it is now.
func (d *DB) Register(ctx context.Context, p store.Plugin) (g store.Generations, err error) {
	list, err := json.Marshal(p.Metrics)
	if err != nil {
		return g, fmt.Errorf("register plugin %s: %w", p.ID, err)
	}
	if err := checkPlugin(p); err != nil {
		return g, fmt.Errorf("register plugin %s: %w", p.ID, err)
	}
	raised := map[string]uint64{}
	err = d.write(ctx, "register plugin "+p.ID, func(c *conn) error {
		if g, err = d.register(c, p, string(list), raised); err != nil {
			return err
		}
		return d.ledger.reload(c)
	})
	if err != nil {
		return g, err
	}
	d.publish(raised)
	return g, d.sweep(ctx, p.ID)
}

// checkPlugin refuses what no table can be made of.
func checkPlugin(p store.Plugin) error {
	seen := map[string]bool{}
	for _, m := range p.Metrics {
		if m.ID == "" || seen[m.ID] {
			return fmt.Errorf("metric id %q is empty or given twice", m.ID)
		}
		seen[m.ID] = true
		for _, i := range m.Intervals {
			if i < time.Second || i%time.Second != 0 {
				return fmt.Errorf("metric %s: interval %s is not whole seconds", m.ID, i)
			}
		}
	}
	return nil
}

func (d *DB) register(c *conn, p store.Plugin, list string, raised map[string]uint64) (g store.Generations, err error) {
	for _, m := range p.Metrics {
		if err := c.each("SELECT plugin FROM metric WHERE id=? AND plugin<>?", func(s *sqlite.Stmt) error {
			return fmt.Errorf("metric %s belongs to plugin %s already; plugin %s can't have it too", m.ID, s.ColumnText(0), p.ID)
		}, m.ID, p.ID); err != nil {
			return g, err
		}
	}
	k, err := knownPlugin(c, p.ID)
	if err != nil {
		return g, err
	}
	g = store.Generations{Serving: k.serving, Building: k.building}
	switch {
	case !k.found:
		g, k.generations = store.Generations{Serving: 1}, 1
	default:
		servingPrint, err := fingerprint(c, p.ID, k.serving)
		if err != nil {
			return g, err
		}
		buildingPrint, err := fingerprint(c, p.ID, k.building)
		if err != nil {
			return g, err
		}
		switch {
		case k.building != 0 && p.Fingerprint == buildingPrint: // goes on, also where Rebuild began it
		case p.Fingerprint == servingPrint:
			g.Building = 0
		default:
			k.generations++
			g.Building = k.generations
		}
	}
	if err := c.exec("INSERT OR REPLACE INTO plugin VALUES(?,?,?,?,?,?,?,?)", p.ID, p.Version, p.DataVersion, p.Fingerprint, list, g.Serving, g.Building, k.generations); err != nil {
		return g, err
	}
	current := g.Serving
	if g.Building != 0 {
		current = g.Building
	}
	same, err := c.has("SELECT 1 FROM generation WHERE plugin=? AND generation=? AND metrics=?", p.ID, current, list)
	if err != nil {
		return g, err
	}
	if err := define(c, p, current, list); err != nil {
		return g, err
	}
	if err := fenceOld(c, p.ID, g); err != nil {
		return g, err
	}
	if current == g.Serving && !same {
		for _, m := range p.Metrics { // what is said of it may have changed
			if raised[m.ID], err = d.raiseVersion(c, m.ID); err != nil {
				return g, err
			}
		}
	}
	return g, nil
}

func knownPlugin(c *conn, id string) (k known, err error) {
	err = c.each("SELECT serving, building, generations FROM plugin WHERE id=?", func(s *sqlite.Stmt) error {
		k = known{true, uint32(s.ColumnInt64(0)), uint32(s.ColumnInt64(1)), uint32(s.ColumnInt64(2))}
		return nil
	}, id)
	return k, err
}

func fingerprint(c *conn, plugin string, generation uint32) (f string, err error) {
	err = c.each("SELECT fingerprint FROM generation WHERE plugin=? AND generation=?", func(s *sqlite.Stmt) error {
		f = s.ColumnText(0)
		return nil
	}, plugin, generation)
	return f, err
}

// define records a generation's metrics and makes their tables.
func define(c *conn, p store.Plugin, generation uint32, list string) error {
	if err := c.exec("INSERT OR REPLACE INTO generation VALUES(?,?,?,?)", p.ID, generation, p.Fingerprint, list); err != nil {
		return err
	}
	for _, def := range p.Metrics {
		if err := c.exec("INSERT INTO metric(plugin, generation, id) VALUES(?,?,?) ON CONFLICT DO NOTHING", p.ID, generation, def.ID); err != nil {
			return err
		}
		no, err := c.int("SELECT no FROM metric WHERE plugin=? AND generation=? AND id=?", p.ID, generation, def.ID)
		if err != nil {
			return err
		}
		if err := makeTables(c, newMetric(no, def)); err != nil {
			return fmt.Errorf("tables of metric %s: %w", def.ID, err)
		}
	}
	return nil
}

func makeTables(c *conn, m *metric) error {
	queries := []string{
		"CREATE TABLE IF NOT EXISTS " + m.series.table + "(id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE) STRICT",
		fmt.Sprintf("INSERT INTO %s VALUES(%d, '%s') ON CONFLICT DO NOTHING", m.series.table, otherSeries, store.OtherKey),
	}
	if m.series.part != "" {
		queries = append(queries, "CREATE TABLE IF NOT EXISTS "+m.series.part+"(dim INTEGER NOT NULL, value TEXT NOT NULL, id INTEGER NOT NULL, PRIMARY KEY(dim, value, id)) WITHOUT ROWID, STRICT")
	}
	for _, t := range m.intervals {
		for _, name := range t.tables() {
			queries = append(queries, "CREATE TABLE IF NOT EXISTS "+name+"(k INTEGER PRIMARY KEY, n INTEGER NOT NULL) STRICT")
		}
	}
	for _, q := range queries {
		if err := c.exec(q); err != nil {
			return err
		}
		c.forget(q)
	}
	return m.series.writeParts(c, otherSeries, store.OtherKey)
}

func (t *counts) tables() []string {
	if t.byKey == "" {
		return []string{t.table}
	}
	return []string{t.table, t.byKey}
}

// fenceOld ends the writers of all generations but those given.
func fenceOld(c *conn, plugin string, g store.Generations) error {
	return c.exec("DELETE FROM checkpoint WHERE plugin=? AND generation NOT IN (?,?)", plugin, g.Serving, g.Building)
}

// Promote makes the building generation the serving one and removes the rows of the old one.
func (d *DB) Promote(ctx context.Context, plugin string, generation uint32) error {
	raised := map[string]uint64{}
	if err := d.before(failpoint.GenerationSwap); err != nil {
		return err
	}
	err := d.write(ctx, fmt.Sprintf("promote generation %d of plugin %s", generation, plugin), func(c *conn) error {
		k, err := knownPlugin(c, plugin)
		if err != nil {
			return err
		}
		if k.found && k.serving == generation {
			return d.loadVersions(c) // done by an earlier call
		}
		if !k.found || generation == 0 || k.building != generation {
			return fmt.Errorf("it is not being built: %w", store.ErrUnknown)
		}
		if err := c.exec("UPDATE plugin SET serving=?, building=0 WHERE id=?", generation, plugin); err != nil {
			return err
		}
		if err := fenceOld(c, plugin, store.Generations{Serving: generation}); err != nil {
			return err
		}
		ids := map[string]bool{}
		if err := c.each("SELECT DISTINCT id FROM metric WHERE plugin=?", func(s *sqlite.Stmt) error {
			ids[s.ColumnText(0)] = true
			return nil
		}, plugin); err != nil {
			return err
		}
		for id := range ids {
			if raised[id], err = d.raiseVersion(c, id); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = d.after(failpoint.GenerationSwap) // before the old rows are removed
	}
	if err != nil {
		return err
	}
	d.publish(raised)
	return d.sweep(ctx, plugin)
}

// Plugins lists all plugins ever registered, by id.
func (d *DB) Plugins(ctx context.Context) (out []store.Plugin, err error) {
	err = d.read(ctx, "list plugins", func(c *conn) error {
		return c.each("SELECT id, version, data_version, fingerprint, metrics FROM plugin ORDER BY id", func(s *sqlite.Stmt) error {
			p := store.Plugin{ID: s.ColumnText(0), Version: s.ColumnText(1), DataVersion: uint32(s.ColumnInt64(2)), Fingerprint: s.ColumnText(3)}
			if err := json.Unmarshal([]byte(s.ColumnText(4)), &p.Metrics); err != nil {
				return fmt.Errorf("plugin %s: %w", p.ID, err)
			}
			out = append(out, p)
			return nil
		})
	})
	return out, err
}

// Metrics lists the serving metrics, by id.
func (d *DB) Metrics(ctx context.Context) (out []store.ServedMetric, err error) {
	seen := map[string]uint64{} // another process may have raised them
	defer func() { d.publish(seen) }()
	err = d.read(ctx, "list metrics", func(c *conn) error {
		return c.each(`SELECT m.id, m.plugin, m.generation, coalesce(v.n, 0), g.metrics FROM metric m JOIN plugin p ON p.id=m.plugin AND p.serving=m.generation
			JOIN generation g ON g.plugin=m.plugin AND g.generation=m.generation LEFT JOIN version v ON v.metric=m.id ORDER BY m.id`, func(s *sqlite.Stmt) error {
			def, err := definition(s.ColumnText(4), s.ColumnText(0))
			if err != nil {
				return fmt.Errorf("plugin %s: %w", s.ColumnText(1), err)
			}
			seen[def.ID] = uint64(s.ColumnInt64(3))
			out = append(out, store.ServedMetric{Metric: def, Plugin: s.ColumnText(1), Generation: uint32(s.ColumnInt64(2)), Version: uint64(s.ColumnInt64(3))})
			return nil
		})
	})
	return out, err
}

// Version is the version of a serving metric as last known to this process.
func (d *DB) Version(metric string) uint64 {
	if v := (*d.versions.Load())[metric]; v != nil {
		return v.Load()
	}
	return 0
}

// raiseVersion counts a metric's version up inside a transaction and notes when; publish makes it known after the commit.
func (d *DB) raiseVersion(c *conn, metric string) (n uint64, err error) {
	if err := c.each("INSERT INTO version VALUES(?,1) ON CONFLICT DO UPDATE SET n=n+1 RETURNING n", func(s *sqlite.Stmt) error {
		n = uint64(s.ColumnInt64(0))
		return nil
	}, metric); err != nil {
		return 0, err
	}
	return n, c.exec("INSERT OR REPLACE INTO setting VALUES(?,?)", committedKey+metric, d.now().UnixMilli())
}

// committedKey begins the settings that say when a metric's version was raised, in milliseconds since 1970.
const committedKey = "committed "

// Committed gives a metric's version and when it was raised; the zero time where nobody noted it.
func (d *DB) Committed(ctx context.Context, metric string) (version uint64, at time.Time, err error) {
	err = d.read(ctx, "when metric "+metric+" was committed", func(c *conn) error {
		return c.each("SELECT v.n, s.v FROM version v LEFT JOIN setting s ON s.k=?2||v.metric WHERE v.metric=?1", func(s *sqlite.Stmt) error {
			version = uint64(s.ColumnInt64(0))
			if ms := s.ColumnInt64(1); ms != 0 {
				at = time.UnixMilli(ms).UTC()
			}
			return nil
		}, metric, committedKey)
	})
	return version, at, err
}

// publish makes versions known; they never go back, in whatever order they come.
func (d *DB) publish(raised map[string]uint64) {
	for id, n := range raised {
		for {
			all := d.versions.Load()
			if v := (*all)[id]; v != nil {
				for old := v.Load(); old < n && !v.CompareAndSwap(old, n); old = v.Load() {
				}
				break
			}
			more := make(map[string]*atomic.Uint64, len(*all)+1)
			for k, v := range *all {
				more[k] = v
			}
			more[id] = &atomic.Uint64{}
			d.versions.CompareAndSwap(all, &more)
		}
	}
}

// loadVersions publishes what the file says.
func (d *DB) loadVersions(c *conn) error {
	raised := map[string]uint64{}
	err := c.each("SELECT v.metric, v.n FROM version v", func(s *sqlite.Stmt) error {
		raised[s.ColumnText(0)] = uint64(s.ColumnInt64(1))
		return nil
	})
	d.publish(raised)
	return err
}
