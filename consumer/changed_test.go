package consumer

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/statscache/statscache/plugins/host"
	"github.com/statscache/statscache/store"
)

func TestChanges_DoubtIsLiftedByAFullVerification(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "plugin")
	script := func(text string) {
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	script("1")
	p := started{program: host.Program{ID: "p", Argv: []string{path}}, plugin: store.Plugin{ID: "p", Fingerprint: "f"}, generation: 1}
	counts := func(context.Context, started) (VerifyReport, error) {
		return VerifyReport{Rows: 9, Differences: 1, Found: []string{"3 instead of 4"}}, nil
	}
	daemon := newChanges(dir, slog.New(slog.DiscardHandler), counts)
	look := func() {
		if err := daemon.look(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	look()
	script("22")
	look()
	if daemon.doubt("p") == "" {
		t.Fatal("a program that counts otherwise is not doubted")
	}
	verified := []candidate{{program: p.program, plugin: p.plugin}}
	other := func() *changes { return newChanges(dir, slog.New(slog.DiscardHandler), nil) } // a command beside the daemon
	lift := func(c *changes, list []candidate) {
		if err := c.lift(list); err != nil {
			t.Fatal(err)
		}
	}
	lift(other(), nil)
	script("333") // not the one that was doubted: nobody knows how that counts
	lift(other(), verified)
	if daemon.doubt("p") == "" {
		t.Error("lifted by another program")
	}
	script("22")
	lift(other(), verified)
	if why := daemon.doubt("p"); why != "" {
		t.Errorf("still doubted by the daemon: %s", why)
	}
	if why := other().doubt("p"); why != "" {
		t.Errorf("still doubted after a restart: %s", why)
	}
	script("4444")
	look()
	lift(daemon, verified)
	if why := daemon.doubt("p"); why != "" {
		t.Errorf("still doubted after a repair by the daemon: %s", why)
	}
}

func TestVerify_OnlyAFullOneWithoutDifferencesIsClean(t *testing.T) {
	c := testConfig(t)
	d, err := Open(t.Context(), Options{Config: c, Bundled: testPrograms(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Stop(); err != nil {
			t.Error(err)
		}
	}()
	if err := d.Start(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	message := [][]byte{[]byte("org.x.dev.a.b"), []byte(`{"topic":"org.x.dev.a.b","timestamp":1524739200,"msg_id":"1"}`)}
	if err := d.ingest.Deliver(t.Context(), peer("main"), [][][]byte{message}); err != nil {
		t.Fatal(err)
	}
	last, err := d.ingest.flush(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.waitArchived(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	if err := d.waitComputed(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		asked window
		clean int
	}{"all": {everywhere(), 1}, "a part": {window{0, 1 << 40}, 0}} {
		v := &verifier{store: d.store, host: d.host, asked: x.asked}
		if err := v.all(t.Context(), d.programs(), nil); err != nil || len(v.clean) != x.clean || v.report.Differences > 0 {
			t.Errorf("%s: %d are clean, %v, %+v", name, len(v.clean), err, v.report)
		}
	}
}
