package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
	"github.com/statscache/statscache/store/crate"
	"github.com/statscache/statscache/store/storetest"
)

// takenOverWithin is how soon others must have what a dead process had.
const takenOverWithin = 15 * time.Second

// TestCluster_ADeadConsumerAndADeadComputeNode_AreTakenOver_EveryEventCountsOnce is the three roles as processes.
func TestCluster_ADeadConsumerAndADeadComputeNode_AreTakenOver_EveryEventCountsOnce(t *testing.T) {
	b := newBus(t, 100_000, 64)
	c := newCluster(t, map[string][]int{"bus": {b.port}})
	consumers := []*daemon{c.start("consume"), c.start("consume")}
	computers := []*daemon{c.start("compute"), c.start("compute")}
	web := c.start("serve")
	b.waitSubscribers(2)
	b.publishFor(200, 2*time.Second)
	c.waitCounted(web, b.sent)
	b.check(web)

	web.waitFor(4*takenOverWithin, "the work is shared out", func() error {
		s, err := web.look()
		if err != nil {
			return err
		}
		one, two := s.leases()[s.node(computers[0].pid())], s.leases()[s.node(computers[1].pid())]
		if one == 0 || one-two > 1 || two-one > 1 {
			return fmt.Errorf("%d and %d pieces of work", one, two)
		}
		return nil
	})
	before, err := web.look()
	if err != nil {
		t.Fatal(err)
	}
	dead := []string{before.node(consumers[0].pid()), before.node(computers[0].pid())}
	consumers[0].kill()
	computers[0].kill()
	died := time.Now()
	b.publishFor(200, 3*time.Second) // the others go on meanwhile
	web.waitFor(4*takenOverWithin, "taken over", func() error {
		s, err := web.look()
		if err != nil {
			return err
		}
		for _, n := range s.Cluster.Nodes {
			if n.Alive && (n.ID == dead[0] || n.ID == dead[1]) {
				return fmt.Errorf("node %s is thought alive", n.ID)
			}
		}
		for _, x := range s.Cluster.Streams {
			if !x.Retired && x.Node == "" {
				return fmt.Errorf("stream %s is nobody's and not retired", x.ID)
			}
		}
		for _, l := range s.Cluster.Leases {
			if l.Node == dead[1] {
				return fmt.Errorf("%s is %s's still", l.Name, l.Node)
			}
		}
		return nil
	})
	after := time.Since(died)
	t.Logf("taken over after %s", after.Round(100*time.Millisecond))
	if after > takenOverWithin && !busy() {
		t.Errorf("taken over after %s, want %s at most", after, takenOverWithin)
	}
	c.waitCounted(web, b.sent)
	b.check(web)

	again := consumers[0].launch("consume") // to its own data dir: its stream is retired
	again.waitJoined()
	b.waitSubscribers(2)
	consumers[1].stop() // and from here on it is the only one
	b.waitSubscribers(1)
	b.publishFor(200, time.Second)
	c.waitCounted(web, b.sent)
	b.check(web)

	for role, d := range map[string]*daemon{"consume": again, "compute": computers[1], "serve": web} {
		for _, asked := range []string{"consume", "compute", "serve"} {
			code, body, err := get("http://" + d.admin + "/readyz/" + asked)
			if want := map[bool]int{true: http.StatusOK, false: http.StatusServiceUnavailable}[role == asked]; err != nil || code != want {
				t.Errorf("/readyz/%s of %s: %d, %v, want %d: %s", asked, role, code, err, want, body)
			}
		}
	}
	again.stop()
	computers[1].stop()
	web.stop()
	c.site().verifyClean()
}

