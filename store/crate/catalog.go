package crate

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/statscache/statscache/store"
)

// Register records a plugin. Repeated after an attempt without an answer it finds what that one wrote.
func (d *DB) Register(ctx context.Context, p store.Plugin) (store.Generations, error) {
	if err := checkPlugin(p); err != nil {
		return store.Generations{}, fmt.Errorf("register plugin %s: %w", p.ID, err)
	}
	if err := d.claim(ctx, p); err != nil {
		return store.Generations{}, err
	}
	doc, changed, err := d.changePlugin(ctx, p.ID, true, func(doc *pluginDoc) error {
		doc.register(p)
		return nil
	})
	if err != nil {
		return store.Generations{}, err
	}
	if changed && doc.Building == 0 {
		if err := d.raise(ctx, metricIDs(p)); err != nil { // what is said of them may have changed
			return store.Generations{}, err
		}
	}
	return doc.generations(), d.sweepGenerations(ctx, p.ID, doc)
}

// checkPlugin refuses what can't be kept.
func checkPlugin(p store.Plugin) error {
	if err := checkName("plugin", p.ID); err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, m := range p.Metrics {
		if err := checkName("metric", m.ID); err != nil {
			return err
		}
		if seen[m.ID] {
			return fmt.Errorf("metric id %q is given twice", m.ID)
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

func metricIDs(p store.Plugin) []string {
	out := make([]string, len(p.Metrics))
	for i, m := range p.Metrics {
		out[i] = m.ID
	}
	return out
}

// claim makes metrics a plugin's, unless one is another plugin's: then none.
func (d *DB) claim(ctx context.Context, p store.Plugin) error {
	var free []string
	for _, m := range p.Metrics {
		switch owner, err := d.ownerOf(ctx, m.ID); {
		case err != nil && !errors.Is(err, store.ErrUnknown):
			return err
		case owner == "":
			free = append(free, m.ID)
		case owner != p.ID:
			return belongs(m.ID, owner, p.ID)
		}
	}
	for _, id := range free {
		var owner string
		var version int64
		var at pgtype.Int8
		err := d.retry(ctx, "claim metric "+id, func(ctx context.Context) error {
			return d.pool.QueryRow(ctx, "INSERT INTO metrics (id, plugin, version, raised) VALUES ($1, $2, 1, CURRENT_TIMESTAMP::bigint) ON CONFLICT (id) DO UPDATE SET "+
				"plugin = CASE WHEN plugin = '' THEN excluded.plugin ELSE plugin END RETURNING plugin, version, raised", id, p.ID).Scan(&owner, &version, &at)
		})
		if err != nil {
			return err
		}
		if owner != p.ID {
			return belongs(id, owner, p.ID)
		}
		d.publish(id, raised{uint64(version), at.Int64})
	}
	return nil
}

func belongs(metric, owner, plugin string) error {
	return fmt.Errorf("metric %s belongs to plugin %s already; plugin %s can't have it too", metric, owner, plugin)
}

// ownerOf gives the plugin that has a metric, by key.
func (d *DB) ownerOf(ctx context.Context, metric string) (owner string, err error) {
	err = d.retry(ctx, "read metric "+metric, func(ctx context.Context) error {
		err := d.pool.QueryRow(ctx, "SELECT plugin FROM metrics WHERE id = $1", metric).Scan(&owner)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("%w: %w", errGivenUp, store.ErrUnknown)
		}
		return err
	})
	return owner, err
}

// changePlugin changes a plugin's row by compare-and-set: change is called anew on every attempt, on the row as it is
// then. Nothing is written where it changes nothing.
func (d *DB) changePlugin(ctx context.Context, id string, create bool, change func(*pluginDoc) error) (doc pluginDoc, changed bool, err error) {
	err = d.retry(ctx, "write plugin "+id, func(ctx context.Context) error {
		raw, at, err := d.readPlugin(ctx, id)
		if create && errors.Is(err, store.ErrUnknown) {
			if _, err := d.pool.Exec(ctx, "INSERT INTO plugins (id, doc) VALUES ($1, '{}') ON CONFLICT (id) DO NOTHING", id); err != nil {
				return err
			}
			raw, at, err = d.readPlugin(ctx, id)
		}
		if err != nil {
			return err
		}
		if doc, err = parsePlugin(id, raw); err != nil {
			return err
		}
		if err := change(&doc); err != nil {
			return fmt.Errorf("%w: %w", errGivenUp, err)
		}
		after, err := json.Marshal(doc)
		if err != nil {
			return fmt.Errorf("%w: %w", errGivenUp, err)
		}
		if bytes.Equal(after, raw) {
			return nil
		}
		changed = true // also where the answer is lost and the next attempt finds it done
		tag, err := d.pool.Exec(ctx, "UPDATE plugins SET doc = $1 WHERE id = $2 AND _seq_no = $3 AND _primary_term = $4",
			string(after), id, at.seqNo, at.term)
		if err == nil && tagCount(tag) != 1 {
			err = errShort
		}
		return err
	})
	return doc, changed, err
}

func (d *DB) readPlugin(ctx context.Context, id string) (raw []byte, at version, err error) {
	err = d.pool.QueryRow(ctx, "SELECT doc, _seq_no, _primary_term FROM plugins WHERE id = $1", id).Scan(&raw, &at.seqNo, &at.term)
	if errors.Is(err, pgx.ErrNoRows) {
		err = fmt.Errorf("%w: %w plugin %s", errGivenUp, store.ErrUnknown, id)
	}
	return raw, at, err
}

func parsePlugin(id string, raw []byte) (doc pluginDoc, err error) {
	if err := json.Unmarshal(raw, &doc); err != nil {
		return doc, fmt.Errorf("%w: definition of plugin %s: %w", errGivenUp, id, err)
	}
	return doc, nil
}

// pluginOf reads a plugin by its key: what was written last, by whomever.
func (d *DB) pluginOf(ctx context.Context, id string) (doc pluginDoc, err error) {
	err = d.retry(ctx, "read plugin "+id, func(ctx context.Context) error {
		raw, _, err := d.readPlugin(ctx, id)
		if err != nil {
			return err
		}
		doc, err = parsePlugin(id, raw)
		return err
	})
	return doc, err
}

// metricsOf gives the metrics that a generation of a plugin was registered with.
func (d *DB) metricsOf(ctx context.Context, plugin string, generation uint32) ([]store.Metric, error) {
	doc, err := d.pluginOf(ctx, plugin)
	if err != nil {
		return nil, err
	}
	p, ok := doc.Definitions[generation]
	if !ok {
		return nil, fmt.Errorf("%w generation %d of plugin %s", store.ErrUnknown, generation, plugin)
	}
	return p.Metrics, nil
}

// metricOf gives a generation's metric; interval is 0 for latest values.
func (d *DB) metricOf(ctx context.Context, plugin string, generation uint32, metric string, interval time.Duration) (store.Metric, error) {
	list, err := d.metricsOf(ctx, plugin, generation)
	if err != nil {
		return store.Metric{}, err
	}
	return pick(list, metric, interval)
}

func pick(list []store.Metric, metric string, interval time.Duration) (store.Metric, error) {
	i := slices.IndexFunc(list, func(m store.Metric) bool { return m.ID == metric })
	if i < 0 {
		return store.Metric{}, fmt.Errorf("%w metric %s", store.ErrUnknown, metric)
	}
	if interval != 0 && !slices.Contains(list[i].Intervals, interval) {
		return store.Metric{}, fmt.Errorf("%w interval %s of metric %s", store.ErrUnknown, interval, metric)
	}
	return list[i], nil
}

// served finds the generation of a metric that is shown. Whose a metric is hardly ever changes, and where it did the
// former owner's row has it no more: so it is asked for only when that row does not fit.
func (d *DB) served(ctx context.Context, metric string, interval time.Duration) (m store.ServedMetric, err error) {
	d.mu.Lock()
	known := d.owners[metric]
	d.mu.Unlock()
	if known != "" {
		if m, err = d.servedBy(ctx, known, metric, interval); !errors.Is(err, store.ErrUnknown) {
			return m, err
		}
	}
	owner, err := d.ownerOf(ctx, metric)
	if err != nil {
		return m, err
	}
	if owner == "" {
		return m, fmt.Errorf("%w metric %s", store.ErrUnknown, metric)
	}
	d.mu.Lock()
	d.owners[metric] = owner
	d.mu.Unlock()
	return d.servedBy(ctx, owner, metric, interval)
}

func (d *DB) servedBy(ctx context.Context, plugin, metric string, interval time.Duration) (m store.ServedMetric, err error) {
	doc, err := d.pluginOf(ctx, plugin)
	if err != nil {
		return m, err
	}
	m.Plugin, m.Generation = plugin, doc.Serving
	m.Metric, err = pick(doc.Definitions[doc.Serving].Metrics, metric, interval)
	return m, err
}

// eachPlugin calls f for every plugin, by id.
func (d *DB) eachPlugin(ctx context.Context, reset func(), f func(id string, doc pluginDoc)) error {
	if err := d.refresh(ctx, "plugins"); err != nil {
		return err
	}
	return d.query(ctx, "list plugins", reset, func(r pgx.Rows) error {
		var id string
		var raw []byte
		if err := r.Scan(&id, &raw); err != nil {
			return err
		}
		doc, err := parsePlugin(id, raw)
		if err == nil && doc.Last > 0 { // a row of 0 is one that its first Register has not filled in
			f(id, doc)
		}
		return err
	}, "SELECT id, doc FROM plugins ORDER BY id")
}

// Plugins lists all plugins ever registered, by id.
func (d *DB) Plugins(ctx context.Context) (out []store.Plugin, err error) {
	err = d.eachPlugin(ctx, func() { out = nil }, func(_ string, doc pluginDoc) { out = append(out, doc.current()) })
	return out, err
}

// Metrics lists the serving metrics, by id.
func (d *DB) Metrics(ctx context.Context) (out []store.ServedMetric, err error) {
	versions, err := d.readVersions(ctx)
	if err != nil {
		return nil, err
	}
	err = d.eachPlugin(ctx, func() { out = nil }, func(id string, doc pluginDoc) {
		for _, m := range doc.Definitions[doc.Serving].Metrics {
			out = append(out, store.ServedMetric{Metric: m, Plugin: id, Generation: doc.Serving, Version: versions[m.ID]})
		}
	})
	slices.SortFunc(out, func(a, b store.ServedMetric) int { return cmp.Compare(a.ID, b.ID) })
	return out, err
}
