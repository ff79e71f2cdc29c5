package e2e

import (
	"errors"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/cratetest"
)

// on points an installation at another store.
func (s *site) on(url string) {
	s.configure(map[string]string{"statscache.store.url": strconv.Quote(url)})
}

// migrateKilled runs `migrate`, killed again and again in the middle, until it is done. It gives how often it was killed.
func (s *site) migrateKilled(url string) (kills int) {
	s.t.Helper()
	for after := 500 * time.Millisecond; ; after *= 2 {
		d := s.launch("migrate", "--to", url)
		select {
		case <-d.exited:
			if code := d.cmd.ProcessState.ExitCode(); code != 0 {
				s.t.Fatalf("migrate after %d kills: exit status %d\n%s%s", kills, code, d.stdout.String(), d.stderr.String())
			}
			return kills
		case <-time.After(after):
			_ = d.cmd.Process.Kill() // it may be done
			<-d.exited
			kills++
		}
	}
}

// TestMigrate_ToCrateAndBack_KilledInBetween_GoldenRowsEqualTheOracles takes an archive and its numbers from SQLite to a
// CrateDB and back, killed again and again; both then have the oracle's rows, and a recount of each archive agrees.
func TestMigrate_ToCrateAndBack_KilledInBetween_GoldenRowsEqualTheOracles(t *testing.T) {
	needLong(t, "takes minutes")
	g := goldens(t)[0]
	url := cratetest.Start(t)
	s := newSite(t, nil)
	s.mustRun("import", g.file)
	for _, to := range []string{url, "sqlite://" + filepath.Join(t.TempDir(), "back.db")} {
		t.Logf("killed %d times on the way to %s", s.migrateKilled(to), to)
		if to == url {
			if r := s.mustRun("migrate", "--to", to); !strings.Contains(r.stdout, "all compared") { // once more changes nothing
				t.Errorf("it says %q", r.stdout)
			}
		}
		s.on(to)
		s.mustRun("import", g.file) // all of it is there already
		s.verifyClean()
		t.Logf("verified %s", to)
		d := s.start()
		d.waitCaughtUp(60 * time.Second)
		g.check(t, d, 1_000_000)
		d.stop()
	}
}

// TestMigrate_BesideADaemon_WhatComesInMeanwhileIsCountedOnTheOtherStore holds the daemon to its pause.
func TestMigrate_BesideADaemon_WhatComesInMeanwhileIsCountedOnTheOtherStore(t *testing.T) {
	needLong(t, "takes a minute")
	g := multiplied(t, goldens(t)[0], 1)
	first, second, _ := halves(t, g.file)
	url := cratetest.Start(t)
	s := newSite(t, nil)
	s.mustRun("import", first)
	d := s.start()
	if r := s.mustRun("migrate", "--to", url); !strings.Contains(r.stdout, "restart the daemon") {
		t.Errorf("it says %q", r.stdout)
	}
	before := readJournalBytes(t, d)
	s.launch("import", second) // ends with the daemon: nothing is archived now
	d.waitFor(30*time.Second, "the inbox takes events", func() error {
		if n := readJournalBytes(t, d); n <= before {
			return errNotYet
		}
		return nil
	})
	d.stop()
	s.on(url)
	d = s.start()
	s.mustRun("import", second) // what of it didn't get as far as the inbox
	d.waitCaughtUp(60 * time.Second)
	g.check(t, d, 1_000_000)
	d.stop()
	s.verifyClean()
}

var errNotYet = errors.New("not yet")

func readJournalBytes(t testing.TB, d *daemon) int64 {
	t.Helper()
	x, err := d.status()
	if err != nil {
		t.Fatal(err)
	}
	return x.Journal.Bytes
}
