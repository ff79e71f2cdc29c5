package consumer

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/statscache/statscache/api"
	"github.com/statscache/statscache/consumer/config"
	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/plugins/host"
	"github.com/statscache/statscache/store"
)

const (
	// explainedBody is how large a message may be to be listed with its body, explainedBodies all of them together.
	explainedBody   = 64 << 10
	explainedBodies = 4 << 20
	// steadyTries is how often a number is read again because commits fell into the reading.
	steadyTries = 50
	steadyPause = 10 * time.Millisecond
)

// explainer finds the events behind a number. It only reads.
type explainer struct {
	store    store.Store
	host     *host.Host
	programs func() []host.Program // to look for the plugin in
}

// Explain tells which archived events a number is made of. It may run any number of times at once, each time with a
// process of the plugin.
func (d *Daemon) Explain(ctx context.Context, q api.ExplainQuery) (api.Explanation, error) {
	x := explainer{store: d.store, host: d.host, programs: d.programs}
	return x.explain(ctx, q)
}

// allPrograms gives the bundled programs and those in the plugin folders as they are now.
func allPrograms(bundled []host.Program, c *config.Config, log *slog.Logger) []host.Program {
	found, err := host.Discover(c.PluginsPath)
	if err != nil {
		log.Warn("plugins passed over", "reason", err)
	}
	return append(slices.Clone(bundled), found...)
}

// Explain does the same over a data dir, beside a daemon or without one.
func Explain(ctx context.Context, c *config.Config, bundled []host.Program, log *slog.Logger, q api.ExplainQuery) (out api.Explanation, err error) {
	if _, err := os.Stat(c.Store.Path); c.Store.Kind == "sqlite" && errors.Is(err, os.ErrNotExist) {
		return out, fmt.Errorf("there is nothing to explain: %s does not exist", c.Store.Path)
	}
	s, h, done, err := openForRecount(ctx, c, true, log)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, done()) }()
	x := explainer{store: s, host: h, programs: func() []host.Program { return allPrograms(bundled, c, log) }}
	return x.explain(ctx, q)
}

// explained is a number under explanation.
type explained struct {
	api.Explanation
	metric   store.ServedMetric
	interval time.Duration
	from, to int64 // seconds since 1970
	filter   []map[string]bool
	horizons store.Horizons
	other    bool // the metric has reached its series limit in this bucket
	bodies   int  // bytes of those listed
}

func (x *explainer) explain(ctx context.Context, q api.ExplainQuery) (api.Explanation, error) {
	e, err := x.understand(ctx, q)
	if err != nil {
		return api.Explanation{}, err
	}
	if e.metric.Kind != store.Counter {
		err := x.latest(ctx, e, q)
		return e.Explanation, err
	}
	before, steady, err := x.number(ctx, e)
	if err != nil {
		return e.Explanation, err
	}
	dead, err := deadLetters(ctx, x.store, e.metric.Plugin, e.metric.Generation)
	if err != nil {
		return e.Explanation, err
	}
	if err := x.attribute(ctx, e, before, dead, cmp.Or(q.Events, api.MaxExplained)); err != nil {
		return e.Explanation, err
	}
	e.judge(steady)
	return e.Explanation, nil
}

// understand finds the bucket and the series that are meant.
func (x *explainer) understand(ctx context.Context, q api.ExplainQuery) (*explained, error) {
	all, err := x.store.Metrics(ctx)
	if err != nil {
		return nil, fmt.Errorf("list metrics: %w", err)
	}
	i := slices.IndexFunc(all, func(m store.ServedMetric) bool { return m.ID == q.Metric })
	if i < 0 {
		return nil, fmt.Errorf("no metric %q is stored here: %w", q.Metric, store.ErrUnknown)
	}
	e := &explained{metric: all[i], Explanation: api.Explanation{Metric: q.Metric, Plugin: all[i].Plugin, Filter: q.Filter, Notes: []string{}, Events: []api.ExplainedEvent{}}}
	if e.horizons, err = x.store.Horizons(ctx); err != nil {
		return nil, fmt.Errorf("read horizons: %w", err)
	}
	if e.Filter == nil {
		e.Filter = map[string][]string{}
	}
	if e.metric.Kind != store.Counter {
		return e, e.chooseSeries(q.Filter)
	}
	if q.Time.IsZero() {
		return nil, &api.ParameterError{Name: "time", Detail: "must be given: a time in the bucket to explain"}
	}
	return e, errors.Join(e.bucket(q), e.chooseSeries(q.Filter))
}

