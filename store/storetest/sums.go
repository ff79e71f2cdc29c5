package storetest

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/store"
)

// Summer is what the group Sums asks of an engine: numbers are committed before they are added up.
type Summer interface {
	Cataloger
	store.Reader
	store.Upkeep
	store.Summer
}

// Sums holds an engine to the contract of store.Summer.
func Sums[E Summer](t *testing.T, fresh Fresh[E]) {
	cases(t, as(fresh, func(e E) Summer { return e }), map[string]func(*testing.T, Open[Summer]){
		"Questions_AreAnsweredAsByHand":    sumsRandom,
		"Bounds_AreKept":                   sumsBounds,
		"Unknown_IsAnError":                sumsUnknown,
		"Horizon_IsNotAddedUp":             sumsHorizon,
		"Other_IsAValueOfEveryDimension":   sumsOther,
		"Series_AreFoundAfterALaterCommit": sumsLater,
	})
}

const hour = time.Hour

// counted is a plugin with metrics of none, one and three dimensions.
func counted() store.Plugin {
	p := plugin()
	dims := func(names ...string) (out []store.Dimension) {
		for _, n := range names {
			out = append(out, store.Dimension{Name: n})
		}
		return out
	}
	every := []time.Duration{time.Minute, hour, day}
	p.Metrics = []store.Metric{
		{ID: "sum", Name: "Sum", Kind: store.Counter, Intervals: every},
		{ID: "by-user", Name: "By user", Kind: store.Counter, Dimensions: dims("user"), Intervals: every},
		{ID: "by-three", Name: "By three", Kind: store.Counter, Dimensions: dims("user", "topic", "kind"), Intervals: every, SeriesLimit: 500},
	}
	return p
}

var sumValues = [][]string{ // immutable
	{"", "ab", "abc", "alice", "bob", "z\x00y", "ä", "日本", "\U0001F4C8", "(other)"},
	{"git.push", "git.pull", "buildsys.done", "wiki"},
	{"a", "b", "c"},
}

// sumsRandom asks random questions about random counts.
func sumsRandom(t *testing.T, open Open[Summer]) {
	e := opened(t, open)
	register(t, e, counted())
	r := rand.New(rand.NewPCG(11, 3))
	dims := map[string]int{"sum": 0, "by-user": 1, "by-three": 3}
	type at struct {
		metric   string
		interval time.Duration
	}
	all := map[at][]count{}
	for round := range 3 {
		c := checkpoint(t, e, fmt.Sprintf("s%d", round%2), uint64(round/2))
		var list []store.CounterDeltas
		for _, m := range counted().Metrics {
			var events []count // the intervals count the same ones
			for range 150 {
				values := make([]string, dims[m.ID])
				for d := range values {
					values[d] = sumValues[d][r.IntN(len(sumValues[d]))]
				}
				events = append(events, count{r.Int64N(5*86400) - 86400, store.JoinKey(values), 1 + r.Int64N(9)})
			}
			for _, i := range m.Intervals {
				var some []count
				for _, x := range events {
					x.at = floor(x.at, int64(i/time.Second)) * int64(i/time.Second)
					some = append(some, x)
				}
				all[at{m.ID, i}] = append(all[at{m.ID, i}], some...)
				list = append(list, deltas(t, c, m.ID, i, some...))
			}
		}
		commit(t, c, uint64(round/2)+1, list...)
		noError(t, c.Close())
	}
	for n := range 600 {
		if n == 400 { // the rest is asked when each interval has lost another part
			for i, before := range map[time.Duration]int64{time.Minute: 100_000, hour: 46_800, day: 86_400} {
				_, err := e.ExpireCounters(patience(t), []store.Horizon{{Metric: "by-user", Interval: i, Before: before}})
				noError(t, err)
				x := at{"by-user", i}
				all[x] = slices.DeleteFunc(all[x], func(c count) bool { return c.at < before })
			}
		}
		metric := counted().Metrics[r.IntN(3)]
		q := randomQuestion(r, metric)
		want := byHand(q, len(metric.Dimensions), all[at{q.Metric, q.Interval}])
		got, err := e.Sums(patience(t), q)
		noError(t, err)
		if len(got) != len(want) || len(got) > 0 && !reflect.DeepEqual(normal(got), normal(want)) {
			t.Fatalf("question %d %+v:\n%v\nwant\n%v", n, q, got, want)
		}
	}
}

