package consumer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
)

const (
	// sampleEvents is about how many of the newest events a check of a changed program counts again.
	sampleEvents = 20_000
	// sampleMost bounds the events of one window of it.
	sampleMost = 200_000
	// sampleSpan is the least time that the newest events are looked for in.
	sampleSpan = 60
)

// checkSample compares a plugin's numbers with what its program makes of the newest events and of those behind some older
// bucket, chosen at random: whole buckets that the archive has whole.
func (d *Daemon) checkSample(ctx context.Context, s started) (report VerifyReport, err error) {
	served, err := d.store.Metrics(ctx)
	if err != nil {
		return report, fmt.Errorf("list metrics: %w", err)
	}
	list := slices.DeleteFunc(served, func(m store.ServedMetric) bool { return m.Plugin != s.plugin.ID })
	if len(list) == 0 {
		return report, nil
	}
	def, frames, err := d.host.Definition(ctx, s.program)
	if err != nil {
		return report, fmt.Errorf("ask %s what it is: %w", s.program.ID, err)
	}
	if def.ID != s.plugin.ID || def.Fingerprint != s.plugin.Fingerprint {
		return report, nil // replaced again: the next start is looked at
	}
	v := &verifier{store: d.store, host: d.host, wanted: map[string]bool{}}
	for _, m := range list {
		v.wanted[m.ID] = true
	}
	if v.horizons, err = d.store.Horizons(ctx); err != nil {
		return report, fmt.Errorf("read horizons: %w", err)
	}
	windows, err := v.sample(ctx, list)
	if err != nil {
		return report, err
	}
	for _, w := range windows {
		within := slices.Clone(list)
		for i := range within {
			within[i].Intervals = slices.DeleteFunc(slices.Clone(within[i].Intervals), func(x time.Duration) bool { return int64(x/time.Second) > w.to-w.from })
		}
		v.asked = w
		if err := v.plugin(ctx, candidate{s.program, def, frames}, within); err != nil {
			return v.report, err
		}
	}
	return v.report, nil
}

// sample chooses the windows to compare: about so many newest events, and one older bucket.
func (v *verifier) sample(ctx context.Context, list []store.ServedMetric) (out []window, err error) {
	finest, coarsest := time.Duration(0), time.Duration(0)
	ends := window{}
	found := false
	for _, m := range list {
		for _, i := range m.Intervals {
			first, last, ok, err := v.store.Span(ctx, m.ID, i)
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", m.ID, err)
			}
			if !ok {
				continue
			}
			end := last + int64(i/time.Second)
			if !found {
				ends, found = window{first, end}, true
				finest, coarsest = i, i
			}
			ends.from = min(ends.from, first)
			if i < finest {
				ends.to = end
			}
			finest, coarsest = min(finest, i), max(coarsest, i)
		}
	}
	if !found {
		return []window{everywhere()}, nil // latest values only: there are no buckets to choose
	}
	newest, err := v.newest(ctx, ends, max(sampleSpan, int64(finest/time.Second)))
	if err != nil {
		return nil, err
	}
	out = append(out, newest)
	older, ok, err := v.older(ctx, list, window{ends.from, newest.from}, coarsest)
	if ok {
		out = append(out, older)
	}
	return out, err
}

// newest widens a window at the end until it holds enough events.
func (v *verifier) newest(ctx context.Context, ends window, width int64) (window, error) {
	w := window{ends.to - width, ends.to}
	for {
		n, err := v.events(ctx, w)
		if err != nil || n >= sampleEvents || w.from <= ends.from {
			return w, err
		}
		wider := window{w.to - 4*(w.to-w.from), w.to}
		if n, err = v.events(ctx, wider); err != nil || n > sampleMost {
			return w, err
		}
		w = wider
	}
}

// older finds a bucket of at most an interval before the newest ones that something is stored of.
func (v *verifier) older(ctx context.Context, list []store.ServedMetric, within window, coarsest time.Duration) (w window, ok bool, err error) {
	if within.to <= within.from {
		return w, false, nil
	}
	at := within.from + rand.Int64N(within.to-within.from)
	intervals := map[time.Duration]store.ServedMetric{}
	for _, m := range list {
		for _, i := range m.Intervals {
			intervals[i] = m
		}
	}
	for i := coarsest; i > 0; i = nextFiner(intervals, i) {
		rows, _, err := v.store.Rows(ctx, store.RowQuery{Metric: intervals[i].ID, Interval: i, From: at, To: within.to, Limit: 1})
		if err != nil {
			return w, false, fmt.Errorf("read %s: %w", intervals[i].ID, err)
		}
		if len(rows) == 0 {
			continue
		}
		w = window{rows[0].Time, rows[0].Time + int64(i/time.Second)}
		n, err := v.events(ctx, w)
		if err != nil || n <= sampleMost {
			return w, err == nil, err
		}
	}
	return w, false, nil
}

// nextFiner gives the next shorter interval, 0 after the last.
func nextFiner(intervals map[time.Duration]store.ServedMetric, than time.Duration) (out time.Duration) {
	for i := range intervals {
		if i < than {
			out = max(out, i)
		}
	}
	return out
}

// events counts the archived events of a window, up to somewhat more than a window of the sample may have.
func (v *verifier) events(ctx context.Context, w window) (n int, err error) {
	err = v.store.Scan(ctx, store.ScanRequest{From: micros(w.from), To: micros(w.to)}, func(_ string, b *block.Block) error {
		if n += b.Len(); n > sampleMost {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return 0, fmt.Errorf("read the archive: %w", err)
	}
	return n, nil
}
