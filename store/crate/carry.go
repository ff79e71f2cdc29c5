package crate

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/statscache/statscache/store"
)

var _ store.Carrier = (*DB)(nil)

// carriageKey begins the rows of schema_version that note migrations into this schema; version 0 is one that is not
// complete.
const carriageKey = "carriage:"

// Serving gives all plugins as their serving generations were registered, after repairs and revivals
// that were broken off.
func (d *DB) Serving(ctx context.Context) (out []store.Serving, err error) {
	err = d.eachPlugin(ctx, func() { out = nil }, func(id string, doc pluginDoc) {
		if p, ok := doc.Definitions[doc.Serving]; ok {
			out = append(out, store.Serving{Plugin: p, Generation: doc.Serving})
		}
	})
	for _, p := range out {
		if err == nil {
			err = d.finishAll(ctx, p.ID, p.Generation)
		}
	}
	return out, err
}

// finishAll finishes repairs and revivals that were broken off.
func (d *DB) finishAll(ctx context.Context, plugin string, generation uint32) error {
	if err := d.refresh(ctx, "checkpoints"); err != nil {
		return err
	}
	var left []string
	err := d.query(ctx, "list checkpoints", func() { left = nil }, func(r pgx.Rows) error {
		var stream string
		err := r.Scan(&stream)
		left = append(left, stream)
		return err
	}, "SELECT stream FROM checkpoints WHERE plugin = $1 AND generation = $2 AND pos <> intent AND NOT ("+ownStreams+")", plugin, int64(generation), store.Loose)
	for _, stream := range left {
		if err == nil {
			err = d.finishLoose(ctx, plugin, generation, stream)
		}
	}
	return err
}

// Letters lists the dead letters of one generation by place.
func (d *DB) Letters(ctx context.Context, plugin string, generation uint32, after store.Place, limit int) ([]store.StreamDeadLetter, error) {
	return d.letters(ctx, plugin, generation, after, limit, letterThere)
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
