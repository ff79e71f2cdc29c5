package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/statscache/statscache/internal/failpoint"
)

// armableBinary gives the path of the binary that failpoints can be armed in.
func armableBinary(t testing.TB) string {
	return builtBinary(t, "statscache-failpoints", "-tags", "failpoints")
}

// armed is a process with failpoints and what became of it.
type armed struct {
	result
	signal syscall.Signal // that ended it, 0 where it exited
	told   bool           // it went on and was told to stop
	hits   []string       // "NAME ACTION" of every point that acted
}

// arm runs a command with failpoints armed. One whose points have acted enough times is told to stop, and must; with 0 it
// has to end by itself.
func (s *site) arm(points string, enough int, args ...string) (a armed) {
	s.t.Helper()
	record := filepath.Join(s.t.TempDir(), "hits")
	cmd := exec.Command(armableBinary(s.t), append(args, s.flags()...)...)
	cmd.Env = append(append(os.Environ(), s.env()...), "STATSCACHE_FAILPOINTS="+points, "STATSCACHE_FAILPOINTS_RECORD="+record)
	var stdout, stderr output
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // the state tells
	}()
	within := func(most time.Duration, done func() bool) {
		if err := poll(most, func() error {
			select {
			case <-ended:
				return nil
			default:
			}
			if !done() {
				return errors.New("it goes on")
			}
			return nil
		}); err != nil {
			_ = cmd.Process.Kill()
			<-ended
			s.t.Fatalf("%s: %v; it printed\n%s", points, err, tail(stderr.String()))
		}
	}
	within(patience, func() bool { a.told = enough > 0 && len(hits(record)) >= enough; return a.told })
	if a.told {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended just now
		within(stopWithin, func() bool { return false })
	}
	<-ended
	noCrash(s.t, stderr.String())
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() {
		a.signal = status.Signal()
	}
	a.result = result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
	if a.hits = hits(record); len(a.hits) == 0 {
		s.t.Fatalf("%s: the point was never reached; exit status %d; it printed\n%s%s", points, a.code, a.stdout, tail(a.stderr))
	}
	return a
}

// hits reads how often points have acted so far.
func hits(record string) []string {
	text, err := os.ReadFile(record)
	if err != nil {
		return nil // not made yet
	}
	return slices.Collect(strings.Lines(string(text)))
}

// processesOf lists the processes that were given this installation's temporary folder: a daemon's plugins inherit a
// folder below its data dir.
func (s *site) processesOf() (all []string) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		s.t.Fatal(err)
	}
	home := filepath.Dir(s.conf)
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "environ"))
		if err == nil && strings.Contains(string(text), home+"/") {
			all = append(all, entry.Name())
		}
	}
	return all
}

// fault is what an armed point does and what must come of it.
type fault struct {
	kind   string // for the report
	action string // as arm takes it
	enough int    // hits after which a command that goes on is told to stop
	check  func(t testing.TB, w walk, a armed)
}

// patience is how long an armed command may take that must end by itself.
const patience = time.Minute

// faults are what is done to every step.
func faults() []fault {
	return []fault{
		{"crash", "crash", 0, func(t testing.TB, _ walk, a armed) {
			if a.signal != syscall.SIGKILL || len(a.hits) != 1 {
				t.Errorf("exit status %d, signal %v, hits %q; want one crash", a.code, a.signal, a.hits)
			}
		}},
		{"error once", "error*1", 0, func(t testing.TB, w walk, a armed) {
			switch {
			case w.fatal && (a.code != 1 || !strings.Contains(a.stderr, "injected by a failpoint")):
				t.Errorf("exit status %d, want 1 and the reason:\n%s", a.code, a.stderr)
			case !w.fatal && a.code != 0:
				t.Errorf("exit status %d: one error should pass\n%s", a.code, a.stderr)
			}
		}},
		// A command that an error does not end tries again and again, until it is told to stop; or it can do without.
		{"error for ever", "error", 3, func(t testing.TB, w walk, a armed) {
			if a.signal != 0 || !a.told && !w.fatal && !w.optional || a.told && w.optional {
				t.Errorf("exit status %d, signal %v, told to stop: %v, hits %q", a.code, a.signal, a.told, a.hits)
			}
			if !strings.Contains(a.stderr, "injected by a failpoint") {
				t.Errorf("nobody is told why it doesn't go on:\n%s", a.stderr)
			}
		}},
		{"delay", "delay(200ms)", 0, func(t testing.TB, _ walk, a armed) {
			if a.code != 0 {
				t.Errorf("exit status %d:\n%s", a.code, a.stderr)
			}
		}},
	}
}

// walk is a step with what it takes to get there.
type walk struct {
	step     failpoint.Step
	hit      int                                          // which hit is the first to act
	fatal    bool                                         // an error ends the command: there is nothing to go on with
	optional bool                                         // the command can do without, until the next time that the step is due
	past     map[string]string                            // settings of an import before; nil where the installation is new
	setting  map[string]string                            // settings from then on
	command  []string                                     // with failpoints; an import where empty
	gone     func(ident string) bool                      // idents whose rows retention has removed
	check    func(t testing.TB, s *site, events []string) // of the stopped installation, with the ids archived
}

