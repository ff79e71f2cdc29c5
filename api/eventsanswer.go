package api

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/statscache/statscache/store"
)

// rawJSON is JSON as it was received; null where it is none.
type rawJSON []byte

// MarshalJSON gives it as it is.
func (r rawJSON) MarshalJSON() ([]byte, error) {
	if len(r) == 0 {
		return []byte("null"), nil
	}
	return r, nil
}

func documentOf(e *store.Event) eventDocument {
	d := eventDocument{ID: e.ID, Topic: e.Topic, Category: e.Category, Time: time.UnixMicro(e.Time).UTC(), Received: time.UnixMicro(e.Received).UTC(),
		Source: e.Source, Users: e.Users, Packages: e.Packages, Signed: e.Signed.String(), Bytes: len(e.Body), Msg: rawJSON(envelopeOf(e.Body).get("msg"))}
	if e.Agent != "" {
		d.Agent = &e.Agent
	}
	if d.Users == nil {
		d.Users = []string{}
	}
	if d.Packages == nil {
		d.Packages = []string{}
	}
	return d
}

// eventSheet lists events as rows. Lists of names are JSON in a field.
func eventSheet(events []eventDocument) *sheet {
	columns := []sheetColumn{{name: "timestamp"}, {name: "msg_id"}, {name: "topic"}, {name: "category"}, {name: "agent"}, {name: "received"}, {name: "source"}, {name: "signed"}, {name: "users"}, {name: "packages"}, {name: "msg"}}
	for i := range columns[:8] {
		columns[i].texts = []string{}
	}
	for i := range columns[8:] {
		columns[8+i].values = []json.RawMessage{}
	}
	for _, e := range events {
		agent := ""
		if e.Agent != nil {
			agent = *e.Agent
		}
		for i, text := range [...]string{e.Time.Format(time.RFC3339Nano), e.ID, e.Topic, e.Category, agent, e.Received.Format(time.RFC3339Nano), e.Source, e.Signed} {
			columns[i].texts = append(columns[i].texts, text)
		}
		users, _ := json.Marshal(e.Users) // lists of text can't fail
		packages, _ := json.Marshal(e.Packages)
		msg, _ := e.Msg.MarshalJSON()
		for i, v := range [...][]byte{users, packages, msg} {
			columns[8+i].values = append(columns[8+i].values, v)
		}
	}
	return &sheet{columns: columns, rows: len(events)}
}

// countersOf gives the bundled counter that holds the answer to a count: of all events, or of those with one of some
// topics or categories, or with one user or package (an event may have several: numbers of two would not add up).
func countersOf(d *directory, f store.EventFilter) (m *store.ServedMetric, where []store.Match) {
	kinds := []struct {
		names store.Names
		id    string
		multi bool
	}{{f.Categories, "volume-by-category", false}, {f.Topics, "volume-by-topic", false}, {f.Users, "volume-by-user", true}, {f.Packages, "volume-by-package", true}}
	if len(f.Contains)+len(f.NotContains)+len(f.TopicPrefixes)+len(f.Agents.In)+len(f.Agents.NotIn) > 0 {
		return nil, nil
	}
	id := "volume"
	for _, k := range kinds {
		switch {
		case len(k.names.NotIn) > 0, len(k.names.In) > 0 && id != "volume", k.multi && len(k.names.In) > 1:
			return nil, nil
		case len(k.names.In) > 0:
			id, where = k.id, []store.Match{{In: k.names.In}}
		}
	}
	m = d.byID[id]
	if m == nil || m.Plugin != "volume" || m.Kind != store.Counter || len(m.Dimensions) != len(where) {
		return nil, nil
	}
	return m, where
}

