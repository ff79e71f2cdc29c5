package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/statscache/statscache/store"
)

// ExplainQuery asks for the events behind one number.
type ExplainQuery struct {
	Metric string
	Time   time.Time           // for counts: anywhere in the bucket; its start belongs to it, its end to the next one
	End    bool                // Time is the bucket's end, as the rows of /api/{ident} have it
	Step   time.Duration       // 0: the finest interval that still keeps that time
	To     time.Time           // not zero: everything from Time to here is meant, which may be several buckets; Step and End say nothing
	Filter map[string][]string // dimension to values: any of one dimension, all dimensions; none for the whole bucket
	Events int                 // how many to list at most, 0 for MaxExplained
}

// MaxExplained is how many events an explanation lists at most.
const MaxExplained = 1000

// Explanation is one number and the events behind it.
type Explanation struct {
	Metric    string              `json:"metric"`
	Plugin    string              `json:"plugin"`
	From      time.Time           `json:"from"`
	To        time.Time           `json:"to"`
	Step      string              `json:"step"` // as in idents: 1m, 1d
	Filter    map[string][]string `json:"filter"`
	Count     int64               `json:"count"`     // what the archived events add up to, those not listed too
	Stored    int64               `json:"stored"`    // what is stored and served
	Differs   bool                `json:"differs"`   // the two are not the same, and nothing in Notes excuses it
	Pending   int64               `json:"pending"`   // events of that time that are archived but not counted yet
	Truncated bool                `json:"truncated"` // more events count than are listed
	Notes     []string            `json:"notes"`     // what to know about the number, one sentence each
	Events    []ExplainedEvent    `json:"events"`    // by time and id; of latest values by key
	Values    []ExplainedValue    `json:"values,omitempty"`
}

// ExplainedValue is the current value of a key of a metric that keeps latest values. In its explanation Stored is how
// many keys match, Count how many of those listed have their event in the archive; From, To and Step say nothing.
type ExplainedValue struct {
	Key   map[string]string `json:"key"` // by dimension
	Time  time.Time         `json:"time"`
	ID    string            `json:"msg_id"`
	Value json.RawMessage   `json:"value"`
}

// ExplainedEvent is an event that counts, and how much.
type ExplainedEvent struct {
	ID       string          `json:"msg_id"`
	Topic    string          `json:"topic"`
	Category string          `json:"category"`
	Time     time.Time       `json:"timestamp"`
	Received time.Time       `json:"received"`
	Source   string          `json:"source"`
	Users    []string        `json:"users"`
	Packages []string        `json:"packages"`
	Agent    string          `json:"agent"`
	Signed   string          `json:"signed"` // verified, unsigned or unchecked
	Count    int64           `json:"count"`  // what it adds to the number
	Bytes    int             `json:"bytes"`  // of the envelope as received
	Msg      json.RawMessage `json:"msg"`    // of the envelope; null where it is too large to be listed
}

// ParameterError is a part of a query that can't be meant.
type ParameterError struct{ Name, Detail string }

func (e *ParameterError) Error() string { return e.Name + ": " + e.Detail }

// The bounds of explanations: each of them starts a process.
const (
	explainsAtOnce  = 2
	maxFilterValues = 100
)

