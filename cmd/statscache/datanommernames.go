package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/statscache/statscache/consumer/fedmsg"
	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/plugins/volume"
	"github.com/statscache/statscache/store"
)

// namedCount is a category or topic and how many messages it has.
type namedCount struct {
	name  string
	count int64
}

// countNames counts all messages by category or topic, by name: by the bundled counters where they have counted
// anything, else by looking at every archived event.
func countNames(ctx context.Context, s store.Store, topic bool) ([]namedCount, error) {
	id := "volume-by-category"
	if topic {
		id = "volume-by-topic"
	}
	metrics, err := s.Metrics(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range metrics {
		if m.ID != id || m.Plugin != volume.ID || len(m.Intervals) == 0 {
			continue
		}
		const ages = int64(1) << 38 // seconds: farther than any time that is accepted
		sums, err := s.Sums(ctx, store.SumQuery{Metric: id, Interval: slices.Max(m.Intervals), From: -ages, To: ages, By: []int{0}})
		if err != nil && !errors.Is(err, store.ErrUnknown) {
			return nil, err
		}
		if len(sums) == 0 {
			break // not computed yet
		}
		out := make([]namedCount, 0, len(sums))
		for _, x := range sums {
			out = append(out, namedCount{x.Values[0], x.N})
		}
		return byName(out), nil
	}
	return scanNames(ctx, s, topic)
}

// scanNames looks at every archived event.
func scanNames(ctx context.Context, s store.Store, topic bool) ([]namedCount, error) {
	counts := map[string]int64{}
	err := s.Scan(ctx, store.ScanRequest{From: math.MinInt64, To: math.MaxInt64}, func(_ string, b *block.Block) error {
		for i := range b.Len() {
			if topic {
				counts[b.Names[b.Topic[i]]]++
			} else {
				counts[b.Names[b.CategoryOf(i)]]++
			}
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	out := make([]namedCount, 0, len(counts))
	for name, n := range counts {
		out = append(out, namedCount{name, n})
	}
	return byName(out), nil
}

func byName(list []namedCount) []namedCount {
	slices.SortFunc(list, func(a, b namedCount) int { return cmp.Compare(a.name, b.name) })
	return list
}

// printStats writes a line each, or an object.
func printStats(out io.Writer, list []namedCount, topic bool, category string, asJSON bool) error {
	all := map[string]int64{}
	for _, c := range list {
		of := c.name
		if topic {
			of = fedmsg.Category(c.name)
		}
		if category != "" && of != category {
			continue
		}
		if all[c.name] = c.count; asJSON {
			continue
		}
		if _, err := fmt.Fprintf(out, "%s has %d entries\n", printable(c.name), c.count); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	if asJSON {
		return json.NewEncoder(out).Encode(all)
	}
	return nil
}