func (e *explained) bucket(q api.ExplainQuery) error {
	at := q.Time.Unix()
	if q.End {
		at = q.Time.Add(-1).Unix()
	}
	if at < -1<<36 || at > 1<<36 {
		return &api.ParameterError{Name: "time", Detail: "is too far away"}
	}
	if !q.To.IsZero() {
		return e.window(at, q.To.Unix())
	}
	e.interval = q.Step
	if q.Step != 0 && !slices.Contains(e.metric.Intervals, q.Step) {
		return &api.ParameterError{Name: "step", Detail: fmt.Sprintf("%s is counted by %s", e.Metric, intervalList(e.metric.Intervals))}
	}
	start := func(i time.Duration) int64 {
		s := int64(i / time.Second)
		return at - (at%s+s)%s
	}
	if q.Step == 0 {
		for i := len(e.metric.Intervals) - 1; i >= 0; i-- { // down to the finest one that has the time
			if interval := e.metric.Intervals[i]; e.interval == 0 || start(interval) >= e.keptFrom(interval) {
				e.interval = interval
			}
		}
	}
	e.from = start(e.interval)
	e.to = e.from + int64(e.interval/time.Second)
	e.place()
	return nil
}

// longestExplained bounds windows of several buckets: all of their events are read.
const longestExplained = 7 * 24 * time.Hour

// window takes the buckets of the coarsest interval that fill it exactly.
func (e *explained) window(from, to int64) error {
	if to <= from || to-from > int64(longestExplained/time.Second) {
		return &api.ParameterError{Name: "to", Detail: "must be later than time, by seven days at most"}
	}
	for _, interval := range slices.Backward(e.metric.Intervals) {
		s := int64(interval / time.Second)
		if from%s == 0 && to%s == 0 && (e.interval == 0 || e.from < e.keptFrom(e.interval)) {
			e.interval, e.from, e.to = interval, from, to
		}
	}
	if e.interval == 0 {
		return &api.ParameterError{Name: "to", Detail: fmt.Sprintf("%s is counted by %s: the ends of a window must be those of buckets", e.Metric, intervalList(e.metric.Intervals))}
	}
	e.place()
	return nil
}

// place says what is explained.
func (e *explained) place() {
	e.From, e.To, e.Step = time.Unix(e.from, 0).UTC(), time.Unix(e.to, 0).UTC(), api.IntervalName(e.interval)
}

// keptFrom is where the kept buckets of an interval begin.
func (e *explained) keptFrom(interval time.Duration) int64 {
	for _, h := range e.horizons.Counters {
		if h.Metric == e.Metric && h.Interval == interval {
			return h.Before
		}
	}
	return math.MinInt64
}

func intervalList(list []time.Duration) string {
	var names []string
	for _, i := range list {
		names = append(names, api.IntervalName(i))
	}
	return strings.Join(names, ", ")
}

func (e *explained) chooseSeries(filter map[string][]string) error {
	e.filter = make([]map[string]bool, len(e.metric.Dimensions))
	for name, values := range filter {
		i := slices.IndexFunc(e.metric.Dimensions, func(d store.Dimension) bool { return d.Name == name })
		if i < 0 {
			var names []string
			for _, d := range e.metric.Dimensions {
				names = append(names, d.Name)
			}
			detail := fmt.Sprintf("%s has no dimension %q", e.Metric, name)
			if len(names) > 0 {
				detail += "; it has " + strings.Join(names, ", ")
			}
			return &api.ParameterError{Name: "filter", Detail: detail}
		}
		e.filter[i] = map[string]bool{}
		for _, v := range values {
			e.filter[i][v] = true
		}
	}
	return nil
}

