package crate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
)

const (
	insertEvents = 500     // events in one batch of statements
	insertBytes  = 4 << 20 // bodies in one batch
	inFlight     = 4       // batches and statements sent side by side
	// A statement's text is at most 262,144 characters, keys are at most maxKeyID bytes, each quote twice.
	lookUp = 200
)

const insertEvent = "INSERT INTO events (part, id, ts, stream, seq, topic, category, users, packages, agent, source, signed, " +
	"untimed, received, backfill, size, exact, body) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, " +
	"$16, $17, $18) ON CONFLICT (part, id) DO NOTHING"

func (e *event) args(stream string) []any {
	return []any{e.part, e.id, e.ts, stream, e.seq, e.topic, e.category, e.users, e.packages, e.agent, e.source, e.signed,
		e.untimed, e.received, e.backfill, e.size, e.exact, e.body}
}

// Archive inserts what isn't there yet, refreshes the partitions it touched and only then moves archived_to. An event
// is ours when the insert says so, or when the row that stands in its way holds our stream and position: then it was
// an earlier attempt of our own that nobody had acknowledged.
func (d *DB) Archive(ctx context.Context, stream string, blocks []*block.Block) ([]store.Archived, error) {
	s, err := d.attached(stream)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// The same call again after an announcement without an answer begins where that one did, so that its caller learns
	// what is owned; any other call begins behind it.
	if s.next != nil && (len(blocks) == 0 || int64(blocks[len(blocks)-1].Upto) != s.next.archivedTo) {
		if err := s.announce(ctx, d, stream, *s.next); err != nil {
			return nil, err
		}
	}
	from := s.cur.row.archivedTo
	if err := follow(blocks, uint64(from)); err != nil {
		return nil, fmt.Errorf("stream %s: %w", stream, err)
	}
	out := make([]store.Archived, len(blocks))
	to, sum, parts := from, int64(0), map[int32]bool{}
	for i, b := range blocks {
		owned, err := d.own(ctx, stream, b, uint64(from), parts, &out[i])
		if err != nil {
			return nil, fmt.Errorf("stream %s, block at %d: %w", stream, b.First, err)
		}
		if out[i].Owned, err = b.Keep(owned); err != nil {
			return nil, fmt.Errorf("stream %s, block at %d: %w", stream, b.First, err)
		}
		to, sum = max(to, int64(b.Upto)), sum+int64(out[i].Owned.Len())
	}
	if to == from {
		return out, nil
	}
	for _, part := range slices.Sorted(maps.Keys(parts)) {
		if err := d.exec(ctx, "refresh events", fmt.Sprintf("REFRESH TABLE events PARTITION (part = %d)", part)); err != nil {
			return nil, err
		}
	}
	return out, s.announce(ctx, d, stream, s.reaching(to, sum))
}

// follow checks that blocks go on where the stream stands.
func follow(blocks []*block.Block, at uint64) error {
	for _, b := range blocks {
		if _, err := position(b.Upto); err != nil {
			return err
		}
		if b.First > at+1 {
			return fmt.Errorf("block at %d does not follow position %d", b.First, at)
		}
		at = max(at, b.Upto)
	}
	return nil
}

