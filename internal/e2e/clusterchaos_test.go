package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/cratetest"
)

const (
	// underWay is how long an event may be on its way from a publisher to a consumer's inbox on a busy machine: one that
	// was sent to a consumer this short before its end may be lost with it.
	underWay = 5 * time.Second
	// chaosNodes is how many nodes the database has: one may be lost.
	chaosNodes = 3
)

// member is an installation of one role, of which a process runs now and then.
type member struct {
	role    string
	site    *site
	d       *daemon // the last process
	down    bool    // it was killed and is not started again yet
	stopped bool
	starts  time.Time // when the process was started or went on
	before  float64   // what it had received then
	plugins int       // times that its plugins were killed in this life

	listens time.Time // a consumer's: it gets everything that was sent since; zero where that is not known
	spans   []span    // of the past
}

// span is a time in which a consumer got everything that was sent.
type span struct{ from, to time.Time }

// ends notes that a consumer may miss something from now on.
func (m *member) ends(now time.Time) {
	if !m.listens.IsZero() {
		m.spans = append(m.spans, span{m.listens, now})
		m.listens = time.Time{}
	}
}

// clusterChaos lets faults happen to a cluster in every role.
type clusterChaos struct {
	*cluster
	random *rand.Rand
	db     *cratetest.Cluster
	wires  []*wire
	bus    *bus
	sent   []mark // by the bus, in order

	consumers, computers, webs []*member

	later     []deferred
	dbDown    bool
	dbWhole   time.Time // when the database was last whole again
	below     []process // plugins of those that were killed
	frozen    []process // plugins that were stopped
	hits      map[string]int
	dbStarted sync.WaitGroup
}

// mark says that so many events had been sent at a time.
type mark struct {
	n  int64
	at time.Time
}

// deferred is what ends a fault.
type deferred struct {
	at time.Time
	do func()
}

// clusterFault is a kind of fault; strike is false where nobody can be hit at the moment.
type clusterFault struct {
	name   string
	weight int // of the random choice
	strike func(c *clusterChaos) bool
}

const briefly, forLong = false, true

// clusterFaults are what may happen. A consumer or compute node that stands still for long is taken for dead.
var clusterFaults = [...]clusterFault{ // never changed
	{"consumer killed", 5, func(c *clusterChaos) bool { return c.kill(c.consumers) }},
	{"consumer stopped", 3, func(c *clusterChaos) bool { return c.halt(c.consumers, briefly) }},
	{"consumer stopped until it was taken over", 2, func(c *clusterChaos) bool { return c.halt(c.consumers, forLong) }},
	{"compute node killed", 5, func(c *clusterChaos) bool { return c.kill(c.computers) }},
	{"compute node stopped", 3, func(c *clusterChaos) bool { return c.halt(c.computers, briefly) }},
	{"compute node stopped until it was taken over", 2, func(c *clusterChaos) bool { return c.halt(c.computers, forLong) }},
	{"plugin of a compute node killed", 4, (*clusterChaos).killPlugin},
	{"plugin of a compute node stopped", 3, (*clusterChaos).haltPlugin},
	{"API node killed", 2, func(c *clusterChaos) bool { return c.kill(c.webs) }},
	{"API node stopped", 2, func(c *clusterChaos) bool { return c.halt(c.webs, briefly) }},
	{"client connections to the database cut", 5, (*clusterChaos).cut},
	{"database node killed and started again", 1, (*clusterChaos).killNode},
}

// newClusterChaos starts a database of three nodes behind proxies and two processes of each role.
func newClusterChaos(t testing.TB) *clusterChaos {
	t.Helper()
	began := time.Now()
	c := &clusterChaos{random: newCrash(t).random, hits: map[string]int{}, db: cratetest.LaunchCluster(t, chaosNodes), bus: newBus(t, 1_000_000, 64)}
	t.Cleanup(func() { // where the test ends early: they can't see that their parents are gone
		for _, p := range c.frozen {
			if p.alive() {
				signal([]int{p.pid}, syscall.SIGKILL)
			}
		}
	})
	var hosts []string
	for _, n := range c.db.Nodes {
		w := newWire(t, n.Address())
		c.wires, hosts = append(c.wires, w), append(hosts, w.address())
	}
	c.cluster = &cluster{t: t, url: "crate://crate@" + strings.Join(hosts, ",") + "/chaos?sslmode=disable",
		more: map[string]string{"endpoints": endpoints(map[string][]int{"bus": {c.bus.port}})}}
	t.Logf("%6.1f s  the database is there", time.Since(began).Seconds())
	c.waitTables()
	t.Logf("%6.1f s  its tables are made", time.Since(began).Seconds())
	for range 2 {
		c.consumers = append(c.consumers, c.enlist("consume"))
		c.computers = append(c.computers, c.enlist("compute"))
		c.webs = append(c.webs, c.enlist("serve"))
	}
	for _, m := range c.all() {
		m.d.waitJoined()
	}
	c.bus.waitSubscribers(2)
	t.Logf("%6.1f s  all processes are ready", time.Since(began).Seconds())
	return c
}

