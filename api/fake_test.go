package api

import (
	"bufio"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/statscache/statscache/store"
)

// fakeStore is a store in memory that counts what it is asked.
type fakeStore struct {
	mu      sync.Mutex
	metrics []store.ServedMetric
	rows    map[string][]store.Row // by ident, ascending by (time, key)
	latest  map[string][]store.LatestRow
	gone    []store.Horizon
	fail    error

	tooCostly bool          // Sums says so
	gate      chan struct{} // when set, Rows and Sums wait for it

	lists, asked atomic.Int64 // calls of Metrics; of Rows and Latest
}

func newFakeStore() *fakeStore {
	return &fakeStore{rows: map[string][]store.Row{}, latest: map[string][]store.LatestRow{}}
}

func (f *fakeStore) add(m store.Metric) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if m.Kind == "" {
		m.Kind = store.Counter
	}
	f.metrics = append(f.metrics, store.ServedMetric{Metric: m, Plugin: "test", Generation: 1, Version: 1})
	slices.SortFunc(f.metrics, func(a, b store.ServedMetric) int { return strings.Compare(a.ID, b.ID) })
}

// change alters a metric's numbers and raises its version, as a commit does.
func (f *fakeStore) change(metric string, how func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	how()
	for i := range f.metrics {
		if f.metrics[i].ID == metric {
			f.metrics[i].Version++
		}
	}
}

// count adds to the bucket of a time.
func (f *fakeStore) count(metric string, iv time.Duration, at int64, key string, n int64) {
	f.change(metric, func() {
		ident := identOf(metric, iv)
		start := floorDiv(at, int64(iv/time.Second)) * int64(iv/time.Second)
		i, ok := slices.BinarySearchFunc(f.rows[ident], store.Row{Time: start, Key: key}, compareRows)
		if ok {
			f.rows[ident][i].N += n
			return
		}
		f.rows[ident] = slices.Insert(f.rows[ident], i, store.Row{Time: start, Key: key, N: n})
	})
}

func compareRows(a, b store.Row) int {
	switch {
	case a.Time < b.Time:
		return -1
	case a.Time > b.Time:
		return 1
	}
	return strings.Compare(a.Key, b.Key)
}

func (f *fakeStore) setFail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = err
}

func (f *fakeStore) Metrics(context.Context) ([]store.ServedMetric, error) {
	f.lists.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.metrics), f.fail
}

func (f *fakeStore) Version(metric string) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.metrics {
		if f.metrics[i].ID == metric {
			return f.metrics[i].Version
		}
	}
	return 0
}

func (f *fakeStore) Rows(ctx context.Context, q store.RowQuery) ([]store.Row, int, error) {
	f.asked.Add(1)
	f.mu.Lock()
	gate := f.gate
	f.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return nil, 0, f.fail
	}
	var match []store.Row
	for _, r := range f.rows[identOf(q.Metric, q.Interval)] {
		if r.Time >= q.From && r.Time < q.To {
			match = append(match, r)
		}
	}
	if q.Desc {
		slices.SortStableFunc(match, func(a, b store.Row) int { return int(b.Time - a.Time) })
	}
	from := min(q.Offset, len(match))
	return match[from : from+min(q.Limit, len(match)-from)], len(match), nil
}

func (f *fakeStore) Latest(_ context.Context, metric string) ([]store.LatestRow, error) {
	f.asked.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.latest[metric]), f.fail
}

func (f *fakeStore) Span(_ context.Context, metric string, iv time.Duration) (int64, int64, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	rows := f.rows[identOf(metric, iv)]
	if len(rows) == 0 || f.fail != nil {
		return 0, 0, false, f.fail
	}
	return rows[0].Time, rows[len(rows)-1].Time, true, nil
}

func (f *fakeStore) Horizons(context.Context) (store.Horizons, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return store.Horizons{Counters: slices.Clone(f.gone)}, f.fail
}

// Sums adds up by looking at every row.
func (f *fakeStore) Sums(ctx context.Context, q store.SumQuery) ([]store.Sum, error) {
	f.asked.Add(1)
	f.mu.Lock()
	gate := f.gate
	f.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return nil, f.fail
	}
	if f.tooCostly {
		return nil, store.ErrTooCostly
	}
	i := slices.IndexFunc(f.metrics, func(m store.ServedMetric) bool { return m.ID == q.Metric })
	iv := int64(q.Interval / time.Second)
	if i < 0 || q.Step%iv != 0 || q.Origin%iv != 0 {
		return nil, store.ErrUnknown
	}
	var out []store.Sum
	at := map[string]int{}
	for scanned, r := range f.rows[identOf(q.Metric, q.Interval)] {
		if q.MaxScan > 0 && scanned >= q.MaxScan {
			return nil, store.ErrTooCostly
		}
		values := store.SplitKey(r.Key, len(f.metrics[i].Dimensions))
		if r.Time < q.From || r.Time >= q.To || f.behind(q, r.Time) || !matchesAll(q.Where, values) {
			continue
		}
		sum := store.Sum{Time: q.From, N: r.N}
		if q.Step > 0 {
			sum.Time = q.Origin + floorDiv(r.Time-q.Origin, q.Step)*q.Step
		}
		for _, dim := range q.By {
			sum.Values = append(sum.Values, values[dim])
		}
		key := strconv.FormatInt(sum.Time, 10) + "\x00" + store.JoinKey(sum.Values)
		if i, ok := at[key]; ok {
			out[i].N += r.N
			continue
		}
		at[key] = len(out)
		if out = append(out, sum); q.MaxSums > 0 && len(out) > q.MaxSums && q.Top == 0 {
			return nil, store.ErrTooCostly
		}
	}
	slices.SortFunc(out, func(a, b store.Sum) int {
		if q.Top > 0 && a.N != b.N {
			return cmp.Compare(b.N, a.N)
		}
		return cmp.Or(cmp.Compare(a.Time, b.Time), slices.Compare(a.Values, b.Values))
	})
	if q.Top > 0 {
		out = out[:min(q.Top, len(out))]
	}
	return out, nil
}

