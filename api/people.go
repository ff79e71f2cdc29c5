package api

import (
	"context"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/statscache/statscache/store"
)

// The dimensions that a person's numbers are made of.
const (
	userDimension    = "user"
	topicDimension   = "topic"
	packageDimension = "package"
)

const (
	recentShown = 10 // events of a person
	recentBytes = 1 << 20
)

// personDocument is the answer of /users/{name}. A part is null where no metric counts by what it needs.
type personDocument struct {
	Name     string            `json:"name"`
	TZ       string            `json:"tz"`
	Calendar *calendarDocument `json:"calendar"`
	Topics   *topDocument      `json:"topics"`
	Packages *topDocument      `json:"packages"`
	Events   []eventDocument   `json:"events"` // the last ones, newest first; null where the store doesn't find events
}

// personQuestion is GET /api/v1/users/{name}: one person's numbers.
func (s *Server) personQuestion(c echo.Context) (question, error) {
	name := c.Param("name")
	if len(name) > store.MaxKeyBytes {
		return question{}, badParameter("name", "is longer than any")
	}
	has := func(d *directory) bool { return d.counting(userDimension) != nil }
	d, err := s.directoryWith(c.Request().Context(), has)
	if err != nil {
		return question{}, err
	}
	if !has(d) {
		return question{}, notFound("no metric counts by user")
	}
	a, err := s.parseAsking("users", nil, c.Request(), personalParameters)
	if err != nil {
		return question{}, err
	}
	if a.format != formatJSON {
		return question{}, errNotAcceptable("JSON (application/json)")
	}
	if a.top == 0 {
		a.top = defaultTop
	}
	a.key += " " + name
	return s.dataQuestion(a, d, allMetrics, func(ctx context.Context) (*answer, error) {
		doc, err := s.person(ctx, a, d, name)
		if err != nil {
			return nil, err
		}
		return jsonAnswer(doc)
	}), nil
}

// counting gives the metric that counts by some dimensions and by as little else as possible; of several the one
// that is kept at the most intervals.
func (d *directory) counting(names ...string) *store.ServedMetric {
	var best *store.ServedMetric
	for i := range d.metrics {
		m := &d.metrics[i]
		all := m.Kind == store.Counter && len(m.Intervals) > 0
		for _, n := range names {
			all = all && slices.ContainsFunc(m.Dimensions, func(d store.Dimension) bool { return d.Name == n })
		}
		if all && (best == nil || len(m.Dimensions) < len(best.Dimensions) || len(m.Dimensions) == len(best.Dimensions) && len(m.Intervals) > len(best.Intervals)) {
			best = m
		}
	}
	return best
}

func (s *Server) person(ctx context.Context, a *asking, d *directory, name string) (personDocument, error) {
	doc := personDocument{Name: name, TZ: a.loc.String()}
	about := func(dims ...string) *asking {
		m := d.counting(append(dims, userDimension)...)
		if m == nil {
			return nil
		}
		one := *a
		one.metric, one.given, one.by = m, maps.Clone(a.given), nil
		for i, dim := range m.Dimensions {
			if dim.Name == userDimension {
				one.where = []store.Match{{Dim: i, In: []string{name}}}
			}
			if slices.Contains(dims, dim.Name) {
				one.by = append(one.by, i)
			}
		}
		return &one
	}
	calendar := about()
	if daily := about(topicDimension); daily != nil && !hasDays(calendar.metric) && hasDays(daily.metric) {
		calendar = daily // a message has one topic: added up over them it counts once
	}
	cal, err := s.calendarOf(ctx, calendar)
	if err != nil {
		return doc, err
	}
	doc.Calendar = &cal
	for dim, to := range map[string]**topDocument{topicDimension: &doc.Topics, packageDimension: &doc.Packages} {
		one := about(dim)
		if one == nil {
			continue
		}
		p, h, err := s.whole(ctx, one)
		if err != nil {
			return doc, err
		}
		rows, _, total, err := s.rank(ctx, one, p)
		if err != nil {
			return doc, err
		}
		*to = &topDocument{h, total, rows}
	}
	return doc, s.personEvents(ctx, a, name, &doc)
}

// hasDays says whether a metric is kept by days or longer.
func hasDays(m *store.ServedMetric) bool {
	return slices.ContainsFunc(m.Intervals, func(d time.Duration) bool { return d >= 24*time.Hour })
}

// personEvents adds the person's last events.
func (s *Server) personEvents(ctx context.Context, a *asking, name string, doc *personDocument) error {
	if s.events == nil {
		return nil
	}
	r := store.FindRequest{EventFilter: store.EventFilter{From: math.MinInt64, To: math.MaxInt64, Users: store.Names{In: []string{name}}}, Desc: true,
		Limit: recentShown, MaxScan: maxLooked, Bodies: true, MaxBytes: recentBytes}
	if a.given["from"] {
		r.From = a.from * 1e6
	}
	if a.given["to"] {
		r.To = a.to * 1e6
	}
	last, err := s.findEvents(ctx, r)
	if err != nil {
		return err
	}
	doc.Events = []eventDocument{}
	for i := range last.Events {
		doc.Events = append(doc.Events, documentOf(&last.Events[i]))
	}
	return nil
}
