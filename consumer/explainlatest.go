package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/statscache/statscache/api"
	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/plugins/host"
	"github.com/statscache/statscache/store"
)

// latest explains the current values of a metric's keys: each is of one event.
func (x *explainer) latest(ctx context.Context, e *explained, q api.ExplainQuery) error {
	note := func(format string, args ...any) { e.Notes = append(e.Notes, fmt.Sprintf(format, args...)) }
	if !q.Time.IsZero() {
		note("latest values have no buckets: the current ones are explained, whatever the time asked for")
	}
	limit := cmp.Or(q.Events, api.MaxExplained)
	var rows []store.LatestRow
	if err := x.store.EachLatest(ctx, e.metric.Plugin, e.Metric, e.metric.Generation, func(r store.LatestRow) error {
		if e.matches(r.Key) {
			e.Stored++
			rows = firstByKey(rows, r, limit)
		}
		return nil
	}); err != nil {
		return fmt.Errorf("read %s: %w", e.Metric, err)
	}
	e.Truncated = int64(len(rows)) < e.Stored
	lost := 0
	for _, r := range rows {
		v := api.ExplainedValue{Key: map[string]string{}, Time: time.UnixMicro(r.Time).UTC(), ID: r.ID, Value: r.Value}
		for i, value := range store.SplitKey(r.Key, len(e.metric.Dimensions)) {
			v.Key[e.metric.Dimensions[i].Name] = value
		}
		e.Values = append(e.Values, v)
		found, err := x.eventOf(ctx, e, r)
		switch {
		case err != nil:
			return err
		case found:
			e.Count++
		case r.Time < e.horizons.Archive:
			note("the event %s of %s is not kept any more", r.ID, v.Time.Format(time.RFC3339))
		default:
			lost++
		}
	}
	if e.Differs = lost > 0; e.Differs {
		note("%d values are of events that the archive does not hold: `statscache verify %s` looks at all of the metric", lost, e.Metric)
	}
	return nil
}

// firstByKey adds a row to those with the smallest keys, at most limit of them, in their order.
func firstByKey(rows []store.LatestRow, r store.LatestRow, limit int) []store.LatestRow {
	i, _ := slices.BinarySearchFunc(rows, r, func(a, b store.LatestRow) int { return cmp.Compare(a.Key, b.Key) })
	if i >= limit {
		return rows
	}
	rows = slices.Insert(rows, i, r)
	return rows[:min(len(rows), limit)]
}

// eventOf lists the event that a latest value is of.
func (x *explainer) eventOf(ctx context.Context, e *explained, r store.LatestRow) (found bool, err error) {
	err = x.store.Scan(ctx, store.ScanRequest{From: r.Time, To: r.Time + 1, Bodies: true}, func(_ string, b *block.Block) error {
		ids, err := b.IDs()
		if err != nil {
			return err
		}
		bodies, err := b.Bodies()
		if err != nil {
			return err
		}
		if i := slices.Index(ids, r.ID); i >= 0 {
			e.list(host.Contribution{Block: b, Event: i, ID: r.ID, Body: bodies[i], N: 1})
			found = true
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return false, fmt.Errorf("read the archive: %w", err)
	}
	return found, nil
}
