package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// The API's answers, as far as pages need them.

type metric struct {
	ID, Plugin, Name, Summary, Description, Kind, Unit, View string
	Dimensions                                               []struct {
		Name        string
		MultiValued bool `json:"multi_valued"`
	}
	Intervals, Idents []string
	First, Last       *time.Time
}

// Title is the metric's name, its id where it has none.
func (m metric) Title() string {
	if m.Name != "" {
		return m.Name
	}
	return m.ID
}

// Latest says that the metric keeps the latest value of each key.
func (m metric) Latest() bool { return m.Kind == "latest" }

// Multi says whether counts by dimension may add up to more than the events.
func (m metric) Multi() bool {
	for _, d := range m.Dimensions {
		if d.MultiValued {
			return true
		}
	}
	return false
}

type head struct {
	Metric     string
	From, To   time.Time
	Step, TZ   string
	AsOf       time.Time `json:"as_of"`
	Incomplete []struct {
		From, To time.Time
		Reason   string
	}
}

type line struct {
	Key    map[string]string
	Other  bool
	Counts []*int64
	Total  int64
}

// Name is what tells the line from others.
func (l line) Name() string {
	if l.Other {
		return "others"
	}
	return keyText(l.Key)
}

type columns struct {
	head
	Times  []int64
	Series []line
}

type ranked struct {
	Key   map[string]string
	Count int64
}

type topRows struct {
	head
	Total int64
	Rows  []ranked
}

type counted struct {
	head
	Count    int64
	Previous *struct{ Count int64 }
}

type days struct {
	head
	Total, Max int64
	Days       []struct {
		Date         string
		Count, Level int64
	}
}

type latestRows struct {
	head
	Rows []struct {
		Key   map[string]string
		Time  time.Time
		Value json.RawMessage
	}
}

type plugin struct {
	ID, Version, State, Error  string
	Builtin                    bool
	Metrics                    []string
	Lag, Restarts, DeadLetters uint64
	Building                   *building
}

// building is a new generation of a plugin's numbers.
type building struct {
	Generation  uint32
	Done, Total uint64
}

// Percent says how far it has come.
func (b building) Percent() uint64 {
	if b.Total == 0 {
		return 0
	}
	return uint64(100 * float64(min(b.Done, b.Total)) / float64(b.Total))
}

func (p *plugin) UnmarshalJSON(b []byte) error {
	type plain plugin
	more := struct {
		*plain
		Dead uint64 `json:"dead_letters"`
	}{plain: (*plain)(p)}
	if err := json.Unmarshal(b, &more); err != nil {
		return fmt.Errorf("read a plugin: %w", err)
	}
	p.DeadLetters = more.Dead
	return nil
}

type status struct {
	Version         string
	Started         time.Time
	Roles           []string
	EventsPerSecond float64 `json:"events_per_second"`
	Owned           uint64
	Endpoints       []struct {
		Name, Address, State           string
		LastEvent                      *time.Time `json:"last_event"`
		Received, Rejected, Reconnects uint64
	}
	Journal struct{ Bytes, Limit int64 }
	Store   struct {
		Kind string
		Up   bool
	}
	Plugins []plugin
}

// Building lists the plugins with a new generation of numbers in the making.
func (s status) Building() (out []plugin) {
	for _, p := range s.Plugins {
		if p.Building != nil {
			out = append(out, p)
		}
	}
	return out
}

// keyText writes the values of a key, in the order of their dimensions' names.
func keyText(key map[string]string) string {
	names := make([]string, 0, len(key))
	for n := range key {
		names = append(names, n)
	}
	slices.Sort(names)
	for i, n := range names {
		if names[i] = key[n]; names[i] == "" {
			names[i] = "(none)"
		}
	}
	return strings.Join(names, " · ")
}

func (w *Web) metrics(ctx context.Context) ([]metric, error) {
	var list struct{ Metrics []metric }
	err := w.fetch(ctx, &list, "/api/v1/metrics", nil)
	return list.Metrics, err
}

// find gives the metric of an id or of an ident, which has an interval behind the id.
func (w *Web) find(ctx context.Context, name string) (m metric, interval string, err error) {
	list, err := w.metrics(ctx)
	if err != nil {
		return m, "", err
	}
	for _, m := range list {
		if m.ID == name {
			return m, "", nil
		}
	}
	for _, m := range list {
		if slices.Contains(m.Idents, name) {
			return m, strings.TrimPrefix(name, m.ID+"-"), nil
		}
	}
	return m, "", refuse(http.StatusNotFound, "There is no metric %q. The dashboard lists all there are.", cut(name, 200))
}

// attributes are the names that widgets, pictures and pages share, with the parameters of the API that they become.
var attributes = []struct{ name, parameter string }{ // immutable
	{"metric", ""}, {"filter", "filter"}, {"from", "from"}, {"to", "to"}, {"step", "step"}, {"group-by", "group_by"}, {"top", "top"},
	{"tz", "tz"}, {"theme", ""}, {"lang", ""}, {"title", ""},
}

// queryOf turns attributes into parameters of a route that has some of them.
func queryOf(from url.Values, parameters ...string) url.Values {
	q := url.Values{}
	for _, a := range attributes {
		v := from.Get(a.name)
		if a.name == "group-by" && v == "" {
			v = from.Get("group_by")
		}
		name := a.parameter
		if a.name == "group-by" && slices.Contains(parameters, "by") {
			name = "by"
		}
		if a.name == "top" && slices.Contains(parameters, "limit") {
			name = "limit"
		}
		if v == "" || !slices.Contains(parameters, name) {
			continue
		}
		if a.name != "filter" {
			q.Set(name, v)
			continue
		}
		for _, all := range from["filter"] {
			for one := range strings.SplitSeq(all, ",") {
				if one = strings.TrimSpace(one); one != "" {
					q.Add("filter", one)
				}
			}
		}
	}
	return q
}

// about is the path of a metric's numbers.
func about(id, route string) string { return "/api/v1/metrics/" + url.PathEscape(id) + "/" + route }
