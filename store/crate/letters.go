package crate

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/statscache/statscache/store"
)

var _ store.LetterExpirer = (*DB)(nil)

// letterGroup is the dead letters of a generation in one stream.
type letterGroup struct {
	of     store.LettersOf
	stream string
}

// letterRow is a row of dead_letters: a letter, what is left of one that was taken back (no id), or one that tells of a row
// and no event (an empty id).
type letterRow struct {
	seq int64
	id  *string
}

// ExpireLetters removes the rows of events that are archived no more, also those of letters that were taken back. A
// statement that comes late may make a letter again; the next call removes it.
func (d *DB) ExpireLetters(ctx context.Context) (gone map[store.LettersOf]int, err error) {
	gone = map[store.LettersOf]int{}
	if err := d.refresh(ctx, "dead_letters"); err != nil {
		return gone, err
	}
	var groups []letterGroup
	err = d.query(ctx, "list dead letters", func() { groups = nil }, func(r pgx.Rows) error {
		var g letterGroup
		var generation int64
		err := r.Scan(&g.of.Plugin, &generation, &g.stream)
		g.of.Generation = uint32(generation)
		groups = append(groups, g)
		return err
	}, "SELECT plugin, generation, stream FROM dead_letters GROUP BY 1, 2, 3 ORDER BY 1, 2, 3")
	if err != nil || len(groups) == 0 {
		return gone, err
	}
	if err := d.refresh(ctx, "events"); err != nil {
		return gone, err
	}
	for _, g := range groups {
		if err := d.expireGroup(ctx, g, gone); err != nil {
			return gone, fmt.Errorf("expire dead letters: %w", err)
		}
	}
	return gone, nil
}

// expireGroup looks through the letters of a group, some at a time.
func (d *DB) expireGroup(ctx context.Context, g letterGroup, gone map[store.LettersOf]int) error {
	first, err := d.firstArchived(ctx, g.stream)
	if err != nil {
		return err
	}
	for after, more := int64(-1), true; more; {
		var list []letterRow
		err := d.query(ctx, "read dead letters", func() { list = nil }, func(r pgx.Rows) error {
			var x letterRow
			err := r.Scan(&x.seq, &x.id)
			list = append(list, x)
			return err
		}, "SELECT seq, id FROM dead_letters WHERE plugin = $1 AND generation = $2 AND stream = $3 AND seq > $4 ORDER BY seq LIMIT $5",
			g.of.Plugin, int64(g.of.Generation), g.stream, after, int64(sendRows))
		if err != nil {
			return err
		}
		if more = len(list) == sendRows; len(list) > 0 {
			after = list[len(list)-1].seq
		}
		if err := d.expireSome(ctx, g, list, first, gone); err != nil {
			return err
		}
	}
	return nil
}

// expireSome removes those of a list whose events are gone. A row without an event goes with the last event before it.
func (d *DB) expireSome(ctx context.Context, g letterGroup, list []letterRow, first *int64, gone map[store.LettersOf]int) error {
	seqs := make([]int64, len(list))
	for i, x := range list {
		seqs[i] = x.seq
	}
	there, err := d.archivedOf(ctx, g.stream, seqs)
	if err != nil {
		return err
	}
	var remove []int64
	letters := 0
	for _, x := range list {
		if there[x.seq] || x.id != nil && *x.id == "" && first != nil && *first <= x.seq {
			continue
		}
		remove = append(remove, x.seq)
		if x.id != nil {
			letters++
		}
	}
	if len(remove) == 0 {
		return nil
	}
	if err := d.exec(ctx, "remove dead letters", "DELETE FROM dead_letters WHERE plugin = $1 AND generation = $2 AND stream = $3 AND seq = ANY($4::bigint[])",
		g.of.Plugin, int64(g.of.Generation), g.stream, remove); err != nil {
		return err
	}
	if letters > 0 {
		gone[g.of] += letters
	}
	return nil
}

// firstArchived gives the first position of a stream that has an event; nil where none has.
func (d *DB) firstArchived(ctx context.Context, stream string) (first *int64, err error) {
	err = d.whole(ctx, "look for the first event of "+stream, func(ctx context.Context) error {
		return d.queryOnce(ctx, func(r pgx.Rows) error { return r.Scan(&first) }, "SELECT min(seq) FROM events WHERE stream = $1", stream)
	})
	return first, err
}

// archivedOf says which of some positions of a stream have an event.
func (d *DB) archivedOf(ctx context.Context, stream string, seqs []int64) (there map[int64]bool, err error) {
	err = d.whole(ctx, "look for the events of dead letters", func(ctx context.Context) error {
		there = map[int64]bool{}
		return d.queryOnce(ctx, func(r pgx.Rows) error {
			var seq int64
			err := r.Scan(&seq)
			there[seq] = true
			return err
		}, "SELECT seq FROM events WHERE stream = $1 AND seq = ANY($2::bigint[])", stream, seqs)
	})
	return there, err
}
