package consumer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/plugins/host"
	"github.com/statscache/statscache/store"
)

const (
	// sliceRows is about how many stored rows are compared at once, sliceCells how many recomputed ones are held: they
	// bound the memory that a comparison takes, whatever the size of the archive.
	sliceRows  = 1 << 20
	sliceCells = 4 << 20
	// sliceUnit is the least width of a slice, a plugin's largest interval where that is larger: the buckets of a slice
	// reach as far beyond it.
	sliceUnit = 24 * time.Hour
)

// slicer cuts the time that a plugin's buckets cover into slices of a bounded number of rows.
type slicer struct {
	list     []store.ServedMetric
	unit     int64 // seconds: slices begin and end at multiples of it
	width    int64 // of the next slice, in units
	most     int64 // what width may grow to
	lo, last int64 // seconds: buckets are stored from lo to before last, both multiples of unit; lo == last for none
}

// slicesOf finds out how far the stored buckets of some metrics reach.
func (v *verifier) slicesOf(ctx context.Context, list []store.ServedMetric) (*slicer, error) {
	s := &slicer{list: list, unit: int64(sliceUnit / time.Second), lo: math.MaxInt64, last: math.MinInt64}
	for _, m := range list {
		for _, i := range m.Intervals {
			s.unit = max(s.unit, int64(i/time.Second))
		}
	}
	for _, m := range list {
		for _, i := range m.Intervals {
			first, last, ok, err := v.store.Span(ctx, m.ID, i)
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", m.ID, err)
			}
			if ok {
				s.lo, s.last = min(s.lo, first), max(s.last, last)
			}
		}
	}
	if s.lo > s.last {
		s.lo, s.last = 0, 0
	} else {
		s.lo -= (s.lo%s.unit + s.unit) % s.unit
		s.last += s.unit - (s.last%s.unit+s.unit)%s.unit
	}
	s.width = max(1, (s.last-s.lo)/s.unit)
	s.most = s.width
	return s, nil
}

// next gives the end of the slice that begins at from. Before and behind what is stored there is one slice each.
func (s *slicer) next(ctx context.Context, r store.Reader, from, end int64) (int64, error) {
	switch {
	case from < s.lo:
		return min(s.lo, end), nil
	case from >= s.last:
		return end, nil
	}
	for {
		to := min(s.last, from-(from%s.unit+s.unit)%s.unit+s.width*s.unit, end)
		rows := 0
		for _, m := range s.list {
			for _, i := range m.Intervals {
				_, n, err := r.Rows(ctx, store.RowQuery{Metric: m.ID, Interval: i, From: from, To: to})
				if err != nil {
					return 0, fmt.Errorf("read %s: %w", m.ID, err)
				}
				rows += n
			}
		}
		if rows > sliceRows && s.width > 1 {
			s.width /= 2
			continue
		}
		switch {
		case rows == 0:
			s.width = min(2*s.width, max(1, (s.last-s.lo)/s.unit)) // nothing was learnt about how dense it is elsewhere
			s.most = max(s.width, s.most)
		case rows < sliceRows/4:
			s.width = min(2*s.width, s.most)
		}
		return to, nil
	}
}

// narrow makes the slice that begins at from smaller, where that can be.
func (s *slicer) narrow(from, to int64) bool {
	was := s.width
	if from >= s.lo && to <= s.last {
		was = min(was, (to-from+s.unit-1)/s.unit)
	}
	s.width = max(1, was/2)
	s.most = s.width
	return was > 1
}

// reach is how far the events of the buckets reach that start in [from, to).
func (s *slicer) reach(from, to int64) int64 {
	end := to
	if to == math.MaxInt64 {
		return end
	}
	for _, m := range s.list {
		for _, i := range m.Intervals {
			step := int64(i / time.Second)
			if start := to - 1 - ((to-1)%step+step)%step; start >= from {
				end = max(end, start+step)
			}
		}
	}
	return end
}

// errSwapped says that another generation is served than the one that was being compared.
var errSwapped = errors.New("another generation is served by now")

