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

// crash looks at an installation at random moments and knows afterwards what must have survived.
type crash struct {
	t      testing.TB
	random *rand.Rand
	inbox  map[string]bool // ids that were in the inbox at some look
	seen   int             // how many those were, over all installations
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

// survived checks a stopped installation: every event that was in the inbox at a look is archived, once.
func (c *crash) survived(s *site) archive {
	c.t.Helper()
	a := readArchive(c.t, s.database())
	missing := 0
	for id := range c.inbox {
		if !a.ids[id] {
			if missing++; missing <= 5 {
				c.t.Errorf("event %s was in the inbox at a fault and is not archived", id)
			}
		}
	}
	if missing > 0 {
		c.t.Errorf("%d of %d events that were in the inbox are lost", missing, len(c.inbox))
	}
	return a
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
