package sqlite

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/statscache/statscache/store"
)

func TestEachTwin_TellsEveryWayInWhichTheOrdersMayDiffer(t *testing.T) {
	ctx := t.Context()
	d := fresh(t)(t)
	defer func() { _ = d.Close() }() // read from only, at the end
	const day = 24 * time.Hour
	if _, err := d.Register(ctx, store.Plugin{ID: "p", Fingerprint: "f", Metrics: []store.Metric{{ID: "m", Kind: store.Counter,
		Dimensions: []store.Dimension{{Name: "d"}}, Intervals: []time.Duration{time.Hour, day}}}}); err != nil {
		t.Fatal(err)
	}
	var fixes []store.CellFix
	for i := range int64(40) {
		fixes = append(fixes, store.CellFix{Metric: "m", Interval: day, Time: (i - 20) * 86_400, Key: fmt.Sprint("k", i%7), N: i + 1})
	}
	if err := d.Repair(ctx, store.Repair{Plugin: "p", Generation: 1, Cells: fixes}); err != nil {
		t.Fatal(err)
	}
	differing := func(interval time.Duration, from, to int64) map[string]string {
		out := map[string]string{}
		q := store.CellQuery{Plugin: "p", Metric: "m", Generation: 1, Interval: interval, From: from, To: to}
		if err := d.EachTwin(ctx, q, func(r store.Row, twin int64) error {
			out[fmt.Sprint(r.Time/86_400, " ", r.Key)] = fmt.Sprint(r.N, " ", twin)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return out
	}
	const all = 1 << 40
	if got := differing(day, -all, all); len(got) > 0 {
		t.Fatalf("nothing differs, but %v", got)
	}
	if err := d.write(ctx, "plant faults", func(c *conn) error {
		twin := "count_1_86400_series"
		at := func(i int) int64 { return byKey(store.MakeCell(int64(i-20), uint32(i%7+1))) }
		for _, q := range []string{
			fmt.Sprintf("UPDATE %s SET n=n+5 WHERE k=%d", twin, at(3)),
			fmt.Sprintf("DELETE FROM %s WHERE k=%d", twin, at(30)),
			fmt.Sprintf("INSERT INTO %s VALUES(%d, 9)", twin, byKey(store.MakeCell(-100, 2))),
			fmt.Sprintf("INSERT INTO %s VALUES(%d, 8)", twin, byKey(store.MakeCell(100, 1))),
			fmt.Sprintf("INSERT INTO %s VALUES(%d, 0)", twin, byKey(store.MakeCell(200, 1))), // as good as none
		} {
			if err := c.exec(q); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"-17 k3": "4 9", "10 k2": "31 0", "-100 k1": "0 9", "100 k0": "0 8"}
	if got := differing(day, -all, all); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := differing(day, -17*86_400, 11*86_400); len(got) != 2 {
		t.Errorf("in a window: %v", got)
	}
	if got := differing(time.Hour, -all, all); len(got) > 0 {
		t.Errorf("hours are kept in one order: %v", got)
	}
}