func (c *clusterChaos) all() []*member { return slices.Concat(c.consumers, c.computers, c.webs) }

func (c *clusterChaos) enlist(role string) *member {
	m := &member{role: role, site: c.site()}
	m.launch()
	return m
}

// launch starts the next process of a member, on what the last one left.
func (m *member) launch() {
	m.d, m.down, m.plugins = m.site.launch(m.role), false, 0
	m.starts, m.before = time.Now(), 0
}

// hasty does not let one process that is slow keep the faults from others.
var hasty = &http.Client{Timeout: 2 * time.Second} // never changed

// received is how many events a consumer has got.
func (m *member) received() (float64, error) {
	response, err := hasty.Get("http://" + m.d.admin + "/metrics")
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }() // nothing more is read from it
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	return sample(string(text), "statscache_events_received_total")
}

// after has something done later, by the goroutine that runs the faults.
func (c *clusterChaos) after(d time.Duration, do func()) {
	c.later = append(c.later, deferred{time.Now().Add(d), do})
}

// between draws a time.
func (c *clusterChaos) between(least, most time.Duration) time.Duration {
	return least + time.Duration(c.random.Int64N(int64(most-least)))
}

// tend does what is due and notes which consumers listen.
func (c *clusterChaos) tend() {
	c.t.Helper()
	now := time.Now()
	due := c.later
	c.later = nil
	for _, x := range due {
		if now.Before(x.at) {
			c.later = append(c.later, x)
		} else {
			x.do()
		}
	}
	for _, m := range c.all() {
		if !m.down && !m.d.running() {
			c.t.Fatalf("%s ended by itself with %s:\n%s", m.role, m.d.cmd.ProcessState, tail(m.d.stderr.String()))
		}
	}
	for _, m := range c.consumers {
		if m.down || m.stopped || !m.listens.IsZero() {
			continue
		}
		// What a publisher sends after the first event that arrives arrives, too.
		if n, err := m.received(); err == nil && n > m.before {
			m.listens = time.Now()
		}
	}
}

// idle lets time go by.
func (c *clusterChaos) idle(d time.Duration) {
	for end := time.Now().Add(d); ; time.Sleep(20 * time.Millisecond) { // the faults are spread over time
		c.tend()
		if time.Now().After(end) {
			return
		}
	}
}

// pick draws one that can be hit, nil where there is none.
func (c *clusterChaos) pick(members []*member) *member {
	up := slices.DeleteFunc(slices.Clone(members), func(m *member) bool { return m.down || m.stopped })
	if len(up) == 0 {
		return nil
	}
	return up[c.random.IntN(len(up))]
}

func (c *clusterChaos) kill(members []*member) bool {
	m := c.pick(members)
	if m == nil {
		return false
	}
	m.ends(time.Now())
	c.below = append(c.below, descendants(m.d.pid())...)
	signal([]int{m.d.pid()}, syscall.SIGKILL)
	<-m.d.exited
	m.down = true
	if err := errors.Join(os.RemoveAll(m.site.temp), os.Mkdir(m.site.temp, 0o700)); err != nil { // it could not do so itself
		c.t.Fatal(err)
	}
	away := c.between(0, 2*time.Second)
	if c.random.IntN(4) == 0 {
		away = c.between(9*time.Second, 14*time.Second) // others have taken over by then
	}
	c.after(away, m.launch)
	return true
}

func (c *clusterChaos) halt(members []*member, long bool) bool {
	m := c.pick(members)
	if m == nil {
		return false
	}
	away := c.between(20*time.Millisecond, 3*time.Second)
	if long {
		away = c.between(11*time.Second, 14*time.Second)
	}
	if n, err := m.received(); err == nil {
		m.before = n
	}
	m.ends(time.Now())
	m.stopped = true
	signal([]int{m.d.pid()}, syscall.SIGSTOP)
	c.after(away, func() {
		m.starts, m.stopped = time.Now(), false
		signal([]int{m.d.pid()}, syscall.SIGCONT)
	})
	return true
}

// plugin draws a plugin's process of a compute node.
func (c *clusterChaos) plugin() (m *member, p process) {
	if m = c.pick(c.computers); m == nil {
		return nil, p
	}
	if all := descendants(m.d.pid()); len(all) > 0 {
		return m, all[c.random.IntN(len(all))]
	}
	return nil, p
}

