package e2e

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/consumer/journal"
	"github.com/statscache/statscache/internal/powerloss"
	"github.com/statscache/statscache/store"
	sqlitestore "github.com/statscache/statscache/store/sqlite"
)

// promise is something that an installation has acknowledged, and when.
type promise struct {
	at       int64 // bytes of the recording: whatever was durable then stands before it
	sent     int64 // the first so many events of the bus are taken
	imported bool  // and those of the import
	archived int64 // so many events are archived, and counted where counted is not 0
	counted  int64
}

// recorded is a daemon that runs under the recorder.
type recorded struct {
	*daemon
	path     string
	promises []promise
}

// record starts a daemon whose changes to the data dir are recorded. Where tracing isn't allowed the test is skipped.
func (s *site) record(args ...string) *recorded {
	s.t.Helper()
	dir := s.t.TempDir()
	program, path := filepath.Join(dir, "record"), filepath.Join(dir, "recording")
	if out, err := exec.CommandContext(s.t.Context(), "go", "build", "-o", program, "github.com/statscache/statscache/internal/powerloss/record").CombinedOutput(); err != nil {
		s.t.Skipf("SKIPPED: there is no recorder for this machine, only for Linux on amd64 and arm64: %v\n%s", err, out)
	}
	if out, err := exec.CommandContext(s.t.Context(), program, dir, path, "true").CombinedOutput(); err != nil {
		s.t.Skipf("SKIPPED: no process may trace another here (a container may need --cap-add SYS_PTRACE): %v: %s", err, out)
	}
	if err := os.Mkdir(s.data, 0o700); err != nil {
		s.t.Fatal(err)
	}
	r := &recorded{path: path}
	r.daemon = s.launchProgram(program, append([]string{s.data, path, binary(s.t)}, append(args, s.flags()...)...)...)
	return r
}

// promised notes what was acknowledged just now.
func (r *recorded) promised(p promise) {
	r.t.Helper()
	info, err := os.Stat(r.path)
	if err != nil {
		r.t.Fatal(err)
	}
	p.at = info.Size()
	if len(r.promises) > 0 { // a promise stands
		last := r.promises[len(r.promises)-1]
		p.sent, p.imported = max(p.sent, last.sent), p.imported || last.imported
		p.archived, p.counted = max(p.archived, last.archived), max(p.counted, last.counted)
	}
	r.promises = append(r.promises, p)
}

// owned notes what the daemon says of itself; bus is how many of the events owned are not the bus's.
func (r *recorded) owned(others int64) int64 {
	r.t.Helper()
	s, err := r.status()
	if err != nil {
		r.t.Fatal(err)
	}
	counted := r.total("volume-1m", "")
	r.promised(promise{sent: s.Owned - others, archived: s.Owned, counted: counted})
	return s.Owned
}

// lived lets a daemon work and notes what it acknowledges: events of the bus one after the other, an import, and events
// that only the inbox has, since the database is locked.
func (r *recorded) lived(b *bus, g golden, rate, rounds int) {
	r.t.Helper()
	r.waitReady()
	b.waitSubscribed()
	for range rounds {
		b.publishFor(rate, 100*time.Millisecond)
		r.owned(0)
	}
	r.waitOwned(b.sent)
	r.owned(0)
	r.mustRun("import", g.file)
	r.promised(promise{imported: true})
	b.publishFor(rate, time.Second)
	r.waitOwned(b.sent + g.events)
	r.owned(g.events)

	lock := lockDatabase(r.t, r.database())
	received := func() float64 {
		n, err := r.metric("statscache_journal_bytes")
		if err != nil {
			r.t.Fatal(err)
		}
		return n
	}
	for range 5 {
		before := received()
		b.publishFor(rate, 200*time.Millisecond)
		last, since := before, time.Now()
		r.waitFor(20*time.Second, "the inbox takes what was sent", func() error {
			if now := received(); now != last {
				last, since = now, time.Now()
			}
			if last == before || time.Since(since) < 300*time.Millisecond {
				return fmt.Errorf("%v bytes in the inbox since %s", last, since)
			}
			return nil
		})
		r.promised(promise{sent: b.sent})
	}
	lock.release()
	r.waitOwned(b.sent + g.events)
	r.owned(g.events)
}

func (d *daemon) waitOwned(n int64) {
	d.t.Helper()
	d.waitFor(time.Minute, "all owned", func() error {
		s, err := d.status()
		if err == nil && s.Owned < n {
			err = fmt.Errorf("%d events owned, want %d", s.Owned, n)
		}
		return err
	})
}

// followed holds the recording against the files: nothing that the daemon did to them may have been missed.
func (s *site) followed(steps []powerloss.Step) {
	s.t.Helper()
	disk := powerloss.NewDisk()
	for _, step := range steps {
		if err := disk.Apply(step); err != nil {
			s.t.Fatal(err)
		}
	}
	copied := s.t.TempDir()
	copyTree(s.t, s.data, copied)
	for path, data := range disk.Files() {
		got, err := os.ReadFile(filepath.Join(copied, path))
		if err != nil || !bytes.Equal(got, data) {
			s.t.Errorf("%s has %d bytes, %d recorded: %v", path, len(got), len(data), err)
		}
		_ = os.Remove(filepath.Join(copied, path)) // what stays was not recorded; the error is told above
	}
	if err := filepath.WalkDir(copied, func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			s.t.Errorf("%s was not recorded", path)
		}
		return err
	}); err != nil {
		s.t.Fatal(err)
	}
}

