package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Names of the widgets.
var widgetNames = []string{"calendar", "line", "bars", "top", "table", "status", "number"} // immutable

// maxTitle bounds what a URL may write into a picture.
const maxTitle = 200

// checkAttributes refuses what a widget doesn't know: a misspelt filter would show another number.
func checkAttributes(q url.Values, more ...string) error {
	for name, values := range q {
		if name == "group_by" || slices.Contains(more, name) {
			continue
		}
		if !slices.ContainsFunc(attributes, func(a struct{ name, parameter string }) bool { return a.name == name }) {
			return refuse(http.StatusBadRequest, "%s is no attribute of a widget; there are src, metric, filter, from, to, step, group-by, top, tz, theme, lang and title.", cut(name, 60))
		}
		if len(values) > 1 && name != "filter" {
			return refuse(http.StatusBadRequest, "%s is given more than once.", name)
		}
		if len(values[0]) > 2000 || name == "title" && len(values[0]) > maxTitle {
			return refuse(http.StatusBadRequest, "%s is too long.", name)
		}
	}
	return nil
}

// picture is GET /img/{widget}.svg. What can't be shown is said in the picture: a README shows nothing else.
func (w *Web) picture(ctx context.Context, r Request) (Reply, error) {
	name, ok := strings.CutSuffix(r.Param, ".svg")
	if !ok || !slices.Contains(widgetNames, name) {
		return Reply{}, refuse(http.StatusNotFound, "There is no picture %q; there are %s, each with .svg.", cut(r.Param, 60), strings.Join(widgetNames, ", "))
	}
	body, err := w.draw(ctx, name, r.Query)
	reply := Reply{Body: body, ContentType: "image/svg+xml", CacheControl: pictures, Policy: svgPolicy(), Extra: [][2]string{crossSite}}
	if err != nil {
		why, ok := refused(err)
		if !ok || why.Status >= http.StatusInternalServerError {
			return Reply{}, err // caches go on showing the old one
		}
		reply.Body, reply.CacheControl = sayingSVG("statscache", why.Detail, r.Query.Get("theme")), asks
	}
	return reply, nil
}

func (w *Web) draw(ctx context.Context, name string, q url.Values) ([]byte, error) {
	if err := checkAttributes(q); err != nil {
		return nil, err
	}
	title, theme, id := q.Get("title"), q.Get("theme"), q.Get("metric")
	if name == "status" {
		var st status
		if err := w.fetch(ctx, &st, "/api/v1/status", nil); err != nil {
			return nil, err
		}
		if title == "" {
			title = "statscache"
		}
		return numberSVG(st.sentence(), title, w.now().UTC().Format("2 Jan 15:04:05")+" UTC", theme), nil
	}
	if id == "" {
		return nil, refuse(http.StatusBadRequest, "Name a metric: …?metric=volume")
	}
	m, _, err := w.find(ctx, id)
	if err != nil {
		return nil, err
	}
	if title == "" {
		title = m.Title()
	}
	switch name {
	case "line", "bars":
		query := queryOf(q, "filter", "from", "to", "step", "group_by", "top", "tz")
		if query.Get("step") == "" {
			query.Set("max_points", map[string]string{"line": "360", "bars": "60"}[name])
		}
		if query.Get("group_by") != "" {
			query.Set("other", "1")
			if query.Get("top") == "" {
				query.Set("top", "6")
			}
		} else {
			query.Del("top")
		}
		var d columns
		if err := w.fetch(ctx, &d, about(m.ID, "series"), query); err != nil {
			return nil, err
		}
		return seriesSVG(d, title, theme, name == "bars"), nil
	case "calendar":
		var d days
		if err := w.fetch(ctx, &d, about(m.ID, "calendar"), queryOf(q, "filter", "from", "to", "tz")); err != nil {
			return nil, err
		}
		return calendarSVG(d, title, theme), nil
	case "number":
		var d counted
		if err := w.fetch(ctx, &d, about(m.ID, "count"), queryOf(q, "filter", "from", "to", "tz")); err != nil {
			return nil, err
		}
		return numberSVG(thousands(d.Count), title, d.foot(), theme), nil
	}
	if m.Latest() {
		return w.drawLatest(ctx, m, q, title, theme)
	}
	query := queryOf(q, "filter", "from", "to", "tz", "by", "limit")
	if query.Get("limit") == "" {
		query.Set("limit", "10")
	}
	var d topRows
	if err := w.fetch(ctx, &d, about(m.ID, "top"), query); err != nil {
		return nil, err
	}
	d.Rows = d.Rows[:min(50, len(d.Rows))]
	return topSVG(d, title, theme), nil
}