// own inserts the events of a block that lie above a position and marks the ones that are ours. A batch is of one
// partition: where it makes a new one beside others, CrateDB 6.4.3 answers for its items in another order without
// saying so (TestServer_BatchOfSeveralPartitions_MixesAnswers).
func (d *DB) own(ctx context.Context, stream string, b *block.Block, above uint64, parts map[int32]bool, out *store.Archived) ([]bool, error) {
	owned := make([]bool, b.Len())
	if b.Upto <= above || b.Len() == 0 {
		return owned, nil
	}
	ids, err := b.IDs()
	if err != nil {
		return nil, err
	}
	bodies, err := b.Bodies()
	if err != nil {
		return nil, err
	}
	byPart, seen := map[int32][]pending{}, map[place]bool{}
	for i := range owned {
		if b.Seq(i) > above {
			e := eventOf(b, i, ids[i], bodies[i])
			if seen[place{e.part, e.id}] {
				continue // the first of several copies is the one, whichever batch were to come first
			}
			seen[place{e.part, e.id}] = true
			byPart[e.part] = append(byPart[e.part], pending{e, &owned[i]})
			parts[e.part] = true
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(inFlight)
	for _, list := range byPart {
		for len(list) > 0 {
			n, size := 0, 0
			for n < min(len(list), insertEvents) && size < insertBytes {
				size += len(list[n].body)
				n++
			}
			batch := list[:n]
			list = list[n:]
			g.Go(func() error { return d.insert(gctx, stream, batch) })
		}
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for i, mine := range owned {
		if !mine && b.Seq(i) > above {
			out.Duplicates++
		}
	}
	return owned, nil
}

// place is an event's primary key.
type place struct {
	part int32
	id   string
}

// pending is an event that is being inserted and the place for the answer whether it is ours.
type pending struct {
	event
	owned *bool
}

// insert repeats a batch for whatever of it is not known to be in the table, and finds out whose the rest is.
func (d *DB) insert(ctx context.Context, stream string, todo []pending) error {
	return d.retry(ctx, "insert events", func(ctx context.Context) error {
		left, there, err := d.insertOnce(ctx, stream, todo)
		todo = slices.Concat(left, there)
		if err != nil {
			return err
		}
		for part := range slices.Chunk(there, lookUp) {
			gone, err := d.whose(ctx, stream, part)
			if err != nil {
				return err // asked again from the insert on: those answers don't change
			}
			left = append(left, gone...)
		}
		if todo = left; len(todo) > 0 {
			return fmt.Errorf("%w: %d rows that stood in the way are gone", errShort, len(todo))
		}
		return nil
	})
}

// insertOnce sends the events as one batch of one statement: with texts mixed the answers come back in another order.
// left is what was not answered or failed, there is what was in the table already.
func (d *DB) insertOnce(ctx context.Context, stream string, todo []pending) (left, there []pending, err error) {
	if len(todo) == 0 {
		return nil, nil, nil
	}
	b := &pgx.Batch{}
	for i := range todo {
		b.Queue(insertEvent, todo[i].args(stream)...)
	}
	r := d.pool.SendBatch(ctx, b)
	defer func() { err = errors.Join(err, r.Close()) }()
	for i, e := range todo {
		tag, err := r.Exec()
		if err != nil {
			return append(left, todo[i:]...), there, err
		}
		switch tagCount(tag) {
		case 1:
			*e.owned = true
		case 0:
			there = append(there, e)
		default:
			left = append(left, e)
		}
	}
	if len(left) > 0 {
		return left, there, d.reason(ctx, stream, left[0])
	}
	return nil, there, nil
}

// reason asks for the error behind a failed item of a batch, which is not told there, by inserting it alone.
func (d *DB) reason(ctx context.Context, stream string, e pending) error {
	if _, err := d.pool.Exec(ctx, insertEvent, e.args(stream)...); err != nil {
		return fmt.Errorf("event %q: %w", e.id, err)
	}
	return fmt.Errorf("event %q: %w", e.id, errShort)
}

// whose reads the rows that stood in the way and gives the events whose rows are there no more. Only a list of literal
// keys is a real-time read; parameters would make it a search, which sees nothing before a refresh.
func (d *DB) whose(ctx context.Context, stream string, there []pending) (gone []pending, err error) {
	byPart := map[int32][]pending{}
	for _, e := range there {
		byPart[e.part] = append(byPart[e.part], e)
	}
	for part, list := range byPart {
		var sql strings.Builder
		fmt.Fprintf(&sql, "SELECT id, stream, seq FROM events WHERE part = %d AND id IN (", part)
		for i, e := range list {
			if i > 0 {
				sql.WriteByte(',')
			}
			sql.WriteString("'" + strings.ReplaceAll(e.id, "'", "''") + "'")
		}
		sql.WriteByte(')')
		rows, err := d.pool.Query(ctx, sql.String(), pgx.QueryExecModeExec) // a text of its own each time: not worth preparing
		if err != nil {
			return nil, err
		}
		type owner struct {
			ID, Stream string
			Seq        int64
		}
		found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[owner])
		if err != nil {
			return nil, err
		}
		byID := make(map[string]owner, len(found))
		for _, p := range found {
			byID[p.ID] = p
		}
		for _, e := range list {
			p, ok := byID[e.id]
			if !ok {
				gone = append(gone, e)
			} else if p.Stream == stream && p.Seq == e.seq {
				*e.owned = true
			}
		}
	}
	return gone, nil
}
