package crate

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

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
	url := cratetest.Start(t)
	return func(t testing.TB) *DB { return openAt(t, url) }
}

func openAt(t testing.TB, url string) *DB {
	t.Helper()
	d, err := Open(testContext(t), Options{URL: url, Shards: 1, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestArchive(t *testing.T) { storetest.Archive(t, fresh) }

func TestLedger(t *testing.T) { storetest.Ledger(t, fresh) }

func TestFencing(t *testing.T) { storetest.Fencing(t, fresh) }