// slices compares the numbers of a plugin slice by slice, and mends them where that is asked for.
func (v *verifier) slices(ctx context.Context, p candidate, list []store.ServedMetric) error {
	s, err := v.slicesOf(ctx, list)
	if err != nil {
		return err
	}
	latest := newLatestValues(v, list)
	for from := v.asked.from; from < v.asked.to; {
		to, err := s.next(ctx, v.store, from, v.asked.to)
		if err != nil {
			return err
		}
		saved := v.report
		err = v.slice(ctx, p, s, from, to, latest)
		if errors.Is(err, host.ErrTooMany) && s.narrow(from, to) {
			v.report = saved
			continue
		}
		if err != nil {
			return err
		}
		if v.progress != nil {
			v.progress(v.report.Rows)
		}
		from = to
	}
	return v.latest(ctx, p, list[0].Generation, latest)
}

// slice compares the buckets that start in [from, to).
func (v *verifier) slice(ctx context.Context, p candidate, s *slicer, from, to int64, latest *latestValues) error {
	v.from, v.to = from, to
	saved := v.report
	at, err := v.compare(ctx, p, s, latest, true)
	if err != nil || v.fixes == nil {
		return err
	}
	return v.mend(ctx, p.plugin.ID, s.list[0].Generation, saved, at, func() (positions, error) {
		return v.compare(ctx, p, s, latest, false)
	})
}

// positions are where a generation stood before and after its numbers were read.
type positions struct {
	before, after []store.Position
	revived       bool // dead letters were taken back in between, which moves none
}

// steady says whether nothing was committed in between: every event up to a position is in the numbers, no other is.
func (p positions) steady() bool {
	return !p.revived && slices.Equal(p.before, p.after) && !slices.ContainsFunc(p.after, func(p store.Position) bool { return p.Pos != p.Intent })
}

// compare compares one slice. The daemon may commit meanwhile: what was read lies somewhere between the positions before
// and after, so numbers of events in between may be in it or not, and all others must be exact.
func (v *verifier) compare(ctx context.Context, p candidate, s *slicer, latest *latestValues, first bool) (at positions, err error) {
	id, generation := p.plugin.ID, s.list[0].Generation
	if at.before, err = v.store.Positions(ctx, id, generation); err != nil {
		return at, fmt.Errorf("positions of %s: %w", id, err)
	}
	dead, err := deadLetters(ctx, v.store, id, generation)
	if err != nil {
		return at, err
	}
	c := newComparison(v, s.list)
	if err := c.readStored(ctx); err != nil {
		return at, err
	}
	still, err := deadLetters(ctx, v.store, id, generation)
	if err != nil {
		return at, err
	}
	if at.after, err = v.store.Positions(ctx, id, generation); err != nil {
		return at, fmt.Errorf("positions of %s: %w", id, err)
	}
	if latest.since == nil {
		latest.since = at.before
	}
	latest.left(dead)
	if back := revived(dead, still); len(back) > 0 {
		at.revived = true
		if err := v.recompute(ctx, p, v.only(ctx, back, p.frames), c.maybeSink()); err != nil {
			return at, err
		}
	}
	if maybe := between(at.before, at.after); len(maybe.to) > 0 {
		if err := v.recompute(ctx, p, v.inOrder(ctx, maybe, p.frames, still), c.maybeSink()); err != nil {
			return at, err
		}
	}
	sink := c.sureSink()
	if first { // a comparison that is made again has the same values, and perhaps newer ones: they are read at the end
		sink.Put = latest.put
	}
	if s.width > 1 {
		sink.MaxCells = sliceCells
	}
	any, err := v.anyAt(ctx, s, at.before, dead)
	if err == nil && any {
		err = v.recompute(ctx, p, v.byTime(ctx, s, at.before, p.frames, dead), sink)
	}
	if err != nil {
		return at, err
	}
	if v.horizons, err = v.store.Horizons(ctx); err != nil {
		return at, fmt.Errorf("read horizons: %w", err)
	}
	if err := v.stillServed(ctx, s.list); err != nil {
		return at, err
	}
	c.finish()
	return at, nil
}

