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
	"github.com/statscache/statscache/internal/failpoint"
	"github.com/statscache/statscache/store"
)

const (
	insertEvents = 500      // events in one batch of statements
	insertBytes  = 4 << 20  // bodies in one batch
	openBytes    = 16 << 20 // bodies that are unpacked at a time
	inFlight     = 4        // batches and statements sent side by side
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
	a := attempt{db: d, stream: stream, above: uint64(from)}
	if err := a.all(ctx, blocks); err != nil {
		return nil, fmt.Errorf("stream %s: %w", stream, err)
	}
	out, to, sum, parts := a.out, from, int64(0), a.parts
	for i, b := range blocks {
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
	return out, d.around(failpoint.ArchiveArchivedTo, func() error { return s.announce(ctx, d, stream, s.reaching(to, sum)) })
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

// attempt is one call of Archive.
type attempt struct {
	db      *DB
	stream  string
	above   uint64
	horizon int64
	parts   map[int32]bool // touched
	seen    map[place]bool
	out     []store.Archived
}

// all inserts blocks. The horizon is read before and after: what it moved past meanwhile may be a copy of an event that
// was removed with it, and is taken back. (One that moves later finds what is inserted here in the way of its copies.)
func (a *attempt) all(ctx context.Context, blocks []*block.Block) error {
	before, err := a.db.archiveHorizon(ctx)
	for err == nil {
		a.horizon, a.parts, a.seen, a.out = before, map[int32]bool{}, map[place]bool{}, make([]store.Archived, len(blocks))
		for from := 0; from < len(blocks); {
			to, size := from, 0
			for to < len(blocks) && (to == from || size+blocks[to].BodyBytes <= openBytes) {
				size += blocks[to].BodyBytes
				to++
			}
			if err := a.own(ctx, blocks[from:to], a.out[from:to]); err != nil {
				return fmt.Errorf("blocks from %d to %d: %w", blocks[from].First, blocks[to-1].Upto, err)
			}
			from = to
		}
		if before, err = a.db.archiveHorizon(ctx); err == nil && before == a.horizon {
			return nil
		}
	}
	return err
}

// own inserts the events of some blocks and gives those that are ours. They go side by side whatever blocks they are
// of: those of a quiet bus have a few events each, and every statement is a durable write.
func (a *attempt) own(ctx context.Context, blocks []*block.Block, out []store.Archived) error {
	byPart, owned := map[int32][]pending{}, make([][]bool, len(blocks))
	var old []pending
	for i, b := range blocks {
		expired, err := a.sort(b, &owned[i], &out[i], byPart)
		if err != nil {
			return err
		}
		old = append(old, expired...)
	}
	if err := a.takeBack(ctx, old); err != nil {
		return err
	}
	if err := a.insert(ctx, byPart); err != nil {
		return err
	}
	for _, list := range byPart {
		for _, e := range list {
			if !*e.owned {
				e.out.Duplicates++
			}
		}
	}
	for i, b := range blocks {
		var err error
		if out[i].Owned, err = b.Keep(owned[i]); err != nil {
			return err
		}
	}
	return nil
}

// sort adds the events of a block that lie above the stream's position to those of their partitions and gives the ones
// that are behind the horizon.
func (a *attempt) sort(b *block.Block, owned *[]bool, out *store.Archived, byPart map[int32][]pending) (old []pending, err error) {
	*owned = make([]bool, b.Len())
	if b.Upto <= a.above || b.Len() == 0 {
		return nil, nil
	}
	ids, err := b.IDs()
	if err != nil {
		return nil, err
	}
	bodies, err := b.Bodies()
	if err != nil {
		return nil, err
	}
	for i := range *owned {
		if b.Seq(i) <= a.above {
			continue
		}
		e := eventOf(b, i, ids[i], bodies[i])
		at := place{e.part, e.id}
		switch {
		case b.Time[i] < a.horizon:
			old = append(old, pending{event: e, owned: new(bool)})
		case a.seen[at]: // the first of several copies is the one, whichever batch were to come first
			out.Duplicates++
		default:
			a.seen[at], a.parts[e.part] = true, true
			byPart[e.part] = append(byPart[e.part], pending{e, &(*owned)[i], out})
		}
	}
	out.Expired = len(old)
	return old, nil
}

// insert inserts events and marks the ones that are ours. A batch is of one partition: where it makes a new one beside
// others, CrateDB 6.4.3 answers for its items in another order without saying so
// (TestServer_BatchOfSeveralPartitions_MixesAnswers).
func (a *attempt) insert(ctx context.Context, byPart map[int32][]pending) error {
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
			g.Go(func() error {
				return a.db.around(failpoint.ArchiveInsert, func() error { return a.db.insert(gctx, a.stream, batch) })
			})
		}
	}
	return g.Wait()
}

