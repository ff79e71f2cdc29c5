package sqlite

import (
	"cmp"
	"slices"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/statscache/statscache/store"
)

// seekCost is how many rows can be read one after the other in the time that looking up one takes.
const seekCost = 8

// rung is a longer interval of the same metric: buckets that start in [from, to), in seconds since 1970, can stand for
// those of the interval that is asked for.
type rung struct {
	table
	from, to int64
}

// findRungs finds the longer intervals that questions about a few series are answered from as far as they go: in the
// window, and nowhere behind their own horizon. They ascend; the last is days, or there is none.
func (s *summer) findRungs() error {
	from, to := store.Cell(s.lo).Bucket()*s.t.seconds, (store.Cell(s.hi-1).Bucket()+1)*s.t.seconds
	for _, t := range s.t.longer {
		lo, hi, err := t.span(s.c, from, to)
		if err != nil {
			return err
		}
		r := rung{t, store.Cell(lo).Bucket() * t.seconds, floorDiv(to, t.seconds) * t.seconds}
		if r.from < r.to && lo < hi {
			s.rungs = append(s.rungs, r)
		}
	}
	if n := len(s.rungs); n > 0 && s.rungs[n-1].byKey == "" {
		s.rungs = nil
	}
	return nil
}

// touches estimates what seeking one series reads.
func (s *summer) touches() int {
	if s.t.byKey != "" {
		return seekCost
	}
	const most = 1 << 30
	buckets := store.Cell(s.hi-1).Bucket() - store.Cell(s.lo).Bucket() + 1
	if len(s.rungs) == 0 {
		return int(min(buckets, most)) * seekCost
	}
	days := s.rungs[len(s.rungs)-1]
	each := int64(0) // seeks inside a day that steps cut
	switch offset := s.q.Origin - floorDiv(s.q.Origin, daySeconds)*daySeconds; {
	case s.q.Step == 0 || s.q.Step%daySeconds == 0 && offset == 0:
	case s.q.Step%daySeconds == 0:
		each = s.seeks(0, min(offset, daySeconds-offset))
	default:
		each = daySeconds / s.t.seconds
	}
	return int(min(seekCost*(2+(days.to-days.from)/daySeconds*each), most))
}

// seeks counts the buckets that [a, b) is made of.
func (s *summer) seeks(a, b int64) (n int64) {
	for i := len(s.rungs) - 2; i >= 0; i-- {
		n += (b - a) / s.rungs[i].seconds
		b = a + (b-a)%s.rungs[i].seconds
	}
	return n + (b-a)/s.t.seconds
}

// seek reads the counts of some series.
func (s *summer) seek(series []uint32) error {
	from, to := store.Cell(s.lo).Bucket()*s.t.seconds, (store.Cell(s.hi-1).Bucket()+1)*s.t.seconds
	switch {
	case s.t.byKey != "":
		for _, id := range series {
			if err := s.eachDay(s.t, id, from, to, func(at, n int64) error { return s.add(at/daySeconds, id, n) }); err != nil {
				return err
			}
		}
		return nil
	case len(s.rungs) == 0:
		return s.pieces(series, from, to)
	}
	days := s.rungs[len(s.rungs)-1]
	if err := s.pieces(series, from, days.from); err != nil {
		return err
	}
	if err := s.cutDays(days, series); err != nil {
		return err
	}
	return s.pieces(series, days.to, to)
}

// eachDay gives the days of [from, to) on which a series has counts.
func (s *summer) eachDay(days table, id uint32, from, to int64, f func(at, n int64) error) error {
	base := int64(id)<<dayBits + dayZero
	return s.c.each("SELECT k, n FROM "+days.byKey+" WHERE k>=? AND k<?", func(r *sqlite.Stmt) error {
		return f((r.ColumnInt64(0)-base)*daySeconds, r.ColumnInt64(1))
	}, base+floorDiv(from, daySeconds), base+floorDiv(to, daySeconds))
}

// mostDays bounds the days of series that are held to be put in order.
const mostDays = 1 << 16

