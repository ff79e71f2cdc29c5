package sqlite

import (
	"context"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/statscache/statscache/store"
)

// TestRepair_KeepsTheTwinOfADayTable repairs a count of a day: both orders of the table must say the same.
func TestRepair_KeepsTheTwinOfADayTable(t *testing.T) {
	ctx := t.Context()
	d := fresh(t)(t)
	defer func() { _ = d.Close() }() // read from only, at the end
	const day = 24 * time.Hour
	if _, err := d.Register(ctx, store.Plugin{ID: "p", Fingerprint: "f", Metrics: []store.Metric{{ID: "m", Kind: store.Counter, Intervals: []time.Duration{day}}}}); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int64{5, 7, 0} {
		if err := d.Repair(ctx, store.Repair{Plugin: "p", Generation: 1, Cells: []store.CellFix{{Metric: "m", Interval: day, Time: -86_400, Key: "a", N: n}}}); err != nil {
			t.Fatal(err)
		}
		for _, table := range []string{"count_1_86400", "count_1_86400_series"} {
			if got := sumOf(ctx, t, d, table); got != n {
				t.Errorf("%s adds up to %d, want %d", table, got, n)
			}
		}
	}
}

func sumOf(ctx context.Context, t *testing.T, d *DB, table string) (n int64) {
	t.Helper()
	if err := d.read(ctx, "sum of "+table, func(c *conn) error {
		return c.each("SELECT coalesce(sum(n), 0) FROM "+table, func(s *sqlite.Stmt) error { n = s.ColumnInt64(0); return nil })
	}); err != nil {
		t.Fatal(err)
	}
	return n
}
