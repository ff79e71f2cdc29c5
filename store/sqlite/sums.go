package sqlite

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"zombiezen.com/go/sqlite"

	"github.com/statscache/statscache/store"
)

// Sums answers a question. It reads either the buckets of the window in the order of the table (walk), or only the
// counts of the series that are asked for (seek): whichever touches fewer rows.
func (d *DB) Sums(ctx context.Context, q store.SumQuery) (out []store.Sum, err error) {
	err = d.read(ctx, "sums of metric "+q.Metric, func(c *conn) error {
		t, err := servingTable(c, q.Metric, q.Interval)
		if err != nil {
			return err
		}
		if err := checkSums(q, t); err != nil {
			return err
		}
		s := &summer{c: c, t: t, q: q, groups: map[string]int32{}, of: map[uint32]int32{}, sums: map[point]int64{}}
		s.plain = len(q.Where) == 0 && wholeKey(q.By, t.dims)
		if s.lo, s.hi, err = t.extent(c, q.From, q.To); err != nil || s.lo >= s.hi {
			return err
		}
		if err := s.read(); err != nil {
			return err
		}
		out, err = s.answer()
		return err
	})
	return out, err
}

// checkSums refuses what can't be answered exactly.
func checkSums(q store.SumQuery, t table) error {
	for _, dim := range q.By {
		if dim < 0 || dim >= t.dims {
			return fmt.Errorf("dimension %d: %w", dim, store.ErrUnknown)
		}
	}
	for _, w := range q.Where {
		if w.Dim < 0 || w.Dim >= t.dims {
			return fmt.Errorf("dimension %d: %w", w.Dim, store.ErrUnknown)
		}
	}
	if q.Step < 0 || q.Step%t.seconds != 0 || q.Origin%t.seconds != 0 {
		return fmt.Errorf("steps of %d s from %d on cut buckets of %d s", q.Step, q.Origin, t.seconds)
	}
	return nil
}

// wholeKey says whether the groups are the series themselves.
func wholeKey(by []int, dims int) bool {
	if len(by) != dims {
		return false
	}
	for i, dim := range by {
		if dim != i {
			return false
		}
	}
	return true
}

// extent is span cut down to the buckets that the table has.
func (t table) extent(c *conn, from, to int64) (lo, hi int64, err error) {
	if lo, hi, err = t.span(c, from, to); err != nil || lo >= hi {
		return 0, 0, err
	}
	first, last := int64(0), int64(-1)
	for order, at := range map[string]*int64{"": &first, " DESC": &last} {
		if err := c.each("SELECT k FROM "+t.counts+" WHERE k>=? AND k<? ORDER BY k"+order+" LIMIT 1", func(s *sqlite.Stmt) error {
			*at = s.ColumnInt64(0)
			return nil
		}, lo, hi); err != nil {
			return 0, 0, err
		}
	}
	if first > last {
		return 0, 0, nil
	}
	return int64(store.MakeCell(store.Cell(first).Bucket(), 0)), last + 1, nil
}

// summer adds up the answer to one question.
type summer struct {
	c      *conn
	t      table
	q      store.SumQuery
	lo, hi int64
	rungs  []rung
	plain  bool // a group is a series: its key is looked up once it is known to be in the answer

	groups  map[string]int32 // by the joined values
	values  [][]string
	of      map[uint32]int32 // a series' group, unwanted for one that doesn't match
	sums    map[point]int64
	scanned int
}

// point is a group at a step.
type point struct {
	at    int64
	group int32
}

const unwanted = -1

// scan accounts for what the question has cost so far.
func (s *summer) scan(n int) error {
	if s.scanned += n; s.q.MaxScan > 0 && s.scanned > s.q.MaxScan {
		return fmt.Errorf("%w: more than %d counts to read", store.ErrTooCostly, s.q.MaxScan)
	}
	return nil
}

// read chooses how.
func (s *summer) read() error {
	series, chosen, err := s.candidates()
	if err != nil || chosen && len(series) == 0 {
		return err
	}
	if chosen {
		if err := s.findRungs(); err != nil {
			return err
		}
		touches := len(series) * s.touches()
		n, err := s.c.int("SELECT count(*) FROM (SELECT 1 FROM "+s.t.counts+" WHERE k>=? AND k<? LIMIT ?)", s.lo, s.hi, touches)
		if err != nil {
			return err
		}
		if int(n) >= touches {
			return s.seek(series)
		}
	}
	return s.c.each("SELECT k, n FROM "+s.t.counts+" WHERE k>=? AND k<?", func(r *sqlite.Stmt) error {
		cell := store.Cell(r.ColumnInt64(0))
		return s.add(cell.Bucket(), cell.Series(), r.ColumnInt64(1))
	}, s.lo, s.hi)
}

