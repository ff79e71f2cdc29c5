package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/statscache/statscache/store"
)

// The bounds of charts: every point of every series is a count.
const (
	maxChartSeries = 24
	maxChartSize   = 4096
)

// chartTypes are datagrepper's, with how they are drawn here.
var chartTypes = map[string]chartForm{"line": {}, "stackedline": {stacked: true}, "xy": {}, "bar": {bars: true}, "horizontalbar": {bars: true, lying: true}, // immutable
	"stackedbar": {bars: true, stacked: true}, "horizontalstackedbar": {bars: true, stacked: true, lying: true},
	"funnel": {bars: true, lying: true}, "pyramid": {bars: true, lying: true}, "verticalpyramid": {bars: true}, "dot": {dots: true}, "gauge": {bars: true}}

type chartForm struct{ bars, lying, stacked, dots bool }

// chartStyles give background, text and the colours of the series.
var chartStyles = map[string][]string{ // immutable
	"default":         {"#ffffff", "#222222", "#d62728", "#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf", "#7f7f7f"},
	"light":           {"#ffffff", "#333333", "#8b2f2f", "#2f5a8b", "#4a8b2f", "#6d2f8b", "#8b6d2f"},
	"clean":           {"#ffffff", "#444444", "#777777", "#999999", "#555555", "#bbbbbb"},
	"blue":            {"#f0f0f8", "#223355", "#00b2f0", "#43d9be", "#0662ab", "#5c6bc0"},
	"green":           {"#f8f8f8", "#224422", "#7dcf30", "#247fab", "#7ed2a0", "#3b8b3b"},
	"turquoise":       {"#0e3d3a", "#eeeeee", "#93d2d9", "#ef940f", "#8c6243", "#eeeeaa"},
	"neon":            {"#101010", "#eeeeee", "#ff5995", "#b6e354", "#feed6c", "#8cedff"},
	"dark_green":      {"#1c1f1a", "#eeeeee", "#adde09", "#6e8c06", "#4a5e04", "#fcd202"},
	"dark_solarized":  {"#073642", "#93a1a1", "#b58900", "#cb4b16", "#dc322f", "#268bd2", "#859900"},
	"light_solarized": {"#fdf6e3", "#657b83", "#b58900", "#cb4b16", "#dc322f", "#268bd2", "#859900"},
	"dark_green_blue": {"#101820", "#eeeeee", "#7dcf30", "#247fab", "#64ccff", "#fbd131"},
	"dark_colorized":  {"#1b1b1b", "#eeeeee", "#c900fe", "#01b8fe", "#59f500", "#ff00e4"},
	"light_colorized": {"#f8f8f8", "#333333", "#fe9592", "#534f4c", "#3ac2c0", "#a2a7a1"},
	"light_red_blue":  {"#f8f8fc", "#333344", "#b0363c", "#3b6ea5", "#e07a5f", "#6fa8dc"},
}

// chart is what a chart shows and how.
type chart struct {
	form          chartForm
	colours       []string
	title         string
	width, height int
	points        int
	logarithmic   bool
	human         bool
	xLabels       bool
	yLabels       bool
	dots, fill    bool
	split         []string
	labels        []string
	series        []chartSeries
}

type chartSeries struct {
	name   string
	counts []int64
}

// parseChart reads what is about the looks.
func parseChart(kind string, q *grepQuery) (*chart, error) {
	form, ok := chartTypes[kind]
	if !ok {
		return nil, &grepError{status: http.StatusNotFound, detail: "not_found"}
	}
	ch := &chart{form: form, colours: chartStyles["default"], title: "fedmsg events", width: 800, height: 800, points: 10, human: true, xLabels: true, yLabels: true, dots: true}
	flags := map[string]*bool{"logarithmic": &ch.logarithmic, "human_readable": &ch.human, "show_x_labels": &ch.xLabels, "show_y_labels": &ch.yLabels, "show_dots": &ch.dots, "fill": &ch.fill}
	for _, kv := range q.chart {
		var err error
		switch {
		case flags[kv.name] != nil:
			if *flags[kv.name], err = pyBool(kv.value); err != nil {
				return nil, badGrep("%s: %s", kv.name, err)
			}
		case kv.name == "title":
			ch.title = cut(kv.value, maxValue)
		case kv.name == "width", kv.name == "height":
			n, err := wholeBetween(kv.value, 100, maxChartSize)
			if err != nil {
				return nil, badGrep("%s %s", kv.name, err)
			}
			if kv.name == "height" {
				ch.height = n
			} else {
				ch.width = n
			}
		case kv.name == "N":
			if ch.points, err = wholeBetween(kv.value, 3, 15); err != nil {
				return nil, badGrep("N %s", err)
			}
		case kv.name == "style":
			if ch.colours = chartStyles[kv.value]; ch.colours == nil {
				return nil, &grepError{status: http.StatusNotFound, detail: "not_found"}
			}
		case kv.name == "interpolation" && !slices.Contains([]string{"quadratic", "cubic"}, kv.value):
			return nil, &grepError{status: http.StatusNotFound, detail: "not_found"}
		case kv.name == "split_on" && !slices.Contains(ch.split, kv.value):
			ch.split = append(ch.split, kv.value)
		}
	}
	return ch, nil
}

