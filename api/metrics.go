package api

import (
	"context"
	"fmt"
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
		for i := range d.metrics {
			if list.Metrics[i], err = s.describe(ctx, &d.metrics[i]); err != nil {
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
		one, err := s.describe(ctx, m)
		if err != nil {
			return nil, err
		}
		return jsonAnswer(metricList{Metrics: []metricDescription{one}})
	}}, nil
}

func (s *Server) describe(ctx context.Context, m *store.ServedMetric) (metricDescription, error) {
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
