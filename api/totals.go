package api

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/statscache/statscache/store"
)

// The lengths of lists where none is asked for.
const (
	defaultTop    = 20
	defaultValues = 100
)

// countDocument is the answer of /count.
type countDocument struct {
	head
	Count    int64          `json:"count"`
	Previous *previousCount `json:"previous,omitempty"` // absent where it wasn't asked for, or not all was counted then
}

// previousCount is what was counted in as long a time before.
type previousCount struct {
	From  time.Time `json:"from"`
	To    time.Time `json:"to"`
	Count int64     `json:"count"`
}

// topRow is a group and its count.
type topRow struct {
	Key   map[string]string `json:"key"`
	Count int64             `json:"count"`
}

// topDocument is the answer of /top.
type topDocument struct {
	head
	Total int64    `json:"total"` // of all groups, those not listed too
	Rows  []topRow `json:"rows"`
}

// valueRow is a value of a dimension and its count.
type valueRow struct {
	Value string `json:"value"`
	Count int64  `json:"count"`
}

// valuesDocument is the answer of /dimensions/{dim}.
type valuesDocument struct {
	head
	Dimension string     `json:"dimension"`
	Values    []valueRow `json:"values"`
}

// whole plans one number of the whole window.
func (s *Server) whole(ctx context.Context, a *asking) (p *plan, h head, err error) {
	version := s.store.Version(a.metric.ID)
	ls, err := s.levelsOf(ctx, a.metric)
	if err != nil {
		return nil, head{}, err
	}
	if err := s.fillWindow(ctx, a); err != nil {
		return nil, head{}, err
	}
	p = newPlan([]int64{a.from, a.to}, a.from, a.to, a.now, ls, false)
	h, err = s.headOf(ctx, a, p, ls, version)
	return p, h, err
}

// totalOf adds up the whole window.
func (s *Server) totalOf(ctx context.Context, a *asking, p *plan) (int64, error) {
	t, err := s.sum(ctx, a, p, summing{where: a.where, whole: true})
	if err != nil || len(t.keys) == 0 {
		return 0, err
	}
	return t.total(0), nil
}

func (s *Server) count(ctx context.Context, a *asking) (*answer, error) {
	p, h, err := s.whole(ctx, a)
	if err != nil {
		return nil, err
	}
	n, err := s.totalOf(ctx, a, p)
	if err != nil {
		return nil, err
	}
	past, err := s.countBefore(ctx, a)
	if err != nil {
		return nil, err
	}
	return dataAnswer(a.format, countDocument{h, n, past}, func() *sheet {
		return &sheet{rows: 1, columns: []sheetColumn{{name: "metric", texts: []string{a.metric.ID}}, times("from", []int64{a.from}), times("to", []int64{a.to}), {name: "count", numbers: []int64{n}}}}
	})
}

// countBefore counts what came in as long a time before, nil where that can't be compared: what nobody counted wasn't
// less. Of a window that isn't over as much as has passed is compared.
func (s *Server) countBefore(ctx context.Context, a *asking) (*previousCount, error) {
	if !a.previous || !a.given["from"] {
		return nil, nil
	}
	passed := min(a.to, a.now) - a.from
	b := *a
	b.from, b.to = a.from-passed, a.from
	if passed <= 0 || b.from < minTime+daySeconds {
		return nil, nil
	}
	b.given = map[string]bool{"from": true, "to": true}
	for _, iv := range a.metric.Intervals {
		first, _, ok, err := s.store.Span(ctx, a.metric.ID, iv)
		if err != nil {
			return nil, fmt.Errorf("read the span of %s: %w", a.metric.ID, err)
		}
		if ok && first <= b.from {
			p, h, err := s.whole(ctx, &b)
			if err != nil || slices.ContainsFunc(h.Incomplete, func(i incomplete) bool { return i.Reason != "lagging" }) {
				return nil, err
			}
			n, err := s.totalOf(ctx, &b, p)
			return &previousCount{h.From, h.To, n}, err
		}
	}
	return nil, nil
}

