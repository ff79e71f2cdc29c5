package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/statscache/statscache/store"
)

// The bounds of questions about events.
const (
	defaultEvents = 25
	maxEvents     = 1000
	maxEventBytes = 8 << 20         // bodies of a page
	maxLooked     = 1_000_000       // events looked at for a page or a count
	maxSearched   = 100_000         // bodies looked at for a page or a count that asks for text
	scansAtOnce   = 2               // searches for text that may run
	scanWait      = 2 * time.Second // for their turn
)

// eventDocument is an archived event.
type eventDocument struct {
	ID       string    `json:"msg_id"`
	Topic    string    `json:"topic"`
	Category string    `json:"category"`
	Time     time.Time `json:"timestamp"`
	Received time.Time `json:"received"`
	Source   string    `json:"source"`
	Users    []string  `json:"users"`
	Packages []string  `json:"packages"`
	Agent    *string   `json:"agent"`  // null where unknown
	Signed   string    `json:"signed"` // verified, unsigned or unchecked
	Bytes    int       `json:"bytes"`  // of the envelope as received
	Msg      rawJSON   `json:"msg"`    // of the envelope
}

// eventsDocument is a page of events.
type eventsDocument struct {
	Events   []eventDocument `json:"events"`
	Next     *string         `json:"next"`     // cursor of the page behind this one, null at the end
	Previous *string         `json:"previous"` // cursor of the page before this one, null at the beginning
	Partial  bool            `json:"partial"`  // the page ended because enough was looked at: go on with next
	Order    string          `json:"order"`
	Size     int             `json:"size"`
	Window   eventWindow     `json:"window"`
}

// eventWindow is the span of time that was asked for: [From, To), null where it has no such end.
type eventWindow struct {
	From *time.Time `json:"from"`
	To   *time.Time `json:"to"`
}

// eventCountDocument is the answer of /events/count.
type eventCountDocument struct {
	Count  int64       `json:"count"`
	Window eventWindow `json:"window"`
	Source string      `json:"source"` // counters or archive
}

func (s *Server) eventRoutes(data func(path string, plan func(c echo.Context) (question, error))) {
	data("/events", s.eventsQuestion)
	data("/events/count", s.eventCountQuestion)
	data("/events/:msg_id", s.eventQuestion)
}

// briefAnswer is a question whose answer may be a second old: archived events have no version.
func (s *Server) briefAnswer(key string, build func(ctx context.Context) (*answer, error)) question {
	return question{key: key, until: s.now().Truncate(time.Second).Add(time.Second), build: build}
}

// eventsQuestion is GET /api/v1/events.
func (s *Server) eventsQuestion(c echo.Context) (question, error) {
	a, err := s.parseEvents(c.Request(), eventsParameters)
	if err != nil {
		return question{}, err
	}
	return s.briefAnswer("events "+a.key, func(ctx context.Context) (*answer, error) {
		doc, err := s.eventsPage(ctx, a)
		if err != nil {
			return nil, err
		}
		out, err := dataAnswer(a.format, doc, func() *sheet { return eventSheet(doc.Events) })
		if err == nil && doc.Next != nil {
			out.next = *doc.Next
		}
		return out, err
	}), nil
}

// eventsPage gives a page: backwards from a cursor that says so, in the order asked for in any case.
func (s *Server) eventsPage(ctx context.Context, a *eventsAsking) (*eventsDocument, error) {
	r := store.FindRequest{EventFilter: a.filter, Desc: a.desc, Limit: a.size, Bodies: true, MaxScan: maxLooked, MaxBytes: maxEventBytes}
	if a.cursor != nil {
		r.After = &a.cursor.EventCursor
		r.Desc = a.desc != a.cursor.back
	}
	if a.asksText() {
		r.MaxScan = maxSearched
	}
	page, err := s.findEvents(ctx, r)
	if err != nil {
		return nil, err
	}
	back := a.cursor != nil && a.cursor.back
	doc := &eventsDocument{Events: []eventDocument{}, Order: "asc", Size: a.size, Window: a.window, Partial: page.Next != nil && len(page.Events) < a.size}
	if a.desc {
		doc.Order = "desc"
	}
	if back {
		slices.Reverse(page.Events)
	}
	for i := range page.Events {
		doc.Events = append(doc.Events, documentOf(&page.Events[i]))
	}
	ahead, behind := page.Next, a.edge(page.Events, back)
	if back {
		ahead, behind = behind, ahead
	}
	doc.Next, doc.Previous = cursorText(ahead, false), cursorText(behind, true)
	return doc, nil
}

