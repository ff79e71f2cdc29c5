package crate

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/statscache/statscache/store"
)

var _ store.Carrier = (*DB)(nil)

// carriageKey begins the rows of schema_version that note migrations into this schema; version 0 is one that is not
// complete.
const carriageKey = "carriage:"

// Serving gives all plugins as their serving generations were registered, after repairs that were broken off.
func (d *DB) Serving(ctx context.Context) (out []store.Serving, err error) {
	err = d.eachPlugin(ctx, func() { out = nil }, func(id string, doc pluginDoc) {
		if p, ok := doc.Definitions[doc.Serving]; ok {
			out = append(out, store.Serving{Plugin: p, Generation: doc.Serving})
		}
	})
	for _, p := range out {
		if err == nil {
			err = d.finishRepair(ctx, p.ID, p.Generation)
		}
	}
	return out, err
}

// Letters lists the dead letters of one generation by place.
func (d *DB) Letters(ctx context.Context, plugin string, generation uint32, after store.Place, limit int) (list []store.StreamDeadLetter, err error) {
	seq, err := position(after.Seq)
	if err != nil {
		return nil, err
	}
	if err := d.refresh(ctx, "dead_letters"); err != nil {
		return nil, err
	}
	err = d.query(ctx, "read dead letters", func() { list = nil }, func(r pgx.Rows) error {
		var l store.StreamDeadLetter
		var seq, at int64
		err := r.Scan(&l.Stream, &seq, &l.ID, &l.Error, &at)
		l.Seq, l.At = uint64(seq), time.UnixMicro(at).UTC()
		list = append(list, l)
		return err
	}, "SELECT stream, seq, id, error, at FROM dead_letters WHERE plugin = $1 AND generation = $2 AND (stream > $3 OR stream = $3 AND seq > $4) "+
		"ORDER BY stream, seq LIMIT $5", plugin, int64(generation), after.Stream, seq, int64(max(limit, 0)))
	return list, err
}

// Carriages lists the migrations into this schema.
func (d *DB) Carriages(ctx context.Context) (out []store.Carriage, err error) {
	if err := d.refresh(ctx, "schema_version"); err != nil {
		return nil, err
	}
	err = d.query(ctx, "read migrations", func() { out = nil }, func(r pgx.Rows) error {
		var name string
		var version int
		err := r.Scan(&name, &version)
		if from, ok := strings.CutPrefix(name, carriageKey); ok {
			out = append(out, store.Carriage{From: from, Done: version != 0})
		}
		return err
	}, "SELECT name, version FROM schema_version ORDER BY name")
	return out, err
}

// NoteCarriage notes how far a migration is.
func (d *DB) NoteCarriage(ctx context.Context, c store.Carriage) error {
	done := 0
	if c.Done {
		done = 1
	}
	return d.exec(ctx, "note a migration", "INSERT INTO schema_version (name, version) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET version = excluded.version",
		carriageKey+c.From, done)
}

// ForgetCarriages ends all notes.
func (d *DB) ForgetCarriages(ctx context.Context) error {
	list, err := d.Carriages(ctx)
	for _, c := range list {
		if err == nil {
			err = d.exec(ctx, "forget a migration", "DELETE FROM schema_version WHERE name = $1", carriageKey+c.From)
		}
	}
	return err
}

// AdoptOwned sets how many events an attached stream has owned.
func (d *DB) AdoptOwned(ctx context.Context, stream string, owned uint64) error {
	s, err := d.attached(stream)
	if err != nil {
		return err
	}
	n, err := position(owned)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next != nil {
		if err := s.announce(ctx, d, stream, *s.next); err != nil {
			return err
		}
	}
	next := s.cur.row
	next.owned = n
	return s.announce(ctx, d, stream, next)
}
