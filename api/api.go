// Package api answers HTTP requests for the numbers that a store keeps.
//
// Every answer is built once per state of what it shows: a metric's version says when a kept answer no longer holds,
// so a popular URL costs the store one question per commit, however many ask for it.
package api

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"

	"github.com/statscache/statscache/api/web"
	"github.com/statscache/statscache/store"
)

// Store is what the API reads. One that is a store.Finder as well answers questions about events, too.
type Store interface {
	// Metrics lists the serving metrics, by id.
	Metrics(ctx context.Context) ([]store.ServedMetric, error)
	// Version is the version of a serving metric as last known to this process. It is asked for on every request.
	Version(metric string) uint64
	// Rows gives counts in order and how many there are without Offset and Limit.
	Rows(ctx context.Context, q store.RowQuery) (rows []store.Row, total int, err error)
	// Latest gives the latest values of a metric, by key.
	Latest(ctx context.Context, metric string) ([]store.LatestRow, error)
	// Span gives the starts of the first and the last bucket of a metric at an interval.
	Span(ctx context.Context, metric string, interval time.Duration) (first, last int64, ok bool, err error)
	// Horizons says what retention has removed.
	Horizons(ctx context.Context) (store.Horizons, error)
	// Sums adds counts up.
	store.Summer
}

// The defaults of Options.
const (
	DefaultRows       = 100
	DefaultCacheBytes = 64 << 20
	DefaultQueries    = 8
)

// Options say what a Server serves and how much it may use for that. Only Store is required.
type Options struct {
	Store   Store
	Plugins func() []PluginStatus // none when nil
	Status  func() Status         // an empty one when nil
	Gaps    func() Gaps           // none when nil
	// Explain finds the events behind a number; there is no such route when it is nil. ErrUnknown: no such metric.
	Explain func(ctx context.Context, q ExplainQuery) (Explanation, error)

	// BaseURL is the address that clients see, for links behind a proxy; the request's own scheme and host when empty.
	// What a client says about itself in forwarding headers is never believed.
	BaseURL     string
	DefaultRows int // rows of a page that asks for no number, at most MaximumRows
	MaximumRows int
	CacheBytes  int64 // what kept answers may take
	Queries     int   // how many questions to the store may run at once
	Streams     int   // how many live streams may be open at once

	Now      func() time.Time
	Logger   *slog.Logger
	Registry *prometheus.Registry // nil: nothing is exported
}

// Server answers requests. It is safe for concurrent use and holds nothing that needs closing.
type Server struct {
	store    Store
	plugins  func() []PluginStatus
	status   func() Status
	gaps     func() Gaps
	missed   gapWatch
	explain  func(ctx context.Context, q ExplainQuery) (Explanation, error)
	explains chan struct{} // a token per explanation that may run
	events   store.Finder  // nil where the store doesn't find events
	scans    chan struct{} // a token per search for text that may run
	places   grepPlaces
	base     string // without a trailing slash, empty for the request's own
	rows     atomic.Pointer[pageRows]
	now      func() time.Time
	log      *slog.Logger

	echo    *echo.Echo
	observe *observer
	cache   *answers
	queries chan struct{} // a token per question that may run
	flights singleflight.Group
	catalog catalog
	streams *streams
	web     *web.Web

	complaints complaints
	commits    commits
}

// commits remembers when the state of metrics was seen first.
type commits struct {
	mu   sync.Mutex
	seen map[string]commit
}

type commit struct {
	version uint64
	at      time.Time
}

// New makes a Server. It fails on options that cannot be meant.
func New(o Options) (*Server, error) {
	if o.Store == nil {
		return nil, fmt.Errorf("api: no store given")
	}
	base, err := baseURL(o.BaseURL)
	if err != nil {
		return nil, err
	}
	s := &Server{
		store: o.Store, plugins: o.Plugins, status: o.Status, gaps: o.Gaps, explain: o.Explain, explains: make(chan struct{}, explainsAtOnce), base: base,
		now: o.Now, log: o.Logger,
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.log = s.log.With("component", "api")
	if s.now == nil {
		s.now = time.Now
	}
	if s.plugins == nil {
		s.plugins = func() []PluginStatus { return nil }
	}
	if s.gaps == nil {
		s.gaps = func() Gaps { return Gaps{} }
	}
	if s.status == nil {
		s.status = func() Status { return Status{} }
	}
	s.SetRows(o.DefaultRows, o.MaximumRows)
	if o.CacheBytes <= 0 {
		o.CacheBytes = DefaultCacheBytes
	}
	if o.Queries <= 0 {
		o.Queries = DefaultQueries
	}
	s.queries = make(chan struct{}, o.Queries)
	s.events, _ = o.Store.(store.Finder)
	s.scans = make(chan struct{}, scansAtOnce)
	if s.cache, err = newAnswers(o.CacheBytes); err != nil {
		return nil, err
	}
	if s.observe, err = newObserver(o.Registry); err != nil {
		return nil, err
	}
	if s.streams, err = newStreams(o.Streams, o.Registry); err != nil {
		return nil, err
	}
	if s.web, err = newWeb(s); err != nil {
		return nil, err
	}
	s.echo = s.routes()
	return s, nil
}

// pageRows bounds the rows of a page.
type pageRows struct{ byDefault, most int }

// SetRows changes how many rows a page has that asks for no number, and how many it has at most; with 0 the defaults.
// Requests under way are answered with what was in force when they came.
func (s *Server) SetRows(byDefault, most int) {
	if most <= 0 {
		most = max(DefaultRows, byDefault)
	}
	if byDefault <= 0 {
		byDefault = DefaultRows
	}
	s.rows.Store(&pageRows{min(byDefault, most), most})
}

// baseURL checks the configured address and cuts its trailing slashes.
func baseURL(raw string) (string, error) {
	if raw == "" {
		return "", nil
	}
	u, err := url.Parse(raw)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || !plainHost(u.Host) || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("api: base URL %q is not an http or https address without query", raw)
	}
	return strings.TrimRight(u.String(), "/"), nil
}

// Handler is the public face. It is the Server itself.
func (s *Server) Handler() http.Handler { return s }

// NewHTTPServer gives a server for the handler with the bounds that every listener of ours has: slow, endless or huge
// requests cost a connection and no more. write bounds a whole answer.
func NewHTTPServer(h http.Handler, write time.Duration, log *slog.Logger) *http.Server {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      write,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10, // a query too long for its route is still read, and refused in our own words
	}
	if log != nil {
		srv.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	}
	return srv
}

// WriteTimeout bounds a whole answer of the public face.
const WriteTimeout = 30 * time.Second

// HTTPServer gives a server for the public face, to be started with Serve. Its Shutdown ends live streams.
func (s *Server) HTTPServer() *http.Server {
	srv := NewHTTPServer(s, WriteTimeout, s.log)
	srv.RegisterOnShutdown(s.streams.end)
	return srv
}
