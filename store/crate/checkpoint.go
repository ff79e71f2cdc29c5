package crate

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/statscache/statscache/internal/failpoint"
	"github.com/statscache/statscache/store"
)

type checkpointRow struct {
	pos, intent, epoch int64
	redo               string
	retired            bool
}

func (r checkpointRow) ownerEpoch() int64 { return r.epoch }

// settled is the row once everything up to its intent has been written.
func (r checkpointRow) settled() checkpointRow {
	r.pos, r.redo = r.intent, ""
	return r
}

// checkpoint is the one writer of a plugin generation over a stream.
//
// A commit is three steps: the row {pos, intent, redo} is set to the finished commit, the rows of numbers are written
// from that redo until acknowledged, the row is set to settled. Whatever breaks off in between, here or in a later
// life, is finished in this order before anything else is done.
type checkpoint struct {
	db     *DB
	key    store.CheckpointKey
	guard  guard[checkpointRow]
	series *seriesSet

	mu     sync.Mutex
	cur    held[checkpointRow] // as acknowledged
	next   *checkpointRow      // the write of which the outcome is unknown
	to     int64               // position of the commit that is under way, where it isn't settled
	plan   *plan               // that commit, where this life made it
	failed error               // what ended this writer
}

func (d *DB) checkpointGuard(k store.CheckpointKey) guard[checkpointRow] {
	const columns = "pos, intent, epoch, redo, retired, _seq_no, _primary_term"
	const byKey = " WHERE plugin = $1 AND generation = $2 AND stream = $3"
	gen := int64(k.Generation)
	scan := func(r pgx.Row) (h held[checkpointRow], err error) {
		err = r.Scan(&h.row.pos, &h.row.intent, &h.row.epoch, &h.row.redo, &h.row.retired, &h.at.seqNo, &h.at.term)
		return h, err
	}
	return guard[checkpointRow]{
		name: fmt.Sprintf("checkpoint %s/%d of %s", k.Plugin, k.Generation, k.Stream),
		read: func(ctx context.Context) (held[checkpointRow], error) {
			return scan(d.pool.QueryRow(ctx, "SELECT "+columns+" FROM checkpoints"+byKey, k.Plugin, gen, k.Stream))
		},
		create: func(ctx context.Context) error {
			_, err := d.pool.Exec(ctx, "INSERT INTO checkpoints (plugin, generation, stream, pos, intent, redo, epoch, retired) "+
				"VALUES ($1, $2, $3, 0, 0, '', 0, FALSE) ON CONFLICT (plugin, generation, stream) DO NOTHING", k.Plugin, gen, k.Stream)
			return err
		},
		take: func(ctx context.Context, at version, epoch int64) (held[checkpointRow], error) {
			return scan(d.pool.QueryRow(ctx, "UPDATE checkpoints SET epoch = $4"+byKey+" AND _seq_no = $5 AND _primary_term = $6 "+
				"RETURNING "+columns, k.Plugin, gen, k.Stream, epoch, at.seqNo, at.term))
		},
		set: func(ctx context.Context, at version, r checkpointRow) (v version, err error) {
			err = d.pool.QueryRow(ctx, "UPDATE checkpoints SET pos = $4, intent = $5, epoch = $6, redo = $7, retired = $8"+byKey+
				" AND _seq_no = $9 AND _primary_term = $10 RETURNING _seq_no, _primary_term", k.Plugin, gen, k.Stream,
				r.pos, r.intent, r.epoch, r.redo, r.retired, at.seqNo, at.term).Scan(&v.seqNo, &v.term)
			return v, err
		},
	}
}

