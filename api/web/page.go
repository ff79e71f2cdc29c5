package web

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

//go:embed pages
var pagesFS embed.FS

var pageNames = []string{"getting-started", "dashboard", "metric", "board", "user", "reference", "widgets", "status", "error", "embed"} // immutable

func (w *Web) loadPages() error {
	w.pages = map[string]*template.Template{}
	functions := template.FuncMap{
		"n": func(v any) string {
			switch v := v.(type) {
			case int64:
				return thousands(v)
			case uint64:
				return thousands(v)
			case int:
				return thousands(v)
			}
			return fmt.Sprint(v)
		},
		"utc":  func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") },
		"iso":  func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"path": url.PathEscape, "keyText": keyText, "cut": cut,
		"svg":   func(s string) template.HTML { return template.HTML(s) }, // what spark drew: numbers only
		"bytes": byteSize,
	}
	for _, name := range pageNames {
		t, err := template.New("layout.html").Funcs(functions).ParseFS(pagesFS, "pages/layout.html", "pages/"+name+".html")
		if err != nil {
			return fmt.Errorf("web: %w", err)
		}
		w.pages[name] = t
	}
	return nil
}

// byteSize writes a number of bytes in the largest unit that leaves something before the point.
func byteSize(n int64) string {
	size, unit := float64(n), "B"
	for _, larger := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if size < 1024 {
			break
		}
		size, unit = size/1024, larger
	}
	return strconv.FormatFloat(size, 'f', map[bool]int{true: 0, false: 1}[size == float64(int64(size))], 64) + " " + unit
}

// view is what every page has.
type view struct {
	Page, Title string
	Root        string // the way to the root
	Origin      string // for what is copied elsewhere
	Script      string // the widgets' script
	Now         time.Time
	Data        any
}

// render draws a page.
func (w *Web) render(r Request, name, title string, data any) (Reply, error) {
	var b bytes.Buffer
	v := view{Page: name, Title: title, Root: r.Root, Origin: r.Origin, Script: w.script, Now: w.now().UTC(), Data: data}
	layout := "layout.html"
	if name == "embed" {
		layout = "embed"
	}
	if err := w.pages[name].ExecuteTemplate(&b, layout, v); err != nil {
		return Reply{}, fmt.Errorf("draw the page %s: %w", name, err)
	}
	return Reply{
		Body: b.Bytes(), ContentType: "text/html; charset=utf-8", CacheControl: asks, Policy: pagePolicy,
		Extra: [][2]string{{"Referrer-Policy", "no-referrer"}, {"Cross-Origin-Opener-Policy", "same-origin"}},
	}, nil
}

// Problem is the page of an error.
func (w *Web) Problem(r Request, code int, title, detail string) (Reply, error) {
	return w.render(r, "error", fmt.Sprint(code, " ", title), struct {
		Code          int
		Title, Detail string
	}{code, title, detail})
}

// gettingStarted is GET /web/getting-started.
func (w *Web) gettingStarted(ctx context.Context, r Request) (Reply, error) {
	list, err := w.metrics(ctx)
	if _, ok := refused(err); err != nil && !ok {
		return Reply{}, err
	}
	has := map[string]bool{}
	for _, m := range list {
		has[m.ID] = true
	}
	return w.render(r, "getting-started", "Getting started", struct {
		Metrics []metric
		Has     map[string]bool
		Away    string
	}{list, has, detail(err)})
}

func detail(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// user is GET /web/user/{name}.
func (w *Web) user(ctx context.Context, r Request) (Reply, error) {
	var d struct {
		Calendar, Topics, Packages *struct {
			head
			Total int64
		}
	}
	if err := w.fetch(ctx, &d, "/api/v1/users/"+url.PathEscape(r.Param), nil); err != nil {
		return Reply{}, err
	}
	var recent struct {
		Events []struct {
			ID        string `json:"msg_id"`
			Topic     string
			Timestamp time.Time
			Packages  []string
		}
	}
	// A server without an archive to ask has no events to list; the numbers are there all the same.
	err := w.fetch(ctx, &recent, "/api/v1/events", url.Values{"user": {r.Param}, "size": {"20"}})
	if err != nil {
		recent.Events = nil
	}
	return w.render(r, "user", r.Param, struct {
		Name, Filter string
		Numbers      any
		Events       any
		HasEvents    bool
	}{r.Param, "user:" + r.Param, d, recent.Events, err == nil})
}

// status is GET /web/status.
func (w *Web) status(ctx context.Context, r Request) (Reply, error) {
	var st status
	if err := w.fetch(ctx, &st, "/api/v1/status", nil); err != nil {
		return Reply{}, err
	}
	return w.render(r, "status", "Status", st)
}

// embed is GET /embed/{widget}: a widget alone, to be framed by other sites.
func (w *Web) embed(_ context.Context, r Request) (Reply, error) {
	e, err := elementOf(r.Param, r.Query)
	if err != nil {
		return Reply{}, err
	}
	e.Src = "../"
	reply, err := w.render(r, "embed", strings.TrimSpace("statscache "+r.Query.Get("metric")), e)
	reply.Policy, reply.Extra = embedPolicy, [][2]string{{"Referrer-Policy", "no-referrer"}, crossSite}
	return reply, err
}

// oembed is GET /oembed?url=…: the frame of a widget for sites that ask for it by its address.
func (w *Web) oembed(_ context.Context, r Request) (Reply, error) {
	u, err := url.Parse(r.Query.Get("url"))
	if err != nil || r.Query.Get("url") == "" {
		return Reply{}, refuse(http.StatusBadRequest, "url must be the address of an embedded widget or of a metric’s page here.")
	}
	if f := r.Query.Get("format"); f != "" && f != "json" {
		return Reply{}, refuse(http.StatusNotImplemented, "There is json only.")
	}
	name, query := "line", u.Query()
	if _, after, ok := strings.Cut(u.Path, "/embed/"); ok {
		name = after
	} else if _, after, ok := strings.Cut(u.Path, "/web/dashboard/"); ok && after != "" {
		query = url.Values{"metric": {after}}
	} else {
		return Reply{}, refuse(http.StatusNotFound, "There is nothing to embed at that address.")
	}
	e, err := elementOf(name, query)
	if err != nil {
		return Reply{}, err
	}
	width, height := bounded(r.Query.Get("maxwidth"), 720), bounded(r.Query.Get("maxheight"), e.Height())
	return oembedReply(r, e, width, height)
}

// bounded reads the greatest length that a site has room for.
func bounded(text string, wanted int) int {
	if n, err := strconv.Atoi(text); err == nil && n > 0 && n < wanted {
		return n
	}
	return wanted
}
