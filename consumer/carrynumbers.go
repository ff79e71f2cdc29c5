package consumer

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/statscache/statscache/store"
)

const (
	noHorizon = math.MinInt64
	// carryRows is how many counts are looked at together, and go into one commit.
	carryRows = 20_000
	// carryPuts and carryPutBytes bound the latest values of one commit.
	carryPuts     = 1000
	carryPutBytes = 4 << 20
	// carryLetters is how many dead letters are read at once.
	carryLetters = 1000
)

// carrying is one plugin on its way.
type carrying struct {
	*migration
	old   store.Serving
	now   uint32           // the target's generation
	loose store.Checkpoint // numbers are added here: they are of all streams together
}

// plugin brings a plugin's numbers and positions over and compares them.
func (m *migration) plugin(ctx context.Context, p store.Serving, at []store.Position) (err error) {
	g, err := m.target.Register(ctx, p.Plugin)
	if err != nil {
		return err
	}
	c := &carrying{migration: m, old: p, now: cmp.Or(g.Building, g.Serving)}
	if c.loose, err = m.target.Checkpoint(ctx, store.CheckpointKey{Plugin: p.ID, Generation: c.now, Stream: store.Loose}); err != nil {
		return err
	}
	defer func() { _ = c.loose.Close() }() // writes nothing
	for _, metric := range p.Metrics {
		if err := c.metric(ctx, metric); err != nil {
			return fmt.Errorf("metric %s: %w", metric.ID, err)
		}
	}
	if err := c.letters(ctx); err != nil {
		return fmt.Errorf("dead letters: %w", err)
	}
	if err := c.positions(ctx, at); err != nil {
		return err
	}
	if g.Building != 0 {
		return m.target.Promote(ctx, p.ID, g.Building)
	}
	return nil
}

func (c *carrying) metric(ctx context.Context, metric store.Metric) error {
	for _, interval := range metric.Intervals {
		if _, err := c.counts(ctx, metric, interval, true); err != nil {
			return err
		}
		rows, err := c.counts(ctx, metric, interval, false)
		if err != nil {
			return err
		}
		c.sum.Counts += rows
		there := 0
		err = c.target.EachCell(ctx, c.cells(c.now, metric, interval), func(r store.Row) error {
			if r.N != 0 {
				there++
			}
			return nil
		})
		if err != nil {
			return err
		}
		if there != rows {
			return fmt.Errorf("interval %s: the target holds %d counts, the source %d", interval, there, rows)
		}
	}
	if metric.Kind != store.Latest {
		return nil
	}
	return c.latest(ctx, metric)
}

func (c *carrying) cells(generation uint32, metric store.Metric, interval time.Duration) store.CellQuery {
	return store.CellQuery{Plugin: c.old.ID, Metric: metric.ID, Generation: generation, Interval: interval, From: math.MinInt64, To: math.MaxInt64}
}

// counts goes through the source's counts that are not 0 and adds what the target's lack; unless add, a difference is an
// error. A part that was written before is found again by reading it.
func (c *carrying) counts(ctx context.Context, metric store.Metric, interval time.Duration, add bool) (rows int, err error) {
	missing := map[store.Row]int64{} // by time and key
	flush := func() error {
		if len(missing) == 0 {
			return nil
		}
		if err := c.subtract(ctx, metric, interval, missing); err != nil || len(missing) == 0 {
			return err
		}
		if !add {
			for r, n := range missing {
				return fmt.Errorf("interval %s: the target's count of %q at %s differs by %d", interval, r.Key, time.Unix(r.Time, 0).UTC().Format(time.RFC3339), n)
			}
		}
		err := c.add(ctx, metric, interval, missing)
		clear(missing)
		return err
	}
	err = c.source.EachCell(ctx, c.cells(c.old.Generation, metric, interval), func(r store.Row) error {
		if r.N == 0 {
			return nil
		}
		missing[store.Row{Time: r.Time, Key: c.text(r.Key)}] += r.N
		if rows++; rows%carryRows == 0 {
			c.tell(carryRows)
			return flush()
		}
		return nil
	})
	if err == nil {
		err = flush()
	}
	return rows, err
}

