package crate

import (
	"context"
	"fmt"
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

// Read gives events of a stream, the bodies after the rest: so that never more of them is held than a few blocks' worth.
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
	var list []event
	err = d.whole(ctx, "read events", func(ctx context.Context) error {
		list = list[:0]
		return d.queryOnce(ctx, func(rows pgx.Rows) error {
			e, err := scanEvent(rows)
			list = append(list, e)
			return err
		}, "SELECT "+eventColumns+" FROM events WHERE stream = $1 AND seq > $2 AND seq <= $3 ORDER BY seq LIMIT $4",
			r.Stream, int64(r.After), to, limit)
	})
	if err != nil {
		return nil, 0, err
	}
	upto := uint64(to)
	if len(list) == limit {
		upto = uint64(list[limit-1].seq)
	}
	if r.Bodies {
		var all bool
		if list, all = cut(list); !all {
			upto = uint64(list[len(list)-1].seq)
		}
		if err := d.bodies(ctx, r.Stream, list); err != nil {
			return nil, 0, err
		}
	}
	blocks, err := build(list, r.After+1, upto, r.Bodies)
	return blocks, upto, err
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

// bodies reads the bodies of the events in the list, between which there is nothing but holes. Each must be there.
func (d *DB) bodies(ctx context.Context, stream string, list []event) error {
	if len(list) == 0 {
		return nil
	}
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
		}, "SELECT seq, body FROM events WHERE stream = $1 AND seq >= $2 AND seq <= $3 ORDER BY seq",
			stream, list[0].seq, list[len(list)-1].seq)
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