// grepChart is /charts/{type}: counts of equal parts of the window, the last year where none is given.
func (s *Server) grepChart(c echo.Context, _ bool) error {
	q, err := parseGrep(c.Request().URL.RawQuery, s.now())
	if err != nil {
		return err
	}
	ch, err := parseChart(c.Param("type"), q)
	if err != nil {
		return err
	}
	key := fmt.Sprintf("chart %s %q %s", c.Param("type"), q.chart, q.key)
	return s.grepAnswer(c, key, func(ctx context.Context) (*answer, error) {
		if err := s.countChart(ctx, ch, q); err != nil {
			return nil, q.explain(err)
		}
		return &answer{body: ch.svg(), contentType: "image/svg+xml"}, nil
	})
}

// countChart counts the points of all series.
func (s *Server) countChart(ctx context.Context, ch *chart, q *grepQuery) error {
	end := s.now().UTC()
	if q.args.End != nil {
		end = time.UnixMicro(int64(*q.args.End * 1e6)).UTC()
	}
	start := end.AddDate(0, 0, -365)
	if q.args.Start != nil {
		start = time.UnixMicro(int64(*q.args.Start * 1e6)).UTC()
	}
	if !start.Before(end) {
		return badGrep("start must be before end")
	}
	step := (end.UnixMicro() - start.UnixMicro()) / int64(ch.points)
	for i := range ch.points {
		at := start.Add(time.Duration(i) * time.Duration(step) * time.Microsecond)
		if label := at.Format(time.DateOnly); ch.human {
			ch.labels = append(ch.labels, humanized(s.now().Sub(at)))
		} else {
			ch.labels = append(ch.labels, label)
		}
	}
	names, filters, err := splitChart(ch.split, q)
	if err != nil {
		return err
	}
	for i, f := range filters {
		line := chartSeries{name: names[i]}
		for n := range ch.points {
			f.From = start.UnixMicro() + int64(n)*step
			f.To = f.From + step
			count, err := s.countEvents(ctx, f)
			if err != nil {
				return err
			}
			line.counts = append(line.counts, count)
		}
		ch.series = append(ch.series, line)
	}
	return nil
}

// splitChart makes a series of every combination of the values that split_on names, one of everything without.
func splitChart(split []string, q *grepQuery) (names []string, filters []store.EventFilter, err error) {
	names, filters = []string{""}, []store.EventFilter{q.filter}
	for _, by := range split {
		var values []string
		var narrow func(f *store.EventFilter, v []string)
		switch by {
		case "users":
			values, narrow = q.args.Users, func(f *store.EventFilter, v []string) { f.Users.In = v }
		case "packages":
			values, narrow = q.args.Packages, func(f *store.EventFilter, v []string) { f.Packages.In = v }
		case "categories":
			values, narrow = q.args.Categories, func(f *store.EventFilter, v []string) { f.Categories.In = v }
		case "topics":
			values, narrow = q.args.Topics, func(f *store.EventFilter, v []string) { f.Topics.In = v }
		case "agents":
			values, narrow = q.args.Agents, func(f *store.EventFilter, v []string) { f.Agents.In = v }
		case "contains":
			values, narrow = q.args.Contains, func(f *store.EventFilter, v []string) { f.Contains = v }
		default:
			return nil, nil, badGrep("split_on must be users, packages, categories, topics, agents or contains")
		}
		if len(values) == 0 {
			continue
		}
		if len(values)*len(filters) > maxChartSeries {
			return nil, nil, badGrep("more than %d series", maxChartSeries)
		}
		var moreNames []string
		var more []store.EventFilter
		for i, f := range filters {
			for _, v := range values {
				narrow(&f, []string{v})
				more, moreNames = append(more, f), append(moreNames, strings.TrimPrefix(names[i]+" & "+v, " & "))
			}
		}
		names, filters = moreNames, more
	}
	for i, n := range names {
		if names[i] = strings.TrimPrefix(n, "org.fedoraproject.prod."); n == "" {
			names[i] = "events"
		}
	}
	return names, filters, nil
}

func shortNumber(n int64, human bool) string {
	switch {
	case human && n >= 1e6:
		return strconv.FormatFloat(float64(n)/1e6, 'g', 3, 64) + "M"
	case human && n >= 1e4:
		return strconv.FormatFloat(float64(n)/1e3, 'g', 3, 64) + "k"
	}
	return strconv.FormatInt(n, 10)
}
