package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/statscache/statscache/consumer/journal"
)

// targets are what is killed, in turn.
var targets = [...]string{"daemon", "plugin", "both"} // never changed

// crash kills processes of one installation at random moments and knows afterwards what must have survived.
type crash struct {
	t        testing.TB
	random   *rand.Rand
	inbox    map[string]bool // ids that were in the inbox at some kill
	seen     int             // how many those were, over all installations
	kills    int
	inFlight int // kills that met work under way
}

// newCrash takes its seed from STATSCACHE_SEED or the clock, and prints it.
func newCrash(t testing.TB) *crash {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("STATSCACHE_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("STATSCACHE_SEED: %v", err)
		}
	}
	t.Logf("STATSCACHE_SEED=%d", seed)
	return &crash{t: t, random: rand.New(rand.NewPCG(seed, 0)), inbox: map[string]bool{}}
}

// moment waits up to most, or until the process ends.
func (c *crash) moment(d *daemon, most time.Duration) {
	select {
	case <-d.exited:
	case <-time.After(time.Duration(c.random.Int64N(int64(most)))):
	}
}

// strike freezes the daemon and its plugins, looks at what they were doing, and kills the target. A daemon that is not
// the target goes on. It is false when the daemon had ended before.
func (c *crash) strike(d *daemon) bool {
	c.t.Helper()
	below := descendants(d.pid())
	if d.cmd.Process.Signal(syscall.SIGSTOP) != nil || !d.running() {
		return false
	}
	for _, p := range below {
		_ = syscall.Kill(p.pid, syscall.SIGSTOP) // it may have ended just now
	}
	target := targets[c.kills%len(targets)]
	if len(below) == 0 {
		target = "daemon" // killed while it starts
	}
	// What the kernel was writing when the signal came is finished only now.
	if err := poll(time.Second, func() error { return stopped(d.pid()) }); err != nil && d.running() {
		c.t.Log(err)
	}
	phase := c.inspect(d.site)
	if target != "daemon" {
		for _, p := range below {
			_ = syscall.Kill(p.pid, syscall.SIGKILL) // as above
		}
	}
	if target != "plugin" {
		_ = d.cmd.Process.Kill()
		<-d.exited
	}
	for _, pid := range append(pids(below), d.pid()) {
		_ = syscall.Kill(pid, syscall.SIGCONT) // the dead don't mind
	}
	if target != "plugin" {
		d.processesGone(below)
	}
	c.kills++
	if phase.working() {
		c.inFlight++
	}
	c.t.Logf("kill %2d: %-6s %s", c.kills, target, phase)
	return true
}

func pids(all []process) []int {
	var out []int
	for _, p := range all {
		out = append(out, p.pid)
	}
	return out
}

func stopped(pid int) error {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil // it has ended
	}
	at := strings.LastIndexByte(string(text), ')')
	if state := strings.Fields(string(text[at+1:]))[0]; state != "T" && state != "Z" {
		return fmt.Errorf("process %d is in state %s, not stopped", pid, state)
	}
	return nil
}

// phase is what a kill found under way.
type phase struct {
	unarchived  int    // events in the inbox and not archived
	archived    uint64 // positions archived
	uncommitted uint64 // of those not committed by the slowest plugin
	early       bool   // there was no store or no inbox yet
}

func (p phase) working() bool { return p.unarchived > 0 || p.uncommitted > 0 }

func (p phase) String() string {
	switch {
	case p.early:
		return "while it started for the first time"
	case p.working():
		return fmt.Sprintf("with work in flight: %d events in the inbox and not archived, %d of %d archived and not committed", p.unarchived, p.uncommitted, p.archived)
	}
	return fmt.Sprintf("idle: all of %d archived and committed", p.archived)
}

// inspect looks at a copy of the data dir: the original must stay as the crash leaves it.
func (c *crash) inspect(s *site) phase {
	c.t.Helper()
	dir := c.t.TempDir()
	copyTree(c.t, s.data, dir)
	if err := syscall.Access(filepath.Join(dir, "statscache.db"), 4); err != nil {
		return phase{early: true}
	}
	stream, err := journal.StreamOf(nil, filepath.Join(dir, "journal"))
	if err != nil {
		c.t.Fatal(err)
	}
	var p phase
	archivedTo, pos, ok := positions(c.t, filepath.Join(dir, "statscache.db"), stream)
	if stream == "" || !ok {
		p.early = true
		return p
	}
	p.archived, p.uncommitted = archivedTo, archivedTo-pos
	ids := readInbox(c.t, filepath.Join(dir, "journal"), archivedTo)
	p.unarchived = len(ids)
	c.seen += len(ids)
	for _, id := range ids {
		c.inbox[id] = true
	}
	if err := os.RemoveAll(dir); err != nil { // copies add up
		c.t.Fatal(err)
	}
	return p
}

// readInbox gives the ids of the events in a journal behind a position.
func readInbox(t testing.TB, dir string, after uint64) []string {
	t.Helper()
	j, err := journal.Open(journal.Options{Dir: dir, ArchivedTo: after})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for next := j.Next(); after+1 < next; {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		blocks, err := j.ReadAfter(ctx, after, 8<<20)
		cancel()
		if err != nil {
			t.Fatalf("read the inbox after %d of %d: %v", after, next, err)
		}
		for _, b := range blocks {
			ids, err := b.IDs()
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, ids...)
			after = b.Upto
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return all
}

// copyTree copies the regular files of a data dir. The shared memory beside a database is no part of what a crash leaves.
func copyTree(t testing.TB, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, entry os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil // killed before it was made
		}
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, relative)
		if entry.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		if !entry.Type().IsRegular() || strings.HasSuffix(path, "-shm") {
			return nil
		}
		in, err := os.Open(path)
		if err != nil {
			return err
		}
		defer func() { _ = in.Close() }() // only read
		out, err := os.Create(target)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, in)
		return errors.Join(err, out.Close())
	})
	if err != nil {
		t.Fatal(err)
	}
}

