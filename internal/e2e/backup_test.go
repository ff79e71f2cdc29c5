package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// halves splits a file of lines in two and gives the number of lines of the second.
func halves(t testing.TB, file string) (first, second string, lines int) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	all := bytes.SplitAfter(bytes.TrimSpace(text), []byte("\n"))
	dir := t.TempDir()
	first, second = filepath.Join(dir, "first.jsonl"), filepath.Join(dir, "second.jsonl")
	half := len(all) / 2
	for path, part := range map[string][][]byte{first: all[:half], second: all[half:]} {
		if err := os.WriteFile(path, bytes.Join(part, nil), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return first, second, len(all) - half
}

// TestBackup_HoldsWhatWasAcceptedAndRunsBesideTheOriginal: a backup is made while half of the events are accepted but not
// archived. What is brought back has all of them, under a stream of its own, and both installations go on exactly.
func TestBackup_HoldsWhatWasAcceptedAndRunsBesideTheOriginal(t *testing.T) {
	t.Parallel()
	g := multiplied(t, goldens(t)[0], 10)
	first, second, lines := halves(t, g.file)
	s := newSite(t, nil)
	d := s.start()
	s.mustRun("import", first)
	locked, err := sqlite.OpenConn(s.database(), sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	locked.SetBlockOnBusy()
	if err := sqlitex.ExecuteTransient(locked, "BEGIN IMMEDIATE", nil); err != nil {
		t.Fatal(err)
	}
	importing := s.launch("import", second)
	var sum struct {
		Inbox  int    `json:"inbox"`
		Stream string `json:"stream"`
		New    string `json:"new_stream"`
	}
	file := ""
	for n := 0; sum.Inbox < lines; n++ {
		if n == 100 {
			t.Fatalf("%d of %d events in the inbox", sum.Inbox, lines)
		}
		file = filepath.Join(t.TempDir(), "backup")
		if err := json.Unmarshal([]byte(s.mustRun("backup", file, "--json").stdout), &sum); err != nil {
			t.Fatal(err)
		}
	}
	if err := sqlitex.ExecuteTransient(locked, "ROLLBACK", nil); err != nil {
		t.Fatal(err)
	}
	if err := locked.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-importing.exited:
	case <-time.After(20 * time.Second):
		t.Fatal("the import doesn't end")
	}

	back := newSite(t, nil)
	if err := json.Unmarshal([]byte(back.mustRun("restore", file, "--json").stdout), &sum); err != nil {
		t.Fatal(err)
	}
	if sum.New == "" || sum.New == sum.Stream {
		t.Errorf("the inbox of the copy is stream %q, that of the original %q", sum.New, sum.Stream)
	}
	copied := back.start()
	copied.waitCounted(g.events/4, 20*time.Second) // the inbox's share; duplicates among it
	g.check(t, d, 1_000_000)
	copied.waitFor(20*time.Second, "everything counted", func() error {
		st, err := copied.status()
		if err == nil {
			err = st.caughtUp()
		}
		return err
	})
	g.check(t, copied, 1_000_000)
	for _, x := range []*daemon{d, copied} { // both go on, with the same events
		x.mustRun("import", g.file)
		g.check(t, x, 1_000_000)
	}
	if r := back.mustRun("archive", "check"); !strings.Contains(r.stdout, fmt.Sprintf("%d events", g.events)) || !strings.Contains(r.stdout, ", 0 problems") {
		t.Errorf("archive check says %s", r.stdout)
	}
	back.mustRun("archive", "compact")
	g.check(t, copied, 1_000_000)
	if r := back.mustRun("archive", "stats"); !strings.Contains(r.stdout, fmt.Sprintf("%d events", g.events)) {
		t.Errorf("archive stats says %s", r.stdout)
	}
	oneSentence(t, back.run("restore", file), 1, "a statscache works in")
	copied.stop()
	d.stop()
	oneSentence(t, back.run("restore", file), 1, "is not empty")
	oneSentence(t, back.run("backup", file), 1, "exists already")
	back.verifyClean()
	s.verifyClean()
}

// TestBackup_Killed: a backup that is killed, or whose daemon is, leaves no file under its name unless it is whole, harms
// nothing, and what it left is gone after the next one.
func TestBackup_Killed(t *testing.T) {
	t.Parallel()
	g := multiplied(t, goldens(t)[0], 10)
	s := newSite(t, nil)
	s.mustRun("import", g.file)
	random := rand.New(rand.NewPCG(5, 5))
	folder := t.TempDir()
	left := func() []string {
		names, err := filepath.Glob(filepath.Join(folder, ".statscache-backup-*"))
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	kills, whole := 0, 0
	for try := range 6 {
		file := filepath.Join(folder, fmt.Sprint("backup", try))
		before := left()
		var victim *daemon
		if try%2 == 1 {
			victim = s.start()
		}
		d := s.launch("backup", file)
		if victim == nil {
			victim = d
		}
		err := poll(20*time.Second, func() error {
			if now := left(); len(now) > 0 && !slices.Equal(now, before) {
				return nil
			}
			if !d.running() {
				return errEnded
			}
			return errors.New("it has not begun")
		})
		if err == nil {
			kills++
			<-time.After(time.Duration(random.IntN(60)) * time.Millisecond) // somewhere in it
		}
		below := descendants(victim.pid())
		_ = victim.cmd.Process.Kill() // it may have ended
		<-victim.exited
		<-d.exited
		victim.processesGone(below)
		if _, err := os.Stat(file); err == nil {
			whole++
			newSite(t, nil).mustRun("restore", file)
		}
	}
	file := filepath.Join(folder, "last")
	s.mustRun("backup", file)
	if names := left(); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
	t.Logf("%d killed under way, %d were whole", kills, whole)
	if kills == 0 {
		t.Error("the test proves nothing")
	}
	back := newSite(t, nil)
	back.mustRun("restore", file)
	back.verifyClean()
	s.verifyClean()
}

// TestRestore_DamagedBackupsAreRefused and leave the data dir as empty as it was.
func TestRestore_DamagedBackupsAreRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.mustRun("import", goldens(t)[0].file)
	file := filepath.Join(t.TempDir(), "backup")
	s.mustRun("backup", file)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 1
	back := newSite(t, nil)
	for _, c := range []struct {
		name string
		text []byte
	}{{"a bit flipped", flipped}, {"cut", good[:len(good)*2/3]}, {"cut at the very end", good[:len(good)-8]}, {"empty", nil}, {"something else", []byte("PK\x03\x04 and so on")}} {
		t.Run(c.name, func(t *testing.T) {
			bad := filepath.Join(t.TempDir(), "bad")
			if err := os.WriteFile(bad, c.text, 0o600); err != nil {
				t.Fatal(err)
			}
			oneSentence(t, back.run("restore", bad), 1, bad)
		})
	}
	back.mustRun("restore", file)
	back.verifyClean()
}

// TestArchiveCheck_FindsDamage: a body that changed, a block that is gone.
func TestArchiveCheck_FindsDamage(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.mustRun("import", goldens(t)[0].file)
	if r := s.run("archive", "check"); r.code != 0 {
		t.Fatalf("a sound archive: %s%s", r.stdout, r.stderr)
	}
	execute(t, s.database(), "UPDATE blk SET n=0", "DELETE FROM blk", "DELETE FROM hot")
	if r := s.run("archive", "check"); r.code != 1 || !strings.Contains(r.stdout, "were counted in") {
		t.Errorf("exit status %d: %s%s", r.code, r.stdout, r.stderr)
	}
}
