package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"zombiezen.com/go/sqlite"

	"github.com/statscache/statscache/store"
)

var _ store.Carrier = (*DB)(nil)

// carriageKey begins the settings that note migrations into this file; 0 is one that is not complete.
const carriageKey = "carriage:"

// Serving gives all plugins as their serving generations were registered.
func (d *DB) Serving(ctx context.Context) (out []store.Serving, err error) {
	err = d.read(ctx, "serving generations", func(c *conn) error {
		return c.each("SELECT p.id, p.version, p.data_version, g.fingerprint, g.metrics, p.serving FROM plugin p JOIN generation g ON g.plugin=p.id AND g.generation=p.serving ORDER BY p.id", func(s *sqlite.Stmt) error {
			x := store.Serving{Plugin: store.Plugin{ID: s.ColumnText(0), Version: s.ColumnText(1), DataVersion: uint32(s.ColumnInt64(2)), Fingerprint: s.ColumnText(3)},
				Generation: uint32(s.ColumnInt64(5))}
			if err := json.Unmarshal([]byte(s.ColumnText(4)), &x.Metrics); err != nil {
				return fmt.Errorf("metrics of plugin %s: %w", x.ID, err)
			}
			out = append(out, x)
			return nil
		})
	})
	return out, err
}

// Letters lists the dead letters of one generation by place.
func (d *DB) Letters(ctx context.Context, plugin string, generation uint32, after store.Place, limit int) ([]store.StreamDeadLetter, error) {
	list, _, err := d.Buried(ctx, plugin, generation, after, limit)
	return list, err
}

// Carriages lists the migrations into this file.
func (d *DB) Carriages(ctx context.Context) (out []store.Carriage, err error) {
	err = d.read(ctx, "migrations", func(c *conn) error {
		return c.each("SELECT k, v FROM setting WHERE substr(k, 1, length(?1))=?1 ORDER BY k", func(s *sqlite.Stmt) error {
			out = append(out, store.Carriage{From: strings.TrimPrefix(s.ColumnText(0), carriageKey), Done: s.ColumnInt64(1) != 0})
			return nil
		}, carriageKey)
	})
	return out, err
}

// NoteCarriage notes how far a migration is.
func (d *DB) NoteCarriage(ctx context.Context, x store.Carriage) error {
	done := 0
	if x.Done {
		done = 1
	}
	return d.write(ctx, "note a migration", func(c *conn) error {
		return c.exec("INSERT OR REPLACE INTO setting VALUES(?,?)", carriageKey+x.From, done)
	})
}

// ForgetCarriages ends all notes.
func (d *DB) ForgetCarriages(ctx context.Context) error {
	return d.write(ctx, "forget migrations", func(c *conn) error {
		return c.exec("DELETE FROM setting WHERE substr(k, 1, length(?1))=?1", carriageKey)
	})
}

// AdoptOwned sets how many events a stream has owned.
func (d *DB) AdoptOwned(ctx context.Context, stream string, owned uint64) error {
	return d.write(ctx, "adopt stream "+stream, func(c *conn) error {
		return c.exec("UPDATE stream SET owned=? WHERE id=?", owned, stream)
	})
}
