package api

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/statscache/statscache/store"
)

// The bounds of datagrepper's pages.
const (
	grepRows    = 25
	maxGrepRows = 100
)

// pyFloat is a float as Python writes it: a whole one with .0.
type pyFloat float64

// MarshalJSON writes it.
func (f pyFloat) MarshalJSON() ([]byte, error) {
	out := strconv.AppendFloat(nil, float64(f), 'f', -1, 64)
	if math.Trunc(float64(f)) == float64(f) {
		out = append(out, ".0"...)
	}
	return out, nil
}

// grepArguments are the arguments as an answer repeats them.
type grepArguments struct {
	Start         *pyFloat `json:"start"`
	Delta         *pyFloat `json:"delta"`
	End           *pyFloat `json:"end"`
	Users         []string `json:"users"`
	Packages      []string `json:"packages"`
	Categories    []string `json:"categories"`
	Topics        []string `json:"topics"`
	Agents        []string `json:"agents"`
	Contains      []string `json:"contains"`
	NotUsers      []string `json:"not_users"`
	NotPackages   []string `json:"not_packages"`
	NotCategories []string `json:"not_categories"`
	NotTopics     []string `json:"not_topics"`
	NotAgents     []string `json:"not_agents"`
	Page          int      `json:"page"`
	Rows          int      `json:"rows_per_page"`
	Order         string   `json:"order"`
	Meta          []string `json:"meta"`
}

// grepQuery is a question in datagrepper's words.
type grepQuery struct {
	args     grepArguments
	filter   store.EventFilter
	size     string
	chrome   bool
	callback string
	id       *string
	chart    []pair // parameters of charts
	key      string // all of it that an answer depends on
	same     string // what all pages of it share
}

// metaNames are what may be asked for beside a message, today's names and those that older clients use.
var metaNames = []string{"agent_avatar", "app_icon", "containers", "date", "flatpaks", "icon", "link", "modules", "objects", "packages", "secondary_icon",
	"subtitle", "summary", "text", "title", "url", "usernames"} // immutable

// parseGrep reads datagrepper's parameters. Like datagrepper it passes over those that it doesn't know and takes the
// first of those that count once; what makes no sense is refused with 400, where datagrepper often fails with 500.
func parseGrep(raw string, now time.Time) (*grepQuery, error) {
	pairs, err := parsePairs(raw)
	if err != nil {
		var p *problem
		if errors.As(err, &p) {
			return nil, &grepError{status: p.Status, detail: p.Detail}
		}
		return nil, err
	}
	none := []string{}
	q := &grepQuery{size: "large", chrome: true, args: grepArguments{Users: none, Packages: none, Categories: none, Topics: none, Agents: none, Contains: none,
		NotUsers: none, NotPackages: none, NotCategories: none, NotTopics: none, NotAgents: none, Page: 1, Rows: grepRows, Order: "desc", Meta: none}}
	seen := map[string]bool{}
	for _, kv := range pairs {
		if list := q.list(kv.name); list != nil {
			*list = append(*list, kv.value)
			continue
		}
		if seen[kv.name] {
			continue
		}
		seen[kv.name] = true
		if err := q.set(kv); err != nil {
			return nil, err
		}
	}
	for _, m := range q.args.Meta {
		if !slices.Contains(metaNames, m) {
			return nil, badGrep("meta must be in %s. Got %q", strings.Join(metaNames, ","), cut(m, 64))
		}
	}
	q.timeRange(now)
	q.setFilter()
	// Where pages begin does not depend on the far end of the window, which moves on where it is now.
	begin, a := q.filter.From, &q.args
	if a.Order == "desc" {
		begin = q.filter.To
	}
	q.same = fmt.Sprintf("%d %q %d %s", begin, [][]string{a.Users, a.Packages, a.Categories, a.Topics, a.Agents, a.Contains, a.NotUsers, a.NotPackages,
		a.NotCategories, a.NotTopics, a.NotAgents}, a.Rows, a.Order)
	q.key = fmt.Sprintf("%d %d %s %d %q %s %v %q", q.filter.From, q.filter.To, q.same, a.Page, a.Meta, q.size, q.chrome, q.callback)
	return q, nil
}

func (q *grepQuery) list(name string) *[]string {
	a := &q.args
	switch name {
	case "user":
		return &a.Users
	case "package":
		return &a.Packages
	case "category":
		return &a.Categories
	case "topic":
		return &a.Topics
	case "agent":
		return &a.Agents
	case "contains":
		return &a.Contains
	case "not_user":
		return &a.NotUsers
	case "not_package":
		return &a.NotPackages
	case "not_category":
		return &a.NotCategories
	case "not_topic":
		return &a.NotTopics
	case "not_agent":
		return &a.NotAgents
	case "meta":
		return &a.Meta
	}
	return nil
}