// cuts are numbers of steps after which the power goes, in order: half of them next to a step that makes something
// durable or removes it.
func cuts(r *rand.Rand, steps []powerloss.Step, n int) []int {
	var special []int
	for i, s := range steps {
		switch s.Op {
		case powerloss.SyncBegin, powerloss.SyncEnd, powerloss.Rename, powerloss.Remove, powerloss.Truncate:
			special = append(special, i+r.IntN(2))
		}
	}
	all := map[int]bool{len(steps): true}
	for len(all) < n {
		if r.IntN(2) == 0 {
			all[special[r.IntN(len(special))]] = true
		} else {
			all[1+r.IntN(len(steps))] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// remains reads what an image of a data dir holds: the ids archived and those in the inbox.
func remains(t testing.TB, dir string) (archived, inbox map[string]bool, counted int64) {
	t.Helper()
	inbox = map[string]bool{}
	stream, err := journal.StreamOf(nil, filepath.Join(dir, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	database := filepath.Join(dir, "statscache.db")
	a := readArchive(t, database)
	if stream != "" {
		for _, id := range readInbox(t, filepath.Join(dir, "journal"), a.streams[stream]) {
			inbox[id] = true
		}
	}
	db, err := sqlitestore.Open(t.Context(), sqlitestore.Options{Path: database})
	if err != nil {
		t.Fatal(err)
	}
	rows, _, err := db.Rows(t.Context(), store.RowQuery{Metric: "volume", Interval: 24 * time.Hour, To: 1 << 40, Limit: 1 << 20})
	if err == nil {
		for _, row := range rows {
			counted += row.N
		}
	} else if len(a.ids) > 0 {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return a.ids, inbox, counted
}

// kept says how an image breaks a promise, "" where it doesn't.
func (p promise) kept(t testing.TB, dir, run string, imported []string) string {
	t.Helper()
	archived, inbox, counted := remains(t, dir)
	var missing []string
	for n := int64(1); n <= p.sent; n++ {
		if id := fmt.Sprintf("2026-%s-%d", run, n); !archived[id] && !inbox[id] {
			missing = append(missing, id)
		}
	}
	for _, id := range imported {
		if p.imported && !archived[id] && !inbox[id] {
			missing = append(missing, id)
		}
	}
	switch {
	case len(missing) > 0:
		return fmt.Sprintf("%d acknowledged events are gone, such as %s", len(missing), missing[0])
	case int64(len(archived)) < p.archived:
		return fmt.Sprintf("%d events are archived, %d were", len(archived), p.archived)
	case counted < p.counted:
		return fmt.Sprintf("%d events are counted, %d were", counted, p.counted)
	}
	return ""
}

// TestPowerLoss_NothingAcknowledgedIsLost records all that a daemon does to its files, cuts the power at many moments and
// looks at what was made durable by then: alone, and with any part of what was not.
func TestPowerLoss_NothingAcknowledgedIsLost(t *testing.T) {
	t.Parallel()
	number, whole, rounds, rate := 16, 2, 10, 200
	if long() {
		number, whole, rounds, rate = 400, 20, 150, 500
	}
	c := newCrash(t)
	b := newBus(t, 200_000, 200)
	g := multiplied(t, goldens(t)[0], 5)
	s := newSite(t, map[string]string{"endpoints": endpoints(map[string][]int{"bus": {b.port}})})
	r := s.record("run")
	r.lived(b, g, rate, rounds)
	_ = r.cmd.Process.Kill() // and what it traces
	<-r.exited
	steps, err := powerloss.Read(r.path)
	if err != nil {
		t.Fatal(err)
	}
	s.followed(steps)
	archived := readArchive(t, s.database()).ids
	var imported []string
	for id := range archived {
		if !strings.Contains(id, b.run) {
			imported = append(imported, id)
		}
	}
	if int64(len(imported)) != g.events || int64(len(archived)) != g.events+b.sent {
		t.Fatalf("%d events archived, %d of the import; want %d and %d", len(archived), len(imported), g.events+b.sent, g.events)
	}
	disk, done, tried := powerloss.NewDisk(), 0, 0
	for i, cut := range cuts(c.random, steps, number) {
		for ; done < cut; done++ {
			if err := disk.Apply(steps[done]); err != nil {
				t.Fatal(err)
			}
		}
		var p promise // the last one before
		for _, x := range r.promises {
			if x.at <= steps[cut-1].End {
				p = x
			}
		}
		for _, chance := range []*rand.Rand{nil, c.random} {
			after := newSite(t, nil)
			if err := os.Mkdir(after.data, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := disk.Lose(chance, after.data); err != nil {
				t.Fatal(err)
			}
			tried++
			if i%(number/whole) == number/whole-1 {
				after.goesOn(p)
			}
			if broken := p.kept(t, after.data, b.run, imported); broken != "" {
				t.Errorf("power lost after step %d of %d, with some of what was not synced: %v: %s (%d of the bus promised, import %v)",
					cut, len(steps), chance != nil, broken, p.sent, p.imported)
			}
			if err := os.RemoveAll(after.data); err != nil {
				t.Fatal(err)
			}
		}
	}
	noteFault(t, "power lost", tried)
	noteResult(t, "power lost", fmt.Sprintf("%d times in the course of %d steps that changed files and %d acknowledgements, %d events of the bus, %d of an import", tried, len(steps), len(r.promises), b.sent, g.events))
	t.Logf("power lost %d times in the course of %d steps, %d acknowledgements", tried, len(steps), len(r.promises))
}

// goesOn starts a daemon on what is left and holds it to its promises.
func (s *site) goesOn(p promise) {
	s.t.Helper()
	d := s.start()
	counted := d.steadyTotal()
	if st, err := d.status(); err != nil || st.Owned != counted || counted < p.archived {
		s.t.Errorf("%d counted, %d owned, %d promised: %v", counted, st.Owned, p.archived, err)
	}
	d.stop()
	if counted > 0 {
		s.verifyClean()
	}
}
