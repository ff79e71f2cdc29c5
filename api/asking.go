package api

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/statscache/statscache/store"
)

// The bounds of what may be asked for in one question about counts.
const (
	defaultPoints = 1000
	maxPoints     = 20_000
	maxListed     = 1000 // limit and top
	maxTimeFilter = 64   // bytes of a time or step
)

// asking is a question about the numbers of a metric as its URL puts it.
type asking struct {
	metric *store.ServedMetric
	given  map[string]bool
	now    int64 // seconds since 1970

	from, to  int64
	step      pointStep
	maxPoints int
	loc       *time.Location
	where     []store.Match
	by        []int // indexes of dimensions
	top       int   // also limit
	other     bool
	previous  bool // what was counted in as long a time before is wanted, too
	fillNull  bool
	prefix    string
	rows      bool // shape=rows
	format    format

	moving bool // the answer depends on the moment it is asked at
	key    string
}

// parameters of the routes; the true ones may be repeated.
var (
	seriesParameters = map[string]bool{"from": false, "to": false, "step": false, "max_points": false, "group_by": true, "filter": true, "not": true, // immutable
		"top": false, "other": false, "tz": false, "fill": false, "shape": false, "format": false}
	topParameters      = map[string]bool{"by": true, "limit": false, "from": false, "to": false, "filter": true, "not": true, "tz": false, "format": false} // immutable
	countParameters    = map[string]bool{"from": false, "to": false, "filter": true, "not": true, "tz": false, "previous": false, "format": false}          // immutable
	latestParameters   = map[string]bool{"filter": true, "not": true, "format": false}                                                                      // immutable
	valuesParameters   = map[string]bool{"prefix": false, "limit": false, "from": false, "to": false, "filter": true, "not": true, "tz": false, "format": false}
	personalParameters = map[string]bool{"from": false, "to": false, "tz": false, "limit": false} // immutable
)

// parseAsking reads the parameters of a question. Unknown ones are refused: a misspelt filter would give another
// number.
func (s *Server) parseAsking(route string, m *store.ServedMetric, r *http.Request, allowed map[string]bool) (*asking, error) {
	pairs, err := parsePairs(r.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	a := &asking{metric: m, given: map[string]bool{}, now: s.now().Unix(), maxPoints: defaultPoints, loc: time.UTC}
	if err := a.checkNames(pairs, allowed); err != nil {
		return nil, err
	}
	named := a.text(pairs, "format")
	if a.given["format"] && named == "" {
		named = "nothing"
	}
	if a.format, err = dataFormat(acceptHeader(r), named); err != nil {
		return nil, err
	}
	a.rows = a.format == formatCSV || a.format == formatAppCSV || a.format == formatNDJSON
	for _, kv := range pairs { // times depend on the zone
		if kv.name == "tz" {
			if err := a.set(kv); err != nil {
				return nil, err
			}
		}
	}
	for _, kv := range pairs {
		if err := a.set(kv); err != nil {
			return nil, err
		}
	}
	if a.given["from"] && a.given["to"] && a.from >= a.to {
		return nil, badParameter("to", fmt.Sprintf("%s must be later than from, %s", clock(a.to), clock(a.from)))
	}
	a.moving = a.moving || !a.given["from"] || !a.given["to"] || a.to > a.now-daySeconds
	slices.SortFunc(pairs, func(x, y pair) int {
		return strings.Compare(x.name+"\x00"+x.value, y.name+"\x00"+y.value)
	})
	var key strings.Builder
	fmt.Fprintf(&key, "%s %d", route, a.format)
	for _, kv := range pairs {
		fmt.Fprintf(&key, " %s=%q", kv.name, kv.value)
	}
	a.key = key.String()
	return a, nil
}

// checkNames refuses parameters that the route doesn't have, or has once.
func (a *asking) checkNames(pairs []pair, allowed map[string]bool) error {
	known := make([]string, 0, len(allowed))
	for name := range allowed {
		known = append(known, name)
	}
	slices.Sort(known)
	for _, kv := range pairs {
		repeatable, ok := allowed[kv.name]
		switch name := cut(kv.name, maxTimeFilter); {
		case !ok:
			return badParameter(name, "is no parameter here; "+nearest(kv.name, known))
		case a.given[kv.name] && !repeatable:
			return badParameter(name, "is given more than once")
		case len(kv.value) > store.MaxKeyBytes:
			return badParameter(name, "is longer than "+strconv.Itoa(store.MaxKeyBytes)+" bytes")
		}
		a.given[kv.name] = true
	}
	return nil
}

func (a *asking) text(pairs []pair, name string) string {
	for _, kv := range pairs {
		if kv.name == name {
			return kv.value
		}
	}
	return ""
}

func (a *asking) set(kv pair) (err error) {
	switch kv.name {
	case "from":
		a.from, err = a.moment(kv.value)
	case "to":
		a.to, err = a.moment(kv.value)
	case "step":
		a.step, err = parsePointStep(kv.value)
	case "tz":
		a.loc, err = zone(kv.value)
	case "max_points":
		a.maxPoints, err = wholeBetween(kv.value, 1, maxPoints)
	case "top", "limit":
		a.top, err = wholeBetween(kv.value, 1, maxListed)
	case "other":
		a.other, err = yesOrNo(kv.value)
	case "previous":
		a.previous, err = yesOrNo(kv.value)
	case "fill":
		a.fillNull, err = oneOf(kv.value, "zero", "null")
	case "shape":
		a.rows, err = oneOf(kv.value, "columns", "rows")
	case "prefix":
		a.prefix = kv.value
	case "group_by", "by":
		return a.addBy(kv)
	case "filter", "not":
		return a.addMatch(kv)
	}
	if err != nil {
		return badParameter(kv.name, err.Error())
	}
	return nil
}

// moment reads a time to the second.
func (a *asking) moment(text string) (int64, error) {
	if strings.HasPrefix(text, "now") || strings.HasPrefix(text, "-") {
		a.moving = true
	}
	t, err := parseMoment(text, time.Unix(a.now, 0), a.loc)
	if err != nil {
		return 0, err
	}
	if t.Unix() < minTime+daySeconds || t.Unix() > maxTime-daySeconds {
		return 0, fmt.Errorf("must lie in the years 1 to 9999")
	}
	return t.Unix(), nil
}

// zone finds a zone of the IANA database.
func zone(name string) (*time.Location, error) {
	loc, err := time.LoadLocation(name)
	if err != nil || name == "" || name == "Local" || len(name) > maxTimeFilter {
		return nil, fmt.Errorf("%q is not a zone of the IANA database, such as Europe/Berlin or UTC", cut(name, maxTimeFilter))
	}
	return loc, nil
}

func wholeBetween(text string, least, most int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("must be a whole number from %d to %d", least, most)
	}
	return n, nil
}

