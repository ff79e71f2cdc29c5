package consumer

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/store"
)

// compared makes a comparison of one metric with minute rows as they are stored.
func compared(v *verifier, rows ...store.Row) (*comparison, *comparedTable) {
	m := store.ServedMetric{Metric: store.Metric{ID: "m", Kind: store.Counter, Dimensions: []store.Dimension{{Name: "d"}}, Intervals: []time.Duration{time.Minute}}}
	c := newComparison(v, []store.ServedMetric{m})
	t := c.metrics["m"].tables[time.Minute]
	for _, r := range rows {
		t.stored[cell{r.Time, t.id(r.Key)}] = r.N
		t.limited = t.limited || r.Key == store.OtherKey
	}
	return c, t
}

func allTime() *verifier {
	return &verifier{asked: everywhere(), from: math.MinInt64, to: math.MaxInt64, horizons: store.Horizons{Archive: math.MinInt64}}
}

func TestComparison_TellsEveryKindOfDifferenceOnce(t *testing.T) {
	for _, c := range []struct {
		name       string
		stored     []store.Row
		maybe      []store.Row
		recomputed []store.Row
		found      []string
	}{
		{"equal", []store.Row{{Time: 60, Key: "a", N: 3}}, nil, []store.Row{{Time: 60, Key: "a", N: 3}}, nil},
		{"too many", []store.Row{{Time: 60, Key: "a", N: 4}}, nil, []store.Row{{Time: 60, Key: "a", N: 3}}, []string{"stored 4, recomputed 3"}},
		{"too few", []store.Row{{Time: 60, Key: "a", N: 2}}, nil, []store.Row{{Time: 60, Key: "a", N: 3}}, []string{"stored 2, recomputed 3"}},
		{"missing", nil, nil, []store.Row{{Time: 60, Key: "a", N: 3}}, []string{"stored 0, recomputed 3"}},
		{"made up", []store.Row{{Time: 60, Key: "a", N: 3}}, nil, nil, []string{"stored 3, recomputed 0"}},
		{"events under way may be counted", []store.Row{{Time: 60, Key: "a", N: 4}}, []store.Row{{Time: 60, Key: "a", N: 2}}, []store.Row{{Time: 60, Key: "a", N: 3}}, nil},
		{"more than those under way", []store.Row{{Time: 60, Key: "a", N: 6}}, []store.Row{{Time: 60, Key: "a", N: 2}}, []store.Row{{Time: 60, Key: "a", N: 3}}, []string{"stored 6, recomputed 3"}},
		{"only events under way", []store.Row{{Time: 60, Key: "a", N: 2}}, []store.Row{{Time: 60, Key: "a", N: 2}}, nil, nil},
		{"beyond the series limit", []store.Row{{Time: 60, Key: "a", N: 1}, {Time: 60, Key: store.OtherKey, N: 5}}, nil,
			[]store.Row{{Time: 60, Key: "a", N: 1}, {Time: 60, Key: "b", N: 2}, {Time: 60, Key: "c", N: 3}}, nil},
		{"beyond the series limit, lost", []store.Row{{Time: 60, Key: store.OtherKey, N: 4}}, nil,
			[]store.Row{{Time: 60, Key: "b", N: 2}, {Time: 60, Key: "c", N: 3}}, []string{"stored 4, recomputed 5"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := allTime()
			x, _ := compared(v, c.stored...)
			for _, r := range c.maybe {
				if err := x.maybeSink().Row("m", time.Minute, r.Time, r.Key, r.N); err != nil {
					t.Fatal(err)
				}
			}
			for _, r := range c.recomputed {
				if err := x.sureSink().Row("m", time.Minute, r.Time, r.Key, r.N); err != nil {
					t.Fatal(err)
				}
			}
			x.finish()
			if v.report.Differences != len(c.found) {
				t.Fatalf("%d differences (%q), want %q", v.report.Differences, v.report.Found, c.found)
			}
			for i, want := range c.found {
				if !strings.Contains(v.report.Found[i], want) {
					t.Errorf("%q, want %q", v.report.Found[i], want)
				}
			}
		})
	}
}

func TestComparison_WhatRetentionRemovedMeanwhileIsNoDifference(t *testing.T) {
	v := allTime()
	x, _ := compared(v, store.Row{Time: 60, Key: "a", N: 9})
	for _, start := range []int64{0, 60, 120} {
		if err := x.sureSink().Row("m", time.Minute, start, "a", 5); err != nil {
			t.Fatal(err)
		}
	}
	v.horizons.Counters = []store.Horizon{{Metric: "m", Interval: time.Minute, Before: 120}}
	x.finish()
	if v.report.Differences != 1 || !strings.Contains(v.report.Found[0], "00:02:00Z") {
		t.Fatalf("%q, want the bucket that is still kept alone", v.report.Found)
	}
}

func TestComparison_LatestValues(t *testing.T) {
	v := allTime()
	m := store.ServedMetric{Metric: store.Metric{ID: "l", Kind: store.Latest, Dimensions: []store.Dimension{{Name: "k"}}}}
	x := newLatestValues(v, []store.ServedMetric{m})
	stored := map[latestKey]store.LatestRow{
		{"l", "same"}:   {Key: "same", Time: 5, ID: "i", Value: []byte(`{"a": 1}`)},
		{"l", "newer"}:  {Key: "newer", Time: 9, ID: "n", Value: []byte(`2`)},
		{"l", "wrong"}:  {Key: "wrong", Time: 5, ID: "i", Value: []byte(`1`)},
		{"l", "madeup"}: {Key: "madeup", Time: 5, ID: "i", Value: []byte(`1`)},
	}
	for _, p := range []store.Put{{Key: "same", Time: 5, ID: "i", Value: []byte(`{"a":1}`)}, {Key: "same", Time: 4, ID: "z", Value: []byte(`9`)},
		{Key: "newer", Time: 5, ID: "i", Value: []byte(`1`)}, {Key: "wrong", Time: 5, ID: "i", Value: []byte(`7`)}, {Key: "lost", Time: 5, ID: "i", Value: []byte(`1`)}} {
		p.Metric = "l"
		if err := x.put(p); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		steady bool
		found  []string
	}{
		{true, []string{"lost", "newer", "wrong", "madeup"}},
		{false, []string{"lost", "wrong"}}, // newer ones may have been written while the values were read
	} {
		v.report = VerifyReport{}
		x.judge(stored, c.steady)
		if v.report.Rows != len(stored) || v.report.Differences != len(c.found) {
			t.Fatalf("steady %t: %+v, want %q", c.steady, v.report, c.found)
		}
		for i, want := range c.found {
			if !strings.Contains(v.report.Found[i], want) {
				t.Errorf("steady %t: %q, want %q", c.steady, v.report.Found[i], want)
			}
		}
	}
}
