package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// pickyEvents writes envelopes of which some make the picky plugin misbehave, and gives how many of each word there are.
func pickyEvents(t *testing.T, n, every int, words ...string) (file string, bad map[string]int) {
	t.Helper()
	var b strings.Builder
	bad = map[string]int{}
	for i := range n {
		word := "fine"
		if i%every == every/2 {
			word = words[i/every%len(words)]
			bad[word]++
		}
		fmt.Fprintf(&b, `{"topic":"org.x.prod.cat.%s","msg_id":"2026-picky-%d","timestamp":%d,"msg":{"n":%d}}`+"\n", word, i, 1_700_000_000+i, i)
	}
	file = filepath.Join(t.TempDir(), "events.jsonl")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, bad
}

// mend writes what the picky plugin still misbehaves at.
func (s *site) mend(left string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.data, "plugins", ".mended"), []byte(left), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// launchPicky starts a daemon and waits until the picky plugin runs in it, if not for long.
func (s *site) launchPicky() *daemon {
	s.t.Helper()
	d := s.launch("run")
	d.waitFor(readyWithin, "picky runs", func() error {
		lines, err := d.plugins()
		if err == nil && lines["picky"].State != "running" {
			err = fmt.Errorf("%+v", lines["picky"])
		}
		return err
	})
	return d
}

type requeued struct{ Taken, Dead, Expired, Left int }

// requeue gives the picky plugin's dead letters to it again.
func (s *site) requeue() (r requeued) {
	s.t.Helper()
	out := s.mustRun("plugin", "requeue", "picky", "--json").stdout
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		s.t.Fatalf("plugin requeue says %q: %v", out, err)
	}
	return r
}

// pickyTotal adds up what the picky plugin has counted, by `plugin list` and the API of a daemon.
func (d *daemon) pickyTotal() int64 {
	d.t.Helper()
	n := d.total("counts-of-a-picky-one-1m", "")
	if day := d.total("counts-of-a-picky-one-1d", ""); day != n {
		d.t.Errorf("picky counted %d by minutes and %d by days", n, day)
	}
	return n
}

// TestRequeue_BesideADaemonAndWithout gives dead letters back in both ways, to a plugin that is mended by and by.
func TestRequeue_BesideADaemonAndWithout(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.race = true
	s.buildPlugins("picky")
	file, bad := pickyEvents(t, 1200, 200, "crash", "error")
	total := bad["crash"] + bad["error"]
	d := s.launchPicky()
	s.mustRun("import", file)
	d.waitFor(60*time.Second, "all dead letters", func() error {
		lines, err := d.plugins()
		if p := lines["picky"]; err == nil && (p.DeadLetters != int64(total) || p.Lag > 0) {
			err = fmt.Errorf("%+v, want %d dead letters", p, total)
		}
		return err
	})
	s.mend("crash")
	if r := s.requeue(); r != (requeued{Taken: bad["error"], Dead: bad["crash"]}) {
		t.Errorf("beside the daemon: %+v; want %v", r, bad)
	}
	d.waitFor(20*time.Second, "the API shows it", func() error {
		lines, err := d.plugins()
		if p := lines["picky"]; err == nil && p.DeadLetters != int64(bad["crash"]) {
			err = fmt.Errorf("%+v", p)
		}
		return err
	})
	if n := d.pickyTotal(); n != int64(1200-bad["crash"]) {
		t.Errorf("%d counted, want %d", n, 1200-bad["crash"])
	}
	d.stop()
	s.mend("")
	if r := s.requeue(); r != (requeued{Taken: bad["crash"]}) {
		t.Errorf("without a daemon: %+v, want %d taken", r, bad["crash"])
	}
	if out := s.mustRun("plugin", "requeue", "picky").stdout; !strings.Contains(out, "plugin picky has no dead letters") {
		t.Errorf("once more: %q", out)
	}
	oneSentence(t, s.run("plugin", "requeue", "nobody"), 1, "nobody", "picky")
	oneSentence(t, s.run("plugin", "requeue"), 2, "plugin requeue")
	d = s.launchPicky()
	d.waitFor(30*time.Second, "everything is counted", func() error {
		if n := d.pickyTotal(); n != 1200 {
			return fmt.Errorf("%d of 1200", n)
		}
		return nil
	})
	d.stop()
	s.verifyClean()
}

