package crate

import (
	_ "embed"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/internal/cratetest"
	"github.com/statscache/statscache/store"
	"github.com/statscache/statscache/store/storetest"
)

func TestNewEnough(t *testing.T) {
	for version, ok := range map[string]bool{"6.3.3": true, "6.3.10": true, "6.4.0": true, "7.0.0": true, "10.0.0": true,
		"6.3.2": false, "6.2.9": false, "5.10.4": false, "": false, "x": false} {
		err := newEnough(version)
		if (err == nil) != ok {
			t.Errorf("CrateDB %q: %v", version, err)
		}
		if err != nil && !strings.Contains(err.Error(), "too old: 6.3.3 is the first that works") {
			t.Errorf("CrateDB %q: it says %v", version, err)
		}
	}
}

// TestOpen_BrokenOffInAStep_GoesOn leaves a schema as a process does that dies between two statements of a step.
func TestOpen_BrokenOffInAStep_GoesOn(t *testing.T) {
	url := cratetest.Start(t)
	d := openAt(t, url)
	conf, err := parseURL(url, defaultStatement)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	run(t, conf.ConnConfig, "UPDATE schema_version SET version = 0 WHERE name = 'statscache'", "DROP TABLE horizons", "DROP TABLE leases")
	d = openAt(t, url)
	if err := d.record(testContext(t), horizonOf{"m", 1}, 5); err != nil {
		t.Error(err)
	}
	version, err := d.checkVersion(testContext(t), false)
	if err != nil || version != len(d.steps()) {
		t.Errorf("version %d, %v; want %d", version, err, len(d.steps()))
	}
}

// version1 makes a schema as the processes of version 1 did, and what they wrote: three events, counted.
//
//go:embed testdata/version1.sql
var version1 string

// Several processes come to a schema of version 1 at once, while one that is not replaced yet works on: all of them go on
// with what is there.
func TestOpen_Version1_GoesOn(t *testing.T) {
	url := cratetest.Start(t)
	conf, err := parseURL(url, defaultStatement)
	if err != nil {
		t.Fatal(err)
	}
	run(t, conf.ConnConfig, strings.Split(strings.TrimSuffix(version1, ";\n"), ";\n")...)
	var opening sync.WaitGroup
	for range 3 {
		opening.Go(func() {
			other, err := Open(testContext(t), options(t, url))
			if err != nil {
				t.Error(err)
				return
			}
			_ = other.Close()
		})
	}
	opening.Wait()
	run(t, conf.ConnConfig, "INSERT INTO metrics (id, plugin, version) VALUES ('free', '', 2)", // as the old one does
		"UPDATE schema_version SET version = 1 WHERE name = 'statscache'") // as if none had come to say that it is done
	d := openAt(t, url)
	ctx := testContext(t)
	if version, err := d.checkVersion(ctx, false); err != nil || version != len(d.steps()) {
		t.Errorf("version %d, %v; want %d", version, err, len(d.steps()))
	}
	if got, want := state(t, d), "[k33 {1 k 7}] 1"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if version, at, err := d.Committed(ctx, "n"); err != nil || version != 3 || !at.IsZero() {
		t.Errorf("version %d of %s, %v; want 3 of an unknown time", version, at, err)
	}
	if _, err := d.Register(ctx, store.Plugin{ID: "q", Fingerprint: "f", Metrics: []store.Metric{{ID: "free", Kind: store.Latest}}}); err != nil {
		t.Error(err)
	}
	attach(t, d, "s", 3)
	if out, err := d.Archive(ctx, "s", []*block.Block{storetest.Block(4, storetest.Events("e", 0, 5))}); err != nil || out[0].Duplicates != 3 {
		t.Errorf("%+v, %v; want 3 duplicates", out, err)
	}
	if got := seqs(t, d, "s"); !slices.Equal(got, []uint64{1, 2, 3, 7, 8}) {
		t.Errorf("events at %v", got)
	}
	c, _ := lateCheckpoint(t, d)
	if err := c.Commit(ctx, lateCommit(t, c, 8, 2)); err != nil {
		t.Fatal(err)
	}
	if got, want := state(t, d), "[k88 {1 k 9}] 2"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if version, at, err := d.Committed(ctx, "n"); err != nil || version != 4 || at.IsZero() {
		t.Errorf("version %d of %s, %v; want 4 of now", version, at, err)
	}
}
