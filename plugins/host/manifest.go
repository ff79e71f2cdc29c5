package host

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/statscache/statscache/plugins"
	pb "github.com/statscache/statscache/plugins/proto"
	"github.com/statscache/statscache/store"
)

// The bounds of what a plugin may declare.
const (
	maxMetrics     = 64
	maxDimensions  = 8
	maxIntervals   = 16
	maxTopics      = 256
	maxIDBytes     = 128
	maxNameBytes   = 200
	maxTextBytes   = 16 << 10
	maxLayoutBytes = 1 << 20
	maxInterval    = 366 * 24 * time.Hour
	maxSpan        = 200 * 366 * 24 * time.Hour // of retention and backlog
)

// definition is a manifest that has been found good.
type definition struct {
	plugin   store.Plugin
	topics   []string // prefixes; none for all
	columns  columns
	deadline time.Duration // 0 for the host's
	backlog  time.Duration // 0 for everything
	metrics  []metric      // as in the manifest, which results point into
}

// metric is what the host needs to know of a metric when it takes an answer.
type metric struct {
	id    string
	kind  store.Kind
	dims  int
	step  int64   // greatest common divisor of the intervals, seconds
	steps []int64 // the intervals, ascending, seconds
}

// define checks a manifest strictly; what it refuses would break what is served or stored later.
func define(m *pb.Manifest) (*definition, error) {
	d := &definition{plugin: store.Plugin{ID: m.GetId(), Version: m.GetVersion(), DataVersion: max(1, m.GetDataVersion())}}
	if !regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`).MatchString(m.GetId()) {
		return nil, fmt.Errorf("plugin id %q: 1 to 64 lower case letters, digits, dots, dashes and underlines are allowed", cut(m.GetId()))
	}
	if err := within("version", m.GetVersion(), maxNameBytes); err != nil {
		return nil, err
	}
	switch m.GetNeed() {
	case pb.Need_HEADERS:
	case pb.Need_BODY:
		d.columns = columns{bodies: true, ids: true}
	default:
		return nil, fmt.Errorf("need %d is not known", m.GetNeed())
	}
	d.deadline = time.Duration(m.GetDeadlineMs()) * time.Millisecond
	if m.GetBacklogS() < 0 || m.GetBacklogS() > int64(maxSpan/time.Second) {
		return nil, fmt.Errorf("backlog of %d seconds is out of range", m.GetBacklogS())
	}
	d.backlog = time.Duration(m.GetBacklogS()) * time.Second
	var err error
	if d.topics, err = prefixes(m.GetTopics()); err != nil {
		return nil, err
	}
	if n := len(m.GetMetrics()); n == 0 || n > maxMetrics {
		return nil, fmt.Errorf("%d metrics: 1 to %d are allowed", n, maxMetrics)
	}
	idents := map[string]string{}
	for _, x := range m.GetMetrics() {
		if err := d.add(x, idents); err != nil {
			return nil, fmt.Errorf("metric %q: %w", cut(x.GetName()), err)
		}
	}
	d.plugin.Fingerprint = d.fingerprint()
	return d, nil
}

// add checks one metric. idents holds the names that the original API would serve so far.
func (d *definition) add(x *pb.Metric, idents map[string]string) error {
	if err := checkTexts(x); err != nil {
		return err
	}
	id := plugins.Ident(x.GetName())
	if x.GetId() != "" && x.GetId() != id {
		return fmt.Errorf("its id is %q, but the id of that name is %q", cut(x.GetId()), id)
	}
	out := store.Metric{
		ID: id, Name: x.GetName(), Summary: x.GetSummary(), Description: x.GetDescription(), Unit: x.GetUnit(), View: x.GetView(),
		SeriesLimit: int(x.GetMaxSeries()),
	}
	if out.SeriesLimit >= store.MaxSeries {
		return fmt.Errorf("max_series %d is above %d", x.GetMaxSeries(), store.MaxSeries-1)
	}
	if x.GetRetentionS() < 0 || x.GetRetentionS() > int64(maxSpan/time.Second) {
		return fmt.Errorf("retention of %d seconds is out of range", x.GetRetentionS())
	}
	out.Retention = time.Duration(x.GetRetentionS()) * time.Second
	if len(x.GetLayoutJson()) > 0 {
		if len(x.GetLayoutJson()) > maxLayoutBytes || !json.Valid(x.GetLayoutJson()) {
			return errors.New("layout_json is no JSON or larger than 1 MiB")
		}
		out.Layout = slices.Clone(x.GetLayoutJson())
	}
	if err := addDimensions(&out, x); err != nil {
		return err
	}
	if err := addIntervals(&out, x); err != nil {
		return err
	}
	taken := []string{id}
	for _, i := range out.Intervals {
		taken = append(taken, id+"-"+intervalName(i))
	}
	for _, ident := range taken {
		if other, ok := idents[ident]; ok {
			return fmt.Errorf("%q would be served for it and for %q", ident, other)
		}
		idents[ident] = x.GetName()
	}
	m := metric{id: id, kind: out.Kind, dims: len(out.Dimensions)}
	for _, i := range out.Intervals {
		m.steps = append(m.steps, int64(i/time.Second))
		m.step = gcd(m.step, int64(i/time.Second))
	}
	if out.Kind == store.Latest {
		d.columns.ids = true // puts carry their event's id
	}
	d.metrics = append(d.metrics, m)
	d.plugin.Metrics = append(d.plugin.Metrics, out)
	return nil
}

func checkTexts(x *pb.Metric) error {
	if strings.TrimSpace(x.GetName()) == "" || plugins.Ident(x.GetName()) == "" {
		return errors.New("it has no name")
	}
	id := plugins.Ident(x.GetName())
	if len(id) > maxIDBytes || strings.ContainsAny(id, "/\\#%;=<>[]{}|^`~$!@:+") || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return fmt.Errorf("the id %q made of its name is too long or can't stand in a path", cut(id))
	}
	for _, t := range []struct {
		what, text string
		limit      int
	}{{"name", x.GetName(), maxNameBytes}, {"summary", x.GetSummary(), maxTextBytes}, {"description", x.GetDescription(), maxTextBytes}, {"unit", x.GetUnit(), maxNameBytes}, {"view", x.GetView(), maxNameBytes}} {
		if err := within(t.what, t.text, t.limit); err != nil {
			return err
		}
	}
	return nil
}