func normal(list []store.Sum) []store.Sum {
	for i := range list {
		if len(list[i].Values) == 0 {
			list[i].Values = nil
		}
	}
	return list
}

func randomQuestion(r *rand.Rand, m store.Metric) store.SumQuery {
	q := store.SumQuery{Metric: m.ID, Interval: m.Intervals[r.IntN(3)]}
	q.From = r.Int64N(4*86400) - 86400
	q.To = q.From + r.Int64N(3*86400)
	dims := len(m.Dimensions)
	for d := range dims {
		if r.IntN(2) == 0 {
			q.By = append(q.By, d)
		}
	}
	for range r.IntN(3) {
		if dims == 0 {
			break
		}
		d := r.IntN(dims)
		w := store.Match{Dim: d, Not: r.IntN(3) == 0}
		if r.IntN(4) == 0 {
			w.Prefix = []string{"", "a", "ab", "git.", "日"}[r.IntN(5)]
		} else {
			w.In = []string{}
			for range 1 + r.IntN(2) {
				w.In = append(w.In, sumValues[d][r.IntN(len(sumValues[d]))])
			}
		}
		q.Where = append(q.Where, w)
	}
	switch r.IntN(3) {
	case 0:
		q.Step = int64(q.Interval/time.Second) * (1 + r.Int64N(4))
		q.Origin = int64(q.Interval/time.Second) * (r.Int64N(9) - 4)
		if r.IntN(2) == 0 { // the days of a zone
			q.Step = 86400 * (1 + r.Int64N(2))
		}
	case 1:
		q.Top = 1 + r.IntN(6)
	}
	return q
}

// byHand answers a question from the single counts.
func byHand(q store.SumQuery, dims int, counts []count) (out []store.Sum) {
	type group struct {
		at  int64
		key string
	}
	sums := map[group]int64{}
	for _, x := range counts {
		values := store.SplitKey(x.key, dims)
		if x.at < q.From || x.at >= q.To || !meets(q.Where, values) {
			continue
		}
		g := group{at: q.From}
		if q.Step > 0 {
			g.at = floor(x.at-q.Origin, q.Step)*q.Step + q.Origin
		}
		for _, d := range q.By {
			g.key += values[d] + "\xff"
		}
		sums[g] += x.n
	}
	for g, n := range sums {
		s := store.Sum{Time: g.at, N: n}
		if len(q.By) > 0 {
			s.Values = strings.Split(strings.TrimSuffix(g.key, "\xff"), "\xff")
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b store.Sum) int {
		if q.Top > 0 {
			return cmp.Or(cmp.Compare(b.N, a.N), slices.Compare(a.Values, b.Values))
		}
		return cmp.Or(cmp.Compare(a.Time, b.Time), slices.Compare(a.Values, b.Values))
	})
	if q.Top > 0 {
		out = out[:min(q.Top, len(out))]
	}
	return out
}

func meets(where []store.Match, values []string) bool {
	for _, w := range where {
		met := w.In != nil && slices.Contains(w.In, values[w.Dim]) || w.In == nil && strings.HasPrefix(values[w.Dim], w.Prefix)
		if met == w.Not {
			return false
		}
	}
	return true
}

func sumsBounds(t *testing.T, open Open[Summer]) {
	e := opened(t, open)
	register(t, e, counted())
	c := checkpoint(t, e, "s", 0)
	var list []count
	for i := range 200 {
		list = append(list, count{int64(i) * 60, fmt.Sprintf("user %d", i%50), 1})
	}
	commit(t, c, 1, deltas(t, c, "by-user", time.Minute, list...))
	q := store.SumQuery{Metric: "by-user", Interval: time.Minute, From: 0, To: 1 << 40, By: []int{0}}
	for name, x := range map[string]struct {
		sums, scan, top int
		fits            bool
	}{
		"no bounds": {0, 0, 0, true}, "just enough": {50, 100_000, 0, true}, "one sum too many": {49, 0, 0, false}, "too much to read": {0, 20, 0, false},
		"the top is small": {3, 0, 3, true},
	} {
		q := q
		q.MaxSums, q.MaxScan, q.Top = x.sums, x.scan, x.top
		got, err := e.Sums(patience(t), q)
		if x.fits {
			noError(t, err)
		} else if !errors.Is(err, store.ErrTooCostly) {
			t.Errorf("%s: %d sums, %v; want ErrTooCostly", name, len(got), err)
		}
	}
}