// matches says whether a series is meant.
func (e *explained) matches(key string) bool {
	for i, v := range store.SplitKey(key, len(e.filter)) {
		if e.filter[i] != nil && !e.filter[i][v] {
			return false
		}
	}
	return true
}

// number reads what is stored, at a moment without commits in between where there is one: then the positions say
// exactly which events are in it.
func (x *explainer) number(ctx context.Context, e *explained) (at []store.Position, steady bool, err error) {
	for range steadyTries {
		if at, err = x.store.Positions(ctx, e.metric.Plugin, e.metric.Generation); err != nil {
			return nil, false, fmt.Errorf("positions of %s: %w", e.metric.Plugin, err)
		}
		e.Stored, e.other = 0, false
		q := store.CellQuery{Plugin: e.metric.Plugin, Metric: e.Metric, Generation: e.metric.Generation, Interval: e.interval, From: e.from, To: e.to}
		if err := x.store.EachCell(ctx, q, func(r store.Row) error {
			e.other = e.other || r.Key == store.OtherKey
			if e.matches(r.Key) {
				e.Stored += r.N
			}
			return nil
		}); err != nil {
			return nil, false, fmt.Errorf("read %s: %w", e.Metric, err)
		}
		after, err := x.store.Positions(ctx, e.metric.Plugin, e.metric.Generation)
		if err != nil {
			return nil, false, fmt.Errorf("positions of %s: %w", e.metric.Plugin, err)
		}
		if slices.Equal(at, after) && !slices.ContainsFunc(at, func(p store.Position) bool { return p.Pos != p.Intent }) {
			return at, true, nil
		}
		select {
		case <-time.After(steadyPause):
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
	}
	return at, false, nil
}

// attribute has the plugin say which of the bucket's events count.
func (x *explainer) attribute(ctx context.Context, e *explained, at []store.Position, dead map[letter]bool, limit int) error {
	known, err := x.store.Plugins(ctx)
	if err != nil {
		return fmt.Errorf("list plugins: %w", err)
	}
	i := slices.IndexFunc(known, func(p store.Plugin) bool { return p.ID == e.metric.Plugin })
	if i < 0 {
		return fmt.Errorf("plugin %s: %w", e.metric.Plugin, store.ErrUnknown)
	}
	counted := map[string]uint64{}
	for _, p := range at {
		counted[p.Stream] = p.Pos
	}
	programs := x.programs()
	slices.SortStableFunc(programs, func(a, b host.Program) int { // the likely one first: each that is asked is started
		return cmp.Compare(unlike(a, e.metric.Plugin), unlike(b, e.metric.Plugin))
	})
	changed := error(nil)
	for _, p := range programs {
		e.Pending, e.Events, e.bodies = 0, e.Events[:0], 0
		e.Count, err = x.host.Attribute(ctx, p, known[i].Fingerprint, func(yield func(*block.Block, error) bool) { x.blocks(ctx, e, counted, dead, yield) },
			host.Attribution{Plugin: e.metric.Plugin, Metric: e.Metric, From: e.from, To: e.to, Match: e.matches, Limit: limit, Found: e.list})
		switch {
		case errors.Is(err, host.ErrOtherPlugin):
			if p.ID == e.metric.Plugin {
				changed = fmt.Errorf("the program of plugin %s counts otherwise than the one that made the number: it can't be explained", p.ID)
			}
		case err != nil && p.ID != e.metric.Plugin && ctx.Err() == nil:
			changed = cmp.Or(changed, err) // perhaps it isn't the one anyway
		default:
			return err
		}
	}
	return cmp.Or(changed, fmt.Errorf("the program of plugin %s is not here: its numbers can't be explained", e.metric.Plugin))
}

func unlike(p host.Program, id string) int {
	if p.ID == id {
		return 0
	}
	return 1
}

// errEnough ends a scan whose receiver wants no more.
var errEnough = errors.New("enough")

// blocks yields the events of the bucket that are counted.
func (x *explainer) blocks(ctx context.Context, e *explained, counted map[string]uint64, dead map[letter]bool, yield func(*block.Block, error) bool) {
	err := x.store.Scan(ctx, store.ScanRequest{From: e.from * 1e6, To: e.to * 1e6, Bodies: true}, func(stream string, b *block.Block) error {
		keep := make([]bool, b.Len())
		for i := range keep {
			seq := b.Seq(i)
			keep[i] = seq <= counted[stream] && !dead[letter{stream, seq}]
			if seq > counted[stream] {
				e.Pending++
			}
		}
		kept, err := b.Keep(keep)
		if err == nil && kept.Len() > 0 && !yield(kept, nil) {
			err = errEnough
		}
		return err
	})
	if err != nil && !errors.Is(err, errEnough) {
		yield(nil, fmt.Errorf("read the archive: %w", err))
	}
}

// list takes an event that counts.
func (e *explained) list(c host.Contribution) {
	b, i := c.Block, c.Event
	names := func(list []uint32) []string {
		out := make([]string, len(list))
		for k, x := range list {
			out[k] = b.Names[x]
		}
		return out
	}
	ev := api.ExplainedEvent{ID: c.ID, Topic: b.Names[b.Topic[i]], Category: b.Names[b.CategoryOf(i)], Time: time.UnixMicro(b.Time[i]).UTC(),
		Received: time.UnixMicro(b.ReceivedOf(i)).UTC(), Source: b.Names[b.Source[i]], Users: names(b.UsersOf(i)), Packages: names(b.PackagesOf(i)),
		Agent: b.Names[b.Agent[i]], Signed: b.SignedOf(i).String(), Count: c.N, Bytes: len(c.Body)}
	if len(c.Body) <= explainedBody && e.bodies+len(c.Body) <= explainedBodies {
		var envelope struct {
			Msg json.RawMessage `json:"msg"`
		}
		if json.Unmarshal(c.Body, &envelope) == nil && envelope.Msg != nil {
			ev.Msg = envelope.Msg // a copy
			e.bodies += len(envelope.Msg)
		}
	}
	e.Events = append(e.Events, ev)
}

// judge compares what is stored with what was found.
func (e *explained) judge(steady bool) {
	slices.SortFunc(e.Events, func(a, b api.ExplainedEvent) int { return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.ID, b.ID)) })
	listed := int64(0)
	for _, ev := range e.Events {
		listed += ev.Count
	}
	e.Truncated = listed != e.Count
	note := func(format string, args ...any) { e.Notes = append(e.Notes, fmt.Sprintf(format, args...)) }
	excused := false
	if e.from < e.keptFrom(e.interval) {
		excused = true
		note("buckets of %s that start before %s are not kept any more", e.Step, time.Unix(e.keptFrom(e.interval), 0).UTC().Format(time.RFC3339))
	}
	if h := e.horizons.Archive; h != math.MinInt64 && e.from < (h+999_999)/1_000_000 {
		excused = true
		note("events before %s are not kept any more: not all of those behind the number can be listed", time.UnixMicro(h).UTC().Format(time.RFC3339))
	}
	if e.other && e.Stored != e.Count {
		excused = true
		note("the metric has reached its series limit: what has no series of its own is stored under %s", store.OtherKey)
	}
	if !steady && e.Stored != e.Count {
		excused = true
		note("the number changes all the time: it was read while events were being added to it")
	}
	if e.Pending > 0 {
		note("%d events of that time are archived and not counted yet", e.Pending)
	}
	if e.Differs = !excused && e.Stored != e.Count; e.Differs {
		note("the number stored is %d, but the archived events add up to %d: `statscache verify %s` looks at all of the metric", e.Stored, e.Count, e.Metric)
	}
}
