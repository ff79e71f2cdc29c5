package crate

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/statscache/statscache/internal/cratetest"
	"github.com/statscache/statscache/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	if os.Getenv(writerEnv) != "" {
		return writerMain()
	}
	return cratetest.Run(m)
}

// fresh makes a schema of its own.
func fresh(t testing.TB) storetest.Open[*DB] {
	return at(cratetest.Start(t))
}

// emptied makes an empty database of tables that another test may have used: see cratetest.Reuse.
func emptied(t testing.TB) storetest.Open[*DB] { return at(cratetest.Reuse(t)) }

func at(url string) storetest.Open[*DB] {
	return func(t testing.TB) *DB { return openAt(t, url) }
}

func openAt(t testing.TB, url string) *DB {
	t.Helper()
	d, err := Open(testContext(t), options(t, url))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func options(t testing.TB, url string) Options {
	return Options{URL: url, Shards: 1, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestArchive(t *testing.T) { storetest.Archive(t, emptied) }

func TestLedger(t *testing.T) { storetest.Ledger(t, emptied) }

func TestFencing(t *testing.T) { storetest.Fencing(t, emptied) }

func TestCatalog(t *testing.T) { storetest.Catalog(t, emptied) }

func TestReader(t *testing.T) { storetest.Reader(t, emptied) }

func TestUpkeep(t *testing.T) { storetest.Upkeep(t, emptied) }

func TestSums(t *testing.T) {
	needLong(t)
	storetest.Sums(t, emptied)
}

func TestScan(t *testing.T) { storetest.Scan(t, emptied) }

func TestRequeue(t *testing.T) {
	needLong(t)
	storetest.Requeue(t, emptied)
}

func TestMend(t *testing.T) { storetest.Mend(t, emptied) }

// run runs statements beside the store.
func run(t *testing.T, conf *pgx.ConnConfig, sql ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := pgx.ConnectConfig(ctx, conf)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(ctx) }()
	for _, s := range sql {
		if _, err := c.Exec(ctx, s); err != nil {
			t.Fatal(err)
		}
	}
}

// needLong leaves a group out of the short form: a table of its own costs seconds on a server that has two cores.
func needLong(t testing.TB) {
	t.Helper()
	if os.Getenv("STATSCACHE_LONG") == "" {
		t.Skip("SKIPPED: takes minutes: set STATSCACHE_LONG=1, or run `make e2e`")
	}
}
