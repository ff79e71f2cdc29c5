package consumer

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/statscache/statscache/store"
)

// denseReader has so many rows in every second of a span.
type denseReader struct {
	store.Reader
	from, to  int64
	perSecond float64
}

func (r denseReader) Rows(_ context.Context, q store.RowQuery) ([]store.Row, int, error) {
	return nil, int(float64(max(0, min(q.To, r.to)-max(q.From, r.from))) * r.perSecond), nil
}

func TestSlicer_CoversAllTimeInSlicesOfBoundedRows(t *testing.T) {
	const day = 86400
	list := []store.ServedMetric{{Metric: store.Metric{ID: "m", Intervals: []time.Duration{time.Second}}}}
	for _, c := range []struct {
		name  string
		r     denseReader
		last  int64 // stored rows reach to here: a damaged one may lie far away
		most  int   // slices
		least int
	}{
		{"little", denseReader{from: 0, to: 10 * day, perSecond: 0.01}, 10 * day, 3, 3},
		{"much", denseReader{from: 0, to: 100 * day, perSecond: 2}, 100 * day, 40 + 100, 17},
		{"one row thousands of years away", denseReader{from: 0, to: 10 * day, perSecond: 2}, 1_000_000 * day, 60, 4},
		{"more than the bound in every day", denseReader{from: 0, to: 5 * day, perSecond: 100}, 5 * day, 7, 7},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &slicer{list: list, unit: day, lo: 0, last: c.last, width: c.last / day, most: c.last / day}
			n := 0
			for from := int64(math.MinInt64); from < math.MaxInt64; n++ {
				to, err := s.next(t.Context(), c.r, from, math.MaxInt64)
				if err != nil || to <= from || n > c.most {
					t.Fatalf("slice %d from %d to %d: %v", n, from, to, err)
				}
				if _, rows, _ := c.r.Rows(t.Context(), store.RowQuery{From: from, To: to}); rows > sliceRows && to-from > day {
					t.Errorf("slice [%d, %d) has %d rows", from, to, rows)
				}
				from = to
			}
			if n < c.least || n > c.most {
				t.Errorf("%d slices, want %d to %d", n, c.least, c.most)
			}
		})
	}
}

func TestSlicer_ReachesToTheEndOfTheBucketsThatStartInASlice(t *testing.T) {
	s := &slicer{list: []store.ServedMetric{{Metric: store.Metric{Intervals: []time.Duration{90 * time.Second, time.Hour}}}}}
	for _, c := range []struct{ from, to, want int64 }{
		{0, 3600, 3600}, // an hour is 40 times 90 seconds
		{0, 100, 3600},  // the hour begins in it
		{1, 100, 180},   // only the bucket of 90 seconds does
		{1, 90, 90},     // none does
		{-100, 0, 0},
		{-100, -10, 0},
		{math.MinInt64, math.MaxInt64, math.MaxInt64},
	} {
		if got := s.reach(c.from, c.to); got != c.want {
			t.Errorf("buckets that start in [%d, %d) reach to %d, want %d", c.from, c.to, got, c.want)
		}
	}
}
