package sqlite

import (
	"context"
	"fmt"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/statscache/statscache/store"
)

var (
	_ store.Requeuer = (*DB)(nil)
	_ store.Reviver  = (*checkpoint)(nil)
)

// buriedQuery pages by an index: a requeue asks for page after page, and nothing is counted meanwhile.
const buriedQuery = "SELECT stream, seq, event, error, at FROM dead WHERE plugin=? AND generation=? AND (stream, seq)>(?,?) ORDER BY stream, seq LIMIT ?"

// Buried lists the dead letters of one generation by place.
func (d *DB) Buried(ctx context.Context, plugin string, generation uint32, after store.Place, limit int) (list []store.StreamDeadLetter, total int, err error) {
	err = d.read(ctx, "dead letters of plugin "+plugin, func(c *conn) error {
		n, err := c.int("SELECT count(*) FROM dead WHERE plugin=? AND generation=?", plugin, generation)
		if total = int(n); err != nil {
			return err
		}
		return c.each(buriedQuery, func(s *sqlite.Stmt) error {
			list = append(list, store.StreamDeadLetter{Stream: s.ColumnText(0), DeadLetter: store.DeadLetter{
				Seq: uint64(s.ColumnInt64(1)), ID: s.ColumnText(2), Error: s.ColumnText(3), At: time.UnixMicro(s.ColumnInt64(4)).UTC()}})
			return nil
		}, plugin, generation, after.Stream, after.Seq, max(limit, 0))
	})
	return list, total, err
}

// Revive counts events that were dead letters, in one transaction.
func (p *checkpoint) Revive(ctx context.Context, r *store.Revival) error {
	op := fmt.Sprintf("take back dead letters of plugin %s over stream %s", p.key.Plugin, p.key.Stream)
	if p.shut.Load() {
		return fmt.Errorf("%s: checkpoint is closed", op)
	}
	x := &store.Commit{Counters: r.Counters, Puts: r.Puts, Dead: r.Dead}
	if err := r.Check(); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	if err := p.check(x); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	w := commitment{p: p, x: x, written: map[*dictionary]bool{}, versions: map[string]uint64{}}
	if err := p.d.write(ctx, op, func(c *conn) error { return w.revive(c, r.Taken) }); err != nil {
		return err
	}
	p.d.publish(w.versions)
	return nil
}

// revive does it.
func (w *commitment) revive(c *conn, taken []store.DeadLetter) error {
	if _, err := w.owned(c); err != nil {
		return err
	}
	k, gone := w.p.key, 0
	for _, l := range taken {
		if err := c.exec("DELETE FROM dead WHERE plugin=? AND generation=? AND stream=? AND seq=? AND at=?",
			k.Plugin, k.Generation, k.Stream, l.Seq, l.At.UnixMicro()); err != nil {
			return fmt.Errorf("dead letter: %w", err)
		}
		gone += c.c.Changes()
	}
	switch gone {
	case 0:
		return w.p.d.loadVersions(c) // an earlier call got through although it seemed to fail: those that it raised
	case len(taken):
		return w.apply(c)
	}
	return fmt.Errorf("%d of %d dead letters are there: %w", gone, len(taken), store.ErrMoved)
}
