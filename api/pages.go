package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/statscache/statscache/api/web"
)

// pageLife is how long a page or picture is kept here: a crowd that loads it at once costs one drawing.
const pageLife = time.Second

// newWeb makes the pages. They ask this server, as any program could.
func newWeb(s *Server) (*web.Web, error) {
	return web.New(web.Options{Now: s.now, Ask: func(ctx context.Context, path string, query url.Values) ([]byte, error) {
		body, err := s.Answer(ctx, path, query)
		var no *RefusedError
		if errors.As(err, &no) {
			return nil, &web.Refusal{Status: no.Status, Detail: no.Detail}
		}
		return body, err
	}})
}

// pages serves what people see.
func (s *Server) pages(get func(string, echo.HandlerFunc)) {
	start := func(to string) echo.HandlerFunc { // relative: it holds behind a proxy that serves us below some path
		return func(c echo.Context) error { return c.Redirect(http.StatusFound, to) }
	}
	get("/", start("web/getting-started"))
	get("/web", start("web/getting-started"))
	get("/web/", start("getting-started"))
	get("/web/user", func(c echo.Context) error { // the form that asks for a name
		to := "dashboard"
		if name := c.QueryParam("name"); name != "" {
			to = "user/" + url.PathEscape(name)
		}
		return c.Redirect(http.StatusFound, to)
	})
	for _, route := range s.web.Routes() {
		get(route.Path, s.pageHandler(route))
	}
}

func (s *Server) webRequest(r *http.Request) web.Request {
	return web.Request{Query: r.URL.Query(), Origin: s.origin(r), Root: web.RootOf(r.URL.EscapedPath())}
}

func (s *Server) pageHandler(route web.Route) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		if _, err := parsePairs(r.URL.RawQuery); err != nil {
			return err
		}
		req := s.webRequest(r)
		if values := c.ParamValues(); len(values) > 0 {
			req.Param = values[0]
		}
		key := strings.Join([]string{"page", route.Path, req.Param, r.URL.RawQuery, req.Origin, req.Root}, "\x00")
		a, err := s.drawn(r.Context(), key, func(ctx context.Context) (web.Reply, error) { return route.Answer(ctx, req) })
		if err != nil {
			return err
		}
		return s.send(c, key, a, nil)
	}
}

// drawn gives a page: the kept one while it is young, else a new one. It takes no place among the questions to the
// store: what it asks takes its own.
func (s *Server) drawn(ctx context.Context, key string, draw func(context.Context) (web.Reply, error)) (*answer, error) {
	var shape uint64
	if d := s.catalog.current.Load(); d != nil {
		shape = d.shape
	}
	if a, ok := s.cache.byKey.GetIfPresent(key); ok && a.holds(shape, 0, s.now()) {
		return a, nil
	}
	detached := context.WithoutCancel(ctx)
	ch := s.flights.DoChan(key, func() (_ any, err error) {
		defer recovered(&err)
		ctx, cancel := context.WithTimeout(detached, queryTime)
		defer cancel()
		reply, err := draw(ctx)
		if err != nil {
			return nil, err
		}
		a := replyAnswer(reply)
		if !reply.Fixed {
			a.until = s.now().Add(pageLife)
		}
		a.seal(question{}, shape, 0)
		s.cache.byKey.Set(key, a)
		return a, nil
	})
	select {
	case r := <-ch:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*answer), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func replyAnswer(r web.Reply) *answer {
	a := &answer{body: r.Body, contentType: r.ContentType, cacheControl: r.CacheControl, fixed: r.Fixed}
	if r.Policy != "" {
		a.more = append(a.more, headerLine{"Content-Security-Policy", []string{r.Policy}})
	}
	for _, h := range r.Extra {
		a.more = append(a.more, headerLine{h[0], []string{h[1]}})
	}
	return a
}

// problemPage is an error for a person with a browser.
func (s *Server) problemPage(r *http.Request, p *problem) (*answer, error) {
	reply, err := s.web.Problem(s.webRequest(r), p.Status, p.Title, p.Detail)
	if err != nil {
		return nil, fmt.Errorf("draw the page of an error: %w", err)
	}
	return replyAnswer(reply), nil
}
