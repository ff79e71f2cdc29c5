package sqlite

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/statscache/statscache/store"
	"github.com/statscache/statscache/store/storetest"
)

// benchYear is a store with a year of events: STATSCACHE_BENCH_EVENTS of them, or a million.
func benchYear(b *testing.B) *DB {
	b.Helper()
	events := 1_000_000
	if text := os.Getenv("STATSCACHE_BENCH_EVENTS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			b.Fatal(err)
		}
		events = n
	}
	d, err := Open(context.Background(), Options{Path: filepath.Join(b.TempDir(), "statscache.db")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = d.Close() })
	storetest.Year(b, d, events)
	return d
}

// BenchmarkSums asks what pages and widgets ask, of a year of events.
func BenchmarkSums(b *testing.B) {
	d := benchYear(b)
	at := func(month time.Month, day int) int64 { return time.Date(2018, month, day, 0, 0, 0, 0, time.UTC).Unix() }
	const hour, day = time.Hour, 24 * time.Hour
	one := func(dim int, value string) store.Match { return store.Match{Dim: dim, In: []string{value}} }
	for _, c := range []struct {
		name string
		q    store.SumQuery
	}{
		{"count-user-topic-year", store.SumQuery{Metric: "user-topic", Interval: day, From: at(1, 1), To: at(13, 1), Where: []store.Match{one(0, "user7"), one(1, "org.example.prod.topic3")}}},
		{"count-user-year", store.SumQuery{Metric: "user-topic", Interval: day, From: at(1, 1), To: at(13, 1), Where: []store.Match{one(0, "user7")}}},
		{"calendar-user-days", store.SumQuery{Metric: "user", Interval: day, From: at(1, 1), To: at(13, 1), Where: []store.Match{one(0, "user7")}, Step: 86400, Origin: at(1, 1)}},
		{"calendar-user-hours", store.SumQuery{Metric: "user", Interval: hour, From: at(1, 1), To: at(13, 1), Where: []store.Match{one(0, "user7")}, Step: 86400, Origin: at(1, 1) - 3600}},
		{"calendar-user-quarters", store.SumQuery{Metric: "user", Interval: 15 * time.Minute, From: at(1, 1), To: at(13, 1), Where: []store.Match{one(0, "user7")}, Step: 86400, Origin: at(1, 1) - 19800}},
		{"top20-30d", store.SumQuery{Metric: "user", Interval: day, From: at(4, 1), To: at(5, 1), By: []int{0}, Top: 20}},
		{"top20-30d-of-two", store.SumQuery{Metric: "user-topic", Interval: day, From: at(4, 1), To: at(5, 1), By: []int{0}, Top: 20}},
		{"total-30d", store.SumQuery{Metric: "user-topic", Interval: day, From: at(4, 1), To: at(5, 1)}},
		{"series-30d-hours", store.SumQuery{Metric: "user", Interval: hour, From: at(4, 1), To: at(5, 1), Step: 3600}},
		{"series-year-days", store.SumQuery{Metric: "user", Interval: day, From: at(1, 1), To: at(13, 1), Step: 86400}},
		{"series-30d-hours-of-one", store.SumQuery{Metric: "user", Interval: hour, From: at(4, 1), To: at(5, 1), Step: 3600, Where: []store.Match{one(0, "user7")}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			if _, err := d.Sums(b.Context(), c.q); err != nil { // the pages are in memory then
				b.Fatal(err)
			}
			before, n := cpu(), 0
			for b.Loop() {
				sums, err := d.Sums(b.Context(), c.q)
				if err != nil {
					b.Fatal(err)
				}
				n = len(sums)
			}
			b.ReportMetric(float64((cpu()-before).Microseconds())/1000/float64(b.N), "cpu-ms/op")
			b.ReportMetric(float64(n), "sums")
		})
	}
}
