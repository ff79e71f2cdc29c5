package crate

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
)

const (
	defaultRead = block.MaxEvents
	leastRead   = block.FrameEvents
	mostRead    = 16 * block.MaxEvents // events answered at once, however many are asked for
)

const eventColumns = "id, ts, seq, topic, category, users, packages, agent, source, signed, untimed, received, backfill, size, exact"

func scanEvent(r pgx.Rows) (e event, err error) {
	err = r.Scan(&e.id, &e.ts, &e.seq, &e.topic, &e.category, &e.users, &e.packages, &e.agent, &e.source, &e.signed, &e.untimed,
		&e.received, &e.backfill, &e.size, &e.exact)
	return e, err
}

// Read gives events of a stream.
func (d *DB) Read(ctx context.Context, r store.ReadRequest) ([]*block.Block, uint64, error) {
	to, err := d.archivedTo(ctx, r.Stream)
	if err != nil {
		return nil, 0, err
	}
	if r.After >= uint64(to) {
		return nil, r.After, nil
	}
	limit := defaultRead
	if r.Events > 0 {
		limit = min(max(r.Events, leastRead), mostRead) // a few more cost nothing beside the round trips
	}
	sel := selection{"stream = $1 AND seq <= $2", []any{r.Stream, to}}
	blocks, upto, more, err := d.readBlocks(ctx, sel, r.After, limit, r.Bodies)
	if err != nil || more {
		return blocks, upto, err
	}
	if n := len(blocks); n > 0 {
		blocks[n-1].Upto = uint64(to)
	}
	return blocks, uint64(to), nil
}

// selection is a condition on events of one stream.
type selection struct {
	where string
	args  []any
}

// and adds a condition on seq; seqs are given in the order of the text.
func (s selection) and(format string, seqs ...int64) selection {
	numbers := make([]any, len(seqs))
	args := slices.Clone(s.args)
	for i, x := range seqs {
		args = append(args, x)
		numbers[i] = len(args)
	}
	return selection{s.where + " AND " + fmt.Sprintf(format, numbers...), args}
}

// readBlocks reads events of a selection after a position, the bodies after the rest: so that never more of them is
// held than a few blocks' worth. Everything up to the position that it gives is there; more says that there may be
// more behind it.
func (d *DB) readBlocks(ctx context.Context, sel selection, after uint64, limit int, bodies bool) (blocks []*block.Block, upto uint64, more bool, err error) {
	var list []event
	part := sel.and("seq > $%d", int64(after))
	err = d.whole(ctx, "read events", func(ctx context.Context) error {
		list = list[:0]
		return d.queryOnce(ctx, func(rows pgx.Rows) error {
			e, err := scanEvent(rows)
			list = append(list, e)
			return err
		}, "SELECT "+eventColumns+" FROM events WHERE "+part.where+" ORDER BY seq LIMIT "+strconv.Itoa(limit), part.args...)
	})
	if err != nil || len(list) == 0 {
		return nil, after, false, err
	}
	more = len(list) == limit
	if bodies {
		var all bool
		if list, all = cut(list); !all {
			more = true
		}
		if err := d.bodies(ctx, sel, list); err != nil {
			return nil, 0, false, err
		}
	}
	upto = uint64(list[len(list)-1].seq)
	blocks, err = build(list, after+1, upto, bodies)
	return blocks, upto, more, err
}

// cut ends a list of events where their bodies make four full blocks; one event is always left.
func cut(list []event) ([]event, bool) {
	size := 0
	for i, e := range list {
		if size += int(e.size); size > 4*block.MaxBytes && i > 0 {
			return list[:i], false
		}
	}
	return list, true
}

