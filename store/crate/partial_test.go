package crate

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/internal/cratetest"
	"github.com/statscache/statscache/store"
	"github.com/statscache/statscache/store/storetest"
)

// TestRead_PartitionWithoutShard_IsNotPassedOver takes a partition's shard away from the server: CrateDB then answers a
// search with no rows and no error.
func TestRead_PartitionWithoutShard_IsNotPassedOver(t *testing.T) {
	if os.Getenv("STATSCACHE_LONG") == "" {
		t.Skip("starts a server three times: set STATSCACHE_LONG=1 to run it")
	}
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
	restart := func(from, to string) { // with the shard's directory moved meanwhile
		t.Helper()
		node.Kill()
		if err := errors.Join(os.Rename(from, to), node.Start()); err != nil {
			t.Fatal(err)
		}
	}
	var path string
	if err := d.pool.QueryRow(ctx, "SELECT path FROM sys.shards WHERE table_name = 'events'").Scan(&path); err != nil {
		t.Fatal(err)
	}
	restart(path, path+".away")
	var n int
	if err := d.retry(ctx, "count", func(ctx context.Context) error {
		return d.pool.QueryRow(ctx, "SELECT count(*) FROM events").Scan(&n)
	}); err != nil {
		t.Fatal(err)
	}
	t.Logf("the server finds %d of 10 events and gives no error", n)
	if _, err := d.Streams(ctx); err != nil { // the other tables are there
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if n, err := read(short); !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, errShort) {
		t.Errorf("read %d events, %v; want ErrUnavailable", n, err)
	}
	restart(path+".away", path)
	if n, err := read(ctx); n != 10 || err != nil {
		t.Errorf("%d events, %v; want 10", n, err)
	}
}
