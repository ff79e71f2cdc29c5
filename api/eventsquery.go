package api

import (
	"encoding/base64"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/statscache/statscache/store"
)

// maxEventID bounds the bytes of an id in a URL.
const maxEventID = 2048

// eventsAsking is a question about events as its URL puts it.
type eventsAsking struct {
	filter store.EventFilter
	window eventWindow
	desc   bool
	size   int
	cursor *eventPlace
	format format
	key    string
}

// eventPlace is a cursor: a place, and the direction in which to read from there.
type eventPlace struct {
	store.EventCursor
	back bool
}

// Parameters of the routes; the true ones may be repeated.
var (
	eventsParameters     = eventParameters("cursor", "order", "size") // immutable
	eventCountParameters = eventParameters()                          // immutable
)

func eventParameters(more ...string) map[string]bool {
	out := map[string]bool{"start": false, "end": false, "delta": false, "format": false}
	for _, name := range [...]string{"user", "package", "category", "topic", "agent", "contains"} {
		out[name], out["not_"+name] = true, true
	}
	for _, name := range more {
		out[name] = false
	}
	return out
}

// parseEvents reads the parameters of a question. Unknown ones are refused: a misspelt filter would answer with other
// events.
func (s *Server) parseEvents(r *http.Request, allowed map[string]bool) (*eventsAsking, error) {
	pairs, err := parsePairs(r.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	check := asking{given: map[string]bool{}}
	if err := check.checkNames(pairs, allowed); err != nil {
		return nil, err
	}
	a := &eventsAsking{desc: true, size: defaultEvents}
	named := check.text(pairs, "format")
	if check.given["format"] && named == "" {
		named = "nothing"
	}
	if a.format, err = dataFormat(acceptHeader(r), named); err != nil {
		return nil, err
	}
	for _, kv := range pairs {
		if err := a.set(kv); err != nil {
			return nil, err
		}
	}
	if len(a.filter.Topics.In) > 0 && len(a.filter.TopicPrefixes) > 0 {
		return nil, badParameter("topic", "whole topics and beginnings of topics (with * at the end) can't be asked for together")
	}
	if err := a.setWindow(pairs, s.now()); err != nil {
		return nil, err
	}
	slices.SortFunc(pairs, func(x, y pair) int { return strings.Compare(x.name+"\x00"+x.value, y.name+"\x00"+y.value) })
	a.key = fmt.Sprintf("%d %d %d %q", a.format, a.filter.From, a.filter.To, pairs)
	return a, nil
}

func (a *eventsAsking) set(kv pair) (err error) {
	if list := namesOf(&a.filter, kv.name); list != nil {
		switch {
		case kv.value == "":
			return badParameter(kv.name, "is empty")
		case kv.name == "topic" && strings.HasSuffix(kv.value, "*"):
			a.filter.TopicPrefixes = append(a.filter.TopicPrefixes, strings.TrimSuffix(kv.value, "*"))
		case kv.name == "not_topic" && strings.HasSuffix(kv.value, "*"):
			return badParameter(kv.name, "must be a whole topic")
		default:
			*list = append(*list, kv.value)
		}
		return nil
	}
	switch kv.name {
	case "order":
		a.desc, err = oneOf(kv.value, "asc", "desc")
	case "size":
		a.size, err = wholeBetween(kv.value, 1, maxEvents)
	case "cursor":
		a.cursor, err = parseCursor(kv.value)
	}
	if err != nil {
		return badParameter(kv.name, err.Error())
	}
	return nil
}

// namesOf gives the list that a parameter of datagrepper's adds to; nil where it is none of these.
func namesOf(f *store.EventFilter, parameter string) *[]string {
	kind, not := strings.CutPrefix(parameter, "not_")
	var n *store.Names
	switch kind {
	case "user":
		n = &f.Users
	case "package":
		n = &f.Packages
	case "category":
		n = &f.Categories
	case "topic":
		n = &f.Topics
	case "agent":
		n = &f.Agents
	case "contains":
		if not {
			return &f.NotContains
		}
		return &f.Contains
	default:
		return nil
	}
	if not {
		return &n.NotIn
	}
	return &n.In
}

func (a *eventsAsking) asksText() bool { return len(a.filter.Contains)+len(a.filter.NotContains) > 0 }

// setWindow resolves start, end and delta. Where none is given the window is all there is.
func (a *eventsAsking) setWindow(pairs []pair, now time.Time) error {
	now = now.Truncate(time.Second) // the same for all who ask in this second
	a.filter.From, a.filter.To = math.MinInt64, math.MaxInt64
	var start, end *time.Time
	var delta time.Duration
	for _, kv := range pairs {
		switch kv.name {
		case "start", "end":
			t, err := parseMoment(kv.value, now, time.UTC)
			if err != nil {
				return badParameter(kv.name, err.Error())
			}
			if kv.name == "start" {
				start = &t
			} else {
				end = &t
			}
		case "delta":
			var err error
			if delta, err = parseStep(kv.value); err != nil {
				return badParameter(kv.name, err.Error())
			}
		}
	}
	if delta > 0 {
		switch {
		case start != nil && end != nil:
			return badParameter("delta", "says what start and end say already: give two of the three")
		case start != nil:
			t := start.Add(delta)
			end = &t
		default:
			if end == nil {
				end = &now
			}
			t := end.Add(-delta)
			start = &t
		}
	}
	if start != nil && end != nil && !start.Before(*end) {
		return badParameter("end", fmt.Sprintf("%s must be later than start, %s", end.Format(time.RFC3339), start.Format(time.RFC3339)))
	}
	if start != nil {
		a.filter.From = start.UnixMicro()
	}
	if end != nil {
		a.filter.To = end.UnixMicro()
	}
	a.window = eventWindow{start, end}
	return nil
}

// cursorText writes a cursor, opaque for clients.
func cursorText(c *store.EventCursor, back bool) *string {
	if c == nil {
		return nil
	}
	way := "a"
	if back {
		way = "b"
	}
	text := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%s%d:%s", way, c.Time, c.ID))
	return &text
}

func parseCursor(text string) (*eventPlace, error) {
	bad := fmt.Errorf("is no cursor that an answer gave as next or previous")
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(raw) < 3 || raw[0] != 'a' && raw[0] != 'b' {
		return nil, bad
	}
	at, id, ok := strings.Cut(string(raw[1:]), ":")
	t, err := strconv.ParseInt(at, 10, 64)
	if err != nil || !ok {
		return nil, bad
	}
	return &eventPlace{store.EventCursor{Time: t, ID: id}, raw[0] == 'b'}, nil
}

// onlyFormat reads the one parameter of a route that has no other.
func (s *Server) onlyFormat(r *http.Request) (format, error) {
	pairs, err := parsePairs(r.URL.RawQuery)
	if err != nil {
		return 0, err
	}
	check := asking{given: map[string]bool{}}
	if err := check.checkNames(pairs, map[string]bool{"format": false}); err != nil {
		return 0, err
	}
	named := check.text(pairs, "format")
	if check.given["format"] && named == "" {
		named = "nothing"
	}
	return dataFormat(acceptHeader(r), named)
}