// takeBack removes rows that an earlier attempt of ours has made of events that are behind the horizon now.
func (a *attempt) takeBack(ctx context.Context, old []pending) error {
	for part := range slices.Chunk(old, lookUp) {
		err := a.db.retry(ctx, "look for expired events", func(ctx context.Context) error {
			_, _, err := a.db.whose(ctx, a.stream, part)
			return err
		})
		if err != nil {
			return err
		}
		for _, e := range part {
			if !*e.owned {
				continue
			}
			if err := a.db.exec(ctx, "remove expired event "+e.id, "DELETE FROM events WHERE part = $1 AND id = $2", e.part, e.id); err != nil {
				return err
			}
			a.parts[e.part] = true
		}
	}
	return nil
}

// place is an event's primary key.
type place struct {
	part int32
	id   string
}

// pending is an event that is being inserted, the place for the answer whether it is ours, and what is said of its block.
type pending struct {
	event
	owned *bool
	out   *store.Archived
}

// insert inserts events. One that the server refuses for good, while it takes others, must not stop its stream: it is kept
// without what it is searched by.
func (d *DB) insert(ctx context.Context, stream string, list []pending) error {
	err := d.insertAll(ctx, stream, list)
	switch n := len(list); {
	case !errors.Is(err, errRefused):
		return err
	case n > 1: // what is in the table already is found to be ours again
		return errors.Join(d.insert(ctx, stream, list[:n/2]), d.insert(ctx, stream, list[n/2:]))
	}
	e := list[0]
	d.log.Error("the database refuses an event; it is kept without its names, and searches by them won't find it", "event", e.id, "stream", stream,
		"position", e.seq, "error", err)
	e.event = e.bare()
	return d.insertAll(ctx, stream, []pending{e})
}

// insertAll repeats a batch for whatever of it is not known to be in the table, and finds out whose the rest is.
func (d *DB) insertAll(ctx context.Context, stream string, todo []pending) error {
	return d.retry(ctx, "insert events", func(ctx context.Context) error {
		left, there, err := d.insertOnce(ctx, stream, todo)
		todo = slices.Concat(left, there)
		if err != nil {
			return err
		}
		for len(there) > 0 {
			part := there[:min(lookUp, len(there))]
			gone, others, err := d.whose(ctx, stream, part)
			if err == nil {
				var again []pending
				again, err = d.adopt(ctx, stream, others)
				gone = append(gone, again...)
			}
			if err != nil {
				return err // asked again from the insert on: those answers don't change
			}
			left, there = append(left, gone...), there[len(part):]
			todo = slices.Concat(left, there)
		}
		if todo = left; len(todo) > 0 {
			return fmt.Errorf("%w: %d rows that stood in the way are gone or are being adopted by another stream", errShort, len(todo))
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

// stranger is an event whose row is another stream's.
type stranger struct {
	pending
	stream string
	seq    int64
	at     version
}

// whose reads the rows that stood in the way. It marks the ones that are ours and gives the events whose rows are there
// no more and those whose rows are others'. Only a list of literal keys is a real-time read; parameters would make it a
// search, which sees nothing before a refresh.
func (d *DB) whose(ctx context.Context, stream string, there []pending) (gone []pending, others []stranger, err error) {
	byPart := map[int32][]pending{}
	for _, e := range there {
		byPart[e.part] = append(byPart[e.part], e)
	}
	for part, list := range byPart {
		var sql strings.Builder
		fmt.Fprintf(&sql, "SELECT id, stream, seq, _seq_no, _primary_term FROM events WHERE part = %d AND id IN (", part)
		for i, e := range list {
			if i > 0 {
				sql.WriteByte(',')
			}
			sql.WriteString("'" + strings.ReplaceAll(e.id, "'", "''") + "'")
		}
		sql.WriteByte(')')
		rows, err := d.pool.Query(ctx, sql.String(), pgx.QueryExecModeExec) // a text of its own each time: not worth preparing
		if err != nil {
			return nil, nil, err
		}
		found := map[string]stranger{}
		for rows.Next() {
			var id string
			var x stranger
			if err := rows.Scan(&id, &x.stream, &x.seq, &x.at.seqNo, &x.at.term); err != nil {
				rows.Close()
				return nil, nil, err
			}
			found[id] = x
		}
		if err := rows.Err(); err != nil {
			return nil, nil, err
		}
		for _, e := range list {
			switch x, ok := found[e.id]; {
			case !ok:
				gone = append(gone, e)
			case x.stream != stream:
				x.pending = e
				others = append(others, x)
			case x.seq == e.seq:
				*e.owned = true
			}
		}
	}
	return gone, others, nil
}
