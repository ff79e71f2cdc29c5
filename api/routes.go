package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/statscache/statscache/store"
)

func (s *Server) routes() *echo.Echo {
	e := echo.New()
	e.IPExtractor = echo.ExtractIPDirect()
	e.Logger.SetOutput(discard{}) // what is worth saying goes to our own log
	e.HTTPErrorHandler = func(err error, c echo.Context) { s.fail(c, err) }
	e.Use(s.measure, unescaped)
	get := func(path string, h echo.HandlerFunc) { e.Match([]string{http.MethodGet, http.MethodHead}, path, h) }

	get("/api", func(c echo.Context) error {
		to := "api/" // relative: it holds behind a proxy that serves us below some path
		if q := c.Request().URL.RawQuery; q != "" {
			to += "?" + q
		}
		return c.Redirect(http.StatusPermanentRedirect, to)
	})
	get("/api/", s.indexHandler)
	get("/api/:ident", s.rowsHandler)
	get("/api/:ident/layout", s.layoutHandler)

	v1 := func(path string, plan func(c echo.Context) (question, error)) {
		get(path, func(c echo.Context) error {
			q, err := plan(c)
			if err != nil {
				return err
			}
			if formatOf(acceptHeader(c.Request()), false, false) == notAcceptable {
				return errNotAcceptable("application/json")
			}
			a, err := s.ask(c.Request().Context(), q)
			if err != nil {
				return err
			}
			return s.send(c, q.key, a, nil)
		})
	}
	v1("/api/v1/plugins", func(echo.Context) (question, error) { return s.pluginsQuestion(), nil })
	v1("/api/v1/status", func(echo.Context) (question, error) { return s.statusQuestion(), nil })
	v1("/api/v1/gaps", func(echo.Context) (question, error) { return s.gapsQuestion(), nil })
	v1("/api/v1/metrics", func(echo.Context) (question, error) { return s.metricsQuestion(), nil })
	v1("/api/v1/metrics/:id", s.metricQuestion)
	data := func(path string, plan func(c echo.Context) (question, error)) {
		get("/api/v1"+path, func(c echo.Context) error {
			q, err := plan(c)
			if err != nil {
				return err
			}
			a, err := s.ask(c.Request().Context(), q)
			if err != nil {
				return err
			}
			return s.send(c, q.key, a, nil)
		})
	}
	data("/metrics/:id/series", s.dataHandler("series", store.Counter, seriesParameters, s.series))
	data("/metrics/:id/top", s.dataHandler("top", store.Counter, topParameters, s.top))
	data("/metrics/:id/count", s.dataHandler("count", store.Counter, countParameters, s.count))
	data("/metrics/:id/calendar", s.dataHandler("calendar", store.Counter, countParameters, s.calendar))
	data("/metrics/:id/latest", s.dataHandler("latest", store.Latest, latestParameters, s.latest))
	data("/metrics/:id/dimensions/:dim", s.valuesQuestion)
	data("/users/:name", s.personQuestion)
	data("/topics", s.topicsQuestion)
	if s.events != nil {
		s.eventRoutes(data)
		s.datagrepperRoutes(get)
	}
	if s.explain != nil {
		data("/metrics/:id/explain", s.explainQuestion)
	}
	v1("/openapi.json", s.openapiQuestion)
	get("/api/v1/stream", s.streamHandler)

	s.pages(get)
	return e
}

// unescaped decodes the parts of a path that routes leave open. They come as they were sent where an escaped slash or
// the like makes that differ from the usual form.
func unescaped(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if c.Request().URL.RawPath != "" {
			values := slices.Clone(c.ParamValues())
			for i, v := range values {
				var err error
				if values[i], err = url.PathUnescape(v); err != nil {
					return notFound("nothing is served at this path")
				}
			}
			c.SetParamValues(values...)
		}
		return next(c)
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// ServeHTTP answers a request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		if v := recover(); v != nil {
			if v == http.ErrAbortHandler {
				panic(v) // the way to break off an answer that has begun
			}
			s.log.Error("panic while answering", "path", r.URL.Path, "panic", v, "stack", string(debug.Stack()))
			// If the answer has begun this adds nothing to it; the client sees it cut short.
			s.writeProblem(w, r, fmt.Errorf("panic: %v", v))
		}
	}()
	if s.serveShortcut(w, r) {
		return
	}
	grepPath(r)
	h := w.Header()
	crossOrigin(h, r.URL)
	if r.Method == http.MethodOptions {
		h["Allow"] = allowMethods
		h["Access-Control-Allow-Methods"] = allowMethods
		h.Set("Access-Control-Allow-Headers", "Accept, Accept-Language, Content-Type, If-None-Match")
		h.Set("Access-Control-Max-Age", "86400")
		h.Set("Content-Length", "0")
		w.WriteHeader(http.StatusOK)
		return
	}
	s.echo.ServeHTTP(w, r)
}

// indexHandler is GET /api/: all idents.
func (s *Server) indexHandler(c echo.Context) error {
	return s.document(c, nil, "index", true, func(ctx context.Context) (any, error) {
		d, err := s.directory(ctx, directoryLife)
		if err != nil {
			return nil, err
		}
		return append([]string{}, d.names...), nil
	})
}

// layoutHandler is GET /api/{ident}/layout: how the plugin wants its metric to be shown.
func (s *Server) layoutHandler(c echo.Context) error {
	t, err := s.find(c.Request().Context(), c.Param("ident"))
	if err != nil {
		return err
	}
	if len(t.metric.Layout) == 0 || string(t.metric.Layout) == "null" {
		return notFound(c.Param("ident") + " has no layout")
	}
	return s.document(c, t.dir, "layout "+t.metric.ID, false, func(context.Context) (any, error) { return t.metric.Layout, nil })
}

// document answers with something that only changes with the list of metrics: as JSON, JSON-P and, if csv is set, a
// value a line.
func (s *Server) document(c echo.Context, d *directory, key string, csv bool, value func(context.Context) (any, error)) error {
	r := c.Request()
	pairs, err := parsePairs(r.URL.RawQuery)
	if err != nil {
		return err
	}
	p, err := parseRowParams(slices.DeleteFunc(pairs, func(kv pair) bool { return kv.name != "callback" }), 1, 1)
	if err != nil {
		return err
	}
	f := formatOf(acceptHeader(r), p.callback != "", csv)
	if f == notAcceptable {
		return errNotAcceptable("JSON (application/json) and, with a callback, JSON-P (application/javascript)")
	}
	key += fmt.Sprintf(" %d", f)
	if f == formatJSONP {
		key += " " + p.callback
	}
	q := question{key: key, dir: d, build: func(ctx context.Context) (*answer, error) {
		v, err := value(ctx)
		if err != nil {
			return nil, err
		}
		a := &answer{contentType: f.contentType()}
		if names, ok := v.([]string); ok && (f == formatCSV || f == formatAppCSV) {
			var b strings.Builder
			for _, n := range names {
				b.Write(appendField(nil, 0, n))
				b.WriteByte('\n')
			}
			a.body = []byte(b.String())
			return a, nil
		}
		if a.body, err = json.Marshal(v); err != nil {
			return nil, fmt.Errorf("encode %s: %w", key, err)
		}
		if f == formatJSONP {
			a.body = padding(p.callback, a.body)
		}
		return a, nil
	}}
	a, err := s.ask(r.Context(), q)
	if err != nil {
		return err
	}
	return s.send(c, q.key, a, nil)
}
