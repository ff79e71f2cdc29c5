package api

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"sort"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/statscache/statscache/store"
)

// rowsHandler is GET /api/{ident}: the rows of a metric as the original serves them.
func (s *Server) rowsHandler(c echo.Context) error {
	r := c.Request()
	t, err := s.find(r.Context(), c.Param("ident"))
	if err != nil {
		return err
	}
	pairs, err := parsePairs(r.URL.RawQuery)
	if err != nil {
		return err
	}
	rows := s.rows.Load()
	p, err := parseRowParams(pairs, rows.byDefault, rows.most)
	if err != nil {
		return err
	}
	f := formatOf(acceptHeader(r), p.callback != "", true)
	if f == notAcceptable {
		return errNotAcceptable("JSON (application/json), CSV (text/csv) and, with a callback, JSON-P (application/javascript)")
	}
	q := s.rowsQuestion(t, p, f)
	a, err := s.ask(r.Context(), q)
	if err != nil {
		return err
	}
	if p.page > max(1, a.pages) {
		return badParameter("page", fmt.Sprintf("the last page is %d", max(1, a.pages)))
	}
	return s.send(c, q.key, a, pairs)
}

func errNotAcceptable(offered string) *problem {
	return newProblem(http.StatusNotAcceptable, "What there is: "+offered+".")
}

// rowsQuestion describes an answer of rows. Everything that it depends on is in its key, its scope (the metric's
// version) or its end.
func (s *Server) rowsQuestion(t target, p rowParams, f format) question {
	q := question{scope: t.metric.ID, dir: t.dir}
	var from, to int64
	if t.interval == 0 {
		q.build = func(ctx context.Context) (*answer, error) { return s.latestRows(ctx, t, p, f) }
	} else {
		from, to, q.until = p.window(t.interval, s.now())
		q.build = func(ctx context.Context) (*answer, error) { return s.counterRows(ctx, t, p, f, from, to) }
	}
	k := make([]byte, 0, 96)
	k = append(append(k, "rows "...), identOf(t.metric.ID, t.interval)...)
	for _, n := range []int64{p.start, p.stop, int64(p.limit), int64(p.page), int64(p.rows), int64(f)} {
		k = strconv.AppendInt(append(k, ' '), n, 36)
	}
	k = strconv.AppendBool(append(k, ' '), p.stopGiven)
	k = strconv.AppendBool(append(k, ' '), p.asc)
	if f == formatJSONP {
		k = append(append(k, ' '), p.callback...)
	}
	q.key = string(k)
	return q
}

// slice gives which rows a page shows of so many.
func (p *rowParams) slice() (offset, count int) {
	if p.page-1 > (math.MaxInt-p.rows)/p.rows { // deeper than anything can be
		return math.MaxInt, 0
	}
	offset = (p.page - 1) * p.rows
	return offset, max(0, min(p.rows, p.limit-offset))
}

// pages of the rows that match, after limit.
func (p *rowParams) pages(total int) int {
	n := min(total, p.limit)
	return n/p.rows + min(1, n%p.rows)
}

func (s *Server) counterRows(ctx context.Context, t target, p rowParams, f format, from, to int64) (*answer, error) {
	offset, count := p.slice()
	if from >= to {
		to = from // nothing can match: the store is asked all the same, so that an unknown metric is one
	}
	rows, total, err := s.store.Rows(ctx, store.RowQuery{
		Metric: t.metric.ID, Interval: t.interval, From: from, To: to, Desc: !p.asc, Offset: offset, Limit: count,
	})
	if err != nil {
		return nil, fmt.Errorf("read rows of %s: %w", t.metric.ID, err)
	}
	times, counts, keys := make([]int64, len(rows)), make([]int64, len(rows)), make([]string, len(rows))
	for i, r := range rows {
		times[i], counts[i], keys[i] = r.Time+int64(t.interval/time.Second), r.N, r.Key
	}
	columns := append(dimensionColumns(t.metric.Dimensions, keys),
		column{name: "timestamp", numbers: times}, column{name: "volume", numbers: counts})
	return pageAnswer(newTable(len(rows), columns), p, f, total), nil
}

// latestRows serves latest values like rows of windows: stamped with their whole second.
func (s *Server) latestRows(ctx context.Context, t target, p rowParams, f format) (*answer, error) {
	stop, until := p.stop, time.Time{}
	if !p.stopGiven {
		stop = s.now().Unix()
	}
	all, err := s.store.Latest(ctx, t.metric.ID)
	if err != nil {
		return nil, fmt.Errorf("read latest values of %s: %w", t.metric.ID, err)
	}
	second := func(r store.LatestRow) int64 { return floorDiv(r.Time, 1e6) }
	match := make([]store.LatestRow, 0, len(all))
	for _, r := range all {
		at := second(r)
		if !p.stopGiven && at > stop {
			// It will show when its time has come, and this answer holds until then.
			if u := time.Unix(at, 0); until.IsZero() || u.Before(until) {
				until = u
			}
		}
		if at >= p.start && at <= stop {
			match = append(match, r)
		}
	}
	// The store gave them by key, and so they stay within a second.
	sort.SliceStable(match, func(i, j int) bool {
		a, b := second(match[i]), second(match[j])
		if p.asc {
			return a < b
		}
		return a > b
	})
	offset, count := p.slice()
	offset = min(offset, len(match))
	page := match[offset:min(len(match), offset+count)]
	times, values, keys := make([]int64, len(page)), make([]string, len(page)), make([]string, len(page))
	for i, r := range page {
		times[i], values[i], keys[i] = second(r), string(r.Value), r.Key
	}
	columns := append(dimensionColumns(t.metric.Dimensions, keys),
		column{name: "timestamp", numbers: times}, column{name: "message", strings: values})
	a := pageAnswer(newTable(len(page), columns), p, f, len(match))
	a.until = until
	return a, nil
}

func dimensionColumns(dims []store.Dimension, keys []string) []column {
	columns := make([]column, len(dims), len(dims)+2)
	for i, d := range dims {
		columns[i] = column{name: d.Name, strings: make([]string, len(keys))}
	}
	if len(dims) == 1 {
		columns[0].strings = keys // as SplitKey has it, without a slice for every row
		return columns
	}
	for r, key := range keys {
		for i, v := range store.SplitKey(key, len(dims)) {
			columns[i].strings[r] = v
		}
	}
	return columns
}

func pageAnswer(t *table, p rowParams, f format, total int) *answer {
	return &answer{
		body: t.encode(f, p.callback), contentType: f.contentType(),
		paged: true, page: p.page, pages: p.pages(total),
	}
}
