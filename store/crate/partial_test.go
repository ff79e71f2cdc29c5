package crate

import (
	"context"
	"errors"
	"os/exec"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/internal/cratetest"
	"github.com/statscache/statscache/store"
	"github.com/statscache/statscache/store/storetest"
)

// TestRead_PartitionWithoutShard_IsNotPassedOver starts a server on which no shard comes back: CrateDB then answers a
// search with no rows and no error.
func TestRead_PartitionWithoutShard_IsNotPassedOver(t *testing.T) {
	if _, err := exec.LookPath("crate"); err != nil {
		t.Skip("kills a server of its own: needs \"crate\" on PATH (the vendor's tarball has bin/crate)")
	}
	node, err := cratetest.Launch()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(node.Stop)
	d := openAt(t, node.URL+"partial?sslmode=disable")
	ctx := testContext(t)
	if _, err := d.Attach(ctx, "s"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Archive(ctx, "s", []*block.Block{storetest.Block(1, storetest.Events("e", 0, 10))}); err != nil {
		t.Fatal(err)
	}
	read := func(ctx context.Context) (int, error) {
		blocks, upto, err := d.Read(ctx, store.ReadRequest{Stream: "s", Events: 100})
		if err == nil && upto != 10 {
			t.Errorf("read up to %d, want 10", upto)
		}
		n := 0
		for _, b := range blocks {
			n += b.Len()
		}
		return n, err
	}
	if n, err := read(ctx); n != 10 || err != nil {
		t.Fatalf("%d events, %v; want 10", n, err)
	}
	allocate := func(sql string) {
		t.Helper()
		if err := d.exec(ctx, "allocation", sql); err != nil {
			t.Fatal(err)
		}
	}
	allocate("SET GLOBAL PERSISTENT \"cluster.routing.allocation.enable\" = 'none'")
	node.Kill()
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := d.retry(ctx, "count", func(ctx context.Context) error {
		return d.pool.QueryRow(ctx, "SELECT count(*) FROM events").Scan(&n)
	}); err != nil {
		t.Fatal(err)
	}
	t.Logf("the server finds %d of 10 events and gives no error", n)
	var one int // a table without partitions does give one
	t.Logf("the server says of a table without partitions: %.80v", d.pool.QueryRow(ctx, "SELECT count(*) FROM streams").Scan(&one))
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if n, err := read(short); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("read %d events, %v; want ErrUnavailable", n, err)
	}
	short, cancel = context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := d.whole(short, "search", func(context.Context) error { return nil }); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a search without shards: %v, want ErrUnavailable", err) // Read asks for the stream first, which fails too
	}
	allocate("SET GLOBAL PERSISTENT \"cluster.routing.allocation.enable\" = 'all'")
	if n, err := read(ctx); n != 10 || err != nil {
		t.Errorf("%d events, %v; want 10", n, err)
	}
}
