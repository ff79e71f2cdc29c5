package crate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/statscache/statscache/store"
)

var (
	_ store.Requeuer = (*DB)(nil)
	_ store.Reviver  = (*checkpoint)(nil)
)

// revivePrefix, before a stream's name, is the slot of what was a dead letter there, and the name of the checkpoint of
// all that: a revival is a commit of it, so that it happens once and whole, and moves no position of the stream. No inbox
// has such a name.
const revivePrefix = "(revive) "

// ownStreams chooses the checkpoints of streams; its parameter is store.Loose.
const ownStreams = "stream <> $3 AND left(stream, 9) <> '" + revivePrefix + "'"

// A letter that was taken back stays as a row without an id, later than the letter: a statement that comes late does
// nothing to it. One with an empty id tells of a row and no event (see badrows.go): there is nothing to give to anybody.
const (
	letterThere  = "id IS NOT NULL"
	letterEvents = "id <> ''"
)

// lettersOf is the stream in which the letters of a checkpoint stand.
func lettersOf(stream string) string { return strings.TrimPrefix(stream, revivePrefix) }

// Buried lists the dead letters of one generation by place.
func (d *DB) Buried(ctx context.Context, plugin string, generation uint32, after store.Place, limit int) (list []store.StreamDeadLetter, total int, err error) {
	if list, err = d.letters(ctx, plugin, generation, after, limit, letterEvents); err != nil {
		return nil, 0, err
	}
	err = d.query(ctx, "count dead letters", func() {}, func(r pgx.Rows) error { return r.Scan(&total) },
		"SELECT count(*)::int FROM dead_letters WHERE plugin = $1 AND generation = $2 AND "+letterEvents, plugin, int64(generation))
	return list, total, err
}

// letters lists dead letters of one generation by place.
func (d *DB) letters(ctx context.Context, plugin string, generation uint32, after store.Place, limit int, which string) (list []store.StreamDeadLetter, err error) {
	seq, err := position(after.Seq)
	if err != nil {
		return nil, err
	}
	if err := d.refresh(ctx, "dead_letters"); err != nil {
		return nil, err
	}
	err = d.query(ctx, "read dead letters", func() { list = nil }, func(r pgx.Rows) error {
		l, err := scanLetter(r)
		list = append(list, l)
		return err
	}, "SELECT stream, seq, id, error, at FROM dead_letters WHERE plugin = $1 AND generation = $2 AND (stream > $3 OR stream = $3 AND seq > $4) "+
		"AND "+which+" ORDER BY stream, seq LIMIT $5", plugin, int64(generation), after.Stream, seq, int64(max(limit, 0)))
	return list, err
}

func scanLetter(r pgx.Rows) (l store.StreamDeadLetter, err error) {
	var seq, at int64
	err = r.Scan(&l.Stream, &seq, &l.ID, &l.Error, &at)
	l.Seq, l.At = uint64(seq), time.UnixMicro(at).UTC()
	return l, err
}

// Revive counts events that were dead letters. The checkpoint of revivals is taken anew each time, which finishes what was
// broken off; from there on whoever takes it as well makes this one's write fail, so that what is read of the letters in
// between is what they are when it is written.
func (c *checkpoint) Revive(ctx context.Context, r *store.Revival) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.revive(ctx, r)
	if errors.Is(err, store.ErrFenced) {
		c.failed = err
	}
	if err != nil {
		return fmt.Errorf("take back dead letters of %s: %w", c.guard.name, err)
	}
	return nil
}

func (c *checkpoint) revive(ctx context.Context, r *store.Revival) error {
	if c.failed != nil {
		return c.failed
	}
	if err := r.Check(); err != nil {
		return err
	}
	for {
		if err := c.owns(ctx); err != nil {
			return err
		}
		w, err := c.db.looseWriter(ctx, c.key.Plugin, c.key.Generation, revivePrefix+c.key.Stream)
		if err == nil {
			err = w.finish(ctx)
		}
		if err == nil {
			err = c.reviveBy(ctx, w, r)
		}
		if !errors.Is(err, store.ErrFenced) {
			return err
		}
		// Somebody else has taken the revivals: the owner, if this one is none any more, or a former one that is late.
	}
}

