package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"github.com/labstack/echo/v4"

	"github.com/statscache/statscache/store"
)

// dataHandler makes a handler of a route about one metric: parse reads the URL, build answers it. The answer holds
// until the metric's next commit and, where it depends on the moment, for the rest of the second.
func (s *Server) dataHandler(route string, kind store.Kind, allowed map[string]bool, build func(ctx context.Context, a *asking) (*answer, error)) func(c echo.Context) (question, error) {
	return func(c echo.Context) (question, error) {
		id := c.Param("id")
		d, err := s.directoryWith(c.Request().Context(), func(d *directory) bool { return d.byID[id] != nil })
		if err != nil {
			return question{}, err
		}
		m := d.byID[id]
		if m == nil {
			return question{}, notFound("no such metric: " + cut(id, maxValue) + "; " + nearest(id, d.ids()))
		}
		if m.Kind != kind {
			instead := "series, top, count and calendar"
			if m.Kind == store.Latest {
				instead = "latest"
			}
			return question{}, newProblem(http.StatusBadRequest, fmt.Sprintf("%s is a metric of kind %s: it has no %s; there is %s", id, m.Kind, route, instead))
		}
		a, err := s.parseAsking(route+" "+id, m, c.Request(), allowed)
		if err != nil {
			return question{}, err
		}
		return s.dataQuestion(a, d, m.ID, func(ctx context.Context) (*answer, error) { return build(ctx, a) }), nil
	}
}

func (s *Server) dataQuestion(a *asking, d *directory, scope string, build func(ctx context.Context) (*answer, error)) question {
	q := question{key: a.key, scope: scope, dir: d, gaps: true, build: build}
	if a.moving || s.lags(a) {
		q.until = utc(a.now + 1) // the same for all who ask in this second: they share an answer
	}
	return q
}

func (d *directory) ids() []string {
	out := make([]string, len(d.metrics))
	for i := range d.metrics {
		out[i] = d.metrics[i].ID
	}
	return out
}

// lags says whether a plugin has events yet to count: that changes without a commit.
func (s *Server) lags(a *asking) bool {
	return slices.ContainsFunc(s.plugins(), func(p PluginStatus) bool {
		return p.Lag > 0 && (a.metric == nil || p.ID == a.metric.Plugin)
	})
}

// seriesOf is one line of a series.
type seriesOf struct {
	Key    map[string]string `json:"key"`
	Other  bool              `json:"other,omitempty"` // what the other groups add up to
	Counts countList         `json:"counts"`
	Total  int64             `json:"total"`
}

// seriesColumns is the answer of /series, a list of numbers each series.
type seriesColumns struct {
	head
	Times  []int64    `json:"times"` // starts of the points, seconds since 1970
	Series []seriesOf `json:"series"`
}

// rowsDocument is an answer that lists rows.
type rowsDocument struct {
	head
	Rows json.RawMessage `json:"rows"`
}

func (s *Server) series(ctx context.Context, a *asking) (*answer, error) {
	version := s.store.Version(a.metric.ID)
	ls, err := s.levelsOf(ctx, a.metric)
	if err != nil {
		return nil, err
	}
	if err := s.fillWindow(ctx, a); err != nil {
		return nil, err
	}
	edges, err := a.cutPoints(ls)
	if err != nil {
		return nil, err
	}
	p := newPlan(edges, a.from, a.to, a.now, ls, false)
	lines, err := s.lines(ctx, a, p)
	if err != nil {
		return nil, err
	}
	h, err := s.headOf(ctx, a, p, ls, version)
	if err != nil {
		return nil, err
	}
	h.Step = p.step(a.step).String()
	switch {
	case a.rows:
		rows := a.seriesRows(p, lines)
		if a.format != formatJSON {
			return dataAnswer(a.format, nil, func() *sheet { return rows })
		}
		return jsonAnswer(rowsDocument{h, rows.json(false)})
	case a.format != formatJSON:
		return dataAnswer(a.format, nil, func() *sheet { return a.seriesSheet(p, lines) })
	}
	doc := seriesColumns{head: h, Times: make([]int64, len(p.points)), Series: lines}
	for i, pt := range p.points {
		doc.Times[i] = pt.time
	}
	return jsonAnswer(doc)
}

// lines reads the numbers of a series, by group.
func (s *Server) lines(ctx context.Context, a *asking, p *plan) ([]seriesOf, error) {
	what := summing{by: a.by, where: a.where}
	var chosen *tally // the groups to show, nil for all
	if a.top > 0 && len(a.by) > 0 {
		var err error
		if chosen, err = s.largest(ctx, a, p); err != nil {
			return nil, err
		}
		for i, dim := range a.by {
			values := make([]string, 0, len(chosen.keys))
			for _, k := range chosen.keys {
				if !slices.Contains(values, k[i]) {
					values = append(values, k[i])
				}
			}
			what.where = append(slices.Clone(what.where), store.Match{Dim: dim, In: values})
		}
	}
	t := newTally()
	if chosen == nil || len(chosen.keys) > 0 {
		var err error
		if t, err = s.sum(ctx, a, p, what); err != nil {
			return nil, err
		}
	}
	if len(a.by) == 0 {
		t.group(nil, len(p.points)) // there is one even where there are no counts
	}
	out, shown := []seriesOf{}, make([]int64, len(p.points))
	for _, i := range t.order(chosen != nil) {
		if chosen != nil && !chosen.has(t.keys[i]) {
			continue // of values that are in the list, but not together
		}
		out = append(out, a.line(t.keys[i], t.counts[i], false))
		for j, n := range t.counts[i] {
			shown[j] += n
		}
	}
	if chosen == nil || !a.other {
		return out, nil
	}
	all, err := s.sum(ctx, a, p, summing{where: a.where})
	if err != nil {
		return nil, err
	}
	rest := all.group(nil, len(p.points))
	for j, n := range shown {
		rest[j] -= n
	}
	values := make([]string, len(a.by))
	for i := range values {
		values[i] = store.OtherKey
	}
	return append(out, a.line(values, rest, true)), nil
}

// largest gives the groups that are to be shown, the largest first. What a metric's series limit had no room for is
// no group of its own where the others are added up.
func (s *Server) largest(ctx context.Context, a *asking, p *plan) (*tally, error) {
	most := a.top
	if a.other {
		most++
	}
	t, err := s.sum(ctx, a, p, summing{by: a.by, where: a.where, whole: true, top: most})
	if err != nil {
		return nil, err
	}
	out := newTally()
	for _, i := range t.order(true) {
		if len(out.keys) < a.top && !(a.other && slices.Index(t.keys[i], store.OtherKey) == 0) {
			out.group(t.keys[i], 0)
		}
	}
	return out, nil
}

func (a *asking) line(values []string, counts []int64, other bool) seriesOf {
	l := seriesOf{Key: a.keyed(values), Other: other, Counts: countList{counts: counts}}
	for _, n := range counts {
		l.Total += n
	}
	if a.fillNull {
		l.Counts.null = make([]bool, len(counts))
		for i, n := range counts {
			l.Counts.null[i] = n == 0
		}
	}
	return l
}

// keyed names the values of a group.
func (a *asking) keyed(values []string) map[string]string {
	key := make(map[string]string, len(values))
	for i, v := range values {
		key[a.metric.Dimensions[a.by[i]].Name] = v
	}
	return key
}