// subtract takes off what the target has.
func (c *carrying) subtract(ctx context.Context, metric store.Metric, interval time.Duration, missing map[store.Row]int64) error {
	q := c.cells(c.now, metric, interval)
	q.From, q.To = math.MaxInt64, math.MinInt64
	for r := range missing {
		q.From, q.To = min(q.From, r.Time), max(q.To, r.Time+1)
	}
	return c.target.EachCell(ctx, q, func(r store.Row) error {
		n := r.N
		r.N = 0
		if want, ok := missing[r]; ok {
			if missing[r] = want - n; want == n {
				delete(missing, r)
			}
		}
		return nil
	})
}

func (c *carrying) add(ctx context.Context, metric store.Metric, interval time.Duration, missing map[store.Row]int64) error {
	seconds := int64(interval / time.Second)
	list := make([]store.Delta, 0, len(missing))
	for r, n := range missing {
		series, err := c.loose.Series(metric.ID, r.Key)
		if err != nil {
			return err
		}
		list = append(list, store.Delta{Cell: store.MakeCell(r.Time/seconds, series), N: n})
	}
	slices.SortFunc(list, func(a, b store.Delta) int { return cmp.Compare(a.Cell, b.Cell) })
	for i := range list[1:] {
		if list[i].Cell == list[i+1].Cell {
			return fmt.Errorf("the target's series limit leaves no room for all keys")
		}
	}
	return c.loose.Commit(ctx, &store.Commit{To: c.loose.Pos() + 1, Counters: []store.CounterDeltas{{Metric: metric.ID, Interval: interval, Cells: list}}})
}