// deadInFile counts the picky plugin's dead letters where they are kept.
func (s *site) deadInFile() (n int64) {
	s.t.Helper()
	c, err := sqlite.OpenConn(s.database(), sqlite.OpenReadOnly)
	if err != nil {
		s.t.Fatal(err)
	}
	c.SetBusyTimeout(10 * time.Second)
	err = sqlitex.ExecuteTransient(c, "SELECT count(*) FROM dead WHERE plugin='picky'", &sqlitex.ExecOptions{ResultFunc: func(r *sqlite.Stmt) error {
		n = r.ColumnInt64(0)
		return nil
	}})
	if err = errors.Join(err, c.Close()); err != nil {
		s.t.Fatal(err)
	}
	return n
}

// waitDeadBelow waits until fewer dead letters are left.
func (s *site) waitDeadBelow(left int64) {
	s.t.Helper()
	if err := poll(patience, func() error {
		if n := s.deadInFile(); n >= left {
			return fmt.Errorf("%d dead letters are left, as before", n)
		}
		return nil
	}); err != nil {
		s.t.Fatal(err)
	}
}

// TestVerify_BesideARequeue_FindsNoDifference verifies again and again while dead letters are being counted after all.
func TestVerify_BesideARequeue_FindsNoDifference(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.buildPlugins("picky")
	const n = 12_000
	file, bad := pickyEvents(t, n, 3, "error")
	s.mustRun("import", file)
	s.mend("slow")
	d := s.launchPicky()
	before := int64(bad["error"])
	requeued := make(chan result)
	go func() { requeued <- s.run("plugin", "requeue", "picky", "--json") }()
	s.waitDeadBelow(before)
	s.mend("") // a process of verify's own need not be slow
	during := 0
	for over := false; !over; {
		left := s.deadInFile()
		s.verifyClean()
		if s.deadInFile() < left {
			during++
		}
		select {
		case r := <-requeued:
			if over = true; r.code != 0 {
				t.Errorf("requeue: %d: %s%s", r.code, r.stdout, r.stderr)
			}
		default:
		}
	}
	t.Logf("%d times dead letters were taken back while verify ran", during)
	if during == 0 {
		t.Error("no dead letters were taken back while verify ran")
	}
	s.verifyClean()
	if got := d.pickyTotal(); got != n {
		t.Errorf("%d counted, want %d", got, n)
	}
	d.stop()
}

// TestRequeue_KilledAnywhere kills daemons and commands while dead letters are given back.
func TestRequeue_KilledAnywhere(t *testing.T) {
	t.Parallel()
	rounds := 2
	if long() {
		rounds = 40
	}
	s := newSite(t, nil)
	s.buildPlugins("picky")
	const n = 6000
	file, bad := pickyEvents(t, n, 3, "error")
	s.mustRun("import", file)
	s.mend("slow")
	r := rand.New(rand.NewPCG(5, uint64(rounds)))
	struck := 0
	for round := range rounds {
		left := s.deadInFile()
		cmd := exec.Command(binary(t), append([]string{"plugin", "requeue", "picky"}, s.flags()...)...)
		cmd.Env = append(os.Environ(), s.env()...)
		var d *daemon
		if round%2 == 0 {
			d = s.launchPicky()
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if left > 0 { // it strikes in the middle: some are taken, others are being asked for
			s.waitDeadBelow(left)
			struck++
		}
		time.Sleep(time.Duration(r.IntN(400)) * time.Millisecond) // anywhere in a batch or two
		if d != nil {
			below := descendants(d.pid())
			if err := d.cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
			<-d.exited
			d.processesGone(below)
		}
		_ = cmd.Process.Signal(syscall.SIGKILL)
		var killed *exec.ExitError
		if err := cmd.Wait(); err != nil && !errors.As(err, &killed) {
			t.Fatal(err)
		}
	}
	s.mend("")
	last := s.requeue()
	if struck < 2 {
		t.Errorf("only %d rounds struck in the middle", struck)
	}
	t.Logf("%d daemons and commands killed: %d of %d dead letters were left for the last requeue", rounds, last.Taken, bad["error"])
	if last.Dead+last.Left+last.Expired > 0 {
		t.Errorf("the last requeue: %+v", last)
	}
	s.verifyClean()
	d := s.launchPicky()
	d.waitFor(30*time.Second, "everything is counted", func() error {
		if got := d.pickyTotal(); got != n {
			return fmt.Errorf("%d of %d", got, n)
		}
		return nil
	})
	d.stop()
}
