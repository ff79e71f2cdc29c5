package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/statscache/statscache/api/web"
	"github.com/statscache/statscache/store"
)

// problem is an error as clients see it (RFC 9457).
type problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail,omitempty"`
	Parameter string `json:"parameter,omitempty"`

	retryAfter int // seconds, 0 for none
}

func (p *problem) Error() string { return p.Title + ": " + p.Detail }

func newProblem(status int, detail string) *problem {
	return &problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail}
}

func notFound(detail string) *problem { return newProblem(http.StatusNotFound, detail) }

// badParameter names the parameter in the detail too: that is what people read.
func badParameter(name, detail string) *problem {
	p := newProblem(http.StatusBadRequest, name+": "+detail)
	p.Parameter = name
	return p
}

func unavailable(detail string, retryAfter int) *problem {
	p := newProblem(http.StatusServiceUnavailable, detail)
	p.retryAfter = retryAfter
	return p
}

// problemOf translates an error at the edge. What isn't meant for clients stays here; logIt says that it is news to
// the operator.
func problemOf(err error) (p *problem, logIt bool) {
	var he *echo.HTTPError
	var no *web.Refusal
	switch {
	case errors.As(err, &p):
		return p, false
	case errors.As(err, &no):
		p = newProblem(no.Status, no.Detail)
		if no.Status == http.StatusServiceUnavailable {
			p.retryAfter = 2
		}
		return p, false
	case errors.Is(err, store.ErrUnavailable):
		return unavailable("The store is away for the moment.", 2), true
	case errors.Is(err, store.ErrUnknown):
		return notFound("no such metric any more"), false
	case errors.Is(err, context.DeadlineExceeded):
		return unavailable("The answer took too long.", 5), true
	case errors.Is(err, context.Canceled):
		// Nobody is there to read this.
		return unavailable("The request was given up.", 1), false
	case errors.As(err, &he):
		if he.Code == http.StatusNotFound {
			return notFound("nothing is served at this path"), false
		}
		return newProblem(he.Code, ""), false
	}
	return newProblem(http.StatusInternalServerError, "The answer could not be made; the log of the server says why."), true
}

// complainEvery is how often failures are worth a line in the log: when the store is away, every request fails.
const complainEvery = time.Second

// complaints counts what is left out of the log.
type complaints struct {
	mu     sync.Mutex
	last   time.Time
	hidden int
}

// complain logs an error, unless it logged one a moment ago; then the next line says how many there were.
func (s *Server) complain(msg string, args ...any) {
	c := &s.complaints
	c.mu.Lock()
	now := s.now()
	if since := now.Sub(c.last); since >= 0 && since < complainEvery {
		c.hidden++
		c.mu.Unlock()
		return
	}
	if c.hidden > 0 {
		args = append(args, "not_logged", c.hidden)
	}
	c.last, c.hidden = now, 0
	c.mu.Unlock()
	s.log.Error(msg, args...)
}

// writeProblem answers with an error, as HTML only where that is asked for above JSON.
func (s *Server) writeProblem(w http.ResponseWriter, r *http.Request, err error) int {
	p, logIt := problemOf(err)
	if logIt {
		s.complain("request failed", "method", r.Method, "path", r.URL.Path, "status", p.Status, "error", err)
	}
	h := w.Header()
	h["Vary"] = varyHeader
	h.Set("Cache-Control", "no-store")
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(p.retryAfter))
	}
	var body []byte
	accept := parseAccept(strings.Join(r.Header["Accept"], ","))
	html := accept.quality("text/html", exact)
	if html > 0 && html >= accept.quality("application/problem+json", wildcards) &&
		html >= accept.quality("application/json", wildcards) {
		if a, err := s.problemPage(r, p); err != nil {
			s.log.Error("error page", "error", err)
		} else {
			h.Set("Content-Type", a.contentType)
			for _, m := range a.more {
				h[m.name] = m.values
			}
			body = a.body
		}
	}
	if body == nil {
		h.Set("Content-Type", "application/problem+json")
		body, _ = json.Marshal(p) // strings and numbers only: it can't fail
		body = append(body, '\n')
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(p.Status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // a client that has gone is no concern of ours
	}
	return p.Status
}
