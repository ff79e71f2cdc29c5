package web

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/andybalholm/brotli"
)

// openapi is the API's description, as far as the reference shows it.
type openapi struct {
	Info struct{ Description string }
	Tags []struct{ Name, Description string }
	// Paths hold more than operations; what isn't read here is no concern of the page.
	Paths      map[string]struct{ Get *operation }
	Components struct{ Parameters map[string]parameter }
}

type operation struct {
	ID                         string `json:"operationId"`
	Path, Summary, Description string
	Tags                       []string
	Parameters                 []parameter
}

type parameter struct {
	Ref                   string `json:"$ref"`
	Name, In, Description string
	Required              bool
	Example               any
	Schema                struct {
		Enum    []any
		Default any
	}
	Value string
	Enum  []string
}

type operationGroup struct {
	Name, Description string
	Operations        []operation
}

// examples fill in what a request can't be tried without.
var examples = map[string]string{"id": "volume", "ident": "volume-1m", "dim": "category", "name": "ralph", "time": "now", "widget": "line", "picture": "line.svg"} // immutable

// reference is GET /web/reference, made of the API's own description.
func (w *Web) reference(ctx context.Context, r Request) (Reply, error) {
	var doc openapi
	if err := w.fetch(ctx, &doc, "/openapi.json", nil); err != nil {
		return Reply{}, err
	}
	groups := make([]operationGroup, 0, len(doc.Tags))
	for _, t := range doc.Tags {
		g := operationGroup{Name: t.Name, Description: t.Description}
		for path, item := range doc.Paths {
			if item.Get == nil || !slices.Contains(item.Get.Tags, t.Name) {
				continue
			}
			op := *item.Get
			op.Path = path
			op.Summary = strings.TrimSuffix(op.Summary, ".")
			op.Parameters = slices.Clone(op.Parameters)
			for i, p := range op.Parameters {
				if name, ok := strings.CutPrefix(p.Ref, "#/components/parameters/"); ok {
					p = doc.Components.Parameters[name]
				}
				op.Parameters[i] = p.shown()
			}
			g.Operations = append(g.Operations, op)
		}
		slices.SortFunc(g.Operations, func(a, b operation) int { return cmp.Compare(a.Path, b.Path) })
		groups = append(groups, g)
	}
	return w.render(r, "reference", "API", struct {
		About  []string
		Groups []operationGroup
	}{strings.Split(doc.Info.Description, "\n\n"), groups})
}

// shown makes a parameter ready for the page.
func (p parameter) shown() parameter {
	for _, v := range p.Schema.Enum {
		p.Enum = append(p.Enum, fmt.Sprint(v))
	}
	if p.Required {
		p.Value = examples[p.Name]
	}
	if s, ok := p.Example.(string); ok && p.Required {
		p.Value = s
	}
	if p.Schema.Default != nil {
		d, _ := json.Marshal(p.Schema.Default) // it was JSON
		p.Description = strings.TrimSpace(p.Description + " Default: " + string(d) + ".")
	}
	return p
}

