package sqlite

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
)

func TestExpireLetters_ThoseWhoseEventsAreGone(t *testing.T) {
	db, err := Open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "x.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := db.Attach(t.Context(), "s"); err != nil {
		t.Fatal(err)
	}
	const each, base = 1000, int64(1e15)
	for n := range 6 { // blocks of a thousand seconds each
		w := block.NewBuilder(func(string) string { return "a" })
		for i := range each {
			id := fmt.Appendf(nil, "id-%d", n*each+i)
			w.Add(&block.Event{ID: id, IDAt: -1, Topic: []byte("org.x.dev.a.b"), Time: base + int64(n*each+i)*1e6, Source: "main", Body: id})
		}
		if _, err := db.Archive(t.Context(), "s", []*block.Block{w.Build(uint64(n*each+1), base, n%2 == 1)}); err != nil {
			t.Fatal(err)
		}
	}
	want := map[store.LettersOf]int{}
	for _, plugin := range []string{"p", "q"} {
		if _, err := db.Register(t.Context(), store.Plugin{ID: plugin, Fingerprint: "f", Metrics: []store.Metric{{ID: "of-" + plugin, Kind: store.Counter, Intervals: []time.Duration{time.Minute}}}}); err != nil {
			t.Fatal(err)
		}
		cp, err := db.Checkpoint(t.Context(), store.CheckpointKey{Plugin: plugin, Generation: 1, Stream: "s"})
		if err != nil {
			t.Fatal(err)
		}
		var dead []store.DeadLetter
		for seq := uint64(1); seq <= 6*each; seq += 2 { // more than one step takes
			dead = append(dead, store.DeadLetter{Seq: seq, ID: "x", Error: "broken", At: time.Unix(9, 0)})
		}
		if err := cp.Commit(t.Context(), &store.Commit{To: 6 * each, Dead: dead}); err != nil {
			t.Fatal(err)
		}
		if err := cp.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if gone, err := db.ExpireLetters(t.Context()); err != nil || len(gone) != 0 {
		t.Fatalf("%v are gone while all events are there, %v", gone, err)
	}
	n, err := db.ExpireArchive(t.Context(), base+3500*1e6)
	if err != nil || n == 0 {
		t.Fatalf("%d events removed, %v", n, err)
	}
	there := map[uint64]bool{}
	for at := uint64(0); ; {
		blocks, upto, err := db.Read(t.Context(), store.ReadRequest{Stream: "s", After: at, Events: each})
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range blocks {
			for i := range b.Len() {
				there[b.Seq(i)] = true
			}
		}
		if upto == at {
			break
		}
		at = upto
	}
	var left []uint64
	for seq := uint64(1); seq <= 6*each; seq += 2 {
		if there[seq] {
			left = append(left, seq)
			continue
		}
		want[store.LettersOf{Plugin: "p", Generation: 1}]++
		want[store.LettersOf{Plugin: "q", Generation: 1}]++
	}
	gone, err := db.ExpireLetters(t.Context())
	if err != nil || !maps.Equal(gone, want) || len(want) == 0 {
		t.Fatalf("%v are gone, %v; want %v", gone, err, want)
	}
	list, total, err := db.Buried(t.Context(), "p", 1, store.Place{}, 10_000)
	var got []uint64
	for _, l := range list {
		got = append(got, l.Seq)
	}
	if err != nil || total != len(left) || !slices.Equal(got, left) {
		t.Fatalf("%d letters are left, %v; want %d", total, err, len(left))
	}
}
