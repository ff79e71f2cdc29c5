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

func TestArchive(t *testing.T) { storetest.Archive(t, fresh) }

func TestLedger(t *testing.T) { storetest.Ledger(t, fresh) }

func TestFencing(t *testing.T) { storetest.Fencing(t, fresh) }

func TestCatalog(t *testing.T) { storetest.Catalog(t, fresh) }

func TestReader(t *testing.T) { storetest.Reader(t, fresh) }

func TestSums(t *testing.T) { storetest.Sums(t, fresh) }

func TestUpkeep(t *testing.T) { storetest.Upkeep(t, fresh) }

func TestScan(t *testing.T) { storetest.Scan(t, fresh) }

func TestMend(t *testing.T) { storetest.Mend(t, fresh) }

func TestRequeue(t *testing.T) { storetest.Requeue(t, fresh) }

func TestFind(t *testing.T) { storetest.Find(t, fresh) }

func TestFind_SmallSegments(t *testing.T) { storetest.Find(t, small) }