// gallery is GET /web/widgets: a widget to try, and what to write to have it elsewhere.
func (w *Web) gallery(ctx context.Context, r Request) (Reply, error) {
	list, err := w.metrics(ctx)
	if _, ok := refused(err); err != nil && !ok {
		return Reply{}, err
	}
	q := url.Values{}
	for name, values := range r.Query { // a form sends its empty fields too
		if len(values) > 0 && values[0] != "" {
			q[name] = values
		}
	}
	name := q.Get("widget")
	q.Del("widget")
	if name == "" && len(q) == 0 {
		name = "line"
		q = url.Values{"metric": {"volume-by-category"}, "group-by": {"category"}, "from": {"now-1d"}, "top": {"5"}, "title": {"Messages by category"}}
	}
	if name == "" {
		name = "line"
	}
	e, err := elementOf(name, q)
	if err != nil {
		return Reply{}, err
	}
	v := struct {
		Element                                 element
		Shown                                   []element // one of each kind
		Widgets, Metrics, Themes                []choice
		Size                                    string
		Snippet, Pinned, Markdown, Badge, Frame string
	}{Element: e, Themes: choices(e.Theme, [2]string{"", "the visitor’s"}, [2]string{"light", "light"}, [2]string{"dark", "dark"}), Size: w.size()}
	v.Element.Src = r.Root
	v.Shown = samples(list, r.Root)
	for _, n := range widgetNames {
		v.Widgets = append(v.Widgets, choice{n, n, n == name})
	}
	metrics := [][2]string{}
	for _, m := range list {
		metrics = append(metrics, [2]string{m.ID, m.ID})
	}
	v.Metrics = choices(e.Metric, metrics...)
	html := e.HTML(r.Origin)
	v.Snippet = `<script src="` + r.Origin + `/widgets/v1/statscache.js" async></script>` + "\n" + html
	v.Pinned = `<script src="` + r.Origin + "/widgets/v1/" + w.script + `" integrity="` + w.integrity() + `" crossorigin="anonymous" async></script>` + "\n" + html
	v.Markdown = "[![" + cmp.Or(e.Name, e.Metric, name) + "](" + r.Origin + "/img/" + name + ".svg" + e.Query() + ")](" + r.Origin + "/web/dashboard/" + url.PathEscape(e.Metric) + ")"
	v.Badge = "![" + e.Metric + "](" + r.Origin + "/badge/" + url.PathEscape(e.Metric) + ".svg)"
	v.Frame = e.Frame(r.Origin, "100%", e.Height())
	return w.render(r, "widgets", "Widgets", v)
}

// samples are widgets of each kind, of what is counted here.
func samples(list []metric, root string) []element {
	first := func(fits func(m metric) bool) (found metric) {
		for _, m := range list {
			if fits(m) && (found.ID == "" || found.Plugin != "volume" && m.Plugin == "volume") { // which everybody knows
				found = m
			}
		}
		return found
	}
	plain := first(func(m metric) bool { return !m.Latest() && len(m.Dimensions) == 0 })
	split := first(func(m metric) bool { return m.View == "stacked" && len(m.Dimensions) > 0 })
	names := first(func(m metric) bool { return m.View == "top" && len(m.Dimensions) == 1 })
	latest := first(metric.Latest)
	out := []element{{Widget: "status", Name: "How it is doing"}}
	if plain.ID != "" {
		out = append(out, element{Widget: "number", Metric: plain.ID, From: "now-1d", Name: plain.Title() + ", 24 hours"},
			element{Widget: "calendar", Metric: plain.ID, Name: plain.Title() + ", day by day"}, element{Widget: "line", Metric: plain.ID, From: "now-1d", Name: plain.Title()})
	}
	if split.ID != "" {
		out = append(out, element{Widget: "bars", Metric: split.ID, From: "now-1d", GroupBy: split.Dimensions[0].Name, Name: split.Title()})
	}
	if names.ID != "" {
		out = append(out, element{Widget: "top", Metric: names.ID, From: "now-7d", Top: "6", Name: names.Title()})
	}
	if latest.ID != "" {
		out = append(out, element{Widget: "table", Metric: latest.ID, Name: latest.Title()})
	}
	for i := range out {
		out[i].Src = root
	}
	return out
}

// Build is the way to the page that builds the snippet of a widget.
func (e element) Build() string {
	q, _ := url.ParseQuery(strings.TrimPrefix(e.Query(), "?")) // it was made of one
	q.Set("widget", e.Widget)
	return "?" + q.Encode()
}

// size is what the script costs a visitor.
func (w *Web) size() string {
	var n counter
	b := brotli.NewWriterLevel(&n, brotli.BestCompression) // as it is sent
	if _, err := b.Write(w.files[w.script].Body); err != nil || b.Close() != nil {
		return http.StatusText(http.StatusOK)
	}
	return fmt.Sprintf("%.1f KB", float64(n)/1000)
}

// counter counts what is written.
type counter int

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
