package web

import (
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// element is a widget as a page writes it.
type element struct {
	Widget                                                              string
	Src                                                                 string
	Metric, Filter, From, To, Step, GroupBy, Top, TZ, Theme, Lang, Name string
}

func elementOf(widget string, q url.Values) (element, error) {
	if !slices.Contains(widgetNames, widget) {
		return element{}, refuse(http.StatusNotFound, "There is no widget %q; there are %s.", cut(widget, 60), strings.Join(widgetNames, ", "))
	}
	if err := checkAttributes(q); err != nil {
		return element{}, err
	}
	group := q.Get("group-by")
	if group == "" {
		group = q.Get("group_by")
	}
	return element{
		Widget: widget, Metric: q.Get("metric"), Filter: strings.Join(q["filter"], ","), From: q.Get("from"), To: q.Get("to"), Step: q.Get("step"),
		GroupBy: group, Top: q.Get("top"), TZ: q.Get("tz"), Theme: q.Get("theme"), Lang: q.Get("lang"), Name: q.Get("title"),
	}, nil
}

// given lists the attributes that are set, in a fixed order.
func (e element) given() [][2]string {
	var out [][2]string
	for _, a := range [][2]string{{"metric", e.Metric}, {"filter", e.Filter}, {"from", e.From}, {"to", e.To}, {"step", e.Step}, {"group-by", e.GroupBy},
		{"top", e.Top}, {"tz", e.TZ}, {"theme", e.Theme}, {"lang", e.Lang}, {"title", e.Name}} {
		if a[1] != "" {
			out = append(out, a)
		}
	}
	return out
}

// HTML is the element as another site writes it.
func (e element) HTML(origin string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<statscache-%s src="%s"`, e.Widget, html.EscapeString(origin+"/"))
	for _, a := range e.given() {
		fmt.Fprintf(&b, ` %s="%s"`, a[0], html.EscapeString(a[1]))
	}
	fmt.Fprintf(&b, "></statscache-%s>", e.Widget)
	return b.String()
}

// Query is the same as parameters of a URL.
func (e element) Query() string {
	q := url.Values{}
	for _, a := range e.given() {
		q.Set(a[0], a[1])
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}

// Height is how high the widget is in a frame, in pixels, until it says so itself.
func (e element) Height() int {
	switch e.Widget {
	case "number":
		return 132
	case "status":
		return 140
	case "calendar":
		return 230
	case "top", "table":
		return 420
	}
	return 300
}

// Frame is an iframe of the widget.
func (e element) Frame(origin string, width string, height int) string {
	title := e.Name
	if title == "" {
		title = strings.TrimSpace("statscache " + e.Metric)
	}
	return fmt.Sprintf(`<iframe src="%s" title="%s" width="%s" height="%d" loading="lazy" style="border:0"></iframe>`,
		html.EscapeString(origin+"/embed/"+e.Widget+e.Query()), html.EscapeString(title), html.EscapeString(width), height)
}

func oembedReply(r Request, e element, width, height int) (Reply, error) {
	title := e.Name
	if title == "" {
		title = e.Metric
	}
	body, err := json.Marshal(struct {
		Version      string `json:"version"`
		Type         string `json:"type"`
		ProviderName string `json:"provider_name"`
		ProviderURL  string `json:"provider_url"`
		Title        string `json:"title"`
		HTML         string `json:"html"`
		Width        int    `json:"width"`
		Height       int    `json:"height"`
		CacheAge     int    `json:"cache_age"`
	}{"1.0", "rich", "statscache", r.Origin + "/", title, e.Frame(r.Origin, fmt.Sprint(width), height), width, height, 3600})
	if err != nil {
		return Reply{}, fmt.Errorf("write an oEmbed answer: %w", err)
	}
	return Reply{Body: body, ContentType: "application/json", CacheControl: pictures}, nil
}
