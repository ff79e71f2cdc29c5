package sqlite

import (
	"context"

	"zombiezen.com/go/sqlite"

	"github.com/statscache/statscache/store"
)

var _ store.SeriesUser = (*DB)(nil)

// SeriesUse gives how many series the serving metrics have. Numbers are given in order, so the last one says it.
func (d *DB) SeriesUse(ctx context.Context) (map[string]store.SeriesUse, error) {
	out := map[string]store.SeriesUse{}
	err := d.read(ctx, "numbers of series", func(c *conn) error {
		var list []metricKey
		var nos []int64
		if err := c.each("SELECT m.no, m.plugin, m.generation, m.id FROM metric m JOIN plugin p ON p.id=m.plugin AND p.serving=m.generation", func(s *sqlite.Stmt) error {
			nos = append(nos, s.ColumnInt64(0))
			list = append(list, metricKey{s.ColumnText(1), uint32(s.ColumnInt64(2)), s.ColumnText(3)})
			return nil
		}); err != nil {
			return err
		}
		for i, key := range list {
			def, err := readDefinition(c, key)
			if err != nil {
				return err
			}
			if def.Kind != store.Counter {
				continue
			}
			m := newMetric(nos[i], def)
			n, err := c.int("SELECT max(id) FROM " + m.series.table)
			if err != nil {
				return err
			}
			out[key.id] = store.SeriesUse{Series: int(n), Limit: int(m.series.limit)}
		}
		return nil
	})
	return out, err
}