// countedEvents counts by counters; ok is false where they can't give the exact number: the archive is asked then.
func (s *Server) countedEvents(ctx context.Context, a *eventsAsking) (n int64, ok bool, err error) {
	d, err := s.directory(ctx, directoryLife)
	if err != nil {
		return 0, false, err
	}
	m, where := countersOf(d, a.filter)
	const second = int64(1e6)
	if m == nil || a.filter.From != math.MinInt64 && a.filter.From%second != 0 || a.filter.To != math.MaxInt64 && a.filter.To%second != 0 {
		return 0, false, nil
	}
	now := s.now().Unix()
	q := &asking{metric: m, given: map[string]bool{"to": true}, now: now, loc: time.UTC, where: where, from: floorDiv(a.filter.From, second), to: floorDiv(a.filter.To, second)}
	if a.filter.To == math.MaxInt64 {
		q.to = (now/daySeconds + 3) * daySeconds // nothing is accepted from farther ahead than a day
	}
	if q.given["from"] = a.filter.From != math.MinInt64; !q.given["from"] {
		q.from = q.to - 1
	}
	if s.lags(q) || q.from < minTime+daySeconds {
		return 0, false, nil
	}
	p, h, err := s.whole(ctx, q)
	if err != nil || len(h.Coarse) > 0 || isExpired(h) {
		return 0, false, err
	}
	if n, err = s.totalOf(ctx, q, p); err != nil || len(where) == 0 {
		return n, err == nil, err
	}
	// Beyond a metric's series limit names are counted together: then nothing is known of a single one.
	q.where = []store.Match{{In: []string{store.OtherKey}}}
	other, err := s.totalOf(ctx, q, p)
	return n, other == 0 && err == nil, err
}

func isExpired(h head) bool {
	for _, i := range h.Incomplete {
		if i.Reason == "expired" {
			return true
		}
	}
	return false
}

// topicRow is a topic and its count.
type topicRow struct {
	Topic    string `json:"topic"`
	Category string `json:"category"`
	Count    int64  `json:"count"`
}

// topicsDocument is the answer of /topics.
type topicsDocument struct {
	head
	Topics []topicRow `json:"topics"`
}

// topicsQuestion is GET /api/v1/topics: the topics that count most.
func (s *Server) topicsQuestion(c echo.Context) (question, error) {
	has := func(d *directory) bool { return d.counting(topicDimension) != nil }
	d, err := s.directoryWith(c.Request().Context(), has)
	if err != nil {
		return question{}, err
	}
	m := d.counting(topicDimension)
	if m == nil {
		return question{}, notFound("no metric counts by topic")
	}
	a, err := s.parseAsking("topics", m, c.Request(), topicsParameters)
	if err != nil {
		return question{}, err
	}
	return s.dataQuestion(a, d, m.ID, func(ctx context.Context) (*answer, error) {
		h, values, err := s.valuesOf(ctx, a, a.dimensionNamed(topicDimension))
		if err != nil {
			return nil, err
		}
		doc := topicsDocument{h, []topicRow{}}
		texts, categories, numbers := []string{}, []string{}, []int64{}
		for _, v := range values {
			doc.Topics = append(doc.Topics, topicRow{v.Value, categoryOf(v.Value), v.Count})
			texts, categories, numbers = append(texts, v.Value), append(categories, categoryOf(v.Value)), append(numbers, v.Count)
		}
		return dataAnswer(a.format, doc, func() *sheet {
			return &sheet{[]sheetColumn{{name: "topic", texts: texts}, {name: "category", texts: categories}, {name: "count", numbers: numbers}}, len(texts)}
		})
	}), nil
}

var topicsParameters = map[string]bool{"prefix": false, "limit": false, "from": false, "to": false, "tz": false, "format": false} // immutable

// categoryOf is the part of a topic that names the service, as datanommer has it.
func categoryOf(topic string) string {
	at, parts := 3, strings.Split(topic, ".")
	if strings.Contains(topic, "VirtualTopic") {
		at = 2
	}
	if at >= len(parts) {
		return "Unclassified"
	}
	return parts[at]
}

func (a *asking) dimensionNamed(name string) int {
	for i, d := range a.metric.Dimensions {
		if d.Name == name {
			return i
		}
	}
	panic(fmt.Sprintf("metric %s has no dimension %s", a.metric.ID, name)) // it was chosen for having it
}