// stillServed makes sure that the generation that was compared was served all the while: of one that has been replaced
// the rows are being removed.
func (v *verifier) stillServed(ctx context.Context, list []store.ServedMetric) error {
	served, err := v.store.Metrics(ctx)
	if err != nil {
		return fmt.Errorf("list metrics: %w", err)
	}
	for _, m := range list {
		if !slices.ContainsFunc(served, func(x store.ServedMetric) bool {
			return x.ID == m.ID && x.Plugin == m.Plugin && x.Generation == m.Generation
		}) {
			return fmt.Errorf("metric %s: %w", m.ID, errSwapped)
		}
	}
	return nil
}

// span is a piece of every stream: positions in (from, to].
type span struct{ from, to map[string]uint64 }

// between is what may have been committed after the positions before were read.
func between(before, after []store.Position) span {
	s := span{from: map[string]uint64{}, to: map[string]uint64{}}
	for _, p := range before {
		s.from[p.Stream] = p.Pos
	}
	for _, p := range after {
		if p.Intent > s.from[p.Stream] {
			s.to[p.Stream] = p.Intent
		}
	}
	return s
}

// blocks are events, or the error that ended them.
type blocks = func(yield func(*block.Block, error) bool)

func (v *verifier) recompute(ctx context.Context, p candidate, events blocks, sink host.Sink) error {
	if _, err := v.host.Recompute(ctx, p.program, events, sink); err != nil {
		return fmt.Errorf("recompute %s: %w", p.plugin.ID, err)
	}
	return nil
}

// inOrder yields the events of a piece of the streams.
func (v *verifier) inOrder(ctx context.Context, s span, frames bool, dead map[letter]bool) blocks {
	return func(yield func(*block.Block, error) bool) {
		for _, stream := range sortedKeys(s.to) {
			if !v.stream(ctx, stream, s.from[stream], s.to[stream], frames, dead, yield) {
				return
			}
		}
	}
}

// scan asks for the events behind the current slice's buckets.
func (v *verifier) scan(s *slicer, bodies bool) store.ScanRequest {
	return store.ScanRequest{From: micros(v.from), To: micros(s.reach(v.from, v.to)), Bodies: bodies}
}

// micros makes µs of seconds: the ends of time stay what they are, and damaged rows may lie anywhere.
func micros(s int64) int64 {
	switch {
	case s < math.MinInt64/1_000_000:
		return math.MinInt64
	case s > math.MaxInt64/1_000_000:
		return math.MaxInt64
	}
	return s * 1_000_000
}

// anyAt says whether there are events behind the current slice's buckets at all.
func (v *verifier) anyAt(ctx context.Context, s *slicer, at []store.Position, dead map[letter]bool) (any bool, err error) {
	to := byStream(at)
	err = v.store.Scan(ctx, v.scan(s, false), func(stream string, b *block.Block) error {
		if slices.Contains(v.keep(b, stream, 0, to[stream], dead), true) {
			any = true
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return false, fmt.Errorf("read the archive: %w", err)
	}
	return any, nil
}

// byTime yields the events behind the current slice's buckets that are counted.
func (v *verifier) byTime(ctx context.Context, s *slicer, at []store.Position, frames bool, dead map[letter]bool) blocks {
	to := byStream(at)
	return func(yield func(*block.Block, error) bool) {
		err := v.store.Scan(ctx, v.scan(s, frames), func(stream string, b *block.Block) error {
			kept, err := b.Keep(v.keep(b, stream, 0, to[stream], dead))
			if err == nil && kept.Len() > 0 && !yield(kept, nil) {
				err = errEnough
			}
			return err
		})
		if err != nil && !errors.Is(err, errEnough) {
			yield(nil, fmt.Errorf("read the archive: %w", err))
		}
	}
}

func byStream(at []store.Position) map[string]uint64 {
	out := map[string]uint64{}
	for _, p := range at {
		out[p.Stream] = p.Pos
	}
	return out
}
