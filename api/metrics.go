package api

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/statscache/statscache/store"
)

// metricDescription is a metric as /api/v1 describes it.
type metricDescription struct {
	ID          string            `json:"id"`
	Plugin      string            `json:"plugin"`
	Name        string            `json:"name"`
	Summary     string            `json:"summary"`
	Description string            `json:"description"`
	Kind        store.Kind        `json:"kind"`
	Unit        string            `json:"unit"`
	Dimensions  []store.Dimension `json:"dimensions"`
	Intervals   []string          `json:"intervals"`
	View        string            `json:"view"`
	Idents      []string          `json:"idents"` // what the original API calls it
	First       *time.Time        `json:"first"`  // start of the first bucket, nil for none
	Last        *time.Time        `json:"last"`   // start of the last bucket
	Version     uint64            `json:"version"`
	Series      *int              `json:"series"`       // that it has, nil where the store would have to count them
	SeriesLimit *int              `json:"series_limit"` // of a counter: beyond it values are counted under (other)
	Other       *int64            `json:"other"`        // what is, at the coarsest interval; nil where nobody knows
}

type metricList struct {
	Metrics []metricDescription `json:"metrics"`
}

func (s *Server) metricsQuestion() question {
	return question{key: "metrics", scope: allMetrics, build: func(ctx context.Context) (*answer, error) {
		d, err := s.directory(ctx, directoryLife)
		if err != nil {
			return nil, err
		}
		list := metricList{Metrics: make([]metricDescription, len(d.metrics))}
		use, err := s.seriesUse(ctx)
		if err != nil {
			return nil, err
		}
		for i := range d.metrics {
			if list.Metrics[i], err = s.describe(ctx, &d.metrics[i], use); err != nil {
				return nil, err
			}
		}
		return jsonAnswer(list)
	}}
}

// metricQuestion is for one metric; its answer has the form of the list.
func (s *Server) metricQuestion(c echo.Context) (question, error) {
	id := c.Param("id")
	d, err := s.directoryWith(c.Request().Context(), func(d *directory) bool { return d.byID[id] != nil })
	if err != nil {
		return question{}, err
	}
	m := d.byID[id]
	if m == nil {
		return question{}, notFound("no such metric: " + cut(id, maxValue))
	}
	return question{key: "metric " + id, scope: id, dir: d, build: func(ctx context.Context) (*answer, error) {
		use, err := s.seriesUse(ctx)
		if err != nil {
			return nil, err
		}
		one, err := s.describe(ctx, m, use)
		if err != nil {
			return nil, err
		}
		return jsonAnswer(metricList{Metrics: []metricDescription{one}})
	}}, nil
}

// seriesUse says how many series the metrics have; nil where the store does not know.
func (s *Server) seriesUse(ctx context.Context) (map[string]store.SeriesUse, error) {
	u, ok := s.store.(store.SeriesUser)
	if !ok {
		return nil, nil
	}
	use, err := u.SeriesUse(ctx)
	if err != nil {
		return nil, fmt.Errorf("read how many series there are: %w", err)
	}
	return use, nil
}

// otherScan bounds what is read to say how much went to (other).
const otherScan = 1_000_000

// describeSeries adds how far the series limit of a counter is used up, and what went beyond it.
func (s *Server) describeSeries(ctx context.Context, d *metricDescription, m *store.ServedMetric, use map[string]store.SeriesUse) error {
	limit := m.SeriesLimit
	if limit <= 0 {
		limit = store.DefaultSeriesLimit
	}
	d.SeriesLimit = &limit
	u, ok := use[m.ID]
	if !ok {
		return nil
	}
	d.Series, d.Other = &u.Series, new(int64)
	if u.Series < u.Limit || len(m.Dimensions) == 0 || d.First == nil || len(m.Intervals) == 0 {
		return nil
	}
	sums, err := s.store.Sums(ctx, store.SumQuery{Metric: m.ID, Interval: slices.Max(m.Intervals), From: math.MinInt64, To: math.MaxInt64,
		Where: []store.Match{{Dim: 0, In: []string{store.OtherKey}}}, MaxScan: otherScan})
	switch {
	case errors.Is(err, store.ErrTooCostly):
		d.Other = nil
	case err != nil:
		return fmt.Errorf("read what %s counted under %s: %w", m.ID, store.OtherKey, err)
	case len(sums) > 0:
		*d.Other = sums[0].N
	}
	return nil
}

func (s *Server) describe(ctx context.Context, m *store.ServedMetric, use map[string]store.SeriesUse) (metricDescription, error) {
	d := metricDescription{
		ID: m.ID, Plugin: m.Plugin, Name: m.Name, Summary: m.Summary, Description: m.Description, Kind: m.Kind,
		Unit: m.Unit, View: m.View, Version: s.store.Version(m.ID),
		Dimensions: append([]store.Dimension{}, m.Dimensions...), Intervals: []string{}, Idents: []string{},
	}
	span := func(first, last time.Time) {
		first, last = first.UTC(), last.UTC()
		if d.First == nil || first.Before(*d.First) {
			d.First = &first
		}
		if d.Last == nil || last.After(*d.Last) {
			d.Last = &last
		}
	}
	for _, iv := range m.Intervals {
		d.Intervals = append(d.Intervals, IntervalName(iv))
		d.Idents = append(d.Idents, identOf(m.ID, iv))
		first, last, ok, err := s.store.Span(ctx, m.ID, iv)
		if err != nil {
			return d, fmt.Errorf("read the span of %s: %w", m.ID, err)
		}
		if ok {
			span(time.Unix(first, 0), time.Unix(last, 0))
		}
	}
	if m.Kind == store.Counter {
		if err := s.describeSeries(ctx, &d, m, use); err != nil {
			return d, err
		}
	}
	if m.Kind == store.Latest {
		d.Idents = append(d.Idents, identOf(m.ID, 0))
		rows, err := s.store.Latest(ctx, m.ID)
		if err != nil {
			return d, fmt.Errorf("read latest values of %s: %w", m.ID, err)
		}
		for _, r := range rows {
			t := time.UnixMicro(r.Time)
			span(t, t)
		}
	}
	return d, nil
}