func addDimensions(out *store.Metric, x *pb.Metric) error {
	if len(x.GetDimensions()) > maxDimensions {
		return fmt.Errorf("%d dimensions: at most %d are allowed", len(x.GetDimensions()), maxDimensions)
	}
	for _, dim := range x.GetDimensions() {
		name := dim.GetName()
		if !regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`).MatchString(name) {
			return fmt.Errorf("dimension %q: lower case letters, digits and underlines are allowed", cut(name))
		}
		if slices.Contains([]string{"timestamp", "volume", "time", "time_end", "count"}, name) {
			return fmt.Errorf("dimension %q: every row has a column of that name", name)
		}
		if slices.ContainsFunc(out.Dimensions, func(o store.Dimension) bool { return o.Name == name }) {
			return fmt.Errorf("dimension %q is there twice", name)
		}
		out.Dimensions = append(out.Dimensions, store.Dimension{Name: name, MultiValued: dim.GetMultiValued()})
	}
	return nil
}

func addIntervals(out *store.Metric, x *pb.Metric) error {
	switch x.GetKind() {
	case pb.Kind_LATEST:
		out.Kind = store.Latest
		if len(x.GetIntervalsS()) > 0 {
			return errors.New("latest values have no intervals")
		}
		return nil
	case pb.Kind_COUNTER:
		out.Kind = store.Counter
	default:
		return fmt.Errorf("kind %d is not known", x.GetKind())
	}
	if n := len(x.GetIntervalsS()); n == 0 || n > maxIntervals {
		return fmt.Errorf("%d intervals: 1 to %d are allowed", n, maxIntervals)
	}
	for _, s := range x.GetIntervalsS() {
		if s < 1 || s > int64(maxInterval/time.Second) {
			return fmt.Errorf("an interval of %d seconds is out of range", s)
		}
		i := time.Duration(s) * time.Second
		if slices.Contains(out.Intervals, i) {
			return fmt.Errorf("the interval of %d seconds is there twice", s)
		}
		out.Intervals = append(out.Intervals, i)
	}
	slices.Sort(out.Intervals)
	return nil
}

// prefixes makes topic prefixes of patterns, as fedmsg does: "*" is deleted. One that is empty then takes everything.
func prefixes(patterns []string) ([]string, error) {
	if len(patterns) > maxTopics {
		return nil, fmt.Errorf("%d topics: at most %d are allowed", len(patterns), maxTopics)
	}
	var out []string
	for _, p := range patterns {
		if err := within("topic", p, 255); err != nil {
			return nil, err
		}
		if p = strings.ReplaceAll(p, "*", ""); p == "" {
			return nil, nil
		}
		out = append(out, p)
	}
	return out, nil
}

// fingerprint is of all that makes numbers comparable.
func (d *definition) fingerprint() string {
	type dimension struct {
		Name  string
		Multi bool
	}
	type part struct {
		ID         string
		Kind       store.Kind
		Dimensions []dimension
		Steps      []int64
	}
	var all struct {
		DataVersion uint32
		Topics      []string
		Metrics     []part
	}
	all.DataVersion, all.Topics = d.plugin.DataVersion, slices.Sorted(slices.Values(d.topics))
	for i, m := range d.plugin.Metrics {
		p := part{ID: m.ID, Kind: m.Kind, Steps: d.metrics[i].steps}
		for _, x := range m.Dimensions {
			p.Dimensions = append(p.Dimensions, dimension{x.Name, x.MultiValued})
		}
		all.Metrics = append(all.Metrics, p)
	}
	slices.SortFunc(all.Metrics, func(a, b part) int { return cmp.Compare(a.ID, b.ID) })
	text, _ := json.Marshal(all) // strings and numbers: it can't fail
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

// intervalName writes an interval as idents have it: 1s, 1m, 1m30s, 1h, 1d.
func intervalName(d time.Duration) string {
	out := ""
	for _, u := range []struct {
		name string
		unit time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}} {
		if n := d / u.unit; n > 0 {
			out += fmt.Sprint(int64(n)) + u.name
			d -= n * u.unit
		}
	}
	return out
}

func within(what, text string, limit int) error {
	if len(text) > limit {
		return fmt.Errorf("%s: %d bytes, at most %d are allowed", what, len(text), limit)
	}
	if strings.ContainsRune(text, 0) {
		return fmt.Errorf("%s: it has a NUL character", what)
	}
	return nil
}

// cut shortens what an error message quotes.
func cut(s string) string { return strings.ToValidUTF8(s[:min(len(s), 80)], "") }

func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
