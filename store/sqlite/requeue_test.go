package sqlite

import (
	"path/filepath"
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"
)

// TestBuried_PagesByAnIndex: without one every page costs a look at all dead letters that the plugin has.
func TestBuried_PagesByAnIndex(t *testing.T) {
	db, err := Open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "statscache.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	var plan []string
	if err := db.read(t.Context(), "explain", func(c *conn) error {
		return c.each("EXPLAIN QUERY PLAN "+buriedQuery, func(s *sqlite.Stmt) error {
			plan = append(plan, s.ColumnText(3))
			return nil
		}, "p", 1, "s", 7, 100)
	}); err != nil {
		t.Fatal(err)
	}
	if len(plan) != 1 || !strings.Contains(plan[0], "USING INDEX dead_place") {
		t.Errorf("%q", plan)
	}
}
