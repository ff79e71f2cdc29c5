package sqlite

import (
	"context"
	"fmt"

	"zombiezen.com/go/sqlite"

	"github.com/statscache/statscache/store"
)

var _ store.Twins = (*DB)(nil)

// EachTwin compares the two orders in which counts of days are kept. While it runs the file's log can't be shortened.
func (d *DB) EachTwin(ctx context.Context, q store.CellQuery, f func(r store.Row, twin int64) error) error {
	return d.read(ctx, "both orders of metric "+q.Metric, func(c *conn) error {
		no, err := c.int("SELECT no FROM metric WHERE plugin=? AND generation=? AND id=?", q.Plugin, q.Generation, q.Metric)
		if err != nil {
			return err
		}
		t, err := tableOf(c, no, metricKey{q.Plugin, q.Generation, q.Metric}, q.Interval)
		if err != nil || t.byKey == "" {
			return err
		}
		lo, hi, err := t.span(c, q.From, q.To)
		if err != nil {
			return err
		}
		// The same as byKey, and back again; numbers that nobody was given are told without a key.
		there := fmt.Sprintf("(t.k&%d)<<%d|((t.k>>%d)+%d)", store.MaxSeries-1, dayBits, store.SeriesBits, dayZero)
		back := fmt.Sprintf("(((b.k&%d)-%d)<<%d|(b.k>>%d))", 1<<dayBits-1, dayZero, store.SeriesBits, dayBits)
		for _, query := range []string{
			"SELECT t.k, t.n, coalesce(b.n, 0) FROM " + t.counts + " t LEFT JOIN " + t.byKey + " b ON b.k=" + there + " WHERE t.k>=? AND t.k<? AND t.n<>coalesce(b.n, 0)",
			"SELECT " + back + ", 0, b.n FROM " + t.byKey + " b LEFT JOIN " + t.counts + " t ON t.k=" + back + " WHERE t.k IS NULL AND b.n<>0 AND " + back + ">=? AND " + back + "<?",
		} {
			var list []int64
			if err := c.each(query, func(s *sqlite.Stmt) error {
				list = append(list, s.ColumnInt64(0), s.ColumnInt64(1), s.ColumnInt64(2))
				return nil
			}, lo, hi); err != nil {
				return err
			}
			for ; len(list) > 0; list = list[3:] {
				cell := store.Cell(list[0])
				r := store.Row{Time: cell.Bucket() * t.seconds, N: list[1]}
				if err := c.each("SELECT key FROM "+t.series+" WHERE id=?", func(s *sqlite.Stmt) error {
					r.Key = s.ColumnText(0)
					return nil
				}, cell.Series()); err != nil {
					return err
				}
				if err := f(r, list[2]); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