// survived checks a stopped installation: every event that was in the inbox at a kill is archived, once.
func (c *crash) survived(s *site) archive {
	c.t.Helper()
	a := readArchive(c.t, s.database())
	missing := 0
	for id := range c.inbox {
		if !a.ids[id] {
			if missing++; missing <= 5 {
				c.t.Errorf("event %s was in the inbox at a kill and is not archived", id)
			}
		}
	}
	if missing > 0 {
		c.t.Errorf("%d of %d events that were in the inbox are lost", missing, len(c.inbox))
	}
	return a
}

// enough says when a run may end. Kills that meet nothing prove nothing, so some must meet work in flight; with three
// times as many kills it ends in any case, and report complains.
func (c *crash) enough(kills, inFlight int) bool {
	return c.kills >= kills && c.inFlight >= inFlight || c.kills >= 3*kills
}

func (c *crash) report(kills, inFlight int) {
	c.t.Helper()
	c.t.Logf("%d kills, %d of them with work in flight, %d events seen in the inbox", c.kills, c.inFlight, c.seen)
	if c.kills < kills || c.inFlight < inFlight {
		c.t.Errorf("%d kills, %d with work in flight; want at least %d and %d", c.kills, c.inFlight, kills, inFlight)
	}
}

// crashImport kills imports until there were enough kills. An import that survives to its end is checked, and another
// installation begins.
func crashImport(t *testing.T, g golden, kills, inFlight int) {
	c := newCrash(t)
	// How long an import takes here tells when to kill one.
	begin := time.Now()
	newSite(t, nil).mustRun("import", g.file)
	most := time.Since(begin)
	t.Logf("an import of %d events takes %s", g.events, most)
	for !c.enough(kills, inFlight) {
		s := newSite(t, nil)
		clear(c.inbox) // of this installation
		for finished := false; !finished; {
			d := s.launch("import", g.file)
			for d.running() && !c.enough(kills, inFlight) {
				c.moment(d, most)
				c.strike(d)
			}
			<-d.exited
			if finished = d.cmd.ProcessState.Exited(); finished && d.cmd.ProcessState.ExitCode() != 0 {
				t.Fatalf("import ended with %s:\n%s", d.cmd.ProcessState, tail(d.stderr.String()))
			}
		}
		if a := c.survived(s); int64(len(a.ids)) != g.events {
			t.Errorf("%d events archived, want %d", len(a.ids), g.events)
		}
		s.verifyClean()
		d := s.start()
		d.waitCaughtUp(time.Minute)
		g.check(t, d, 100_000)
		d.stop()
	}
	c.report(kills, inFlight)
}

// crashLive kills a daemon that receives a steady stream.
func crashLive(t *testing.T, rate string, kills, inFlight int) {
	p := port(t)
	publisher := script(t, "", "stream.py", strconv.Itoa(p), "1", rate, "3600")
	publisher.expect("bound", peerStart)
	s := newSite(t, map[string]string{"endpoints": endpoints(map[string][]int{"load": {p}})})
	c := newCrash(t)
	d := s.launch("run")
	for !c.enough(kills, inFlight) {
		// Some kills meet the start and the catching up, most a running daemon.
		if c.random.IntN(4) > 0 {
			d.waitReady()
		}
		c.moment(d, 1500*time.Millisecond)
		if !c.strike(d) {
			t.Fatalf("the daemon ended by itself:\n%s", tail(d.stderr.String()))
		}
		if !d.running() {
			d = s.launch("run")
		}
	}
	d.waitReady()
	publisher.kill()
	d.stop()
	d = s.start() // nothing new comes; what the last one left is archived and counted
	counted := d.steadyTotal()
	d.stop()
	if a := c.survived(s); int64(len(a.ids)) != counted {
		t.Errorf("%d events archived, %d counted", len(a.ids), counted)
	}
	s.verifyClean()
	c.report(kills, inFlight)
}

// steadyTotal gives the number of counted events once it has been the same for a second.
func (d *daemon) steadyTotal() int64 {
	d.t.Helper()
	last, since := int64(-1), time.Now()
	d.waitFor(time.Minute, "no more events counted", func() error {
		d.waitCaughtUp(time.Minute)
		if now := d.total("volume-1m", ""); now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) < time.Second {
			return fmt.Errorf("%d events since %s", last, since)
		}
		return nil
	})
	return last
}

func TestCrash_KilledImportCountsOnce(t *testing.T) {
	if long() {
		g := multiplied(t, goldens(t)[0], 250)
		if _, missing := sharedTools(); missing == "" {
			g = generate(t, "--seed", "301", "--n", "100000", "--days", "2", "--dup", "0.02", "--late", "0.03")
		}
		crashImport(t, g, 15, 10)
		return
	}
	t.Parallel()
	crashImport(t, multiplied(t, goldens(t)[0], 50), 2, 1)
}

func TestCrash_KilledDaemonLosesNothing(t *testing.T) {
	if long() {
		crashLive(t, "3000", 15, 10)
		return
	}
	t.Parallel()
	crashLive(t, "1000", 3, 2)
}
