package host

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/store"
)

// TestRunner_UnboundedValues_GoToOtherAndStayBounded floods a metric with values that never come twice.
func TestRunner_UnboundedValues_GoToOtherAndStayBounded(t *testing.T) {
	blocks := sample(rand.New(rand.NewPCG(12, 3)), 20, 500)
	db, ends := archived(t, blocks)
	o := Options{Programs: []Program{program(t, "unbounded")}, Store: db, Feed: archiveFeed{db}, Limits: quick()}
	h, stop := runHost(t, o)
	waitCaughtUp(t, h, ends)
	events := int64(0)
	for _, b := range blocks {
		events += int64(b.Len())
	}
	for _, m := range []struct {
		id       string
		limit    int
		interval time.Duration
	}{{"by-id", 50, time.Minute}, {"by-id", 50, 24 * time.Hour}, {"by-id-and-topic", 70, time.Hour}} {
		sum, other, series, rows, buckets := int64(0), int64(0), map[string]bool{}, 0, map[int64]bool{}
		if err := db.EachCell(t.Context(), store.CellQuery{Plugin: "unbounded", Metric: m.id, Generation: 1, Interval: m.interval, From: -1 << 40, To: 1 << 40}, func(r store.Row) error {
			sum += r.N
			rows++
			buckets[r.Time] = true
			if r.Key == store.OtherKey {
				other += r.N
			} else {
				series[r.Key] = true
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if sum != events || other != events-int64(m.limit) || len(series) != m.limit || rows > m.limit+len(buckets) {
			t.Errorf("%s at %v: %d of %d events, %d of them under (other), %d series, %d rows in %d buckets", m.id, m.interval, sum, events, other, len(series), rows, len(buckets))
		}
		s := h.Plugins()[0]
		if s.Others[m.id] != other || s.State != Running || !strings.Contains(s.Error, fmt.Sprintf("metric by-id has reached its series limit: %d counts", events-50)) {
			t.Errorf("status %+v, want %d others of %s", s, other, m.id)
		}
	}
	stop()
	use, err := db.SeriesUse(t.Context())
	if err != nil || use["by-id"] != (store.SeriesUse{Series: 50, Limit: 50}) || use["by-id-and-topic"] != (store.SeriesUse{Series: 70, Limit: 70}) {
		t.Errorf("use %v, %v", use, err)
	}
}