// walks lists how every step is reached. TestFailpoints_Walk fails where one is missing.
func walks() []walk {
	small := map[string]string{"statscache.journal.max_bytes": "1 << 20"} // segments are trimmed after a few events
	return []walk{
		{step: failpoint.Migration, hit: 1, fatal: true},
		{step: failpoint.InboxState, hit: 1, fatal: true},
		{step: failpoint.InboxState, hit: 2, setting: small, optional: true},
		{step: failpoint.InboxRotate, hit: 1},
		{step: failpoint.InboxAppend, hit: 1},
		{step: failpoint.InboxSync, hit: 1},
		{step: failpoint.InboxTrim, hit: 1, setting: small, optional: true},
		{step: failpoint.ArchiveInsert, hit: 1},
		{step: failpoint.ArchiveArchivedTo, hit: 1},
		{step: failpoint.PluginSend, hit: 1},
		{step: failpoint.PluginResult, hit: 1},
		{step: failpoint.Commit, hit: 1},
		{step: failpoint.Version, hit: 1},
		{step: failpoint.RetentionHorizon, hit: 1, past: map[string]string{}, setting: keepSecondsShort(), gone: ofSeconds},
		{step: failpoint.RetentionCounters, hit: 1, past: map[string]string{}, setting: keepSecondsShort(), gone: ofSeconds},
		{step: failpoint.RetentionArchive, hit: 1, optional: true, past: map[string]string{}, setting: map[string]string{"statscache.archive.retention": `"30d"`},
			check: func(t testing.TB, _ *site, events []string) {
				if len(events) > 0 {
					t.Errorf("%d events are archived beyond the archive's retention", len(events))
				}
			}},
		{step: failpoint.GenerationSwap, hit: 1, past: map[string]string{}, command: []string{"recount", "volume"},
			check: func(t testing.TB, s *site, _ []string) {
				var served []string
				query(t, s.database(), "SELECT DISTINCT generation FROM metric WHERE plugin='volume'", func(row *sqlite.Stmt) { served = append(served, row.ColumnText(0)) })
				if !slices.Equal(served, []string{"2"}) {
					t.Errorf("the store has generations %v, want the second alone", served)
				}
			}},
	}
}

func keepSecondsShort() map[string]string {
	return map[string]string{"statscache.retention": `{"1s": "1d", "5s": None, "15s": None, "1m": None}`}
}

func ofSeconds(ident string) bool { return strings.HasSuffix(ident, "-1s") }

// volumeAlone adds to settings that no other bundled plugin is run: what a point hits first is a step with counts.
func volumeAlone(settings map[string]string) map[string]string {
	out := map[string]string{"statscache.plugins.disabled": `["activity", "pagure", "releng"]`}
	maps.Copy(out, settings)
	return out
}

// query reads from a database file behind statscache's back.
func query(t testing.TB, path, text string, row func(*sqlite.Stmt)) {
	t.Helper()
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	err = sqlitex.ExecuteTransient(conn, text, &sqlitex.ExecOptions{ResultFunc: func(s *sqlite.Stmt) error { row(s); return nil }})
	if err = errors.Join(err, conn.Close()); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

// tally counts the faults of a run and what came of them.
type tally struct {
	mu   sync.Mutex
	done map[string]int // "kind, point"
	bad  map[string]int
}

func (c *tally) note(kind, point string, failed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done[kind+", "+point]++
	if failed {
		c.bad[kind+", "+point]++
	}
}

// report logs what was done and fails where a point was never made to fail, unless only some were asked for.
func (c *tally) report(t *testing.T, faults []fault, began time.Time) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	all, kinds := 0, map[string]int{}
	for name, n := range c.done {
		kind, _, _ := strings.Cut(name, ", ")
		kinds[kind] += n
		all += n
	}
	for kind, n := range kinds {
		noteFault(t, "failpoint: "+kind, n)
	}
	noteResult(t, "failpoints", fmt.Sprintf("%d faults at %d points in %s, %d of them with a wrong end", all, len(failpoint.Names()), time.Since(began).Round(time.Second), len(c.bad)))
	for _, name := range slices.Sorted(maps.Keys(c.done)) {
		t.Logf("%-45s %d done, %d with a wrong end", name, c.done[name], c.bad[name])
	}
	if strings.Contains(flag.Lookup("test.run").Value.String(), "/") {
		return
	}
	for _, f := range faults {
		for _, name := range failpoint.Names() {
			if c.done[f.kind+", "+name] == 0 {
				t.Errorf("%s was never made to fail by %s", name, f.kind)
			}
		}
	}
}

