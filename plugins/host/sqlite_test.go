package host

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
	"github.com/statscache/statscache/store/sqlite"
)

// archiveFeed feeds from a store's archive.
type archiveFeed struct{ store.Store }

func (f archiveFeed) Streams(ctx context.Context) ([]string, error) {
	list, err := f.Store.Streams(ctx)
	var out []string
	for _, s := range list {
		out = append(out, s.ID)
	}
	return out, err
}

func (f archiveFeed) Next(ctx context.Context, stream string, after uint64, bodies bool) ([]*block.Block, uint64, error) {
	for {
		blocks, upto, err := f.Read(ctx, store.ReadRequest{Stream: stream, After: after, Events: 4096, Bodies: bodies})
		if err != nil || upto > after {
			return blocks, upto, err
		}
		if !sleep(ctx, time.Millisecond) {
			return nil, 0, ctx.Err()
		}
	}
}

func TestHost_OnSQLite_RestartsAndAnUpgradeLoseNothing(t *testing.T) {
	ctx := t.Context()
	blocks := sample(rand.New(rand.NewPCG(21, 1)), 12, 200)
	db, err := sqlite.Open(ctx, sqlite.Options{Path: filepath.Join(t.TempDir(), "statscache.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Attach(ctx, "s"); err != nil {
		t.Fatal(err)
	}
	ends := map[string]uint64{}
	upgraded := program(t, "upgraded")
	upgraded.ID = "volume"
	for i, b := range blocks {
		if _, err := db.Archive(ctx, "s", []*block.Block{b}); err != nil {
			t.Fatal(err)
		}
		ends["s"] = b.Upto
		p := program(t, "volume")
		if i >= 8 {
			p = upgraded
		}
		if i%4 != 3 {
			continue
		}
		h, stop := runHost(t, Options{Programs: []Program{p}, Store: db, Feed: archiveFeed{db}, Limits: quick()})
		waitCaughtUp(t, h, ends)
		stop()
	}
	got := stored(t, db)
	want := map[row]int64{}
	for k, n := range brute("volume", 2, blocks, nil) {
		if k.metric != "volume" {
			want[k] = n
		}
	}
	sameRows(t, got, want)
}

// stored gives all counts that are served.
func stored(t testing.TB, db store.Store) map[row]int64 {
	t.Helper()
	ctx := t.Context()
	metrics, err := db.Metrics(ctx)
	if err != nil {
		t.Fatal(err)
	}
	got := map[row]int64{}
	for _, m := range metrics {
		for _, i := range m.Intervals {
			q := store.CellQuery{Plugin: m.Plugin, Metric: m.ID, Generation: m.Generation, Interval: i, From: -1 << 40, To: 1 << 40}
			if err := db.EachCell(ctx, q, func(r store.Row) error {
				bucket := floorDiv(r.Time, int64(i/time.Second))
				got[row{m.Plugin, m.Generation, m.ID, i, bucket, r.Key}] += r.N
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return got
}
