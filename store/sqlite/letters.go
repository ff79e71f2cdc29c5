package sqlite

import (
	"context"
	"fmt"

	"zombiezen.com/go/sqlite"

	"github.com/statscache/statscache/store"
)

var _ store.LetterExpirer = (*DB)(nil)

// lettersPerStep is how many dead letters one transaction looks at.
const lettersPerStep = 2000

// ExpireLetters removes the dead letters of events that no block covers any more, step by step.
func (d *DB) ExpireLetters(ctx context.Context) (gone map[store.LettersOf]int, err error) {
	gone = map[store.LettersOf]int{}
	for after, more := int64(0), true; more; {
		if after, more, err = d.expireLetters(ctx, after, gone); err != nil {
			return gone, err
		}
	}
	return gone, nil
}

// expireLetters does one step behind an id and gives the last one that it looked at.
func (d *DB) expireLetters(ctx context.Context, after int64, gone map[store.LettersOf]int) (last int64, more bool, err error) {
	step := map[store.LettersOf]int{}
	err = d.write(ctx, "expire dead letters", func(c *conn) error {
		clear(step)
		type letter struct {
			id, stream, seq int64
			of              store.LettersOf
		}
		var list []letter
		last = after
		if err := c.each("SELECT d.id, s.no, d.seq, d.plugin, d.generation FROM dead d JOIN stream s ON s.id=d.stream WHERE d.id>? ORDER BY d.id LIMIT ?", func(s *sqlite.Stmt) error {
			last = s.ColumnInt64(0)
			list = append(list, letter{last, s.ColumnInt64(1), s.ColumnInt64(2), store.LettersOf{Plugin: s.ColumnText(3), Generation: uint32(s.ColumnInt64(4))}})
			return nil
		}, after, lettersPerStep); err != nil {
			return err
		}
		more = len(list) == lettersPerStep
		for _, l := range list {
			kept, err := covered(c, l.stream, l.seq)
			if err != nil {
				return err
			}
			if kept {
				continue
			}
			if err := c.exec("DELETE FROM dead WHERE id=?", l.id); err != nil {
				return err
			}
			step[l.of]++
		}
		return nil
	})
	if err != nil {
		return after, false, fmt.Errorf("expire dead letters: %w", err)
	}
	for of, n := range step {
		gone[of] += n
	}
	return last, more, nil
}

// covered says whether a block of any lane reaches over a position of a stream.
func covered(c *conn, stream, seq int64) (yes bool, err error) {
	for _, table := range []string{"blk", "hot"} {
		for lane := range lanes {
			first, err := c.int("SELECT first FROM "+table+" WHERE stream=? AND lane=? AND upto>=? ORDER BY upto LIMIT 1", stream, lane, seq)
			if err != nil || first > 0 && first <= seq {
				return first > 0, err
			}
		}
	}
	return false, nil
}
