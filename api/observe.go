package api

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
)

// observer counts requests.
type observer struct {
	clock        func() time.Time
	duration     *prometheus.HistogramVec
	hits, misses prometheus.Counter
}

func newObserver(reg *prometheus.Registry) (*observer, error) {
	o := &observer{
		clock: time.Now,
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "statscache_http_request_duration_seconds",
			Help:    "How long requests took, by route and status.",
			Buckets: []float64{.0001, .0005, .001, .005, .01, .05, .1, .5, 1, 5},
		}, []string{"route", "code"}),
		hits: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "statscache_cache_hits_total", Help: "Answers that were kept and still held.",
		}),
		misses: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "statscache_cache_misses_total", Help: "Answers that had to be made, or were being made.",
		}),
	}
	if reg == nil {
		return o, nil
	}
	for _, c := range []prometheus.Collector{o.duration, o.hits, o.misses} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("api: register metrics: %w", err)
		}
	}
	return o, nil
}

// request gives the histogram of an echo path and a status. Paths that are no route share one name, so that nobody can
// make up label values.
func (o *observer) request(path string, status int) prometheus.Observer {
	return o.duration.WithLabelValues(routeName(path), strconv.Itoa(status))
}

func routeName(path string) string {
	if path == "" {
		return "none"
	}
	parts := strings.Split(path, "/")
	for i, p := range parts {
		if name, ok := strings.CutPrefix(p, ":"); ok {
			parts[i] = "{" + name + "}"
		}
	}
	return strings.Join(parts, "/")
}

// measure is the middleware that observes and answers errors: only here both are known.
func (s *Server) measure(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		begin := s.observe.clock()
		path := c.Path()
		err := next(c)
		if errors.Is(err, echo.ErrNotFound) || errors.Is(err, echo.ErrMethodNotAllowed) {
			path = ""
		}
		status := c.Response().Status
		if err != nil {
			status = s.fail(c, err)
		}
		s.observe.request(path, status).Observe(s.observe.clock().Sub(begin).Seconds())
		return nil
	}
}

// fail answers with an error unless an answer has begun.
func (s *Server) fail(c echo.Context, err error) int {
	if c.Response().Committed {
		s.log.Error("request failed after the answer began", "path", c.Request().URL.Path, "error", err)
		return c.Response().Status
	}
	return s.writeProblem(c.Response(), c.Request(), err)
}