// owns says whether this is the stream's writer still.
func (c *checkpoint) owns(ctx context.Context) error {
	return c.db.retry(ctx, "read "+c.guard.name, func(ctx context.Context) error {
		now, err := c.guard.read(ctx)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return fmt.Errorf("%w: %w: it is gone", errGivenUp, store.ErrFenced)
		case err == nil && now.row.epoch > c.cur.row.epoch:
			return fmt.Errorf("%w: %w: its epoch is %d, ours %d", errGivenUp, store.ErrFenced, now.row.epoch, c.cur.row.epoch)
		}
		return err
	})
}

// reviveBy does it as the commit of a writer that has nothing left to finish.
func (c *checkpoint) reviveBy(ctx context.Context, w *checkpoint, r *store.Revival) error {
	there, err := c.taken(ctx, r.Taken)
	switch {
	case err != nil:
		return err
	case there == 0:
		return nil // done before
	case there < len(r.Taken):
		return fmt.Errorf("%d of %d dead letters are there: %w", there, len(r.Taken), store.ErrMoved)
	}
	row := w.cur.row
	p := &plan{Version: planVersion, From: row.intent, To: row.intent + 1}
	if err := errors.Join(p.addCounts(c.series, r.Counters, c.db.horizonMap()), p.addPuts(c.series, r.Puts), p.addDead(r.Dead)); err != nil {
		return err
	}
	if err := p.addGone(r.Taken); err != nil {
		return err
	}
	c.db.commits.wait(ctx)
	next := row
	next.pos, next.intent = row.intent, p.To
	if next.redo, err = p.encode(); err != nil {
		return err
	}
	w.next, w.to, w.plan = &next, p.To, p
	return w.finish(ctx)
}

// taken counts the letters that are there as they were given.
func (c *checkpoint) taken(ctx context.Context, list []store.DeadLetter) (n int, err error) {
	if err := c.db.refresh(ctx, "dead_letters"); err != nil {
		return 0, err
	}
	at, seqs := map[int64]int64{}, make([]int64, len(list))
	for i, l := range list {
		if seqs[i], err = position(l.Seq); err != nil {
			return 0, err
		}
		at[seqs[i]] = l.At.UnixMicro()
	}
	for part := range slices.Chunk(seqs, sendRows) {
		found := 0
		err := c.db.query(ctx, "look for dead letters", func() { found = 0 }, func(r pgx.Rows) error {
			var seq, now int64
			err := r.Scan(&seq, &now)
			if now == at[seq] {
				found++
			}
			return err
		}, "SELECT seq, at FROM dead_letters WHERE plugin = $1 AND generation = $2 AND stream = $3 AND seq = ANY($4::bigint[]) AND "+letterThere,
			c.key.Plugin, int64(c.key.Generation), c.key.Stream, part)
		if n += found; err != nil {
			return 0, err
		}
	}
	return n, nil
}

// addGone notes the letters that are taken: those that are dead again get a later time than before, whatever the clock
// says, the others leave a row that says so.
func (p *plan) addGone(taken []store.DeadLetter) error {
	again := map[int64]int{}
	for i, l := range p.Dead {
		again[l.Seq] = i
	}
	for _, l := range taken {
		seq, err := position(l.Seq)
		if err != nil {
			return err
		}
		later := l.At.UnixMicro() + 1
		if i, ok := again[seq]; ok {
			p.Dead[i].At = max(p.Dead[i].At, later)
			continue
		}
		p.Dead = append(p.Dead, deadPlan{Seq: seq, At: later, Gone: true})
	}
	return nil
}