// rank gives the largest groups and what all add up to. Where there are not too many groups all are read: reading the
// window a second time for the total costs more.
func (s *Server) rank(ctx context.Context, a *asking, p *plan) (rows []topRow, values [][]string, total int64, err error) {
	rows = []topRow{}
	what := summing{by: a.by, where: a.where, whole: true}
	t, err := s.sum(ctx, a, p, what)
	all := err == nil
	if tooManyCounts(err) {
		what.top = a.top
		t, err = s.sum(ctx, a, p, what)
	}
	if err != nil {
		return nil, nil, 0, err
	}
	for _, i := range t.order(true) {
		n := t.total(i)
		if len(rows) < a.top && n != 0 {
			rows, values = append(rows, topRow{a.keyed(t.keys[i]), n}), append(values, t.keys[i])
		}
		total += n
	}
	if !all {
		total, err = s.totalOf(ctx, a, p)
	}
	return rows, values, total, err
}

func (s *Server) top(ctx context.Context, a *asking) (*answer, error) {
	if a.top == 0 {
		a.top = defaultTop
	}
	if len(a.by) == 0 {
		for i := range a.metric.Dimensions {
			a.by = append(a.by, i)
		}
	}
	if len(a.by) == 0 {
		return nil, badParameter("by", a.metric.ID+" has no dimensions: there is count")
	}
	p, h, err := s.whole(ctx, a)
	if err != nil {
		return nil, err
	}
	rows, values, total, err := s.rank(ctx, a, p)
	if err != nil {
		return nil, err
	}
	return dataAnswer(a.format, topDocument{h, total, rows}, func() *sheet {
		columns := make([]sheetColumn, len(a.by)+1)
		for i, dim := range a.by {
			columns[i] = sheetColumn{name: a.metric.Dimensions[dim].Name, texts: []string{}}
			for _, v := range values {
				columns[i].texts = append(columns[i].texts, v[i])
			}
		}
		columns[len(a.by)] = sheetColumn{name: "count", numbers: counts(rows)}
		return &sheet{columns, len(rows)}
	})
}

func counts(rows []topRow) []int64 {
	out := make([]int64, len(rows))
	for i, r := range rows {
		out[i] = r.Count
	}
	return out
}

// valuesQuestion is GET /api/v1/metrics/{id}/dimensions/{dim}: the values of a dimension, those that count most first.
func (s *Server) valuesQuestion(c echo.Context) (question, error) {
	name := c.Param("dim")
	return s.dataHandler("dimensions/"+cut(name, maxTimeFilter), store.Counter, valuesParameters, func(ctx context.Context, a *asking) (*answer, error) {
		dim, err := a.dimension("dim", name)
		if err != nil {
			return nil, err
		}
		return s.values(ctx, a, dim)
	})(c)
}

func (s *Server) values(ctx context.Context, a *asking, dim int) (*answer, error) {
	h, rows, err := s.valuesOf(ctx, a, dim)
	if err != nil {
		return nil, err
	}
	return dataAnswer(a.format, valuesDocument{h, a.metric.Dimensions[dim].Name, rows}, func() *sheet {
		texts, numbers := []string{}, []int64{}
		for _, r := range rows {
			texts, numbers = append(texts, r.Value), append(numbers, r.Count)
		}
		return &sheet{[]sheetColumn{{name: "value", texts: texts}, {name: "count", numbers: numbers}}, len(texts)}
	})
}

// valuesOf gives the values of a dimension that count most.
func (s *Server) valuesOf(ctx context.Context, a *asking, dim int) (h head, rows []valueRow, err error) {
	if a.top == 0 {
		a.top = defaultValues
	}
	a.by = []int{dim}
	if a.prefix != "" {
		a.where = append(a.where, store.Match{Dim: dim, Prefix: a.prefix})
	}
	p, h, err := s.whole(ctx, a)
	if err != nil {
		return h, nil, err
	}
	t, err := s.sum(ctx, a, p, summing{by: a.by, where: a.where, whole: true, top: a.top})
	if err != nil {
		return h, nil, err
	}
	rows = []valueRow{}
	for _, i := range t.order(true) {
		if n := t.total(i); n != 0 && len(rows) < a.top {
			rows = append(rows, valueRow{t.keys[i][0], n})
		}
	}
	return h, rows, nil
}
