package crate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/statscache/statscache/store"
)

// pluginDoc is what a plugin's row holds, as JSON: its definition in each generation that is alive.
type pluginDoc struct {
	Serving, Building, Last uint32
	Definitions             map[uint32]store.Plugin
}

// register gives the generations as they are once p is registered, and whether anything changed.
func (doc *pluginDoc) register(p store.Plugin) (store.Generations, bool) {
	switch {
	case doc.Serving == 0 && doc.Building == 0:
		doc.Last++
		doc.Serving = doc.Last
		doc.Definitions = map[uint32]store.Plugin{doc.Serving: p}
	case doc.Definitions[doc.Serving].Fingerprint == p.Fingerprint:
		if doc.Definitions[doc.Serving].Version == p.Version {
			return store.Generations{Serving: doc.Serving, Building: doc.Building}, false
		}
		doc.Definitions[doc.Serving] = p
	case doc.Building != 0 && doc.Definitions[doc.Building].Fingerprint == p.Fingerprint:
		if doc.Definitions[doc.Building].Version == p.Version {
			return store.Generations{Serving: doc.Serving, Building: doc.Building}, false
		}
		doc.Definitions[doc.Building] = p
	default:
		delete(doc.Definitions, doc.Building)
		doc.Last++
		doc.Building = doc.Last
		doc.Definitions[doc.Building] = p
	}
	return store.Generations{Serving: doc.Serving, Building: doc.Building}, true
}

// Register records a plugin. Repeated after an attempt without an answer it finds what that one wrote.
func (d *DB) Register(ctx context.Context, p store.Plugin) (store.Generations, error) {
	if err := checkName("plugin", p.ID); err != nil {
		return store.Generations{}, err
	}
	for _, m := range p.Metrics {
		if err := d.claim(ctx, m.ID, p.ID); err != nil {
			return store.Generations{}, err
		}
	}
	var g store.Generations
	err := d.retry(ctx, "register "+p.ID, func(ctx context.Context) error {
		doc, at, err := d.readPlugin(ctx, p.ID)
		if errors.Is(err, store.ErrUnknown) {
			if _, err := d.pool.Exec(ctx, "INSERT INTO plugins (id, doc) VALUES ($1, '{}') ON CONFLICT (id) DO NOTHING", p.ID); err != nil {
				return err
			}
			doc, at, err = d.readPlugin(ctx, p.ID)
		}
		if err != nil {
			return err
		}
		var changed bool
		if g, changed = doc.register(p); !changed {
			return nil
		}
		raw, err := json.Marshal(doc)
		if err != nil {
			return fmt.Errorf("%w: %w", errGivenUp, err)
		}
		tag, err := d.pool.Exec(ctx, "UPDATE plugins SET doc = $1 WHERE id = $2 AND _seq_no = $3 AND _primary_term = $4",
			string(raw), p.ID, at.seqNo, at.term)
		if err == nil && tagCount(tag) != 1 {
			err = errShort
		}
		return err
	})
	return g, err
}

// claim makes a metric a plugin's, unless it is another one's.
func (d *DB) claim(ctx context.Context, metric, plugin string) error {
	if err := checkName("metric", metric); err != nil {
		return err
	}
	err := d.exec(ctx, "claim metric "+metric, "INSERT INTO metrics (id, plugin) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING", metric, plugin)
	if err != nil {
		return err
	}
	var owner string
	err = d.retry(ctx, "read metric "+metric, func(ctx context.Context) error {
		return d.pool.QueryRow(ctx, "SELECT plugin FROM metrics WHERE id = $1", metric).Scan(&owner)
	})
	if err == nil && owner != plugin {
		err = fmt.Errorf("metric %s of plugin %s belongs to plugin %s", metric, plugin, owner)
	}
	return err
}

func (d *DB) readPlugin(ctx context.Context, id string) (doc pluginDoc, at version, err error) {
	var raw string
	err = d.pool.QueryRow(ctx, "SELECT doc, _seq_no, _primary_term FROM plugins WHERE id = $1", id).Scan(&raw, &at.seqNo, &at.term)
	if errors.Is(err, pgx.ErrNoRows) {
		return doc, at, fmt.Errorf("%w: %w plugin %s", errGivenUp, store.ErrUnknown, id)
	}
	if err != nil {
		return doc, at, err
	}
	if err := json.Unmarshal([]byte(raw), &doc); err != nil {
		return doc, at, fmt.Errorf("%w: definition of plugin %s: %w", errGivenUp, id, err)
	}
	return doc, at, nil
}

// metricsOf gives the metrics that a generation of a plugin was registered with.
func (d *DB) metricsOf(ctx context.Context, plugin string, generation uint32) ([]store.Metric, error) {
	var doc pluginDoc
	err := d.retry(ctx, "read plugin "+plugin, func(ctx context.Context) (err error) {
		doc, _, err = d.readPlugin(ctx, plugin)
		return err
	})
	if err != nil {
		return nil, err
	}
	p, ok := doc.Definitions[generation]
	if !ok {
		return nil, fmt.Errorf("%w generation %d of plugin %s", store.ErrUnknown, generation, plugin)
	}
	return p.Metrics, nil
}

// Version is how often this process has seen a metric change.
func (d *DB) Version(metric string) uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.versions[metric]
}
