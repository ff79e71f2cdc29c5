package crate

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/statscache/statscache/store"
)

// Sums adds counts up inside the database, by the columns that hold the first dimensions; a question about a further
// one reads the series of the window and goes on here.
func (d *DB) Sums(ctx context.Context, q store.SumQuery) (out []store.Sum, err error) {
	if q.Interval <= 0 {
		return nil, fmt.Errorf("%w interval %s of metric %s", store.ErrUnknown, q.Interval, q.Metric)
	}
	m, err := d.served(ctx, q.Metric, q.Interval)
	if err != nil {
		return nil, err
	}
	if err := checkSums(q, len(m.Dimensions)); err != nil {
		return nil, fmt.Errorf("sums of metric %s: %w", q.Metric, err)
	}
	from := max(q.From, d.behind(q.Metric, int64(q.Interval/time.Second)))
	if from >= q.To {
		return nil, nil
	}
	s := newSumming(q, len(m.Dimensions))
	err = d.atMoment(ctx, m, q.Interval, from, q.To, func(x *moment) error {
		out, err = s.ask(ctx, d, x)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("sums of metric %s: %w", q.Metric, err)
	}
	return out, nil
}

// checkSums refuses what can't be answered exactly.
func checkSums(q store.SumQuery, dims int) error {
	used := slices.Clone(q.By)
	for _, w := range q.Where {
		used = append(used, w.Dim)
	}
	for _, dim := range used {
		if dim < 0 || dim >= dims {
			return fmt.Errorf("dimension %d: %w", dim, store.ErrUnknown)
		}
	}
	gran := int64(q.Interval / time.Second)
	if q.Step < 0 || q.Step%gran != 0 || q.Origin%gran != 0 {
		return fmt.Errorf("steps of %d s from %d on cut buckets of %d s", q.Step, q.Origin, gran)
	}
	return nil
}

// summing is how one question is asked.
type summing struct {
	q     store.SumQuery
	dims  int
	byKey bool // groups are made here, of whole keys: a dimension without a column is asked for
	by    []string
}

func newSumming(q store.SumQuery, dims int) *summing {
	s := &summing{q: q, dims: dims}
	for _, dim := range q.By {
		s.byKey = s.byKey || dim >= keyColumns
		s.by = append(s.by, "k"+strconv.Itoa(dim+1))
	}
	for _, w := range q.Where {
		s.byKey = s.byKey || w.Dim >= keyColumns
	}
	if s.byKey {
		s.by = []string{"dkey"}
	}
	return s
}

// where adds the conditions that the columns can answer to those of a moment.
func (s *summing) where(sql string, args []any) (string, []any) {
	args = slices.Clone(args)
	for _, w := range s.q.Where {
		if w.Dim >= keyColumns {
			continue
		}
		column := "k" + strconv.Itoa(w.Dim+1)
		var cond string
		if w.In != nil {
			args = append(args, w.In)
			cond = column + " = ANY(" + parameter(len(args)) + "::text[])"
		} else {
			args = append(args, likeEscape.Replace(w.Prefix)+"%")
			cond = column + " LIKE " + parameter(len(args))
		}
		if w.Not {
			cond = "NOT (" + cond + ")"
		}
		sql += " AND " + cond
	}
	return sql, args
}

var likeEscape = strings.NewReplacer(`\`, `\\`, "%", `\%`, "_", `\_`) // immutable

func (s *summing) ask(ctx context.Context, d *DB, x *moment) ([]store.Sum, error) {
	if s.q.MaxScan > 0 {
		n := 0
		where, args := s.where(x.where, x.args[:spanArgs])
		err := d.query(ctx, "count rows", func() {}, func(r pgx.Rows) error { return r.Scan(&n) }, "SELECT count(*) FROM counters WHERE "+where, args...)
		if err != nil {
			return nil, err
		}
		if n > s.q.MaxScan {
			return nil, fmt.Errorf("%w: %d counts to read, more than %d", store.ErrTooCostly, n, s.q.MaxScan)
		}
	}
	where, args := s.where(x.where, x.args)
	at := strconv.FormatInt(bounded(s.q.From), 10) + "::bigint"
	group := slices.Clone(s.by)
	if s.q.Step > 0 {
		off := fmt.Sprintf("(bucket - %d)", s.q.Origin)
		at = fmt.Sprintf("(bucket - ((%s %% %d) + %d) %% %d)", off, s.q.Step, s.q.Step, s.q.Step)
		group = append(group, at)
	}
	sql := "SELECT " + strings.Join(append([]string{at, "sum(" + x.n + ") AS n", "count(*)"}, s.by...), ", ") + " FROM counters WHERE " + where +
		" AND " + x.seen + " = 1"
	if len(group) > 0 {
		sql += " GROUP BY " + strings.Join(group, ", ")
	}
	if s.q.Top > 0 && !s.byKey {
		sql += " ORDER BY n DESC" + strings.Join(append([]string{""}, s.by...), ", ") + " LIMIT " + strconv.Itoa(s.q.Top)
	} else if s.q.MaxSums > 0 && !s.byKey {
		sql += " LIMIT " + strconv.Itoa(s.q.MaxSums+1)
	}
	var out []store.Sum
	err := d.query(ctx, "read sums", func() { out = nil }, func(r pgx.Rows) error {
		row := store.Sum{Values: make([]string, len(s.by))}
		var n *int64
		rows := 0
		scan := []any{&row.Time, &n, &rows}
		for i := range row.Values {
			scan = append(scan, &row.Values[i])
		}
		if err := r.Scan(scan...); err != nil {
			return err
		}
		if rows > 0 && n != nil {
			row.N = *n
			out = append(out, row)
		}
		return nil
	}, sql, args...)
	if err != nil {
		return nil, err
	}
	if s.byKey {
		out = s.regroup(out)
	}
	return s.finish(out)
}

// regroup takes whole keys apart.
func (s *summing) regroup(in []store.Sum) (out []store.Sum) {
	place := map[string]int{}
	for _, x := range in {
		values := store.SplitKey(x.Values[0], s.dims)
		if !s.holds(values) {
			continue
		}
		kept := make([]string, len(s.q.By))
		for i, dim := range s.q.By {
			kept[i] = values[dim]
		}
		at := strconv.FormatInt(x.Time, 10) + "/" + strconv.Itoa(len(kept)) + "/" + store.JoinKey(kept)
		i, ok := place[at]
		if !ok {
			i = len(out)
			place[at] = i
			out = append(out, store.Sum{Time: x.Time, Values: kept})
		}
		out[i].N += x.N
	}
	return out
}

func (s *summing) holds(values []string) bool {
	for _, w := range s.q.Where {
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

// finish puts the answer in order.
func (s *summing) finish(out []store.Sum) ([]store.Sum, error) {
	slices.SortFunc(out, func(a, b store.Sum) int {
		if s.q.Top > 0 {
			return cmp.Or(cmp.Compare(b.N, a.N), slices.Compare(a.Values, b.Values))
		}
		return cmp.Or(cmp.Compare(a.Time, b.Time), slices.Compare(a.Values, b.Values))
	})
	if s.q.Top > 0 && len(out) > s.q.Top {
		out = out[:s.q.Top]
	}
	if s.q.MaxSums > 0 && len(out) > s.q.MaxSums {
		return nil, fmt.Errorf("%w: more than %d sums", store.ErrTooCostly, s.q.MaxSums)
	}
	return out, nil
}