// dayOf is the count of a series on a day.
type dayOf struct {
	at, n int64
	id    uint32
}

// cutDays reads the days of some series and looks only into those that have counts and that a step cuts: day by day, as
// the counts of one day lie together.
func (s *summer) cutDays(days rung, series []uint32) error {
	var held []dayOf
	cut := func() error {
		slices.SortFunc(held, func(a, b dayOf) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.id, b.id)) })
		for _, d := range held {
			if err := s.cutDay(d.id, d.at, d.n); err != nil {
				return err
			}
		}
		held = held[:0]
		return nil
	}
	for _, id := range series {
		if err := s.eachDay(days.table, id, days.from, days.to, func(at, n int64) error {
			held = append(held, dayOf{at, n, id})
			return nil
		}); err != nil {
			return err
		}
		if len(held) > mostDays {
			if err := cut(); err != nil {
				return err
			}
		}
	}
	return cut()
}

// cutDay shares a day's count out to the steps that it lies in. The longest piece gets what the others leave.
func (s *summer) cutDay(id uint32, at, n int64) error {
	longest, length := at, int64(0)
	for a := at; a < at+daySeconds; a = s.stepEnd(a) {
		if l := min(s.stepEnd(a), at+daySeconds) - a; l > length {
			longest, length = a, l
		}
	}
	for a := at; a < at+daySeconds && n != 0; a = s.stepEnd(a) {
		if a == longest {
			continue
		}
		part, err := s.between(id, a, min(s.stepEnd(a), at+daySeconds))
		if err != nil {
			return err
		}
		if n -= part; part != 0 {
			if err := s.add(a/s.t.seconds, id, part); err != nil {
				return err
			}
		}
	}
	if n == 0 {
		return nil
	}
	return s.add(floorDiv(longest, s.t.seconds), id, n)
}

// stepEnd gives where the step that a time lies in ends.
func (s *summer) stepEnd(at int64) int64 {
	if s.q.Step == 0 {
		return 1 << 62
	}
	return (floorDiv(at-s.q.Origin, s.q.Step)+1)*s.q.Step + s.q.Origin
}

// pieces adds up the counts of some series in [from, to), step by step.
func (s *summer) pieces(series []uint32, from, to int64) error {
	for a := from; a < to; a = s.stepEnd(a) {
		for _, id := range series {
			n, err := s.between(id, a, min(s.stepEnd(a), to))
			if err != nil {
				return err
			}
			if n != 0 {
				if err := s.add(floorDiv(a, s.t.seconds), id, n); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// between adds up the counts of a series in [from, to), which are whole buckets: long ones where they fit.
func (s *summer) between(id uint32, from, to int64) (n int64, err error) {
	for at := from; at < to; {
		t := s.t
		for _, r := range s.rungs {
			if at%r.seconds == 0 && at+r.seconds <= to && at >= r.from && at < r.to {
				t = r.table
			}
		}
		if err := s.scan(1); err != nil {
			return 0, err
		}
		if err := s.c.each("SELECT n FROM "+t.counts+" WHERE k=?", func(r *sqlite.Stmt) error {
			n += r.ColumnInt64(0)
			return nil
		}, int64(store.MakeCell(floorDiv(at, t.seconds), id))); err != nil {
			return 0, err
		}
		at += t.seconds
	}
	return n, nil
}

// longerTables gives a metric's tables of intervals that whole numbers of the asked ones make up, up to days.
func longerTables(m *metric, t table) (out []table) {
	for _, interval := range m.def.Intervals {
		x := m.intervals[interval]
		last := t.seconds
		if n := len(out); n > 0 {
			last = out[n-1].seconds
		}
		if x.seconds > last && x.seconds%last == 0 && x.seconds <= daySeconds && interval%time.Second == 0 {
			longer := t
			longer.seconds, longer.counts, longer.byKey, longer.longer = x.seconds, x.table, x.byKey, nil
			out = append(out, longer)
		}
	}
	return out
}
