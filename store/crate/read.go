package crate

import (
	"context"
	"fmt"

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
	err = d.query(ctx, "read events", func() { list = list[:0] }, func(rows pgx.Rows) error {
		e, err := scanEvent(rows)
		list = append(list, e)
		return err
	}, "SELECT "+eventColumns+" FROM events WHERE stream = $1 AND seq > $2 AND seq <= $3 ORDER BY seq LIMIT $4",
		r.Stream, int64(r.After), to, limit)
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

// bodies reads the bodies of the events in the list, which have no gaps between them but holes.
func (d *DB) bodies(ctx context.Context, stream string, list []event) error {
	if len(list) == 0 {
		return nil
	}
	n := 0
	err := d.query(ctx, "read bodies", func() { n = 0 }, func(rows pgx.Rows) error {
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
		err = fmt.Errorf("stream %s: %d bodies of %d events were found", stream, n, len(list))
	}
	return err
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