// explainQuestion is GET /api/v1/metrics/{id}/explain.
func (s *Server) explainQuestion(c echo.Context) (question, error) {
	now := s.now().Truncate(time.Second) // who asks the same in one second shares an answer
	values := c.Request().URL.Query()
	named := values["format"]
	delete(values, "format")
	q, err := parseExplain(c.Param("id"), values, now)
	if err != nil {
		return question{}, err
	}
	if len(named) == 0 {
		named = []string{""}
	} else if len(named) > 1 || named[0] == "" {
		return question{}, badParameter("format", "must be json, csv or ndjson, once")
	}
	f, err := dataFormat(acceptHeader(c.Request()), named[0])
	if err != nil {
		return question{}, err
	}
	d, err := s.directoryWith(c.Request().Context(), func(d *directory) bool { return d.byID[q.Metric] != nil })
	if err != nil {
		return question{}, err
	}
	if d.byID[q.Metric] == nil {
		return question{}, notFound("no such metric: " + cut(q.Metric, maxValue))
	}
	if m := d.byID[q.Metric]; q.Time.IsZero() && m.Kind == store.Counter {
		return question{}, badParameter("time", "must be given: a time in the bucket to explain")
	}
	name, err := json.Marshal(q)
	if err != nil {
		return question{}, fmt.Errorf("explain %s: %w", q.Metric, err)
	}
	key := fmt.Sprintf("explain %d %s", f, name)
	return question{key: key, scope: q.Metric, dir: d, until: now.Add(time.Second), build: func(ctx context.Context) (*answer, error) {
		select {
		case s.explains <- struct{}{}:
			defer func() { <-s.explains }()
		default:
			return nil, unavailable("Other numbers are being explained just now.", 2)
		}
		x, err := s.explain(ctx, q)
		var bad *ParameterError
		if errors.As(err, &bad) {
			return nil, badParameter(bad.Name, bad.Detail)
		}
		if err != nil {
			return nil, fmt.Errorf("explain %s: %w", q.Metric, err)
		}
		return dataAnswer(f, x, x.sheet)
	}}, nil
}

// sheet is the events as rows.
func (x *Explanation) sheet() *sheet {
	texts := func(name string, of func(*ExplainedEvent) string) sheetColumn {
		c := sheetColumn{name: name, texts: make([]string, len(x.Events))}
		for i := range x.Events {
			c.texts[i] = of(&x.Events[i])
		}
		return c
	}
	count, msg := sheetColumn{name: "count", numbers: make([]int64, len(x.Events))}, sheetColumn{name: "msg", values: make([]json.RawMessage, len(x.Events))}
	for i, e := range x.Events {
		count.numbers[i], msg.values[i] = e.Count, e.Msg
	}
	return &sheet{rows: len(x.Events), columns: []sheetColumn{
		texts("timestamp", func(e *ExplainedEvent) string { return e.Time.UTC().Format(time.RFC3339Nano) }),
		texts("msg_id", func(e *ExplainedEvent) string { return e.ID }),
		texts("topic", func(e *ExplainedEvent) string { return e.Topic }),
		texts("category", func(e *ExplainedEvent) string { return e.Category }),
		texts("users", func(e *ExplainedEvent) string { return strings.Join(e.Users, " ") }),
		texts("packages", func(e *ExplainedEvent) string { return strings.Join(e.Packages, " ") }),
		texts("agent", func(e *ExplainedEvent) string { return e.Agent }),
		texts("signed", func(e *ExplainedEvent) string { return e.Signed }), count, msg,
	}}
}

// parseExplain reads the parameters of an explanation. Unknown ones are refused: a misspelt filter would explain
// another number.
func parseExplain(metric string, values url.Values, now time.Time) (q ExplainQuery, err error) {
	q = ExplainQuery{Metric: metric, Filter: map[string][]string{}}
	for name, list := range values {
		if name != "filter" && len(list) > 1 {
			return q, badParameter(name, "is given more than once")
		}
		switch name {
		case "time":
			q.Time, err = parseMoment(list[0], now, time.UTC)
		case "to":
			q.To, err = parseMoment(list[0], now, time.UTC)
		case "step":
			q.Step, err = parseStep(list[0])
		case "end":
			q.End, err = strconv.ParseBool(list[0])
		case "limit":
			if q.Events, err = strconv.Atoi(list[0]); err == nil && (q.Events < 1 || q.Events > MaxExplained) {
				err = fmt.Errorf("must be 1 to %d", MaxExplained)
			}
		case "filter":
			if len(list) > maxFilterValues {
				return q, badParameter(name, fmt.Sprintf("at most %d values", maxFilterValues))
			}
			for _, f := range list {
				dim, value, ok := strings.Cut(f, ":")
				if !ok || dim == "" {
					return q, badParameter(name, "must be dimension:value")
				}
				q.Filter[dim] = append(q.Filter[dim], value)
			}
		default:
			return q, badParameter(cut(name, maxValue), "is no parameter here; there are time, to, step, end, filter, limit and format")
		}
		if err != nil {
			return q, badParameter(name, err.Error())
		}
	}
	return q, nil
}