// drawLatest draws the keys of a metric that keeps latest values, with their times.
func (w *Web) drawLatest(ctx context.Context, m metric, q url.Values, title, theme string) ([]byte, error) {
	var d latestRows
	if err := w.fetch(ctx, &d, about(m.ID, "latest"), queryOf(q, "filter")); err != nil {
		return nil, err
	}
	rows := d.Rows[:min(20, len(d.Rows))]
	g := newDrawing(480, 72+max(1, len(rows))*24, theme, title, fmt.Sprintf("%d latest values", len(d.Rows)))
	g.head(title, "")
	g.foot("UTC · as of " + d.AsOf.UTC().Format("2 Jan 15:04:05"))
	for i, r := range rows {
		g.text(24, float64(58+i*24), "i", "start", short(keyText(r.Key), 48))
		g.text(456, float64(58+i*24), "", "end", r.Time.UTC().Format("2 Jan 2006 15:04:05"))
	}
	return g.end(), nil
}

// sentence says how the server is doing.
func (s status) sentence() string {
	if !s.Store.Up {
		return "store away"
	}
	for _, p := range s.Plugins {
		if p.State != "running" && p.State != "disabled" && p.State != "starting" {
			return p.ID + " " + p.State
		}
	}
	for _, e := range s.Endpoints {
		if e.State == "down" {
			return e.Name + " down"
		}
	}
	return "all is well"
}

// shield is a badge as shields.io's endpoint wants it.
type shield struct {
	SchemaVersion int    `json:"schemaVersion"`
	Label         string `json:"label"`
	Message       string `json:"message"`
	Color         string `json:"color"`
	IsError       bool   `json:"isError,omitempty"`

	about string // of which time the number is, and of when
}

// badge is GET /badge/{metric}.svg and .json. It always answers, honestly: a broken image says nothing.
func (w *Web) badge(ctx context.Context, r Request) (Reply, error) {
	id, isSVG := strings.CutSuffix(r.Param, ".svg")
	isJSON := false
	if !isSVG {
		if id, isJSON = strings.CutSuffix(r.Param, ".json"); !isJSON {
			return Reply{}, refuse(http.StatusNotFound, "A badge is /badge/{metric}.svg or .json.")
		}
	}
	b := w.shield(ctx, id, r.Query)
	reply := Reply{CacheControl: pictures, Extra: [][2]string{crossSite}}
	if b.IsError {
		reply.CacheControl = asks
	}
	if isJSON {
		body, err := json.Marshal(b)
		if err != nil {
			return Reply{}, fmt.Errorf("write a badge: %w", err)
		}
		reply.Body, reply.ContentType = body, "application/json"
		return reply, nil
	}
	reply.Body, reply.ContentType, reply.Policy = b.svg(), "image/svg+xml", "default-src 'none'"
	return reply, nil
}

func (w *Web) shield(ctx context.Context, id string, q url.Values) shield {
	b := shield{SchemaVersion: 1, Label: id, Message: "unavailable", Color: "lightgrey", IsError: true}
	fail := func(err error) shield {
		if why, ok := refused(err); ok && why.Status < http.StatusInternalServerError {
			b.Message = "bad request"
			if missing(err) {
				b.Message = "no such metric"
			}
		}
		b.Label = short(b.Label, 60)
		return b
	}
	if err := checkAttributes(q); err != nil {
		return fail(err)
	}
	m, _, err := w.find(ctx, id)
	if err != nil {
		return fail(err)
	}
	b.Label = strings.ToLower(m.Title())
	if t := q.Get("title"); t != "" {
		b.Label = t
	}
	query := queryOf(q, "filter", "from", "to", "tz")
	if query.Get("from") == "" && query.Get("to") == "" {
		query.Set("from", "-7d") // said in the badge
		b.Label += " (7 days)"
	}
	var d counted
	if err := w.fetch(ctx, &d, about(m.ID, "count"), query); err != nil {
		return fail(err)
	}
	b.Message, b.Color, b.IsError, b.Label, b.about = compact(float64(d.Count)), "#2a5db0", false, short(b.Label, 60), d.foot()
	return b
}

// svg draws the badge in the form that READMEs are used to.
func (s shield) svg() []byte {
	width := func(t string) int { return len([]rune(t))*13/2 + 14 }
	l, m := width(s.Label), width(s.Message)
	said := s.Label + ": " + s.Message
	if s.about != "" {
		said += ", " + s.about
	}
	colour := s.Color
	if colour == "lightgrey" {
		colour = "#6b7280"
	}
	return fmt.Appendf(nil, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="20" role="img" aria-label="%s"><title>%s</title>`+
		`<clipPath id="r"><rect width="%d" height="20" rx="3"/></clipPath><g clip-path="url(#r)"><rect width="%d" height="20" fill="#3a4150"/><rect x="%d" width="%d" height="20" fill="%s"/></g>`+
		`<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11"><text x="%s" y="14" textLength="%d">%s</text><text x="%s" y="14" textLength="%d">%s</text></g></svg>`+"\n",
		l+m, esc(said), esc(said), l+m, l, l, m, colour,
		num(float64(l)/2), l-12, esc(s.Label), num(float64(l)+float64(m)/2), m-12, esc(s.Message))
}
