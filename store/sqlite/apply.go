package sqlite

import (
	"fmt"

	"zombiezen.com/go/sqlite"

	"github.com/statscache/statscache/internal/failpoint"
	"github.com/statscache/statscache/store"
)

// owned makes sure that the checkpoint is this writer's still and gives its position.
func (w *commitment) owned(c *conn) (uint64, error) {
	k := w.p.key
	found, pos, epoch := false, int64(0), int64(0)
	if err := c.each("SELECT pos, epoch FROM checkpoint WHERE plugin=? AND generation=? AND stream=?", func(s *sqlite.Stmt) error {
		found, pos, epoch = true, s.ColumnInt64(0), s.ColumnInt64(1)
		return nil
	}, k.Plugin, k.Generation, k.Stream); err != nil {
		return 0, err
	}
	if !found || epoch != w.p.epoch {
		return 0, store.ErrFenced
	}
	return uint64(pos), nil
}

// apply writes all but the position.
func (w *commitment) apply(c *conn) error {
	k := w.p.key
	changed := map[string]bool{}
	for _, d := range w.x.Counters {
		if err := w.counters(c, d, changed); err != nil {
			return fmt.Errorf("metric %s at interval %s: %w", d.Metric, d.Interval, err)
		}
	}
	for _, put := range w.x.Puts {
		n, err := w.put(c, put)
		if err != nil {
			return fmt.Errorf("latest value of metric %s: %w", put.Metric, err)
		}
		changed[put.Metric] = changed[put.Metric] || n
	}
	for _, l := range w.x.Dead {
		if err := c.exec("INSERT INTO dead(plugin, generation, stream, seq, event, error, at) VALUES(?,?,?,?,?,?,?)",
			k.Plugin, k.Generation, k.Stream, l.Seq, l.ID, l.Error, l.At.UnixMicro()); err != nil {
			return fmt.Errorf("dead letter: %w", err)
		}
	}
	if err := w.p.d.around(failpoint.Version, func() error { return w.raise(c, changed) }); err != nil {
		return fmt.Errorf("raise versions: %w", err)
	}
	return nil
}
