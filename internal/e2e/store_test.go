package e2e

import (
	"path/filepath"
	"slices"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/statscache/statscache/store"
	sqlitestore "github.com/statscache/statscache/store/sqlite"
)

// database is where an installation keeps its store.
func (s *site) database() string { return filepath.Join(s.data, "statscache.db") }

// execute changes a database file behind statscache's back.
func execute(t testing.TB, path string, queries ...string) {
	t.Helper()
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite|sqlite.OpenCreate)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetBlockOnBusy() // a daemon may be writing
	for _, query := range queries {
		if err := sqlitex.ExecuteTransient(conn, query, nil); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
}

// volumeTables lists the names of tables that hold counts of the plugin volume and match a GLOB pattern, those of the
// first metric first, without empty ones.
func volumeTables(t testing.TB, path, pattern string) []string {
	t.Helper()
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadOnly)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	err = sqlitex.ExecuteTransient(conn, "SELECT name FROM sqlite_schema WHERE type='table' AND name GLOB ? AND CAST(substr(name, 7) AS INTEGER) IN (SELECT no FROM metric WHERE plugin='volume') "+
		"ORDER BY CAST(substr(name, 7) AS INTEGER), name", &sqlitex.ExecOptions{
		Args:       []any{pattern},
		ResultFunc: func(stmt *sqlite.Stmt) error { all = append(all, stmt.ColumnText(0)); return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	all = slices.DeleteFunc(all, func(name string) bool {
		rows := 0
		if err := sqlitex.ExecuteTransient(conn, "SELECT 1 FROM "+name+" LIMIT 1", &sqlitex.ExecOptions{
			ResultFunc: func(*sqlite.Stmt) error { rows++; return nil },
		}); err != nil {
			t.Fatal(err)
		}
		return rows == 0
	})
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	return all
}

// archive is what a stopped installation holds.
type archive struct {
	ids     map[string]bool
	streams map[string]uint64 // archived_to by stream
}

// readArchive reads the ids of all archived events of a data dir that no daemon works in.
func readArchive(t testing.TB, database string) archive {
	t.Helper()
	db, err := sqlitestore.Open(t.Context(), sqlitestore.Options{Path: database})
	if err != nil {
		t.Fatal(err)
	}
	a := archive{ids: map[string]bool{}, streams: map[string]uint64{}}
	streams, err := db.Streams(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, stream := range streams {
		a.streams[stream.ID] = stream.ArchivedTo
		for after := uint64(0); ; {
			blocks, upto, err := db.Read(t.Context(), store.ReadRequest{Stream: stream.ID, After: after, Events: 10_000, Bodies: true})
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range blocks {
				ids, err := b.IDs()
				if err != nil {
					t.Fatal(err)
				}
				for _, id := range ids {
					if a.ids[id] {
						t.Errorf("event %s is archived twice", id)
					}
					a.ids[id] = true
				}
			}
			if upto == after {
				break
			}
			after = upto
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return a
}

// positions reads how far a stream is archived and how far the slowest plugin has committed it; ok is false where the
// store doesn't know the stream or no plugin has begun with it.
func positions(t testing.TB, path, stream string) (archivedTo, committed uint64, ok bool) {
	t.Helper()
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite) // a copy that a crash left may need its log replayed
	if err != nil {
		t.Fatal(err)
	}
	for query, result := range map[string]*uint64{
		"SELECT archived_to FROM stream WHERE id = ?":                          &archivedTo,
		"SELECT min(pos) FROM checkpoint WHERE stream = ? HAVING count(*) > 0": &committed,
	} {
		found := false
		err := sqlitex.ExecuteTransient(conn, query, &sqlitex.ExecOptions{
			Args:       []any{stream},
			ResultFunc: func(stmt *sqlite.Stmt) error { found = true; *result = uint64(stmt.ColumnInt64(0)); return nil },
		})
		ok = found && err == nil // a file without tables yet is a store that knows nothing
		if !ok {
			break
		}
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	return archivedTo, committed, ok
}