// edge gives the place that a page began at, where it began at a cursor: the way back.
func (a *eventsAsking) edge(events []store.Event, back bool) *store.EventCursor {
	switch {
	case a.cursor == nil:
		return nil
	case len(events) == 0:
		return &a.cursor.EventCursor
	case back:
		e := &events[len(events)-1]
		return &store.EventCursor{Time: e.Time, ID: e.ID}
	}
	return &store.EventCursor{Time: events[0].Time, ID: events[0].ID}
}

// findEvents asks the archive for a page; those that search for text wait for their turn.
func (s *Server) findEvents(ctx context.Context, r store.FindRequest) (store.Page, error) {
	if len(r.Contains)+len(r.NotContains) > 0 {
		done, err := s.scanTurn(ctx)
		if err != nil {
			return store.Page{}, err
		}
		defer done()
	}
	page, err := s.events.Find(ctx, r)
	if err != nil {
		return page, fmt.Errorf("find events: %w", err)
	}
	return page, nil
}

func (s *Server) scanTurn(ctx context.Context) (done func(), err error) {
	wait := time.NewTimer(scanWait)
	defer wait.Stop()
	select {
	case s.scans <- struct{}{}:
		return func() { <-s.scans }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-wait.C:
	}
	p := costly("too-many-searches", "contains", "Other searches for text are under way.")
	p.Status, p.retryAfter = http.StatusTooManyRequests, 2
	return nil, p
}

// eventQuestion is GET /api/v1/events/{msg_id}.
func (s *Server) eventQuestion(c echo.Context) (question, error) {
	id := c.Param("msg_id")
	if id == "" || len(id) > maxEventID {
		return question{}, notFound("no event has such an id")
	}
	f, err := s.onlyFormat(c.Request())
	if err != nil {
		return question{}, err
	}
	return s.briefAnswer(fmt.Sprintf("event %d %s", f, id), func(ctx context.Context) (*answer, error) {
		e, err := s.events.Event(ctx, id)
		if errors.Is(err, store.ErrUnknown) {
			return nil, notFound("no archived event has this id; events behind the archive's horizon are gone")
		}
		if err != nil {
			return nil, err
		}
		doc := documentOf(&e)
		return dataAnswer(f, doc, func() *sheet { return eventSheet([]eventDocument{doc}) })
	}), nil
}

// eventCountQuestion is GET /api/v1/events/count.
func (s *Server) eventCountQuestion(c echo.Context) (question, error) {
	a, err := s.parseEvents(c.Request(), eventCountParameters)
	if err != nil {
		return question{}, err
	}
	return s.briefAnswer("events/count "+a.key, func(ctx context.Context) (*answer, error) {
		doc := eventCountDocument{Window: a.window, Source: "counters"}
		n, ok, err := s.countedEvents(ctx, a)
		if err == nil && !ok {
			doc.Source = "archive"
			n, err = s.countEvents(ctx, a.filter)
		}
		if err != nil {
			return nil, err
		}
		doc.Count = n
		return dataAnswer(a.format, doc, func() *sheet {
			return &sheet{rows: 1, columns: []sheetColumn{{name: "count", numbers: []int64{n}}, {name: "source", texts: []string{doc.Source}}}}
		})
	}), nil
}

// countEvents counts in the archive. A search for text is refused before it runs where the rest of the filter leaves too
// many events to look at.
func (s *Server) countEvents(ctx context.Context, f store.EventFilter) (int64, error) {
	most := maxLooked
	if len(f.Contains)+len(f.NotContains) > 0 {
		most = maxSearched
		bare := f
		bare.Contains, bare.NotContains = nil, nil
		n, err := s.countEvents(ctx, bare)
		if err != nil || n == 0 {
			return 0, err
		}
		if n > maxSearched {
			return 0, tooManyEvents(maxSearched)
		}
		done, err := s.scanTurn(ctx)
		if err != nil {
			return 0, err
		}
		defer done()
	}
	n, err := s.events.CountEvents(ctx, f, most)
	if errors.Is(err, store.ErrTooCostly) {
		return 0, tooManyEvents(most)
	}
	if err != nil {
		return 0, fmt.Errorf("count events: %w", err)
	}
	return n, nil
}

func tooManyEvents(most int) *problem {
	return costly("too-many-events", "", fmt.Sprintf("more than %d events would have to be looked at: ask for a shorter window (start, end), or without text", most))
}