func (q *grepQuery) set(kv pair) (err error) {
	a := &q.args
	switch kv.name {
	case "start":
		a.Start, err = grepTime(kv)
	case "end":
		a.End, err = grepTime(kv)
	case "delta":
		var f float64
		if f, err = strconv.ParseFloat(kv.value, 64); err != nil || !(f >= 0 && f <= maxTime) {
			return badGrep("delta must be a number of seconds")
		}
		a.Delta = (*pyFloat)(&f)
	case "page":
		if a.Page, err = strconv.Atoi(kv.value); err != nil || a.Page < 1 || a.Page > math.MaxInt32 {
			return badGrep("page must be > 0")
		}
	case "rows_per_page":
		a.Rows, err = strconv.Atoi(kv.value)
		switch {
		case err != nil || a.Rows < 1:
			return badGrep("rows_per_page must be > 0")
		case a.Rows > maxGrepRows:
			return badGrep("rows_per_page must be <= %d", maxGrepRows)
		}
	case "order":
		if a.Order = kv.value; a.Order != "asc" && a.Order != "desc" {
			return badGrep("order must be either 'desc' or 'asc'")
		}
	case "size":
		if q.size = kv.value; !slices.Contains([]string{"small", "medium", "large", "extra-large"}, q.size) {
			return badGrep("size must be in one of these: ['small', 'medium', 'large', 'extra-large']")
		}
	case "chrome":
		if q.chrome, err = pyBool(kv.value); err != nil {
			return badGrep("chrome should be either 'true' or 'false'")
		}
	case "callback":
		if q.callback = kv.value; !isCallback(q.callback) {
			return badGrep("callback must be the name of a function")
		}
	case "id":
		id := kv.value
		q.id = &id
	default:
		q.chart = append(q.chart, kv)
	}
	return err
}

// pyBool reads a truth value as datagrepper does.
func pyBool(text string) (bool, error) {
	switch strings.ToLower(strings.TrimSpace(text)) {
	case "true", "yes", "on", "y", "t", "1":
		return true, nil
	case "false", "no", "off", "n", "f", "0":
		return false, nil
	}
	return false, fmt.Errorf("value is not true or false: %s", cut(text, 64))
}

// grepTime reads POSIX seconds or a date, of UTC where it names no zone. An unescaped + of a zone came as a blank.
func grepTime(kv pair) (*pyFloat, error) {
	if f, err := strconv.ParseFloat(kv.value, 64); err == nil {
		if !(f >= minTime && f <= maxTime) {
			return nil, badGrep("%s must lie in the years 1 to 9999", kv.name)
		}
		return (*pyFloat)(&f), nil
	}
	text := kv.value
	if i := len(text) - 6; i > 0 && text[i] == ' ' && text[i+3] == ':' && strings.Count(text, ":") > 1 {
		text = text[:i] + "+" + text[i+1:]
	}
	for _, layout := range [...]string{time.RFC3339Nano, "2006-01-02 15:04:05Z07:00", "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", time.DateOnly, time.RFC1123, time.RFC1123Z} {
		if t, err := time.Parse(layout, text); err == nil {
			f := pyFloat(t.UnixMicro()) / 1e6
			return &f, nil
		}
	}
	return nil, badGrep("%s must be a POSIX timestamp or a date such as 2021-06-25T06:11:40+00:00", kv.name)
}

// timeRange gives the ends of the window that follow from the others. end alone reaches back to the beginning:
// datagrepper forgets it.
func (q *grepQuery) timeRange(now time.Time) {
	a := &q.args
	float := func(f pyFloat) *pyFloat { return &f }
	present := float(pyFloat(now.UnixMicro()) / 1e6)
	switch {
	case a.Start == nil && a.End == nil && a.Delta == nil:
	case a.Start == nil && a.End == nil:
		a.End, a.Start = present, float(*present-*a.Delta)
	case a.Start == nil && a.Delta == nil:
		a.Start = float(0)
	case a.Start == nil:
		a.Start = float(*a.End - *a.Delta)
	case a.End == nil && a.Delta == nil:
		a.End, a.Delta = present, float(*present-*a.Start)
	case a.End == nil:
		a.End = float(*a.Start + *a.Delta)
	default:
		a.Delta = float(*a.End - *a.Start)
	}
}

// setFilter makes the archive's filter of the arguments. Both ends of the window belong to it.
func (q *grepQuery) setFilter() {
	a := &q.args
	q.filter = store.EventFilter{From: math.MinInt64, To: math.MaxInt64,
		Users: store.Names{In: a.Users, NotIn: a.NotUsers}, Packages: store.Names{In: a.Packages, NotIn: a.NotPackages},
		Categories: store.Names{In: a.Categories, NotIn: a.NotCategories}, Topics: store.Names{In: a.Topics, NotIn: a.NotTopics},
		Agents: store.Names{In: a.Agents, NotIn: a.NotAgents}, Contains: a.Contains}
	if a.Start != nil && *a.Start != 0 {
		q.filter.From = int64(math.Round(float64(*a.Start) * 1e6))
	}
	if a.End != nil {
		q.filter.To = int64(math.Round(float64(*a.End)*1e6)) + 1
	}
}
