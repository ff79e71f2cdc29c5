package crate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/statscache/statscache/internal/failpoint"
	"github.com/statscache/statscache/store"
)

// pluginDoc is what a plugin's row holds, as JSON: its definition in each generation that is alive, and those of which
// rows may be left to be removed. Numbers of generations are never given out again.
type pluginDoc struct {
	Serving, Building, Last uint32
	Definitions             map[uint32]store.Plugin
	Dropped                 map[uint32]store.Plugin `json:",omitempty"`
}

func (doc *pluginDoc) generations() store.Generations {
	return store.Generations{Serving: doc.Serving, Building: doc.Building}
}

// current is the plugin as it was registered last.
func (doc *pluginDoc) current() store.Plugin {
	if doc.Building != 0 {
		return doc.Definitions[doc.Building]
	}
	return doc.Definitions[doc.Serving]
}

// register puts p down as it is now.
func (doc *pluginDoc) register(p store.Plugin) {
	switch {
	case doc.Serving == 0:
		doc.Last++
		doc.Serving = doc.Last
		doc.Definitions = map[uint32]store.Plugin{doc.Serving: p}
	case doc.Building != 0 && doc.Definitions[doc.Building].Fingerprint == p.Fingerprint: // also where Rebuild began it
		doc.Definitions[doc.Building] = p
	case doc.Definitions[doc.Serving].Fingerprint == p.Fingerprint:
		doc.drop(doc.Building)
		doc.Building = 0
		doc.Definitions[doc.Serving] = p
	default:
		doc.build(p)
	}
}

// build begins a generation beside the serving one.
func (doc *pluginDoc) build(p store.Plugin) {
	doc.drop(doc.Building)
	doc.Last++
	doc.Building = doc.Last
	doc.Definitions[doc.Building] = p
}

func (doc *pluginDoc) drop(generation uint32) {
	p, ok := doc.Definitions[generation]
	if !ok {
		return
	}
	if doc.Dropped == nil {
		doc.Dropped = map[uint32]store.Plugin{}
	}
	doc.Dropped[generation] = p
	delete(doc.Definitions, generation)
}

// Promote makes the building generation the serving one and removes the rows of the old one.
func (d *DB) Promote(ctx context.Context, plugin string, generation uint32) error {
	var changed []string
	var doc pluginDoc
	err := d.around(failpoint.GenerationSwap, func() (err error) {
		doc, _, err = d.changePlugin(ctx, plugin, false, func(doc *pluginDoc) error {
			if generation != 0 && doc.Serving == generation {
				changed = append(changed, metricIDs(doc.Definitions[generation])...)
				return nil // done by an earlier call
			}
			if generation == 0 || doc.Building != generation {
				return fmt.Errorf("generation %d of plugin %s is not being built: %w", generation, plugin, store.ErrUnknown)
			}
			changed = append(metricIDs(doc.Definitions[doc.Serving]), metricIDs(doc.Definitions[generation])...)
			doc.drop(doc.Serving)
			doc.Serving, doc.Building = generation, 0
			return nil
		})
		return err
	})
	if err != nil {
		return err
	}
	slices.Sort(changed)
	if err := d.raise(ctx, slices.Compact(changed)); err != nil {
		return err
	}
	return d.sweepGenerations(ctx, plugin, doc)
}

// Rebuild begins a new generation of a plugin beside the serving one.
func (d *DB) Rebuild(ctx context.Context, plugin string) (store.Generations, error) {
	last := uint32(0)
	doc, _, err := d.changePlugin(ctx, plugin, false, func(doc *pluginDoc) error {
		if doc.Serving == 0 {
			return store.ErrUnknown
		}
		if last != 0 && doc.Last > last {
			return nil // an attempt without an answer was executed
		}
		last = doc.Last
		doc.build(doc.current())
		return nil
	})
	if err != nil {
		return store.Generations{}, err
	}
	return doc.generations(), d.sweepGenerations(ctx, plugin, doc)
}

// sweepGenerations ends the writers of a plugin's generations that are neither shown nor being built and removes their
// rows. What a statement that comes late makes of them again is never read: nobody knows their numbers any more.
func (d *DB) sweepGenerations(ctx context.Context, plugin string, doc pluginDoc) error {
	if len(doc.Dropped) == 0 {
		return nil
	}
	gone := slices.Sorted(maps.Keys(doc.Dropped))
	for _, table := range []string{"checkpoints", "dead_letters"} {
		if err := d.refresh(ctx, table); err != nil {
			return err
		}
		for _, g := range gone {
			if err := d.exec(ctx, "remove old "+table, "DELETE FROM "+table+" WHERE plugin = $1 AND generation = $2", plugin, int64(g)); err != nil {
				return err
			}
		}
	}
	if err := d.removeGenerations(ctx, doc.Dropped); err != nil {
		return err
	}
	after, _, err := d.changePlugin(ctx, plugin, false, func(doc *pluginDoc) error {
		for _, g := range gone {
			delete(doc.Dropped, g)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return d.release(ctx, plugin, after, doc.Dropped)
}

func (d *DB) removeGenerations(ctx context.Context, dropped map[uint32]store.Plugin) error {
	for _, table := range []string{"counters", "latest"} {
		if err := d.refresh(ctx, table); err != nil {
			return err
		}
	}
	for g, p := range dropped {
		for _, m := range p.Metrics {
			for _, interval := range m.Intervals {
				where := "metric = $1 AND gran = $2 AND generation = $3"
				if _, err := d.removeCounts(ctx, everAfter, where, m.ID, int64(interval/time.Second), int64(g)); err != nil {
					return err
				}
			}
			if err := d.exec(ctx, "remove old latest values", "DELETE FROM latest WHERE metric = $1 AND generation = $2", m.ID, int64(g)); err != nil {
				return err
			}
		}
	}
	return nil
}

// release gives metrics free that a plugin had in a dropped generation and has no more. The row stays: its version must
// never go back.
func (d *DB) release(ctx context.Context, plugin string, doc pluginDoc, dropped map[uint32]store.Plugin) error {
	has := map[string]bool{}
	for _, p := range doc.Definitions {
		for _, id := range metricIDs(p) {
			has[id] = true
		}
	}
	for _, p := range dropped {
		for _, id := range metricIDs(p) {
			if has[id] {
				continue
			}
			err := d.retry(ctx, "release metric "+id, func(ctx context.Context) error {
				var owner string
				var at version
				err := d.pool.QueryRow(ctx, "SELECT plugin, _seq_no, _primary_term FROM metrics WHERE id = $1", id).Scan(&owner, &at.seqNo, &at.term)
				if errors.Is(err, pgx.ErrNoRows) || err == nil && owner != plugin {
					return nil
				}
				if err != nil {
					return err
				}
				tag, err := d.pool.Exec(ctx, "UPDATE metrics SET plugin = '' WHERE id = $1 AND _seq_no = $2 AND _primary_term = $3", id, at.seqNo, at.term)
				if err == nil && tagCount(tag) != 1 {
					err = errShort
				}
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}