func sumsUnknown(t *testing.T, open Open[Summer]) {
	e := opened(t, open)
	register(t, e, counted())
	good := store.SumQuery{Metric: "by-user", Interval: time.Minute, From: 0, To: 100}
	for name, spoil := range map[string]func(*store.SumQuery){
		"metric":          func(q *store.SumQuery) { q.Metric = "nothing" },
		"interval":        func(q *store.SumQuery) { q.Interval = 7 * time.Second },
		"group":           func(q *store.SumQuery) { q.By = []int{1} },
		"condition":       func(q *store.SumQuery) { q.Where = []store.Match{{Dim: -1}} },
		"group of no dim": func(q *store.SumQuery) { q.Metric, q.By = "sum", []int{0} },
	} {
		q := good
		spoil(&q)
		if _, err := e.Sums(patience(t), q); !errors.Is(err, store.ErrUnknown) {
			t.Errorf("%s: %v, want ErrUnknown", name, err)
		}
	}
	for name, step := range map[string][2]int64{"step inside a bucket": {90, 0}, "origin inside a bucket": {120, 30}, "negative": {-60, 0}} {
		q := good
		q.Step, q.Origin = step[0], step[1]
		if _, err := e.Sums(patience(t), q); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func sumsHorizon(t *testing.T, open Open[Summer]) {
	e := opened(t, open)
	register(t, e, counted())
	c := checkpoint(t, e, "s", 0)
	commit(t, c, 1, deltas(t, c, "by-user", time.Minute, count{0, "a", 1}, count{60, "a", 2}, count{120, "a", 4}))
	_, err := e.ExpireCounters(patience(t), []store.Horizon{{Metric: "by-user", Interval: time.Minute, Before: 60}})
	noError(t, err)
	got, err := e.Sums(patience(t), store.SumQuery{Metric: "by-user", Interval: time.Minute, From: 0, To: 1000})
	noError(t, err)
	if len(got) != 1 || got[0].N != 6 {
		t.Fatalf("%v, want one sum of 6", got)
	}
}

func sumsOther(t *testing.T, open Open[Summer]) {
	e := opened(t, open)
	p := counted()
	p.Metrics[2].SeriesLimit = 2
	register(t, e, p)
	c := checkpoint(t, e, "s", 0)
	var list []count
	for i := range 10 {
		list = append(list, count{0, store.JoinKey([]string{fmt.Sprint("user", i), "t", "k"}), 1})
	}
	commit(t, c, 1, deltas(t, c, "by-three", hour, list...))
	for name, where := range map[string][]store.Match{
		"one":   {{Dim: 1, In: []string{store.OtherKey}}},
		"first": {{Dim: 0, In: []string{store.OtherKey}}},
		"all":   {{Dim: 0, In: []string{store.OtherKey}}, {Dim: 1, In: []string{store.OtherKey}}, {Dim: 2, In: []string{store.OtherKey}}},
		"not t": {{Dim: 1, Not: true, In: []string{"t"}}},
	} {
		got, err := e.Sums(patience(t), store.SumQuery{Metric: "by-three", Interval: hour, From: 0, To: 1000, Where: where, By: []int{0}})
		noError(t, err)
		if len(got) != 1 || got[0].N != 8 || got[0].Values[0] != store.OtherKey {
			t.Errorf("%s: %v, want 8 of (other)", name, got)
		}
	}
}

func sumsLater(t *testing.T, open Open[Summer]) {
	e := opened(t, open)
	register(t, e, counted())
	c := checkpoint(t, e, "s", 0)
	q := store.SumQuery{Metric: "by-three", Interval: hour, From: 0, To: 1 << 40, Where: []store.Match{{Dim: 0, In: []string{"late"}}}}
	for i := range 3 {
		commit(t, c, uint64(i)+1, deltas(t, c, "by-three", hour,
			count{int64(i) * 3600, store.JoinKey([]string{"late", fmt.Sprint("topic", i), "k"}), 1}, count{int64(i) * 3600, store.JoinKey([]string{"early", "t", "k"}), 5}))
		got, err := e.Sums(patience(t), q)
		noError(t, err)
		if len(got) != 1 || got[0].N != int64(i)+1 {
			t.Fatalf("after commit %d: %v, want %d", i+1, got, i+1)
		}
	}
}
