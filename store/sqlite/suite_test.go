package sqlite

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/statscache/statscache/store/storetest"
)

// fresh makes an empty database for the suite.
func fresh(t testing.TB) storetest.Open[*DB] {
	path := filepath.Join(t.TempDir(), "statscache.db")
	return func(t testing.TB) *DB { return open(t, Options{Path: path}) }
}

func open(t testing.TB, o Options) *DB {
	t.Helper()
	d, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestSuite(t *testing.T) {
	t.Parallel()
	storetest.All(t, fresh, nil)
}

func TestSuite_WithSmallSegments(t *testing.T) {
	t.Parallel()
	storetest.All(t, small, nil)
}