func yesOrNo(text string) (bool, error) {
	switch text {
	case "1", "true", "yes":
		return true, nil
	case "0", "false", "no":
		return false, nil
	}
	return false, fmt.Errorf("must be 1 or 0")
}

// oneOf says whether the second of two words is given.
func oneOf(text, first, second string) (bool, error) {
	if text != first && text != second {
		return false, fmt.Errorf("must be %s or %s", first, second)
	}
	return text == second, nil
}

// dimension finds a dimension of the metric by name.
func (a *asking) dimension(parameter, name string) (int, error) {
	names := make([]string, len(a.metric.Dimensions))
	for i, d := range a.metric.Dimensions {
		if d.Name == name {
			return i, nil
		}
		names[i] = d.Name
	}
	return 0, badParameter(parameter, fmt.Sprintf("%s has no dimension %q; %s", a.metric.ID, cut(name, maxTimeFilter), nearest(name, names)))
}

func (a *asking) addBy(kv pair) error {
	for name := range strings.SplitSeq(kv.value, ",") {
		i, err := a.dimension(kv.name, strings.TrimSpace(name))
		if err != nil {
			return err
		}
		if !slices.Contains(a.by, i) {
			a.by = append(a.by, i)
		}
	}
	return nil
}

// addMatch reads dimension:value. Several values of one dimension are alternatives; those of not are all refused.
func (a *asking) addMatch(kv pair) error {
	name, value, ok := strings.Cut(kv.value, ":")
	if !ok {
		return badParameter(kv.name, fmt.Sprintf("%q is not dimension:value", cut(kv.value, maxTimeFilter)))
	}
	dim, err := a.dimension(kv.name, name)
	if err != nil {
		return err
	}
	not := kv.name == "not"
	for i := range a.where {
		if w := &a.where[i]; w.Dim == dim && w.Not == not {
			w.In = append(w.In, value)
			return nil
		}
	}
	a.where = append(a.where, store.Match{Dim: dim, Not: not, In: []string{value}})
	return nil
}

// multiValued says whether the numbers can add up to more than there are events: over a dimension of which an event
// may have several values, unless one of them is asked for.
func (a *asking) multiValued() bool {
	for i, d := range a.metric.Dimensions {
		one := slices.ContainsFunc(a.where, func(w store.Match) bool { return w.Dim == i && !w.Not && len(w.In) == 1 })
		if d.MultiValued && !one {
			return true
		}
	}
	return false
}

// clock writes a time as answers do.
func clock(t int64) string { return time.Unix(t, 0).UTC().Format(time.RFC3339) }