func (c *clusterChaos) killPlugin() bool {
	m, p := c.plugin()
	if m == nil || m.plugins >= pluginKills {
		return false
	}
	m.plugins++
	return syscall.Kill(p.pid, syscall.SIGKILL) == nil
}

func (c *clusterChaos) haltPlugin() bool {
	m, p := c.plugin()
	if m == nil || syscall.Kill(p.pid, syscall.SIGSTOP) != nil {
		return false
	}
	c.frozen = append(c.frozen, p)
	c.after(c.between(20*time.Millisecond, 2*time.Second), func() { signal([]int{p.pid}, syscall.SIGCONT) })
	return true
}

// cut cuts the connections to one node of the database, or to all of them.
func (c *clusterChaos) cut() bool {
	n := 0
	if i := c.random.IntN(len(c.wires) + 1); i < len(c.wires) {
		n = c.wires[i].cut()
	} else {
		for _, w := range c.wires {
			n += w.cut()
		}
	}
	return n > 0
}

// killNode kills a node while all others are there and have copies of everything: more than one at a time is no
// cluster's promise.
func (c *clusterChaos) killNode() bool {
	if c.dbDown || time.Since(c.dbWhole) < 5*time.Second {
		return false
	}
	if err := c.whole(); err != nil {
		c.dbWhole = time.Now() // not asked again at once
		return false
	}
	n := c.db.Nodes[c.random.IntN(len(c.db.Nodes))]
	n.Kill()
	c.dbDown = true
	c.after(c.between(0, 5*time.Second), func() {
		back := make(chan error, 1)
		c.dbStarted.Go(func() { back <- n.Start() })
		c.awaitNode(back)
	})
	return true
}

// awaitNode looks now and then whether a node is back.
func (c *clusterChaos) awaitNode(back <-chan error) {
	select {
	case err := <-back:
		if err != nil {
			c.t.Fatal(err)
		}
		c.dbDown, c.dbWhole = false, time.Now()
	default:
		c.after(200*time.Millisecond, func() { c.awaitNode(back) })
	}
}

func (c *clusterChaos) whole() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return c.db.Whole(ctx)
}

// run lets so many faults happen, the first ones each of another kind, while events are sent.
func (c *clusterChaos) run(faults, rate int, pause, within time.Duration) {
	c.t.Helper()
	stop := make(chan struct{})
	var publishing sync.WaitGroup
	publishing.Go(func() {
		c.bus.publish(rate, func() bool {
			c.sent = append(c.sent, mark{c.bus.sent, time.Now()})
			select {
			case <-stop:
				return true
			default:
				return false
			}
		})
	})
	end := sync.OnceFunc(func() {
		close(stop)
		publishing.Wait()
		c.dbStarted.Wait()
	})
	defer end()
	var bag []clusterFault
	shuffle := func() { c.random.Shuffle(len(bag), func(i, j int) { bag[i], bag[j] = bag[j], bag[i] }) }
	bag = slices.Clone(clusterFaults[:])
	shuffle()
	began := time.Now()
	for n := 0; n < faults; {
		if time.Since(began) > within {
			c.t.Errorf("only %d faults of %d within %s", n, faults, within)
			break
		}
		c.idle(c.between(0, 2*pause))
		f := bag[0]
		bag = bag[1:]
		if f.strike(c) {
			n++
			c.hits[f.name]++
			c.t.Logf("%6.1f s  %s", time.Since(began).Seconds(), f.name)
		} else {
			bag = append(bag, f) // later
		}
		if len(bag) == 0 {
			for _, f := range clusterFaults {
				bag = append(bag, slices.Repeat([]clusterFault{f}, f.weight)...)
			}
			shuffle()
		}
	}
	for len(c.later) > 0 {
		c.idle(100 * time.Millisecond)
	}
	c.listening(time.Minute)
	c.idle(2 * time.Second) // some events for everybody, after all
	end()
}

// listening waits until both consumers get events again.
func (c *clusterChaos) listening(within time.Duration) {
	c.t.Helper()
	if err := poll(within, func() error {
		c.tend()
		for _, m := range c.consumers {
			if m.listens.IsZero() {
				return errors.New("a consumer gets nothing")
			}
		}
		return nil
	}); err != nil {
		c.t.Fatal(err)
	}
}

// report notes the faults.
func (c *clusterChaos) report() {
	all := 0
	for _, f := range clusterFaults {
		noteFault(c.t, f.name, c.hits[f.name])
		all += c.hits[f.name]
	}
	noteResult(c.t, "faults on a CrateDB of three nodes", fmt.Sprint(all))
}