func (f *fakeStore) behind(q store.SumQuery, t int64) bool {
	return slices.ContainsFunc(f.gone, func(h store.Horizon) bool { return h.Metric == q.Metric && h.Interval == q.Interval && t < h.Before })
}

func matchesAll(where []store.Match, values []string) bool {
	for _, w := range where {
		in := slices.Contains(w.In, values[w.Dim])
		if w.In == nil {
			in = strings.HasPrefix(values[w.Dim], w.Prefix)
		}
		if in == w.Not {
			return false
		}
	}
	return true
}

const releng = "release-engineering-event-logs"

func intervals(names ...string) []time.Duration {
	var out []time.Duration
	for _, n := range names {
		d, err := time.ParseDuration(strings.Replace(n, "1d", "24h", 1))
		if err != nil {
			panic(err)
		}
		out = append(out, d)
	}
	return out
}

// originalMetrics are those of the original's plugins.
func originalMetrics() []store.Metric {
	dim := func(name string) []store.Dimension { return []store.Dimension{{Name: name}} }
	list := []store.Metric{
		{ID: "volume", Name: "Volume", Intervals: intervals("1s", "5s", "1m")},
		{ID: "volume-by-category", Name: "Volume by category", Dimensions: dim("category"), Intervals: intervals("1s", "15s", "1m", "1h", "1d")},
		{ID: "number-of-contribution-to-pagure.io", Intervals: intervals("1d")},
		{ID: "number-of-contribution-per-user-to-pagure.io", Dimensions: dim("user"), Intervals: intervals("1d")},
		{ID: "number-of-contribution-per-project-to-pagure.io", Dimensions: dim("project"), Intervals: intervals("1d")},
		{ID: releng, Kind: store.Latest, Dimensions: []store.Dimension{{Name: "category"}, {Name: "category_constraint"}}},
	}
	for i := range list {
		if list[i].Kind == "" {
			list[i].Kind = store.Counter
		}
	}
	return list
}

// compatStore holds the numbers of the events that the original was asked about.
func compatStore(t testing.TB) *fakeStore {
	t.Helper()
	f := newFakeStore()
	layout := readFile(t, "testdata/compat/layout.json")
	byID := map[string]store.Metric{}
	for _, m := range originalMetrics() {
		if m.ID == releng {
			m.Layout = layout
		}
		f.add(m)
		byID[m.ID] = m
	}
	file, err := os.Open("testdata/compat/counts.csv.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	zr, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	records, err := csv.NewReader(zr).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records[1:] {
		end, n := number(t, r[2]), number(t, r[4])
		start := end - int64(intervals(r[1])[0]/time.Second)
		for _, iv := range byID[r[0]].Intervals {
			f.count(r[0], iv, start, r[3], n)
		}
		if r[0] == "volume-by-category" {
			for _, iv := range byID["volume"].Intervals {
				f.count("volume", iv, start, "", n)
			}
		}
	}
	for line := range strings.Lines(string(readFile(t, "testdata/compat/latest.jsonl"))) {
		var r struct {
			Category, Constraint string
			Message              json.RawMessage
			Timestamp            float64
		}
		line = strings.Replace(line, "category_constraint", "constraint", 1)
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		f.latest[releng] = append(f.latest[releng], store.LatestRow{
			Key: store.JoinKey([]string{r.Category, r.Constraint}), Time: int64(r.Timestamp * 1e6), Value: r.Message,
		})
	}
	return f
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func number(t testing.TB, s string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// fakeClock is a clock that stands until it is moved.
type fakeClock struct{ at atomic.Int64 }

func clockAt(seconds int64) *fakeClock {
	c := &fakeClock{}
	c.at.Store(seconds * int64(time.Second))
	return c
}

func (c *fakeClock) Now() time.Time          { return time.Unix(0, c.at.Load()) }
func (c *fakeClock) Advance(d time.Duration) { c.at.Add(int64(d)) }

// testNow is the moment at which the tests ask, unless they say otherwise.
const testNow = 1_700_000_000

func newTestServer(t testing.TB, o Options) *Server {
	t.Helper()
	if o.Now == nil {
		o.Now = clockAt(testNow).Now
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// get asks without a network; headers are name, value, ...
func get(s http.Handler, method, target string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// counted reads a counter.
func counted(t testing.TB, c prometheus.Counter) float64 {
	t.Helper()
	reg := prometheus.NewRegistry()
	if err := reg.Register(c); err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return families[0].Metric[0].GetCounter().GetValue()
}

var errTest = errors.New("secret detail of the test")

func lines(t testing.TB, path string) []string {
	t.Helper()
	var out []string
	sc := bufio.NewScanner(strings.NewReader(string(readFile(t, path))))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		out = append(out, sc.Text())
	}
	return out
}
