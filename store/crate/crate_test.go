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

// TestSuite leaves the slow groups out of the short form.
func TestSuite(t *testing.T) {
	storetest.All(t, emptied, func(t *testing.T, group string) {
		switch group {
		case "Sums", "Requeue", "Find":
			needLong(t)
		}
	})
}

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
