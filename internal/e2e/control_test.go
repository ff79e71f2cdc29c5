package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestControl_ImportBesideADaemon imports a golden stream through a running daemon, breaks an import off, and repeats it.
func TestControl_ImportBesideADaemon(t *testing.T) {
	t.Parallel()
	g := goldens(t)[0]
	s := newSite(t, nil)
	s.race = true
	d := s.start()
	cmd := exec.Command(binary(t), append([]string{"import", g.file, "-"}, s.flags()...)...) // stdin stays open
	cmd.Env = append(os.Environ(), s.env()...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d.waitFor(20*time.Second, "some events archived", func() error {
		st, err := d.status()
		if err == nil && st.Owned == 0 {
			err = errors.New("none")
		}
		return err
	})
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // it was killed
	_ = stdin.Close()

	r := s.mustRun("import", g.file)
	if !strings.Contains(r.stdout, "imported ") || !strings.Contains(r.stdout, " duplicates, 0 rejected") {
		t.Errorf("import says %q", r.stdout)
	}
	g.check(t, d, 1_000_000) // all is counted when import returns
	r = s.mustRun("import", g.file, "--json")
	if !strings.Contains(r.stdout, `"owned":0,`) {
		t.Errorf("a second import says %q; want no new events", r.stdout)
	}
	g.check(t, d, 1_000_000)
	d.stop()
	s.verifyClean()
}

// TestControl_BadLinesAreNamedAsWithoutADaemon compares what the two ways of an import print.
func TestControl_BadLinesAreNamedAsWithoutADaemon(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "events.jsonl")
	if err := os.WriteFile(file, []byte(strings.Repeat("null\n\n{}\n", 20)), 0o600); err != nil {
		t.Fatal(err)
	}
	alone := newSite(t, nil).run("import", file, "--log-level", "error", "--json")
	s := newSite(t, nil)
	d := s.start()
	beside := s.run("import", file, "--log-level", "error", "--json")
	if alone != beside {
		t.Errorf("beside a daemon\n%+v\nwithout one\n%+v", beside, alone)
	}
	if alone.code != 1 {
		t.Errorf("exit status %d with refused lines, want 1", alone.code)
	}
	if info, err := os.Stat(s.database()); err != nil || info.Mode().Perm()&^0o640 != 0 {
		t.Errorf("the database is %v (%v): others may read it", info.Mode(), err)
	}
	if want := fmt.Sprintf("%s:1: refused (", file); !strings.HasPrefix(beside.stderr, want) {
		t.Errorf("stderr begins with %.200q, want %q", beside.stderr, want)
	}
	oneSentence(t, s.run("import", "no-such-file.jsonl"), 1, "no-such-file.jsonl")
	d.stop()
}

// TestControl_PluginCommands stops, starts and renews a plugin beside a daemon and between two daemons.
func TestControl_PluginCommands(t *testing.T) {
	t.Parallel()
	g := goldens(t)[0]
	s := newSite(t, nil)
	s.race = true
	d := s.start()
	state := func() string {
		t.Helper()
		for line := range strings.Lines(s.mustRun("plugin", "list").stdout) {
			if f := strings.Fields(line); len(f) > 2 && f[0] == "volume" {
				return f[2]
			}
		}
		return ""
	}
	s.mustRun("plugin", "disable", "volume")
	if got := state(); got != "disabled" {
		t.Errorf("the plugin is %q beside the daemon that was told to disable it", got)
	}
	s.mustRun("import", g.file)
	d.stop()
	if got := state(); got != "disabled" {
		t.Errorf("the plugin is %q without a daemon, want disabled", got)
	}
	d = s.start()
	s.mustRun("plugin", "enable", "volume")
	d.waitCaughtUp(30 * time.Second)
	g.check(t, d, 1_000_000)
	s.mustRun("plugin", "restart", "volume")
	if got := state(); got != "running" && got != "catching-up" {
		t.Errorf("the plugin is %q after a restart", got)
	}
	oneSentence(t, s.run("plugin", "restart", "nobody"), 1, "nobody", "volume")
	oneSentence(t, s.run("plugin", "restart"), 2, "plugin restart")
	d.stop()
	s.verifyClean()
}

// TestControl_PluginFolderIsWatched drops a program into the plugin folder of a running daemon and takes it away.
func TestControl_PluginFolderIsWatched(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	d := s.start()
	folder := filepath.Join(s.data, "plugins")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, "second")
	// The bundled plugin's id belongs to the bundled one: this one is refused, by name.
	text := fmt.Sprintf("#!/bin/sh\nexec %s serve-bundled-plugin volume\n", binary(t))
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	listed := func() error {
		if out := s.mustRun("plugin", "list").stdout; !strings.Contains(out, "quarantined") || !strings.Contains(out, path) {
			return fmt.Errorf("plugin list says\n%s", out)
		}
		return nil
	}
	d.waitFor(20*time.Second, "the dropped program is run", listed)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	d.waitFor(20*time.Second, "the removed program is forgotten", func() error {
		if listed() == nil {
			return errors.New("it is still listed")
		}
		return nil
	})
	d.stop()
}

// TestControl_DaemonKilledDuringAnImport runs the import again with the next daemon.
func TestControl_DaemonKilledDuringAnImport(t *testing.T) {
	t.Parallel()
	g := goldens(t)[0]
	s := newSite(t, nil)
	d := s.start()
	cmd := exec.CommandContext(t.Context(), binary(t), append([]string{"import", g.file, "-"}, s.flags()...)...) // stdin stays open
	cmd.Env = append(os.Environ(), s.env()...)
	var said strings.Builder
	cmd.Stderr = &said
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d.waitFor(20*time.Second, "some events archived", func() error {
		st, err := d.status()
		if err == nil && st.Owned == 0 {
			err = errors.New("none")
		}
		return err
	})
	below := descendants(d.pid())
	if err := d.cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	<-d.exited
	d.processesGone(below)
	_ = cmd.Wait() // the status is looked at below
	_ = stdin.Close()
	oneSentence(t, result{code: cmd.ProcessState.ExitCode(), stderr: said.String()}, 1, "run the import again")

	d = s.start() // the killed one's socket is in the way
	s.mustRun("import", g.file)
	g.check(t, d, 1_000_000)
	d.stop()
	s.verifyClean()
}
