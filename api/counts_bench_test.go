package api

import (
	"net/http"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/statscache/statscache/store/sqlite"
	"github.com/statscache/statscache/store/storetest"
)

// BenchmarkCounts asks questions that nothing is kept of, of a year of 500,000 events by 5,000 users.
func BenchmarkCounts(b *testing.B) {
	db, err := sqlite.Open(b.Context(), sqlite.Options{Path: filepath.Join(b.TempDir(), "statscache.db")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	storetest.Year(b, db, 500_000)
	s := newTestServer(b, Options{Store: db, CacheBytes: 1 << 10})
	const m = "/api/v1/metrics/user/"
	for _, c := range []struct{ name, url string }{
		{"count", "count?filter=user:user7&from=2018-01-01&to=2019-01-01"},
		{"count-edges", "count?filter=user:user7&from=2018-01-05T10:15:00Z&to=2018-12-20T20:30:00Z"},
		{"calendar-UTC", "calendar?filter=user:user7&from=2018-01-01&to=2019-01-01"},
		{"calendar-Berlin", "calendar?filter=user:user7&from=2018-01-01&to=2019-01-01&tz=Europe/Berlin"},
		{"calendar-Kolkata", "calendar?filter=user:user7&from=2018-01-01&to=2019-01-01&tz=Asia/Kolkata"},
		{"top-30d", "top?by=user&limit=20&from=2018-04-01&to=2018-05-01"},
		{"top-30d-edges", "top?by=user&limit=20&from=2018-04-01T10:15:00Z&to=2018-05-01T12:15:00Z"},
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