// Checkpoint takes a key over from whoever had it and finishes what was broken off, from the row's redo.
func (d *DB) Checkpoint(ctx context.Context, key store.CheckpointKey) (store.Checkpoint, error) {
	if err := errors.Join(checkName("plugin", key.Plugin), checkName("stream", key.Stream)); err != nil {
		return nil, err
	}
	metrics, err := d.metricsOf(ctx, key.Plugin, key.Generation)
	if err != nil {
		return nil, err
	}
	if err := d.finishLoose(ctx, key.Plugin, key.Generation, repairStream); err != nil {
		return nil, err
	}
	if err := d.finishLoose(ctx, key.Plugin, key.Generation, revivePrefix+key.Stream); err != nil {
		return nil, err
	}
	c := &checkpoint{db: d, key: key, guard: d.checkpointGuard(key)}
	c.series = newSeriesSet(metrics, func(ctx context.Context, m store.Metric) (map[string]bool, error) {
		return d.loadSeries(ctx, m, key.Generation)
	})
	c.cur, err = acquire(ctx, d, c.guard, func(r checkpointRow) error {
		if r.retired {
			return fmt.Errorf("%w: it is retired", store.ErrFenced)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	// The generation may have been given up in between, and its checkpoints removed: the one made here would stay.
	if _, err := d.metricsOf(ctx, key.Plugin, key.Generation); err != nil {
		return nil, errors.Join(err, d.forget(ctx, key))
	}
	if err := c.finish(ctx); err != nil {
		return nil, err
	}
	if err := d.refresh(ctx, "counters"); err != nil {
		return nil, err
	}
	for _, m := range c.series.metrics {
		if m.stored, err = d.countSeries(ctx, m.def, key.Generation); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// forget removes the checkpoint of a generation that is no more.
func (d *DB) forget(ctx context.Context, key store.CheckpointKey) error {
	return d.exec(ctx, "remove a checkpoint", "DELETE FROM checkpoints WHERE plugin = $1 AND generation = $2 AND stream = $3",
		key.Plugin, int64(key.Generation), key.Stream)
}

// Pos is the last position committed.
func (c *checkpoint) Pos() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return uint64(c.cur.row.pos)
}

// Series gives a key's number.
func (c *checkpoint) Series(metric, key string) (uint32, error) { return c.series.give(metric, key) }

// Close ends the writer. What it left undone the next one finishes.
func (c *checkpoint) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed == nil {
		c.failed = errors.New("the checkpoint is closed")
	}
	return nil
}

// Commit makes the commit durable in the checkpoint's row, then writes its rows. After an error the same position must
// be committed again: the earlier commit may be durable, and is the one that counts then.
func (c *checkpoint) Commit(ctx context.Context, m *store.Commit) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.commit(ctx, m)
	if errors.Is(err, store.ErrFenced) {
		c.failed = err
	}
	if err != nil {
		return fmt.Errorf("commit of %s up to %d: %w", c.guard.name, m.To, err)
	}
	return nil
}

func (c *checkpoint) commit(ctx context.Context, m *store.Commit) error {
	if c.failed != nil {
		return c.failed
	}
	to, err := position(m.To)
	if err != nil {
		return err
	}
	row := c.cur.row
	switch {
	case to <= row.pos:
		return nil // done before
	case c.next != nil || row.redo != "":
		if to != c.to {
			return fmt.Errorf("the commit up to %d has not been answered for: repeat that one first", c.to)
		}
		return c.finish(ctx)
	}
	p := &plan{Version: planVersion, From: row.intent, To: to}
	if err := errors.Join(p.addCounts(c.series, m.Counters, c.db.horizonMap()), p.addPuts(c.series, m.Puts), p.addDead(m.Dead)); err != nil {
		return err
	}
	c.db.commits.wait(ctx)
	next := row
	next.pos, next.intent = row.intent, to
	if p.empty() {
		next.pos = to
	} else if next.redo, err = p.encode(); err != nil {
		return err
	}
	c.next, c.to, c.plan = &next, to, p
	if err := c.db.around(failpoint.Commit, func() error { return c.write(ctx) }); err != nil { // durable from here on
		return err
	}
	return c.finish(ctx)
}

// finish does what is left of a commit.
func (c *checkpoint) finish(ctx context.Context) error {
	if err := c.write(ctx); err != nil {
		return err
	}
	if c.cur.row.redo == "" {
		return nil
	}
	c.to = c.cur.row.intent
	p := c.plan
	if p == nil { // of an earlier life: the row says what it was
		var err error
		if p, err = decodePlan(c.cur.row.redo, c.cur.row); err != nil {
			return err
		}
	}
	if err := c.db.around(failpoint.Version, func() error { return c.db.send(ctx, c.key, p) }); err != nil { // rows, then versions
		return err
	}
	settled := c.cur.row.settled()
	c.next, c.plan = &settled, nil
	return c.write(ctx)
}

func (c *checkpoint) write(ctx context.Context) error {
	if c.next == nil {
		return nil
	}
	h, err := write(ctx, c.db, c.guard, c.cur, *c.next)
	if err != nil {
		return err
	}
	c.cur, c.next = h, nil
	return nil
}

// Positions lists how far a generation has come in every stream.
func (d *DB) Positions(ctx context.Context, plugin string, generation uint32) ([]store.Position, error) {
	if err := d.refresh(ctx, "checkpoints"); err != nil {
		return nil, err
	}
	var out []store.Position
	err := d.query(ctx, "list checkpoints", func() { out = nil }, func(r pgx.Rows) error {
		var p store.Position
		var pos, intent int64
		err := r.Scan(&p.Stream, &pos, &intent)
		p.Pos, p.Intent = uint64(pos), uint64(intent)
		out = append(out, p)
		return err
	}, "SELECT stream, pos, intent FROM checkpoints WHERE plugin = $1 AND generation = $2 AND "+ownStreams+" ORDER BY stream",
		plugin, int64(generation), repairStream)
	return out, err
}