// text is a text as the target keeps it.
func (m *migration) text(s string) string {
	if m.target.Kind() == "crate" {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	return s
}

// latest proposes all latest values: the newest win, and the target can't have newer ones.
func (c *carrying) latest(ctx context.Context, metric store.Metric) error {
	var puts []store.Put
	size := 0
	flush := func() error {
		if len(puts) == 0 {
			return nil
		}
		err := c.loose.Commit(ctx, &store.Commit{To: c.loose.Pos() + 1, Puts: puts})
		c.tell(len(puts))
		puts, size = nil, 0
		return err
	}
	var want, got rowsSum
	err := c.source.EachLatest(ctx, c.old.ID, metric.ID, c.old.Generation, func(r store.LatestRow) error {
		want.add(c.text(r.Key), c.text(r.ID), r.Time, r.Value)
		puts = append(puts, store.Put{Metric: metric.ID, Key: r.Key, Time: r.Time, ID: r.ID, Value: r.Value})
		if size += len(r.Value); len(puts) >= carryPuts || size >= carryPutBytes {
			return flush()
		}
		return nil
	})
	if err == nil {
		err = flush()
	}
	if err == nil {
		err = c.target.EachLatest(ctx, c.old.ID, metric.ID, c.now, func(r store.LatestRow) error {
			got.add(r.Key, r.ID, r.Time, r.Value)
			return nil
		})
	}
	if err != nil {
		return err
	}
	if want != got {
		return fmt.Errorf("the target holds %d latest values, the source %d, or others", got.rows, want.rows)
	}
	c.sum.Latest += want.rows
	return nil
}

// rowsSum is what rows come to in whatever order: their number and the sum of their hashes.
type rowsSum struct {
	rows   int
	digest [2]uint64
}

func (s *rowsSum) add(key, id string, at int64, value []byte) {
	text := fmt.Appendf(nil, "%q %q %d %s", key, id, at, value)
	h := sha256.Sum256(text)
	s.rows++
	s.digest[0] += binary.LittleEndian.Uint64(h[:])
	s.digest[1] += binary.LittleEndian.Uint64(h[8:])
}

// letters copies dead letters together with the positions behind them: each with the commit that goes there.
func (c *carrying) letters(ctx context.Context) error {
	writers := map[string]store.Checkpoint{store.Loose: c.loose}
	defer func() {
		delete(writers, store.Loose)
		for _, w := range writers {
			_ = w.Close() // writes nothing
		}
	}()
	for after := (store.Place{}); ; {
		page, err := c.out.Letters(ctx, c.old.ID, c.old.Generation, after, carryLetters)
		if err != nil || len(page) == 0 {
			return err
		}
		for len(page) > 0 {
			n := 1
			for n < len(page) && page[n].Stream == page[0].Stream {
				n++
			}
			part := page[:n]
			page = page[n:]
			stream := part[0].Stream
			w := writers[stream]
			if w == nil {
				if w, err = c.target.Checkpoint(ctx, store.CheckpointKey{Plugin: c.old.ID, Generation: c.now, Stream: stream}); err != nil {
					return err
				}
				writers[stream] = w
			}
			if err := c.bury(ctx, w, part); err != nil {
				return err
			}
			after = store.Place{Stream: stream, Seq: part[n-1].Seq}
		}
	}
}

// bury adds the letters of one stream that the target has not.
func (c *carrying) bury(ctx context.Context, w store.Checkpoint, part []store.StreamDeadLetter) error {
	stream := part[0].Stream
	x := &store.Commit{To: part[len(part)-1].Seq}
	known := w.Pos()
	if stream == store.Loose { // its letters stand at no event's position
		x.To = w.Pos() + 1
		list, err := c.in.Letters(ctx, c.old.ID, c.now, store.Place{Stream: stream, Seq: part[0].Seq - min(part[0].Seq, 1)}, len(part))
		if err != nil {
			return err
		}
		if known = 0; len(list) > 0 {
			known = list[len(list)-1].Seq
		}
	}
	for _, l := range part {
		if l.Seq > known {
			x.Dead = append(x.Dead, l.DeadLetter)
		}
	}
	if len(x.Dead) == 0 {
		return nil
	}
	return w.Commit(ctx, x)
}

// positions sets how far each stream is counted, and compares that and the dead letters.
func (c *carrying) positions(ctx context.Context, at []store.Position) error {
	for _, x := range at {
		w, err := c.target.Checkpoint(ctx, store.CheckpointKey{Plugin: c.old.ID, Generation: c.now, Stream: x.Stream})
		if err == nil && w.Pos() < x.Pos {
			err = w.Commit(ctx, &store.Commit{To: x.Pos})
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			return fmt.Errorf("position in stream %s: %w", x.Stream, err)
		}
	}
	now, err := c.target.Positions(ctx, c.old.ID, c.now)
	if err != nil {
		return fmt.Errorf("positions: %w", err)
	}
	if !slices.Equal(now, at) {
		return fmt.Errorf("the target stands at %v, the source at %v", now, at)
	}
	return c.compareLetters(ctx)
}

func (c *carrying) compareLetters(ctx context.Context) error {
	for after := (store.Place{}); ; {
		want, err := c.out.Letters(ctx, c.old.ID, c.old.Generation, after, carryLetters)
		if err != nil {
			return fmt.Errorf("dead letters: %w", err)
		}
		got, err := c.in.Letters(ctx, c.old.ID, c.now, after, carryLetters)
		if err != nil {
			return fmt.Errorf("the target's dead letters: %w", err)
		}
		if !slices.EqualFunc(want, got, c.sameLetter) {
			return fmt.Errorf("dead letters behind position %d of stream %q differ: empty the target and begin anew", after.Seq, after.Stream)
		}
		if len(want) == 0 {
			return nil
		}
		c.sum.DeadLetters += len(want)
		last := want[len(want)-1]
		after = store.Place{Stream: last.Stream, Seq: last.Seq}
	}
}

func (m *migration) sameLetter(a, b store.StreamDeadLetter) bool {
	return a.Stream == b.Stream && a.Seq == b.Seq && m.text(a.ID) == b.ID && m.text(a.Error) == b.Error && a.At.UnixMicro() == b.At.UnixMicro()
}
