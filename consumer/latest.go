package consumer

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/statscache/statscache/plugins/host"
	"github.com/statscache/statscache/store"
)

// latestValues gathers the newest values that a plugin's events come to while its slices are compared, and compares
// them with what is stored in the end.
type latestValues struct {
	v       *verifier
	metrics map[string]store.ServedMetric
	since   []store.Position // before the first slice was read: what came behind it may be missing in newest
	newest  map[latestKey]store.Put
	without map[letter]bool // dead letters that newest was found without
}

type latestKey struct{ metric, key string }

func newLatestValues(v *verifier, list []store.ServedMetric) *latestValues {
	l := &latestValues{v: v, metrics: map[string]store.ServedMetric{}, newest: map[latestKey]store.Put{}, without: map[letter]bool{}}
	for _, m := range list {
		if m.Kind == store.Latest {
			l.metrics[m.ID] = m
		}
	}
	return l
}

// put takes a recomputed value that must be stored, or one that is older.
func (l *latestValues) put(p store.Put) error {
	if _, ok := l.metrics[p.Metric]; !ok || p.Time < l.v.horizons.Archive || l.v.asked.side(p.Time) != 0 {
		return nil
	}
	k := latestKey{p.Metric, p.Key}
	if was, ok := l.newest[k]; !ok || cmp.Or(cmp.Compare(p.Time, was.Time), cmp.Compare(p.ID, was.ID)) > 0 {
		l.newest[k] = p
	}
	return nil
}

// left notes which dead letters were left out of what put was told.
func (l *latestValues) left(dead map[letter]bool) { maps.Copy(l.without, dead) }

// latest compares the latest values of a plugin, and mends them where that is asked for.
func (v *verifier) latest(ctx context.Context, p candidate, generation uint32, l *latestValues) error {
	if len(l.metrics) == 0 {
		return nil
	}
	saved := v.report
	at, err := l.compare(ctx, p, generation)
	if err != nil || v.fixes == nil {
		return err
	}
	return v.mend(ctx, p.plugin.ID, generation, saved, at, func() (positions, error) { return l.compare(ctx, p, generation) })
}

func (l *latestValues) compare(ctx context.Context, p candidate, generation uint32) (at positions, err error) {
	var stored map[latestKey]store.LatestRow
	dead, err := deadLetters(ctx, l.v.store, p.plugin.ID, generation)
	if err != nil {
		return at, err
	}
	for range steadyTries {
		if at, stored, err = l.read(ctx, p.plugin.ID, generation); err != nil || at.steady() {
			break
		}
		select {
		case <-time.After(steadyPause):
		case <-ctx.Done():
			return at, ctx.Err()
		}
	}
	if err != nil {
		return at, err
	}
	still, err := deadLetters(ctx, l.v.store, p.plugin.ID, generation)
	if err != nil {
		return at, err
	}
	at.revived = len(revived(dead, still)) > 0
	if back := revived(l.without, dead); len(back) > 0 {
		if err := l.v.recompute(ctx, p, l.v.only(ctx, back, p.frames), host.Sink{Put: l.put}); err != nil {
			return at, err
		}
	}
	missed := between(l.since, at.before)
	for _, x := range at.before {
		missed.to[x.Stream] = min(missed.to[x.Stream], x.Pos) // what is beyond may be stored or not
	}
	if err := l.v.recompute(ctx, p, l.v.inOrder(ctx, missed, p.frames, still), host.Sink{Put: l.put}); err != nil {
		return at, err
	}
	l.since, l.without = at.before, dead
	if l.v.horizons, err = l.v.store.Horizons(ctx); err != nil {
		return at, fmt.Errorf("read horizons: %w", err)
	}
	l.judge(stored, at.steady())
	return at, nil
}

// read gives what is stored, and where the generation stood before and after.
func (l *latestValues) read(ctx context.Context, plugin string, generation uint32) (at positions, stored map[latestKey]store.LatestRow, err error) {
	if at.before, err = l.v.store.Positions(ctx, plugin, generation); err != nil {
		return at, nil, fmt.Errorf("positions of %s: %w", plugin, err)
	}
	stored = map[latestKey]store.LatestRow{}
	for id := range l.metrics {
		if err := l.v.store.EachLatest(ctx, plugin, id, generation, func(r store.LatestRow) error {
			stored[latestKey{id, r.Key}] = r
			return nil
		}); err != nil {
			return at, nil, fmt.Errorf("read %s: %w", id, err)
		}
	}
	if at.after, err = l.v.store.Positions(ctx, plugin, generation); err != nil {
		return at, nil, fmt.Errorf("positions of %s: %w", plugin, err)
	}
	return at, stored, nil
}

// judge compares. Where commits fell into the reading, what is newer than all that must be there is none of them.
func (l *latestValues) judge(stored map[latestKey]store.LatestRow, steady bool) {
	v := l.v
	for _, have := range stored {
		switch {
		case have.Time < v.horizons.Archive:
			v.report.NotVerifiable++
		case v.asked.side(have.Time) == 0:
			v.report.Rows++
		}
	}
	for _, k := range slices.SortedFunc(maps.Keys(l.newest), compareLatest) {
		want := l.newest[k]
		have, ok := stored[k]
		newer := ok && cmp.Or(cmp.Compare(have.Time, want.Time), cmp.Compare(have.ID, want.ID)) > 0
		same := ok && have.Time == want.Time && have.ID == want.ID && sameJSON(have.Value, want.Value)
		if same || want.Time < v.horizons.Archive || newer && (!steady || v.asked.side(have.Time) > 0) {
			continue
		}
		said := v.differ("%s%s: stored %s of %s, recomputed %s of %s", k.metric, named(l.metrics[k.metric].Metric, k.key), have.Value, have.ID, want.Value, want.ID)
		v.fixes.latest(said, store.LatestFix{Metric: k.metric, Row: store.LatestRow{Key: k.key, Time: want.Time, ID: want.ID, Value: want.Value}})
	}
	for _, k := range slices.SortedFunc(maps.Keys(stored), compareLatest) {
		have := stored[k]
		if _, ok := l.newest[k]; ok || !steady || have.Time < v.horizons.Archive || v.asked.side(have.Time) != 0 {
			continue
		}
		said := v.differ("%s%s: stored %s of %s, recomputed none", k.metric, named(l.metrics[k.metric].Metric, k.key), have.Value, have.ID)
		v.fixes.latest(said, store.LatestFix{Metric: k.metric, Row: store.LatestRow{Key: k.key}})
	}
}

func compareLatest(a, b latestKey) int {
	return cmp.Or(cmp.Compare(a.metric, b.metric), cmp.Compare(a.key, b.key))
}
