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
		s := &summer{c: c, t: t, q: q, taken: &d.taken, groups: map[string]int32{}, sums: map[point]int64{}}
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
	taken  *takenKeys
	lo, hi int64
	rungs  []rung
	plain  bool // a group is a series: its key is looked up once it is known to be in the answer

	groups  map[string]int32 // by the joined values
	values  [][]string
	of      []int32     // by series: its group + 2, 1 for one that doesn't match, 0 for one not seen yet
	columns *keyColumns // nil until many keys were looked up
	looked  int
	scanned int

	// Counts that come by time are added up by group until the step is over, others by group and step.
	at, over int64 // the step under way: when it starts, and the bucket that begins the next one
	running  []int64
	touched  []int32 // groups in running
	marks    []bool  // which those are
	done     []stepSum
	sums     map[point]int64
}

// point is a group at a step.
type point struct {
	at    int64
	group int32
}

// stepSum is a group's number at a step.
type stepSum struct {
	point
	n int64
}

// mostRunning bounds the groups that are added up in a slice.
const mostRunning = 1 << 20

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
	s.over = -1 << 63
	if err := s.c.each("SELECT k, n FROM "+s.t.counts+" WHERE k>=? AND k<? ORDER BY k", func(r *sqlite.Stmt) error {
		cell := store.Cell(r.ColumnInt64(0))
		return s.next(cell.Bucket(), cell.Series(), r.ColumnInt64(1))
	}, s.lo, s.hi); err != nil {
		return err
	}
	s.endStep()
	return nil
}

// next takes a count that is not earlier than the one before.
func (s *summer) next(bucket int64, series uint32, n int64) error {
	if bucket >= s.over {
		s.endStep()
		s.at, s.over = s.q.From, 1<<62
		if s.q.Step > 0 {
			s.at = s.stepStart(bucket)
			s.over = (s.at + s.q.Step) / s.t.seconds
		}
	}
	g, err := s.groupOf(series)
	if err != nil || g == unwanted {
		return err
	}
	if g >= mostRunning {
		s.sums[point{s.at, g}] += n
		return s.bounded()
	}
	for int(g) >= len(s.running) {
		s.running, s.marks = append(s.running, make([]int64, len(s.running)+64)...), append(s.marks, make([]bool, len(s.marks)+64)...)
	}
	s.running[g] += n
	if s.marks[g] {
		return nil
	}
	s.marks[g], s.touched = true, append(s.touched, g)
	return s.bounded()
}

// endStep puts the numbers of the step under way down.
func (s *summer) endStep() {
	for _, g := range s.touched {
		s.done = append(s.done, stepSum{point{s.at, g}, s.running[g]})
		s.running[g], s.marks[g] = 0, false
	}
	s.touched = s.touched[:0]
}

// bounded refuses more numbers than the answer may have.
func (s *summer) bounded() error {
	if s.q.Top == 0 && s.q.MaxSums > 0 && len(s.sums)+len(s.done)+len(s.touched) > s.q.MaxSums {
		return fmt.Errorf("%w: more than %d sums", store.ErrTooCostly, s.q.MaxSums)
	}
	return nil
}

func (s *summer) stepStart(bucket int64) int64 {
	return floorDiv(bucket*s.t.seconds-s.q.Origin, s.q.Step)*s.q.Step + s.q.Origin
}

// add takes one count, whenever it is of.
func (s *summer) add(bucket int64, series uint32, n int64) error {
	g, err := s.groupOf(series)
	if err != nil || g == unwanted {
		return err
	}
	p := point{s.q.From, g}
	if s.q.Step > 0 {
		p.at = s.stepStart(bucket)
	}
	s.sums[p] += n
	return s.bounded()
}

// groupOf accounts for a count of a series and gives its group, unwanted where a condition doesn't hold.
func (s *summer) groupOf(series uint32) (int32, error) {
	if err := s.scan(1); err != nil {
		return 0, err
	}
	switch {
	case s.plain:
		return int32(series), nil
	case len(s.q.By) == 0 && len(s.q.Where) == 0:
		return 0, nil
	}
	if int(series) < len(s.of) && s.of[series] != 0 {
		return s.of[series] - 2, nil
	}
	return s.group(series)
}

// group finds the group of a series that was not seen before.
func (s *summer) group(series uint32) (int32, error) {
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
	if n := int(series) + 1 - len(s.of); n > 0 {
		s.of = append(s.of, make([]int32, n)...)
	}
	s.of[series] = g + 2
	return g, nil
}

// key gives the dimension values of a series.
func (s *summer) key(series uint32) (values []string, err error) {
	if s.looked++; s.columns == nil && (s.looked == 1 || s.looked == manyLookups) && s.t.dims > 0 {
		if s.columns, err = s.taken.columnsOf(s.c, s.t, s.looked > 1); err != nil {
			return nil, err
		}
	}
	if s.columns != nil {
		values = make([]string, s.t.dims)
		if s.columns.key(series, values) {
			return values, nil
		}
	}
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
	for p, n := range s.sums {
		s.done = append(s.done, stepSum{p, n})
	}
	least := s.least()
	s.done = slices.DeleteFunc(s.done, func(x stepSum) bool { return x.n < least })
	out := make([]store.Sum, 0, len(s.done))
	for _, x := range s.done {
		sum := store.Sum{Time: x.at, N: x.n}
		switch {
		case s.plain && s.t.dims > 0:
			var err error
			if sum.Values, err = s.key(uint32(x.group)); err != nil {
				return nil, err
			}
		case len(s.q.By) > 0:
			sum.Values = s.values[x.group]
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
	if s.q.Top <= 0 || s.q.Top >= len(s.done) {
		return -1 << 63
	}
	all := make([]int64, 0, len(s.done))
	for _, x := range s.done {
		all = append(all, x.n)
	}
	slices.SortFunc(all, func(a, b int64) int { return cmp.Compare(b, a) })
	return all[s.q.Top-1]
}