// bodies reads the bodies of the events in the list, between which the selection has none. Each must be there.
func (d *DB) bodies(ctx context.Context, sel selection, list []event) error {
	sel = sel.and("seq >= $%d AND seq <= $%d", list[0].seq, list[len(list)-1].seq)
	return d.retry(ctx, "read bodies", func(ctx context.Context) error {
		n := 0
		err := d.queryOnce(ctx, func(rows pgx.Rows) error {
			var seq int64
			if n >= len(list) {
				return fmt.Errorf("%w: more bodies than events", errShort)
			}
			if err := rows.Scan(&seq, &list[n].body); err != nil {
				return err
			}
			if seq != list[n].seq {
				return fmt.Errorf("%w: body of %d where that of %d should be", errShort, seq, list[n].seq)
			}
			n++
			return nil
		}, "SELECT seq, body FROM events WHERE "+sel.where+" ORDER BY seq", sel.args...)
		if err == nil && n != len(list) {
			err = fmt.Errorf("%w: %d bodies of %d events", errShort, n, len(list))
		}
		return err
	})
}

// whole repeats a search of the events until it is sure to have seen all partitions. CrateDB leaves out a partition of
// which no shard is active, without an error (DocTableInfo.getRouting tells RoutingProvider to ignore missing shards
// of partitioned tables): for seconds after a node has died its events are not there, and a feeder would pass them
// over. A primary shard that was away in between has a higher term afterwards, so a search between two looks at the
// same complete list of terms was whole.
func (d *DB) whole(ctx context.Context, what string, search func(context.Context) error) error {
	return d.retry(ctx, what, func(ctx context.Context) error {
		before := d.shards.Load()
		if before == nil {
			now, err := d.primaries(ctx)
			if err != nil {
				return err
			}
			before = &now
		}
		if err := search(ctx); err != nil {
			return err
		}
		now, err := d.primaries(ctx)
		if err != nil {
			d.shards.Store(nil)
			return err
		}
		d.shards.Store(&now)
		if *before != now {
			return fmt.Errorf("%w: the shards have changed meanwhile", errShort)
		}
		return nil
	})
}

// primaries lists the events' active primary shards with their terms; an error where one is not active.
func (d *DB) primaries(ctx context.Context) (string, error) {
	var want, got int
	err := d.queryOnce(ctx, func(r pgx.Rows) error { return r.Scan(&want) },
		"SELECT coalesce(sum(number_of_shards), 0)::int FROM information_schema.table_partitions "+
			"WHERE table_schema = CURRENT_SCHEMA AND table_name = 'events'")
	if err != nil {
		return "", err
	}
	var list strings.Builder
	err = d.queryOnce(ctx, func(r pgx.Rows) error {
		var part string
		var shard, term int64
		if err := r.Scan(&part, &shard, &term); err != nil {
			return err
		}
		got++
		fmt.Fprintf(&list, "%s %d %d\n", part, shard, term)
		return nil
	}, "SELECT partition_ident, id, retention_leases['primary_term']::bigint FROM sys.shards WHERE schema_name = CURRENT_SCHEMA AND "+
		"table_name = 'events' AND \"primary\" AND state = 'STARTED' AND retention_leases['primary_term'] IS NOT NULL ORDER BY 1, 2")
	if err == nil && got != want {
		err = fmt.Errorf("%w: %d of the events' %d shards are active", errShort, got, want)
	}
	return list.String(), err
}

// build makes blocks of events in order; together they cover first to upto. A block ends where it is full, where the
// lane changes, and where a topic comes with another category than before: a block has one for each.
func build(list []event, first, upto uint64, bodies bool) ([]*block.Block, error) {
	var out []*block.Block
	category := map[string]string{}
	w := block.NewBuilder(func(topic string) string { return category[topic] })
	c := block.Cover{First: first, Bodies: bodies}
	flush := func(end uint64) {
		c.Upto = end
		out = append(out, w.Restore(c))
		c = block.Cover{First: end + 1, Bodies: bodies}
		clear(category)
	}
	for i := range list {
		e, cat, err := list[i].restore(bodies)
		if err != nil {
			return nil, err
		}
		known, ok := category[string(e.Topic)]
		if w.Len() > 0 && (w.Full(len(e.Body)) || c.Backfill != list[i].backfill || ok && known != cat) {
			flush(c.Seqs[len(c.Seqs)-1])
		}
		category[string(e.Topic)] = cat
		c.Backfill = list[i].backfill
		c.Seqs, c.Received = append(c.Seqs, uint64(list[i].seq)), append(c.Received, list[i].received)
		w.Add(&e)
	}
	if w.Len() > 0 {
		flush(upto)
	}
	return out, nil
}