// TestFailpoints_Walk makes every durable step fail, before and after it. Afterwards an ordinary start makes everything
// right. The short form only crashes. The engine is SQLite.
func TestFailpoints_Walk(t *testing.T) {
	t.Parallel()
	times, all := int64(10), faults()[:1]
	if long() {
		all = faults()
	}
	g := multiplied(t, goldens(t)[0], times)
	c := &tally{done: map[string]int{}, bad: map[string]int{}}
	began := time.Now()
	t.Cleanup(func() { c.report(t, all, began) })
	for _, w := range walks() {
		for _, point := range []string{w.step.Before(), w.step.After()} {
			for _, f := range all {
				t.Run(fmt.Sprintf("%s/%d/%s", point, w.hit, f.kind), func(t *testing.T) {
					t.Parallel()
					defer func() { c.note(f.kind, point, t.Failed()) }()
					w.take(t, g, point, f)
				})
			}
		}
	}
}

// take makes one point fail and looks at what an ordinary start makes of it.
func (w walk) take(t *testing.T, g golden, point string, f fault) {
	s := newSite(t, volumeAlone(w.past))
	w.provoke(t, s, g, point, f, nil)
	kept := &crash{t: t, inbox: map[string]bool{}}
	kept.inspect(s)
	s.mustRun("import", os.DevNull) // nothing new: what had been accepted is archived
	if w.step != failpoint.RetentionArchive {
		kept.survived(s)
	}
	w.mended(t, s, g)
	archived := readArchive(t, s.database())
	for stream, upto := range archived.streams {
		if left := readInbox(t, filepath.Join(s.data, "journal"), upto); len(left) > 0 {
			t.Errorf("%d events are left in the inbox of stream %s", len(left), stream)
		}
	}
	if w.step != failpoint.RetentionArchive && int64(len(archived.ids)) != g.events {
		t.Errorf("%d events archived, want %d", len(archived.ids), g.events)
	}
	if w.check != nil {
		w.check(t, s, slices.Collect(maps.Keys(archived.ids)))
	}
}

// provoke makes one point fail in an installation, with more settings than the step itself needs.
func (w walk) provoke(t *testing.T, s *site, g golden, point string, f fault, more map[string]string) {
	t.Helper()
	if w.past != nil {
		s.mustRun("import", g.file)
	}
	settings := volumeAlone(w.setting)
	maps.Copy(settings, more)
	s.configure(settings)
	command := w.command
	if command == nil {
		command = []string{"import", g.file}
	}
	f.check(t, w, s.arm(fmt.Sprintf("%s=%s@%d", point, f.action, w.hit), f.enough, command...))
	if err := poll(5*time.Second, func() error {
		if left := s.processesOf(); len(left) > 0 {
			return fmt.Errorf("processes left behind: %v", left)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// mended starts an installation in the ordinary way and holds it to the oracle's rows.
func (w walk) mended(t *testing.T, s *site, g golden) {
	t.Helper()
	d := s.launch("run")
	d.waitJoined()
	s.mustRun("import", g.file)
	d.waitCaughtUp(time.Minute)
	if lines, err := d.plugins(); err != nil || lines["volume"].DeadLetters != 0 {
		t.Errorf("dead letters: %+v, %v", lines, err)
	}
	want := g
	if w.gone != nil {
		want.expected = map[string]string{}
		for ident, rows := range g.expected {
			if w.gone(ident) {
				header, _, _ := strings.Cut(rows, "\n")
				rows = header + "\n"
			}
			want.expected[ident] = rows
		}
	}
	want.check(t, d, 1_000_000)
	d.stop()
	if r, _, differences := s.verify(); r.code != 0 || differences != 0 {
		t.Errorf("verify: exit status %d, %d differences:\n%s%s", r.code, differences, r.stdout, r.stderr)
	}
}

// TestFailpoints_AnOrdinaryBinaryHasNone arms what would end it at once, and gives it what it would refuse.
func TestFailpoints_AnOrdinaryBinaryHasNone(t *testing.T) {
	t.Parallel()
	g := goldens(t)[0]
	for _, points := range []string{"inbox.append.before=crash", "this is no list of points"} {
		s := newSite(t, nil)
		record := filepath.Join(t.TempDir(), "hits")
		env := append(s.env(), "STATSCACHE_FAILPOINTS="+points, "STATSCACHE_FAILPOINTS_RECORD="+record)
		r := command(t, env, append([]string{"import", g.file}, s.flags()...)...)
		if _, err := os.Stat(record); r.code != 0 || !errors.Is(err, os.ErrNotExist) {
			t.Errorf("with %q: exit status %d, record %v:\n%s", points, r.code, err, r.stderr)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, armableBinary(t), append([]string{"import", g.file}, s.flags()...)...)
		cmd.Env = append(os.Environ(), env...)
		if out, err := cmd.CombinedOutput(); err == nil {
			t.Errorf("the binary with failpoints took %q:\n%s", points, out)
		}
	}
	text, err := os.ReadFile(binary(t))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "STATSCACHE_FAILPOINTS") {
		t.Error("the ordinary binary knows the variable's name")
	}
}