// TestCluster_RunsSideBySide_AStoppedOneComesBack_AnOrderlyOneHandsOverAtOnce: several of the usual process on one
// CrateDB. The stopped one finds its stream retired and its work taken, and goes on without either.
func TestCluster_RunsSideBySide_AStoppedOneComesBack_AnOrderlyOneHandsOverAtOnce(t *testing.T) {
	needLong(t, "takes a minute")
	b := newBus(t, 100_000, 64)
	c := newCluster(t, map[string][]int{"bus": {b.port}})
	one, two := c.start("run"), c.start("run")
	b.waitSubscribers(2)
	b.publishFor(200, 2*time.Second)
	c.waitCounted(two, b.sent)
	first, err := two.look()
	if err != nil {
		t.Fatal(err)
	}
	stopped := first.node(one.pid())
	signal := func(x syscall.Signal) {
		t.Helper()
		if err := one.cmd.Process.Signal(x); err != nil {
			t.Fatal(err)
		}
	}
	begin := time.Now()
	b.publish(200, func() bool { return time.Since(begin) > 500*time.Millisecond })
	signal(syscall.SIGSTOP) // in the middle of whatever it does
	b.publishFor(200, time.Second)
	two.waitFor(4*takenOverWithin, "the stopped one's stream is retired", func() error {
		s, err := two.look()
		if err != nil {
			return err
		}
		for _, x := range s.Cluster.Streams {
			if x.Retired {
				return nil
			}
		}
		return errors.New("no stream is retired")
	})
	signal(syscall.SIGCONT)
	b.publishFor(200, 2*time.Second)
	for _, d := range []*daemon{one, two} {
		c.waitCounted(d, b.sent)
		b.check(d)
	}
	two.waitFor(4*takenOverWithin, "both work again", func() error {
		s, err := two.look()
		if err != nil {
			return err
		}
		if l := s.leases(); l[stopped] == 0 || l[s.node(two.pid())] == 0 {
			return fmt.Errorf("leases: %v", l)
		}
		for _, p := range s.Plugins {
			if p.State == "quarantined" {
				return fmt.Errorf("plugin %s is quarantined", p.ID)
			}
		}
		return nil
	})
	if r := one.run("status"); !strings.Contains(r.stdout, stopped) || !strings.Contains(r.stdout, "consume,compute,serve") || !strings.Contains(r.stdout, "volume x") {
		t.Errorf("status: %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	one.stop()
	ended := time.Now()
	two.waitFor(takenOverWithin, "handed over", func() error {
		s, err := two.look()
		if err != nil {
			return err
		}
		for _, l := range s.Cluster.Leases {
			if l.Node == stopped || strings.HasPrefix(l.Name, "compute/") && l.Node == "" {
				return fmt.Errorf("lease %s: %q", l.Name, l.Node)
			}
		}
		return nil
	})
	if took := time.Since(ended); took > 5*time.Second && !busy() {
		t.Errorf("handed over after %s: as if the process had died", took)
	}
	b.publishFor(200, time.Second)
	c.waitCounted(two, b.sent)
	b.check(two)
	two.stop()
	c.site().verifyClean()
	if r := c.site().run("status"); r.code != 1 || !strings.Contains(r.stdout, "red: consume: no process does it") {
		t.Errorf("status without a process: %d\n%s%s", r.code, r.stdout, r.stderr)
	}
}

// TestCluster_WhatAConsumerArchivesAfterItsEnd_IsAdopted: a consumer is thought dead while its statements are under way.
func TestCluster_WhatAConsumerArchivesAfterItsEnd_IsAdopted(t *testing.T) {
	needLong(t, "takes a minute")
	c := newCluster(t, nil)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	zombie, err := crate.Open(ctx, crate.Options{URL: c.url})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = zombie.Close() }() // it was read from and written to before
	if _, err := zombie.Attach(ctx, "zombie"); err != nil {
		t.Fatal(err)
	}
	all := storetest.Events("z", 0, 60)
	if _, err := zombie.Archive(ctx, "zombie", []*block.Block{storetest.Block(1, all[:20])}); err != nil {
		t.Fatal(err)
	}
	d := c.start("run") // the stream has no lease: it is nobody's
	retired := func() error {
		s, err := d.look()
		if err != nil {
			return err
		}
		for _, x := range s.Cluster.Streams {
			if x.ID == "zombie" && x.Retired {
				return nil
			}
		}
		return errors.New("the stream is not retired")
	}
	d.waitFor(4*takenOverWithin, "retired", retired)
	if _, err := zombie.Archive(ctx, "zombie", []*block.Block{storetest.Block(21, all[20:])}); !errors.Is(err, store.ErrFenced) {
		t.Fatalf("it archives what is not its own any more: %v", err)
	}
	c.waitCounted(d, 60) // by now it has inserted them
	d.stop()
	c.site().verifyClean()
}

// TestCluster_ServeSeesAnotherProcessesCommitWithinASecond measures what lies between a commit and the answer of a
// process that only reads.
func TestCluster_ServeSeesAnotherProcessesCommitWithinASecond(t *testing.T) {
	needLong(t, "takes a minute")
	b := newBus(t, 100_000, 64)
	c := newCluster(t, map[string][]int{"bus": {b.port}})
	d, web := c.start("run"), c.start("serve")
	b.waitSubscribers(1)
	var took []time.Duration
	for range 5 {
		b.one(time.Now())
		want := strconv.FormatInt(b.sent, 10)
		total := func(d *daemon) error {
			code, body, err := get("http://" + d.api + "/api/v1/metrics/volume/count?from=2000-01-01&to=2100-01-01")
			if err == nil && !strings.Contains(body, `"count":`+want) {
				err = fmt.Errorf("%d: %s, want %s", code, body, want)
			}
			return err
		}
		d.waitFor(30*time.Second, "counted where it is committed", func() error { return total(d) })
		seen := time.Now()
		web.waitFor(30*time.Second, "served elsewhere", func() error { return total(web) })
		took = append(took, time.Since(seen))
	}
	slices.Sort(took)
	t.Logf("between %s and %s later", took[0].Round(time.Millisecond), took[4].Round(time.Millisecond))
	if took[2] > time.Second && !busy() { // a busy machine may hold up one or two of them
		t.Errorf("mostly seen %s after the process that committed it showed it", took[2])
	}
	d.stop()
	web.stop()
}

// TestServe_BesideADaemonAndAlone_OnSQLite.
func TestServe_BesideADaemonAndAlone_OnSQLite(t *testing.T) {
	t.Parallel()
	g := goldens(t)[0]
	s := newSite(t, nil)
	s.race = true
	side := *s // the same data dir behind other addresses
	if r := side.run("serve"); r.code != 1 || !strings.Contains(r.stderr, "nothing to serve yet") {
		t.Errorf("before there is a store: %d\n%s", r.code, r.stderr)
	}
	for _, role := range []string{"consume", "compute"} {
		if r := s.run(role); r.code != 2 || !strings.Contains(r.stderr, "works on a CrateDB only") || strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("%s on SQLite: %d\n%s", role, r.code, r.stderr)
		}
	}
	d := s.start()
	other := newSite(t, nil)
	other.data = s.data
	web := other.launch("serve")
	web.waitReady()
	s.mustRun("import", g.file)
	g.check(t, web, 1_000_000)
	d.stop()
	g.check(t, web, 1_000_000)
	web.stop()
	web = other.launch("serve")
	web.waitReady()
	g.check(t, web, 1_000_000)
	web.stop()
}
