package consumer

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/statscache/statscache/plugins/host"
	"github.com/statscache/statscache/store"
)

// comparison holds what is stored of some metrics against a recount.
type comparison struct {
	v       *verifier
	metrics map[string]*comparedMetric
	wrong   []wrongCell
}

// wrongCell is a row that differs as far as is known while others are still recounted.
type wrongCell struct {
	metric     *comparedMetric
	interval   time.Duration
	start      int64
	key        string
	have, want int64
}

// comparedMetric is one metric by its intervals.
type comparedMetric struct {
	store.ServedMetric
	tables map[time.Duration]*comparedTable
}

// comparedTable is one interval of a metric.
type comparedTable struct {
	ids     map[string]uint32 // keys as small numbers
	keys    []string
	stored  map[cell]int64 // taken out as the recount confirms them
	maybe   map[cell]int64 // counts of events that were committed while the rows were read
	other   map[int64]int64
	limited bool  // the series limit was reached: what has no series of its own is in OtherKey's
	before  int64 // buckets that start before it are not kept
	twins   []twin
}

// twin is a count that the store has in two orders, differently.
type twin struct {
	row   store.Row
	other int64
}

// cell is a bucket and a key.
type cell struct {
	start int64
	key   uint32
}

func newComparison(v *verifier, list []store.ServedMetric) *comparison {
	c := &comparison{v: v, metrics: map[string]*comparedMetric{}}
	for _, m := range list {
		x := &comparedMetric{ServedMetric: m, tables: map[time.Duration]*comparedTable{}}
		for _, interval := range m.Intervals {
			t := &comparedTable{ids: map[string]uint32{}, stored: map[cell]int64{}, maybe: map[cell]int64{}, other: map[int64]int64{}, before: math.MinInt64}
			t.before = c.horizon(m.ID, interval)
			x.tables[interval] = t
		}
		c.metrics[m.ID] = x
	}
	return c
}

// horizon is the start of the first bucket that is kept.
func (c *comparison) horizon(metric string, interval time.Duration) int64 {
	for _, h := range c.v.horizons.Counters {
		if h.Metric == metric && h.Interval == interval {
			return h.Before
		}
	}
	return math.MinInt64
}

func (t *comparedTable) id(key string) uint32 {
	i, ok := t.ids[key]
	if !ok {
		i = uint32(len(t.keys))
		t.ids[key] = i
		t.keys = append(t.keys, key)
	}
	return i
}

// readStored reads the rows as they are. Rows of buckets that the archive reaches only in part can't be verified.
func (c *comparison) readStored(ctx context.Context) error {
	report := &c.v.report
	for _, m := range c.metrics {
		for interval, t := range m.tables {
			err := c.v.store.EachCell(ctx, c.v.cells(m.ServedMetric, interval), func(r store.Row) error {
				if r.Time < t.before {
					return nil // about to be removed
				}
				if c.gone(r.Time) {
					report.NotVerifiable++
					return nil
				}
				report.Rows++
				t.limited = t.limited || r.Key == store.OtherKey
				t.stored[cell{r.Time, t.id(r.Key)}] = r.N
				return nil
			})
			if err != nil {
				return fmt.Errorf("read %s: %w", m.ID, err)
			}
			if err := c.readTwins(ctx, m, interval, t); err != nil {
				return fmt.Errorf("read both orders of %s: %w", m.ID, err)
			}
		}
	}
	return nil
}

// maxTwins bounds what is kept of counts that two orders have differently.
const maxTwins = maxFixes

// readTwins notes which counts the store has in two orders, differently: answers come from either.
func (c *comparison) readTwins(ctx context.Context, m *comparedMetric, interval time.Duration, t *comparedTable) error {
	s, ok := c.v.store.(store.Twins)
	if !ok {
		return nil
	}
	return s.EachTwin(ctx, c.v.cells(m.ServedMetric, interval), func(r store.Row, other int64) error {
		if r.Time >= t.before && len(t.twins) < maxTwins {
			t.twins = append(t.twins, twin{r, other})
		}
		return nil
	})
}

