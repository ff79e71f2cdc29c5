package api

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/statscache/statscache/store"
)

// latestRow is the newest value of a key.
type latestRow struct {
	Key   map[string]string `json:"key"`
	Time  time.Time         `json:"time"`
	Value json.RawMessage   `json:"value"`
}

// latestDocument is the answer of /latest.
type latestDocument struct {
	Metric  string      `json:"metric"`
	AsOf    time.Time   `json:"as_of"`
	Version uint64      `json:"version"`
	Rows    []latestRow `json:"rows"`
}

// latest gives the newest values, by key.
func (s *Server) latest(ctx context.Context, a *asking) (*answer, error) {
	version := s.store.Version(a.metric.ID)
	all, err := s.store.Latest(ctx, a.metric.ID)
	if err != nil {
		return nil, fmt.Errorf("read latest values of %s: %w", a.metric.ID, err)
	}
	dims := a.metric.Dimensions
	a.by = a.by[:0]
	columns := make([]sheetColumn, len(dims)+2)
	for i, d := range dims {
		a.by = append(a.by, i)
		columns[i] = sheetColumn{name: d.Name, texts: []string{}}
	}
	at, value := &columns[len(dims)], &columns[len(dims)+1]
	*at, *value = sheetColumn{name: "time", texts: []string{}}, sheetColumn{name: "value", values: []json.RawMessage{}}
	since, err := s.asOf(ctx, a.metric.ID, version)
	if err != nil {
		return nil, err
	}
	doc := latestDocument{Metric: a.metric.ID, AsOf: since, Version: version, Rows: []latestRow{}}
	for _, r := range all {
		values := store.SplitKey(r.Key, len(dims))
		if !fulfils(a.where, values) {
			continue
		}
		if len(doc.Rows) == maxNumbers {
			return nil, costly("too-many-numbers", "filter", fmt.Sprintf("more than %d values: ask with a filter", maxNumbers))
		}
		row := latestRow{a.keyed(values), time.UnixMicro(r.Time).UTC(), r.Value}
		if !json.Valid(r.Value) {
			row.Value = nil
		}
		doc.Rows = append(doc.Rows, row)
		for i, v := range values {
			columns[i].texts = append(columns[i].texts, v)
		}
		at.texts, value.values = append(at.texts, row.Time.Format(time.RFC3339Nano)), append(value.values, row.Value)
	}
	return dataAnswer(a.format, doc, func() *sheet { return &sheet{columns, len(doc.Rows)} })
}

// fulfils says whether the values of a key fulfil all conditions.
func fulfils(where []store.Match, values []string) bool {
	for _, w := range where {
		in := slices.Contains(w.In, values[w.Dim])
		if w.In == nil {
			in = strings.HasPrefix(values[w.Dim], w.Prefix)
		}
		if in == w.Not {
			return false
		}
	}
	return true
}