// add takes one count.
func (s *summer) add(bucket int64, series uint32, n int64) error {
	if err := s.scan(1); err != nil {
		return err
	}
	p := point{at: s.q.From}
	switch {
	case s.plain:
		p.group = int32(series)
	case len(s.q.By) > 0 || len(s.q.Where) > 0:
		g, err := s.group(series)
		if err != nil || g == unwanted {
			return err
		}
		p.group = g
	}
	if s.q.Step > 0 {
		at := bucket*s.t.seconds - s.q.Origin
		p.at = floorDiv(at, s.q.Step)*s.q.Step + s.q.Origin
	}
	s.sums[p] += n
	if s.q.Top == 0 && s.q.MaxSums > 0 && len(s.sums) > s.q.MaxSums {
		return fmt.Errorf("%w: more than %d sums", store.ErrTooCostly, s.q.MaxSums)
	}
	return nil
}

// group gives the group of a series, unwanted where a condition doesn't hold.
func (s *summer) group(series uint32) (int32, error) {
	if g, ok := s.of[series]; ok {
		return g, nil
	}
	if err := s.scan(1); err != nil {
		return 0, err
	}
	values, err := s.key(series)
	if err != nil {
		return 0, err
	}
	g := int32(unwanted)
	if holds(s.q.Where, values) {
		kept := make([]string, len(s.q.By))
		for i, dim := range s.q.By {
			kept[i] = values[dim]
		}
		joined := store.JoinKey(kept)
		known := false
		if g, known = s.groups[joined]; !known {
			g = int32(len(s.values))
			s.groups[joined], s.values = g, append(s.values, kept)
		}
	}
	s.of[series] = g
	return g, nil
}

// key looks up the dimension values of a series.
func (s *summer) key(series uint32) (values []string, err error) {
	err = s.c.each("SELECT key FROM "+s.t.series+" WHERE id=?", func(r *sqlite.Stmt) error {
		values = store.SplitKey(r.ColumnText(0), s.t.dims)
		return nil
	}, series)
	if err == nil && len(values) != s.t.dims {
		err = fmt.Errorf("series %d has no key of %d dimensions", series, s.t.dims)
	}
	return values, err
}

// holds says whether a series meets all conditions.
func holds(where []store.Match, values []string) bool {
	for _, w := range where {
		v := values[w.Dim]
		met := strings.HasPrefix(v, w.Prefix)
		if w.In != nil {
			met = slices.Contains(w.In, v)
		}
		if met == w.Not {
			return false
		}
	}
	return true
}

// answer sorts and cuts.
func (s *summer) answer() ([]store.Sum, error) {
	out := make([]store.Sum, 0, len(s.sums))
	least := s.least()
	for p, n := range s.sums {
		if n < least {
			continue
		}
		sum := store.Sum{Time: p.at, N: n}
		switch {
		case s.plain && s.t.dims > 0:
			var err error
			if sum.Values, err = s.key(uint32(p.group)); err != nil {
				return nil, err
			}
		case len(s.q.By) > 0:
			sum.Values = s.values[p.group]
		}
		out = append(out, sum)
	}
	slices.SortFunc(out, func(a, b store.Sum) int {
		if s.q.Top > 0 {
			return cmp.Or(cmp.Compare(b.N, a.N), slices.Compare(a.Values, b.Values))
		}
		return cmp.Or(cmp.Compare(a.Time, b.Time), slices.Compare(a.Values, b.Values))
	})
	if s.q.Top > 0 {
		out = out[:min(len(out), s.q.Top)]
	}
	return out, nil
}

// least is the smallest number that a group of the top may have, so that only their keys are looked up.
func (s *summer) least() int64 {
	if s.q.Top <= 0 || s.q.Top >= len(s.sums) {
		return -1 << 63
	}
	all := make([]int64, 0, len(s.sums))
	for _, n := range s.sums {
		all = append(all, n)
	}
	slices.SortFunc(all, func(a, b int64) int { return cmp.Compare(b, a) })
	return all[s.q.Top-1]
}
