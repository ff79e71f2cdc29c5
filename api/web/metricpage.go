package web

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"time"
)

// choice is an option of a form.
type choice struct {
	Value, Text string
	Chosen      bool
}

func choices(now string, options ...[2]string) []choice {
	var out []choice
	found := false
	for _, o := range options {
		out = append(out, choice{o[0], o[1], o[0] == now})
		found = found || o[0] == now
	}
	if !found && now != "" {
		out = append(out, choice{now, now, true})
	}
	return out
}

// metricView is what the page of one metric is drawn from.
type metricView struct {
	Metric                     metric
	Element                    element
	Views, Ranges, Steps, Dims []choice
	Snippet, Image, Frame      string
	Exports                    []choice // URLs and what they give
	Table                      element
	At, Until                  string // of the number to explain, empty for none
	Explained                  *explained
	Refused                    string // why nothing is explained
}

type explained struct {
	From, To      time.Time
	Step          string
	Count, Stored int64
	Differs       bool
	Truncated     bool
	Notes         []string
	Events        []struct {
		ID        string `json:"msg_id"`
		Topic     string
		Timestamp time.Time
		Users     []string
		Packages  []string
		Signed    string
		Count     int64
		Msg       json.RawMessage
	}
}

// views are the forms in which a metric's page shows it, by what the metric prefers.
var views = map[string]string{"line": "line", "stacked": "bars", "bars": "bars", "top": "top", "calendar": "calendar", "table": "table"} // immutable

// metric is GET /web/dashboard/{ident}.
func (w *Web) metric(ctx context.Context, r Request) (Reply, error) {
	m, interval, err := w.find(ctx, r.Param)
	if err != nil {
		return Reply{}, err
	}
	q := url.Values{}
	for name, values := range r.Query { // a form sends its empty fields too
		if name != "as" && name != "at" && name != "until" && len(values) > 0 && values[0] != "" {
			q[name] = values
		}
	}
	q.Set("metric", m.ID)
	as := r.Query.Get("as")
	if as == "" {
		if as = views[m.View]; as == "" {
			as = "line"
		}
	}
	if m.Latest() {
		as = "table"
	}
	if q.Get("from") == "" && q.Get("to") == "" && !m.Latest() {
		q.Set("from", map[bool]string{true: "now-1y", false: "now-1d"}[as == "calendar"])
	}
	if q.Get("step") == "" && interval != "" && as != "calendar" {
		q.Set("step", interval)
		if as == "top" || as == "table" {
			as = "line"
		}
		if r.Query.Get("from") == "" {
			q.Set("from", windowFor(interval))
		}
	}
	if q.Get("group-by") == "" && !r.Query.Has("group-by") && m.View == "stacked" && len(m.Dimensions) > 0 {
		q.Set("group-by", m.Dimensions[0].Name)
	}
	if err := checkAttributes(q); err != nil {
		return Reply{}, err
	}
	v := metricView{Metric: m, At: r.Query.Get("at"), Until: r.Query.Get("until")}
	if v.Element, err = elementOf(as, q); err != nil {
		return Reply{}, err
	}
	v.Element.Name = m.Title()
	v.Element.Src = r.Root
	w.fillForm(&v, as)
	w.fillSnippets(&v, r)
	if v.At != "" {
		v.Explained, err = w.explain(ctx, m, v)
		if why, ok := refused(err); ok {
			v.Refused = why.Detail
		} else if err != nil {
			return Reply{}, err
		}
	}
	return w.render(r, "metric", m.Title(), v)
}

// windowFor gives a window that shows some hundred buckets of an interval.
func windowFor(interval string) string {
	switch interval[len(interval)-1] {
	case 's':
		return "now-10m"
	case 'm':
		return "now-3h"
	case 'h':
		return "now-7d"
	}
	return "now-1y"
}

func (w *Web) fillForm(v *metricView, as string) {
	for _, n := range []string{"line", "bars", "top", "calendar", "table"} {
		v.Views = append(v.Views, choice{n, n, n == as})
	}
	v.Ranges = choices(v.Element.From, [2]string{"now-15m", "last 15 minutes"}, [2]string{"now-3h", "last 3 hours"}, [2]string{"now-1d", "last 24 hours"},
		[2]string{"now-7d", "last 7 days"}, [2]string{"now-30d", "last 30 days"}, [2]string{"now-1y", "last year"}, [2]string{"2010-01-01", "all"})
	steps := [][2]string{{"", "automatic"}}
	for _, s := range v.Metric.Intervals {
		steps = append(steps, [2]string{s, s})
	}
	for _, s := range []string{"1h", "1d", "1w", "1mo"} {
		if !slices.Contains(v.Metric.Intervals, s) {
			steps = append(steps, [2]string{s, s})
		}
	}
	v.Steps = choices(v.Element.Step, steps...)
	dims := [][2]string{{"", "nothing"}}
	for _, d := range v.Metric.Dimensions {
		dims = append(dims, [2]string{d.Name, d.Name})
	}
	v.Dims = choices(v.Element.GroupBy, dims...)
}

func (w *Web) fillSnippets(v *metricView, r Request) {
	v.Snippet = `<script src="` + r.Origin + `/widgets/v1/statscache.js" async></script>` + "\n" + v.Element.HTML(r.Origin)
	v.Image = r.Origin + "/img/" + v.Element.Widget + ".svg" + v.Element.Query()
	v.Frame = v.Element.Frame(r.Origin, "100%", v.Element.Height())
	v.Table = v.Element
	v.Table.Widget, v.Table.Name, v.Table.Top = "table", "Largest in this window", "20"
	q := url.Values{}
	for _, a := range v.Element.given() {
		q.Set(a[0], a[1])
	}
	route, query := "series", queryOf(q, "filter", "from", "to", "step", "group_by", "tz")
	switch {
	case v.Metric.Latest():
		route, query = "latest", queryOf(q, "filter")
	case v.Element.Widget == "calendar":
		route, query = "calendar", queryOf(q, "filter", "from", "to", "tz")
	case v.Element.Widget == "top" || v.Element.Widget == "table":
		route, query = "top", queryOf(q, "filter", "from", "to", "tz", "by", "limit")
	}
	for _, f := range []string{"csv", "json", "ndjson"} {
		query.Set("format", f)
		v.Exports = append(v.Exports, choice{Value: strings.TrimPrefix(about(v.Metric.ID, route), "/") + "?" + query.Encode(), Text: strings.ToUpper(f)})
	}
}

// explain finds the events behind a number: the whole point where one was chosen, else the bucket of a time.
func (w *Web) explain(ctx context.Context, m metric, v metricView) (*explained, error) {
	e, q := v.Element, url.Values{"time": {v.At}, "limit": {"50"}}
	if v.Until != "" {
		q.Set("to", v.Until)
	} else if slices.Contains(m.Intervals, e.Step) {
		q.Set("step", e.Step)
	} else if e.Widget == "calendar" && slices.Contains(m.Intervals, "1d") {
		q.Set("step", "1d")
	}
	for f := range strings.SplitSeq(e.Filter, ",") {
		if f != "" {
			q.Add("filter", f)
		}
	}
	var x explained
	if err := w.fetch(ctx, &x, about(m.ID, "explain"), q); err != nil {
		if missing(err) {
			return nil, refuse(404, "This server can’t explain numbers: it has no archive at hand. %s", err)
		}
		return nil, err
	}
	return &x, nil
}
