package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/statscache/statscache/store"
)

// datagrepperPrefix is where datagrepper's own API is served. A slash at the end of a path makes no difference there.
const datagrepperPrefix = "/datagrepper/"

func (s *Server) datagrepperRoutes(get func(path string, h echo.HandlerFunc)) {
	at := func(path string, h func(c echo.Context, v2 bool) error) {
		get(strings.TrimSuffix(datagrepperPrefix, "/")+path, func(c echo.Context) error {
			err := h(c, strings.HasPrefix(path, "/v2/"))
			var no *grepError
			if errors.As(err, &no) {
				return no.write(c)
			}
			return err
		})
	}
	at("/", func(c echo.Context, _ bool) error { return s.grepIndex(c) })
	for _, p := range [...]string{"/raw", "/v2/search"} {
		at(p, s.grepSearch)
	}
	for _, p := range [...]string{"/id", "/v2/id"} {
		at(p, s.grepOne)
	}
	at("/messagecount", s.grepCount)
	at("/charts/:type", s.grepChart)
	at("/widget.js", s.grepWidget)
	for _, p := range [...]string{"/healthz/live", "/healthz/ready"} {
		at(p, s.grepHealth)
	}
}

// grepPath cuts the slash at the end of datagrepper's paths.
func grepPath(r *http.Request) {
	if p := r.URL.Path; strings.HasPrefix(p, datagrepperPrefix) && len(p) > len(datagrepperPrefix) {
		r.URL.Path = strings.TrimSuffix(p, "/")
		r.URL.RawPath = strings.TrimSuffix(r.URL.RawPath, "/")
	}
}

// grepError is an error as datagrepper's clients know it: an object that says what is wrong.
type grepError struct {
	status    int
	detail    string
	arguments *grepArguments
}

func (e *grepError) Error() string { return e.detail }

func badGrep(format string, args ...any) *grepError {
	return &grepError{status: http.StatusBadRequest, detail: fmt.Sprintf(format, args...)}
}

func (e *grepError) write(c echo.Context) error {
	c.Response().Header().Set("Cache-Control", "no-store")
	out := struct {
		Error     string         `json:"error"`
		Arguments *grepArguments `json:"arguments,omitempty"`
	}{e.detail, e.arguments}
	body, err := json.Marshal(out)
	if err != nil {
		return fmt.Errorf("encode an error: %w", err)
	}
	return c.Blob(e.status, "application/json", append(body, '\n'))
}

// grepAnswer answers with what build makes, kept for a second.
func (s *Server) grepAnswer(c echo.Context, key string, build func(ctx context.Context) (*answer, error)) error {
	q := s.briefAnswer("datagrepper "+key, build)
	a, err := s.ask(c.Request().Context(), q)
	if err != nil {
		return err
	}
	return s.send(c, q.key, a, nil)
}

// grepSearch is /raw and /v2/search, which differ in how messages are written.
func (s *Server) grepSearch(c echo.Context, v2 bool) error {
	q, err := parseGrep(c.Request().URL.RawQuery, s.now())
	if err != nil {
		return err
	}
	html := q.callback == "" && wantsHTML(c.Request())
	key := fmt.Sprintf("search %v %v %s", v2, html, q.key)
	return s.grepAnswer(c, key, func(ctx context.Context) (*answer, error) {
		events, total, err := s.grepPage(ctx, q)
		if err != nil {
			return nil, err
		}
		if html {
			return s.grepCards(q, events, s.now())
		}
		arguments, err := json.Marshal(q.args)
		if err != nil {
			return nil, fmt.Errorf("encode arguments: %w", err)
		}
		out := []byte(`{"raw_messages":[`)
		for i := range events {
			if i > 0 {
				out = append(out, ',')
			}
			if out, err = messageOf(&events[i], v2, q.args.Meta, s.now()).append(out); err != nil {
				return nil, err
			}
		}
		out = fmt.Appendf(out, `],"total":%d,"pages":%d,"count":%d,"arguments":%s}`, total, (total+int64(q.args.Rows)-1)/int64(q.args.Rows), len(events), arguments)
		return padded(out, q.callback), nil
	})
}

// padded is an answer in JSON, or in JSON-P where there is a callback.
func padded(body []byte, callback string) *answer {
	if callback == "" {
		return &answer{body: append(body, '\n'), contentType: formatJSON.contentType()}
	}
	var safe bytes.Buffer // inside a script
	json.HTMLEscape(&safe, body)
	return &answer{body: padding(callback, safe.Bytes()), contentType: formatJSONP.contentType()}
}

// grepOne is /id and /v2/id.
func (s *Server) grepOne(c echo.Context, v2 bool) error {
	q, err := parseGrep(c.Request().URL.RawQuery, s.now())
	if err != nil {
		return err
	}
	if q.id == nil {
		return badGrep("id must be given: the msg_id of a message")
	}
	html := q.callback == "" && wantsHTML(c.Request())
	key := fmt.Sprintf("id %v %v %q %s", v2, html, *q.id, q.key)
	return s.grepAnswer(c, key, func(ctx context.Context) (*answer, error) {
		e, err := s.events.Event(ctx, *q.id)
		if errors.Is(err, store.ErrUnknown) {
			return nil, &grepError{status: http.StatusNotFound, detail: "not_found"}
		}
		if err != nil {
			return nil, err
		}
		if html {
			return s.grepCards(q, []store.Event{e}, s.now())
		}
		body, err := messageOf(&e, v2, q.args.Meta, s.now()).append(nil)
		if err != nil {
			return nil, err
		}
		return padded(body, q.callback), nil
	})
}

// grepCount is /messagecount: of counters where there are any.
func (s *Server) grepCount(c echo.Context, _ bool) error {
	return s.grepAnswer(c, "messagecount", func(ctx context.Context) (*answer, error) {
		all := &eventsAsking{filter: store.EventFilter{From: math.MinInt64, To: math.MaxInt64}}
		n, ok, err := s.countedEvents(ctx, all)
		if err == nil && !ok {
			n, err = s.countEvents(ctx, all.filter)
		}
		if err != nil {
			return nil, err
		}
		return jsonAnswer(map[string]int64{"messagecount": n})
	})
}

// grepHealth is /healthz/live and /healthz/ready.
func (s *Server) grepHealth(c echo.Context, _ bool) error {
	status, title := http.StatusOK, "OK"
	if strings.HasSuffix(c.Path(), "/ready") {
		ctx, cancel := context.WithTimeout(c.Request().Context(), 2*time.Second)
		defer cancel()
		if _, err := s.store.Horizons(ctx); err != nil {
			status, title = http.StatusServiceUnavailable, "Can't connect to the database"
		}
	}
	c.Response().Header().Set("Cache-Control", "no-store")
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"status": %d, "title": %q}`, status, title)
	return c.Blob(status, "application/json", b.Bytes())
}

// wantsHTML says whether a browser asks: HTML above JSON.
func wantsHTML(r *http.Request) bool {
	a := parseAccept(acceptHeader(r))
	html := a.quality("text/html", exact)
	return html > 0 && html >= a.quality("application/json", wildcards)
}
