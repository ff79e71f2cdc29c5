package host

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/plugins/volume"
	"github.com/statscache/statscache/store"
)

// statusOf gives the status of a plugin, the zero one where there is none.
func statusOf(h *Host, id string) Status {
	for _, s := range h.Plugins() {
		if s.ID == id {
			return s
		}
	}
	return Status{}
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestHost_DisableEnableRestart_CountOnce(t *testing.T) {
	m := newMemory()
	blocks := sample(rand.New(rand.NewPCG(5, 1)), 6, 300)
	m.add("a", blocks[:2]...)
	h, _ := runHost(t, Options{Programs: []Program{program(t, "volume")}, Store: m, Feed: feedOf{m}, Limits: quick()})
	waitCaughtUp(t, h, m.ends())
	before := statusOf(h, "volume").PID
	if err := h.Restart(soon(t), "volume"); err != nil {
		t.Fatal(err)
	}
	m.add("a", blocks[2:4]...)
	waitCaughtUp(t, h, m.ends())
	if s := statusOf(h, "volume"); s.PID == before || s.PID == 0 || s.Restarts != 0 {
		t.Errorf("after a restart: %+v; the process was %d", s, before)
	}
	if err := h.Disable(soon(t), "volume"); err != nil {
		t.Fatal(err)
	}
	if s := statusOf(h, "volume"); s.State != Disabled || s.PID != 0 {
		t.Errorf("disabled: %+v", s)
	}
	m.add("a", blocks[4:]...)
	if err := h.Restart(soon(t), "volume"); err == nil || !strings.Contains(err.Error(), "enable it first") {
		t.Errorf("restart of a disabled plugin: %v", err)
	}
	for range 2 { // the second time there is nothing to do
		if err := h.Enable(soon(t), "volume"); err != nil {
			t.Fatal(err)
		}
	}
	waitCaughtUp(t, h, m.ends())
	sameRows(t, counted(m), brute(volume.ID, 1, blocks, nil))
	for verb, do := range map[string]func(context.Context, string) error{"enable": h.Enable, "disable": h.Disable, "restart": h.Restart} {
		if err := do(soon(t), "nobody"); !errors.Is(err, ErrUnknownPlugin) || !strings.Contains(err.Error(), "volume") {
			t.Errorf("%s of nobody: %v", verb, err)
		}
	}
}

func TestHost_Restart_LiftsQuarantine(t *testing.T) {
	m := newMemory()
	mended := filepath.Join(t.TempDir(), "mended")
	p := script(t, t.TempDir(), "volume", fmt.Sprintf("[ -e %s ] || exit 7", mended))
	limits := quick()
	limits.StartFailures = 2
	h, _ := runHost(t, Options{Programs: []Program{p}, Store: m, Feed: feedOf{m}, Limits: limits})
	until(t, func() bool { return statusOf(h, "volume").State == Quarantined })
	if err := os.WriteFile(mended, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.Restart(soon(t), "volume"); err != nil {
		t.Fatal(err)
	}
	until(t, func() bool { s := statusOf(h, "volume"); return s.State == Running && s.Error == "" })
}

func TestHost_Enable_DoesNotOverruleTheConfiguration(t *testing.T) {
	m := newMemory()
	h, _ := runHost(t, Options{Programs: []Program{program(t, "volume")}, Store: m, Feed: feedOf{m}, Limits: quick(), Off: []string{"volume"}, Disabled: []string{"volume"}})
	until(t, func() bool { return statusOf(h, "volume").State == Disabled })
	if err := h.Enable(soon(t), "volume"); !errors.Is(err, ErrConfigured) {
		t.Errorf("%v", err)
	}
}

func TestHost_WhatIsAskedOfARemovedPlugin_IsRefused(t *testing.T) {
	db, _ := archived(t, sample(rand.New(rand.NewPCG(5, 9)), 1, 30))
	h, _ := runHost(t, Options{Programs: []Program{program(t, "volume")}, Store: db, Feed: archiveFeed{db}, Limits: quick()})
	until(t, func() bool { return statusOf(h, "volume").State == Running })
	r, err := h.find("volume")
	if err != nil {
		t.Fatal(err)
	}
	r.remove() // as by watch, while a command has found it already
	until(t, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.over
	})
	nothing := func(context.Context) error { t.Error("it was done"); return nil }
	for _, x := range []struct {
		what string
		do   func() error
	}{
		{"renew", func() error { return h.Renew(soon(t), "volume", nothing) }},
		{"requeue", func() error { _, err := h.Requeue(soon(t), "volume", nil); return err }},
		{"restart", func() error { return h.Restart(soon(t), "volume") }},
		{"disable", func() error { return h.Disable(soon(t), "volume") }}, // the last one: it refuses the others
	} {
		if err := x.do(); !errors.Is(err, errStopped) {
			t.Errorf("%s: %v", x.what, err)
		}
	}
}

// script writes an executable that becomes the test binary as a plugin, after some lines of shell.
func script(t *testing.T, dir, plugin, first string) Program {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "dropped")
	text := fmt.Sprintf("#!/bin/sh\n%s\nHOST_TEST_PLUGIN=%s GORACE=atexit_sleep_ms=0 exec %s\n", first, plugin, self)
	temporary := filepath.Join(dir, ".dropped")
	if err := os.WriteFile(temporary, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temporary, path); err != nil {
		t.Fatal(err)
	}
	return Program{ID: plugin, Argv: []string{path}}
}

