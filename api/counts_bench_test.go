package api

import (
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/statscache/statscache/store"
	"github.com/statscache/statscache/store/sqlite"
)

// yearOfEvents is a store with a year of events by users, a few of whom cause most of them.
func yearOfEvents(b *testing.B, events int) *sqlite.DB {
	b.Helper()
	ctx := b.Context()
	db, err := sqlite.Open(ctx, sqlite.Options{Path: filepath.Join(b.TempDir(), "statscache.db")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	if _, err := db.Attach(ctx, "stream"); err != nil {
		b.Fatal(err)
	}
	ivs := intervals("1m", "1h", "1d")
	gen, err := db.Register(ctx, store.Plugin{ID: "p", Version: "1", DataVersion: 1, Fingerprint: "f", Metrics: []store.Metric{
		{ID: "m", Kind: store.Counter, Dimensions: []store.Dimension{{Name: "user"}}, Intervals: ivs}}})
	if err != nil {
		b.Fatal(err)
	}
	cp, err := db.Checkpoint(ctx, store.CheckpointKey{Plugin: "p", Generation: gen.Serving, Stream: "stream"})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = cp.Close() }()
	r := rand.New(rand.NewPCG(1, 2))
	begin := time.Date(2018, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	const parts = 20
	for part := range parts {
		c := &store.Commit{To: uint64(part + 1)}
		sums := make([]map[store.Cell]int64, len(ivs))
		for i := range sums {
			sums[i] = map[store.Cell]int64{}
		}
		for range events / parts {
			at := begin + int64(part)*year.Milliseconds()/1000/parts + r.Int64N(int64(year/time.Second)/parts)
			n, err := cp.Series("m", "user"+strconv.Itoa(min(r.IntN(5000), r.IntN(5000), r.IntN(5000))))
			if err != nil {
				b.Fatal(err)
			}
			for i, iv := range ivs {
				sums[i][store.MakeCell(floorDiv(at, int64(iv/time.Second)), n)]++
			}
		}
		for i, iv := range ivs {
			d := store.CounterDeltas{Metric: "m", Interval: iv}
			for cell, n := range sums[i] {
				d.Cells = append(d.Cells, store.Delta{Cell: cell, N: n})
			}
			slices.SortFunc(d.Cells, func(x, y store.Delta) int {
				if x.Cell < y.Cell {
					return -1
				}
				return 1
			})
			c.Counters = append(c.Counters, d)
		}
		if err := cp.Commit(ctx, c); err != nil {
			b.Fatal(err)
		}
	}
	return db
}

// BenchmarkCounts asks questions that nothing is kept of, of a year of 500,000 events by 5,000 users.
func BenchmarkCounts(b *testing.B) {
	db := yearOfEvents(b, 500_000)
	s := newTestServer(b, Options{Store: db, CacheBytes: 1 << 10})
	const m = "/api/v1/metrics/m/"
	for _, c := range []struct{ name, url string }{
		{"count", "count?filter=user:user7&from=2018-01-01&to=2019-01-01"},
		{"count-edges", "count?filter=user:user7&from=2018-01-05T10:11:00Z&to=2018-12-20T20:21:00Z"},
		{"calendar-UTC", "calendar?filter=user:user7&from=2018-01-01&to=2019-01-01"},
		{"calendar-Berlin", "calendar?filter=user:user7&from=2018-01-01&to=2019-01-01&tz=Europe/Berlin"},
		{"calendar-Kolkata", "calendar?filter=user:user7&from=2018-01-01&to=2019-01-01&tz=Asia/Kolkata"},
		{"top-30d", "top?by=user&limit=20&from=2018-04-01&to=2018-05-01"},
		{"top-30d-edges", "top?by=user&limit=20&from=2018-04-01T10:11:00Z&to=2018-05-01T12:13:00Z"},
		{"series-year", "series?step=1d&from=2018-01-01&to=2019-01-01"},
		{"series-year-top", "series?step=1d&from=2018-01-01&to=2019-01-01&group_by=user&top=5&other=1"},
	} {
		b.Run(c.name, func(b *testing.B) {
			for i := range b.N {
				// What isn't there changes no number, but each question is another one.
				if w := get(s, http.MethodGet, m+c.url+"&not=user:nobody"+strconv.Itoa(i)); w.Code != http.StatusOK {
					b.Fatalf("%d %s", w.Code, w.Body)
				}
			}
		})
	}
}
