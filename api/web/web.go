// Package web is what people see: pages, widgets and pictures of the numbers that the API serves.
//
// It knows the API's answers only, so a page can't show anything that a program couldn't ask for.
package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"time"
)

//go:generate go run ../../tools/bundle widgets/index.ts static/statscache.js
//go:generate go run ../../tools/bundle script/page.ts static/page.js

// Options say where a Web gets its numbers. Both functions are required.
type Options struct {
	// Ask answers a GET of the API: the path is escaped. It gives a Refusal where the API refuses.
	Ask func(ctx context.Context, path string, query url.Values) ([]byte, error)
	Now func() time.Time
}

// Refusal is why the API gives no answer, for people.
type Refusal struct {
	Status int // of HTTP
	Detail string
}

func (r *Refusal) Error() string { return r.Detail }

func refuse(status int, format string, args ...any) error {
	return &Refusal{status, fmt.Sprintf(format, args...)}
}

// Web makes pages, pictures and scripts. It is safe for concurrent use.
type Web struct {
	ask    func(ctx context.Context, path string, query url.Values) ([]byte, error)
	now    func() time.Time
	pages  map[string]*template.Template
	files  map[string]Reply // by path
	script string           // the widgets' path that never changes
}

// Request is what a page depends on.
type Request struct {
	Param  string     // the part of the path that the route leaves open
	Query  url.Values // of the URL
	Origin string     // where links that are to be copied start, without a slash at the end
	Root   string     // the way from the page to the server's root: "../" or the like
}

// Reply is a finished page, picture or script.
type Reply struct {
	Body         []byte
	ContentType  string
	CacheControl string
	Policy       string // Content-Security-Policy, none where empty
	Extra        [][2]string
	Fixed        bool // it stays the same while the process runs
}

// Route is something to be served.
type Route struct {
	Path   string // as echo has it
	Answer func(ctx context.Context, r Request) (Reply, error)
}

// The policies: a page uses what this server serves and nothing else. Nothing of ours needs unsafe-inline.
const (
	pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
		"base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'"
	embedPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
		"base-uri 'none'; form-action 'none'; frame-ancestors *; require-trusted-types-for 'script'"
)

// How long what is served may be kept.
const (
	asks     = "no-cache"                                                             // each time, but mostly to hear that nothing changed
	forEver  = "public, max-age=31536000, immutable"                                  // the name changes with the content
	pictures = "public, max-age=60, stale-while-revalidate=300, stale-if-error=86400" // proxies of READMEs would not ask less
)

// crossSite lets other sites show what is meant for them.
var crossSite = [2]string{"Cross-Origin-Resource-Policy", "cross-origin"} // immutable

// New makes a Web.
func New(o Options) (*Web, error) {
	w := &Web{ask: o.Ask, now: o.Now}
	if err := w.loadFiles(); err != nil {
		return nil, err
	}
	if err := w.loadPages(); err != nil {
		return nil, err
	}
	return w, nil
}

// Routes lists all that is served.
func (w *Web) Routes() []Route {
	routes := []Route{
		{"/web/getting-started", w.gettingStarted},
		{"/web/dashboard", w.dashboard},
		{"/web/dashboard/:ident", w.metric},
		{"/web/board/:ident", w.board},
		{"/web/user/:name", w.user},
		{"/web/reference", w.reference},
		{"/web/widgets", w.gallery},
		{"/web/status", w.status},
		{"/img/:picture", w.picture},
		{"/badge/:badge", w.badge},
		{"/embed/:widget", w.embed},
		{"/oembed", w.oembed},
		{"/widgets/v1/:script", w.widgetScript},
		{"/web/:file", w.webFile},
	}
	return routes
}

// fetch asks the API and reads its answer into v.
func (w *Web) fetch(ctx context.Context, v any, path string, query url.Values) error {
	body, err := w.ask(ctx, path, query)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("read the answer of %s: %w", path, err)
	}
	return nil
}

// refused gives why something was refused; anything else is an error that concerns the whole page.
func refused(err error) (*Refusal, bool) {
	var r *Refusal
	return r, errors.As(err, &r)
}

// missing says whether there is no such thing.
func missing(err error) bool {
	r, ok := refused(err)
	return ok && r.Status == http.StatusNotFound
}

// RootOf gives the way from a path to the root: relative links hold behind a proxy that serves us below some path.
func RootOf(path string) string {
	return strings.Repeat("../", max(0, strings.Count(strings.TrimPrefix(path, "/"), "/")))
}