// differTwins tells of counts that are right in the order of time and wrong in that of series.
func (c *comparison) differTwins() {
	type place struct {
		metric   string
		interval time.Duration
		start    int64
		key      string
	}
	told := map[place]bool{}
	for _, w := range c.wrong {
		told[place{w.metric.ID, w.interval, w.start, w.key}] = true
	}
	for _, id := range sortedKeys(c.metrics) {
		m := c.metrics[id]
		for _, interval := range slices.Sorted(maps.Keys(m.tables)) {
			for _, x := range m.tables[interval].twins {
				r := x.row
				where := fmt.Sprintf("%s %s %s%s", id, interval, time.Unix(r.Time, 0).UTC().Format(time.RFC3339), named(m.Metric, r.Key))
				switch {
				case told[place{id, interval, r.Time, r.Key}] || r.Time < c.horizon(id, interval):
				case c.gone(r.Time):
					c.v.note("%s: stored %d in the order of time and %d in that of series; its events are archived no more", where, r.N, x.other)
				default:
					said := c.v.differ("%s: stored %d in the order of time, as recomputed, but %d in that of series", where, r.N, x.other)
					c.v.fixes.cell(said, store.CellFix{Metric: id, Interval: interval, Time: r.Time, Key: r.Key, N: r.N})
				}
			}
		}
	}
}

// gone says whether events of a bucket may have expired from the archive.
func (c *comparison) gone(start int64) bool {
	h := c.v.horizons.Archive
	return h != math.MinInt64 && start < (h+999_999)/1_000_000
}

// table finds where a recounted row belongs, nil where it is not to be compared.
func (c *comparison) table(metric string, interval time.Duration, start int64) *comparedTable {
	m := c.metrics[metric]
	if m == nil || m.tables[interval] == nil || start < c.v.from || start >= c.v.to || c.gone(start) {
		return nil
	}
	t := m.tables[interval]
	if start < t.before {
		return nil
	}
	return t
}

// maybeSink takes the recount of events that may be in the stored numbers or not.
func (c *comparison) maybeSink() host.Sink {
	return host.Sink{
		Row: func(metric string, interval time.Duration, start int64, key string, n int64) error {
			if t := c.table(metric, interval, start); t != nil {
				t.maybe[cell{start, t.id(key)}] += n
			}
			return nil
		},
	}
}

// sureSink takes the recount of events that must be in the stored numbers.
func (c *comparison) sureSink() host.Sink {
	return host.Sink{
		Row: func(metric string, interval time.Duration, start int64, key string, n int64) error {
			if t := c.table(metric, interval, start); t != nil {
				c.row(c.metrics[metric], interval, t, start, key, n)
			}
			return nil
		},
	}
}

func (c *comparison) row(m *comparedMetric, interval time.Duration, t *comparedTable, start int64, key string, want int64) {
	at := cell{start, t.id(key)}
	have, ok := t.stored[at]
	if !ok && t.limited {
		t.other[start] += want
		return
	}
	delete(t.stored, at)
	if have < want || have > want+t.maybe[at] {
		c.wrong = append(c.wrong, wrongCell{m, interval, start, key, have, want})
	}
}

func (c *comparison) differ(m *comparedMetric, interval time.Duration, start int64, key string, have, want int64) {
	said := c.v.differ("%s %s %s%s: stored %d, recomputed %d", m.ID, interval, time.Unix(start, 0).UTC().Format(time.RFC3339), named(m.Metric, key), have, want)
	c.v.fixes.cell(said, store.CellFix{Metric: m.ID, Interval: interval, Time: start, Key: key, N: want})
}

// named writes a key with its dimensions.
func named(m store.Metric, key string) string {
	var b strings.Builder
	for i, v := range store.SplitKey(key, len(m.Dimensions)) {
		fmt.Fprintf(&b, " %s=%q", m.Dimensions[i].Name, v)
	}
	return b.String()
}

func sameJSON(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}

// finish looks at what no recounted row has confirmed, and tells of what differs. Retention may have removed rows and
// events since they were read: the verifier's horizons are those of now.
func (c *comparison) finish() {
	for _, id := range slices.Sorted(maps.Keys(c.metrics)) {
		m := c.metrics[id]
		for _, interval := range slices.Sorted(maps.Keys(m.tables)) {
			t := m.tables[interval]
			for _, at := range slices.SortedFunc(maps.Keys(t.stored), compareCells) {
				key, want := t.keys[at.key], int64(0)
				if t.limited && key == store.OtherKey {
					want = t.other[at.start]
				}
				if have := t.stored[at]; have < want || have > want+t.maybe[at] {
					c.wrong = append(c.wrong, wrongCell{m, interval, at.start, key, have, want})
				}
			}
		}
	}
	for _, w := range c.wrong {
		if !c.gone(w.start) && w.start >= c.horizon(w.metric.ID, w.interval) {
			c.differ(w.metric, w.interval, w.start, w.key, w.have, w.want)
		}
	}
	c.differTwins()
}

func compareCells(a, b cell) int {
	return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.key, b.key))
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