func TestWatch_DroppedReplacedRemoved(t *testing.T) {
	m := newMemory()
	blocks := sample(rand.New(rand.NewPCG(5, 2)), 8, 300)
	m.add("a", blocks[:2]...)
	folder := t.TempDir()
	limits := quick()
	limits.Watch = 20 * time.Millisecond
	h, _ := runHost(t, Options{Store: m, Feed: feedOf{m}, Limits: limits, Folders: []string{folder, filepath.Join(folder, "none")}})
	if len(h.Plugins()) != 0 {
		t.Fatal("there is a plugin already")
	}
	p := script(t, folder, "volume", "") // dropped in: starts, with all of history
	until(t, func() bool { return statusOf(h, "volume").State == Running })
	waitCaughtUp(t, h, m.ends())
	sameRows(t, counted(m), brute(volume.ID, 1, blocks[:2], nil))

	before := statusOf(h, "volume").PID
	script(t, folder, "volume", "# another file of the same plugin")
	until(t, func() bool { s := statusOf(h, "volume"); return s.PID != before && s.PID != 0 && s.State == Running })
	m.add("a", blocks[2:4]...)
	waitCaughtUp(t, h, m.ends())
	sameRows(t, counted(m), brute(volume.ID, 1, blocks[:4], nil)) // it went on at its cursor

	script(t, folder, "upgraded", "") // the same id, another data version: a generation beside the old one
	until(t, func() bool { s := statusOf(h, "volume"); return s.DataVersion == 2 && s.State == Running })
	m.add("a", blocks[4:6]...)
	waitCaughtUp(t, h, m.ends())
	if g := generationsOf(m); g.Serving != 2 || g.Building != 0 {
		t.Errorf("generations %+v, want the second one served", g)
	}

	pid := statusOf(h, "volume").PID
	if err := os.Remove(p.Argv[0]); err != nil {
		t.Fatal(err)
	}
	until(t, func() bool { return len(h.Plugins()) == 0 && gone(pid) })
	m.add("a", blocks[6:]...)
	script(t, folder, "upgraded", "") // back again: what was missed meanwhile is counted
	until(t, func() bool { return statusOf(h, "volume").State == Running })
	waitCaughtUp(t, h, m.ends())
	want, got := int64(0), int64(0)
	for _, b := range blocks {
		want += int64(b.Len())
	}
	for k, v := range counted(m) {
		if k.generation == 2 && k.metric == "volume-by-category" && k.interval == time.Second {
			got += v
		}
	}
	if got != want {
		t.Errorf("%d events are counted, want %d", got, want)
	}
}

func counted(m *memory) map[row]int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.counters)
}

func generationsOf(m *memory) store.Generations {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.gens[volume.ID]
}

func TestWatch_AHeirTakesOverTheIDOfARemovedPlugin(t *testing.T) {
	m := newMemory()
	folders := []string{t.TempDir(), t.TempDir()}
	limits := quick()
	limits.Watch = 20 * time.Millisecond
	first, second := script(t, folders[0], "volume", ""), script(t, folders[1], "volume", "")
	h, _ := runHost(t, Options{Programs: []Program{first, second}, Store: m, Feed: feedOf{m}, Limits: limits, Folders: folders})
	until(t, func() bool {
		all := h.Plugins()
		return all[0].State == Running && all[1].State == Quarantined
	})
	if err := os.Remove(first.Argv[0]); err != nil {
		t.Fatal(err)
	}
	until(t, func() bool { all := h.Plugins(); return len(all) == 1 && all[0].State == Running })
}

func TestWatch_HalfWrittenAndForeignFilesAreLeftAlone(t *testing.T) {
	m := newMemory()
	folder := t.TempDir()
	h, err := New(Options{Store: m, Feed: feedOf{m}, RunDir: filepath.Join(t.TempDir(), "r"), Folders: []string{folder}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}()
	w := &watcher{host: h, last: map[string]signature{}}
	path := filepath.Join(folder, "growing")
	for i := range 3 { // another size at every look
		if err := os.WriteFile(path, []byte(strings.Repeat("x", i+1)), 0o700); err != nil {
			t.Fatal(err)
		}
		if fresh := w.look(); len(fresh) != 0 {
			t.Fatalf("look %d: a file that is being written was started", i)
		}
	}
	if fresh := w.look(); len(fresh) != 1 {
		t.Fatalf("%d plugins started when it was complete, want 1", len(fresh))
	}
	if err := os.WriteFile(filepath.Join(folder, "open"), []byte("x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(folder, "open"), 0o722); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if fresh := w.look(); len(fresh) != 0 {
			t.Fatal("a file that others may change was started")
		}
	}
	if !strings.Contains(w.said, "open") {
		t.Errorf("it said %q", w.said)
	}
}
