package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/cratetest"
)

// cluster is a CrateDB and the processes on it.
type cluster struct {
	t    testing.TB
	url  string
	more map[string]string // settings of every process
}

// newCluster makes a cluster whose consumers listen to publishers, by endpoint name.
func newCluster(t testing.TB, ports map[string][]int) *cluster {
	t.Helper()
	c := &cluster{t: t, url: cratetest.Reuse(t), more: map[string]string{"endpoints": endpoints(ports)}}
	c.waitTables()
	return c
}

// waitTables has the tables made. That takes CrateDB a while on a busy machine; no process is to be blamed for it.
func (c *cluster) waitTables() {
	c.t.Helper()
	if err := poll(3*time.Minute, func() error {
		if r := c.site().run("verify"); r.code != 0 {
			return errors.New(r.stderr)
		}
		return nil
	}); err != nil {
		c.t.Fatal(err)
	}
}

// site is an installation of its own on the cluster.
func (c *cluster) site() *site {
	c.t.Helper()
	settings := map[string]string{"statscache.store.url": strconv.Quote(c.url)}
	for key, value := range c.more {
		settings[key] = value
	}
	return newSite(c.t, settings)
}

// start starts a role in a new installation and waits until it is ready.
func (c *cluster) start(role string) *daemon {
	c.t.Helper()
	d := c.site().launch(role)
	d.waitJoined()
	return d
}

// waitJoined is waitReady with the patience that a database on a busy machine needs.
func (d *daemon) waitJoined() {
	d.t.Helper()
	d.waitFor(2*time.Minute, "ready", func() error {
		code, body, err := get("http://" + d.admin + "/readyz")
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("/readyz says %d: %s", code, body)
		}
		return err
	})
}

// kill ends a process and what it started as a power cut would.
func (d *daemon) kill() {
	d.t.Helper()
	below := descendants(d.pid())
	if err := d.cmd.Process.Kill(); err != nil {
		d.t.Fatal(err)
	}
	<-d.exited
	for _, p := range below { // plugins end by themselves, but not at once
		if p.alive() {
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
		}
	}
}

// clusterStatus is what a process tells of the cluster.
type clusterStatus struct {
	Owned   int64
	Plugins []struct {
		ID, State string
		Lag       int64
	}
	Cluster struct {
		Node  string
		Nodes []struct {
			ID    string
			Alive bool
			PID   int
			Roles []string
		}
		Streams []struct {
			ID, Node   string
			Retired    bool
			ArchivedTo uint64 `json:"archived_to"`
		}
		Leases []struct {
			Name, Node string
			Alive      bool
		}
		Health []struct{ What, Severity, Why, Do string }
	}
}

// look asks a process of any role about the cluster.
func (d *daemon) look() (s clusterStatus, err error) {
	code, body, err := get("http://" + d.admin + "/status")
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("/status says %d: %s", code, body)
	}
	if err == nil {
		err = json.Unmarshal([]byte(body), &s)
	}
	return s, err
}

// node gives the id that a process has in the cluster.
func (s clusterStatus) node(pid int) string {
	for _, n := range s.Cluster.Nodes {
		if n.PID == pid {
			return n.ID
		}
	}
	return ""
}

// leases counts the compute leases by live node.
func (s clusterStatus) leases() map[string]int {
	out := map[string]int{}
	for _, l := range s.Cluster.Leases {
		if strings.HasPrefix(l.Name, "compute/") && l.Alive {
			out[l.Node]++
		}
	}
	return out
}

// waitCounted waits until so many events are archived and all plugins have counted them.
func (c *cluster) waitCounted(d *daemon, events int64) {
	c.t.Helper()
	d.waitFor(90*time.Second, "all is counted", func() error {
		s, err := d.look()
		if err != nil {
			return err
		}
		if s.Owned != events {
			return fmt.Errorf("%d events are owned, want %d", s.Owned, events)
		}
		if len(s.Plugins) == 0 {
			return errors.New("no plugin is known")
		}
		if n := d.total("volume-1m", ""); n != events { // what nodes tell of their lag is a few seconds old
			return fmt.Errorf("%d events are counted, want %d", n, events)
		}
		for _, p := range s.Plugins {
			if p.Lag > 0 {
				return fmt.Errorf("plugin %s (%s) lags %d events behind", p.ID, p.State, p.Lag)
			}
		}
		return nil
	})
}

// busy says that the machine has far more to do than it can: then the database itself takes seconds for an answer, and
// times say nothing.
func busy() bool { return raced || overloaded() }

// overloaded is busy whatever the binary is made for.
func overloaded() bool {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return true
	}
	first, _, _ := strings.Cut(string(text), " ")
	load, err := strconv.ParseFloat(first, 64)
	return err != nil || load > float64(4*runtime.NumCPU())
}

func (b *bus) waitSubscribers(n int) {
	b.t.Helper()
	if err := poll(20*time.Second, func() error {
		if got := b.publisher.Connected(); got != n {
			return fmt.Errorf("%d have subscribed, want %d", got, n)
		}
		return nil
	}); err != nil {
		b.t.Fatal(err)
	}
}
