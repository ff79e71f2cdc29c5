package e2e

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// blow is a kind of fault that hits processes.
type blow struct {
	name                    string
	daemon, plugins, client bool          // whom it hits; client is an import beside the daemon
	least, most             time.Duration // stopped for so long; killed where most is 0
	weight                  int           // of the random choice
}

// blows are what may happen. A stopped daemon or plugin stays within every deadline, but for the last kind, which takes
// its turn and is not drawn: that one makes an innocent plugin miss the ten seconds that it has for a batch.
var blows = [...]blow{ // never changed
	{name: "daemon killed", daemon: true, weight: 5},
	{name: "plugin killed", plugins: true, weight: 4},
	{name: "daemon and plugin killed", daemon: true, plugins: true, weight: 3},
	{name: "import client killed", client: true, weight: 2},
	{name: "daemon stopped", daemon: true, least: 20 * time.Millisecond, most: 1500 * time.Millisecond, weight: 3},
	{name: "plugin stopped", plugins: true, least: 20 * time.Millisecond, most: 2 * time.Second, weight: 4},
	{name: "daemon and plugin stopped", daemon: true, plugins: true, least: 20 * time.Millisecond, most: time.Second, weight: 1},
	{name: "import client stopped", client: true, least: 20 * time.Millisecond, most: time.Second, weight: 1},
	{name: "plugin stopped beyond its deadline", plugins: true, least: 10500 * time.Millisecond, most: 12 * time.Second},
}

// pluginKills is how often the plugins of one daemon's life are killed: the pause before each restart doubles.
const pluginKills = 3

// chaos lets faults happen to installations under one kind of load.
type chaos struct {
	*crash
	g           golden // what is imported
	live, batch bool   // events come from the bus; from imports
	rounds      int

	site      *site
	publisher *peer
	main      *daemon // `run` or, where nothing is live, `import`
	client    *daemon // `import` beside a daemon
	excused   bool    // the client may fail: it or its daemon was hit
	killed    int     // times that the plugins of this main were
	hits      map[string]int
	inFlight  map[string]int // hits that met work under way
	imports   int            // that came to their end
	dead      int            // installations checked
}

// begin makes a fresh installation. Its daemon is started by the next round.
func (c *chaos) begin() {
	clear(c.inbox)
	c.main, c.client, c.killed = nil, nil, 0
	if !c.live {
		c.site = newSite(c.t, nil)
		return
	}
	p := port(c.t)
	c.publisher = script(c.t, "", "stream.py", strconv.Itoa(p), "1", "1000", "3600")
	c.publisher.expect("bound", peerStart)
	c.site = newSite(c.t, map[string]string{"endpoints": endpoints(map[string][]int{"load": {p}})})
}

// ensure starts what has ended. It is false where an import without a daemon has come to its end.
func (c *chaos) ensure() bool {
	c.t.Helper()
	if c.main != nil && !c.main.running() {
		switch state := c.main.cmd.ProcessState; {
		case state.Exited() && (c.live || state.ExitCode() != 0):
			c.t.Fatalf("%s ended by itself with %s:\n%s", c.main.args[0], state, tail(c.main.stderr.String()))
		case state.Exited():
			c.imports++
			return false
		}
		c.main = nil
	}
	if c.main == nil {
		c.killed = 0
		if !c.live {
			c.main = c.site.launch("import", c.g.file)
			if c.random.IntN(4) > 0 { // else a fault meets the start
				c.waitWorking()
			}
			return true
		}
		c.main = c.site.launch("run")
		if c.batch || c.random.IntN(4) > 0 { // else a fault meets the start and the catching up
			c.main.waitReady()
		}
	}
	if c.client != nil && !c.client.running() {
		switch state := c.client.cmd.ProcessState; {
		case state.ExitCode() == 0:
			c.imports++
		case !c.excused:
			c.t.Fatalf("an import beside the daemon ended with %s:\n%s", state, tail(c.client.stderr.String()))
		}
		c.client = nil
	}
	if c.live && c.batch && c.client == nil {
		c.client, c.excused = c.site.launch("import", c.g.file), false
	}
	return true
}

// waitWorking waits until an import has its plugins: it begins then.
func (c *chaos) waitWorking() {
	c.t.Helper()
	if err := poll(readyWithin, func() error {
		if c.main.running() && len(descendants(c.main.pid())) == 0 {
			return errors.New("no plugin runs")
		}
		return nil
	}); err != nil {
		c.t.Fatal(err)
	}
}

// choose draws a kind of fault that can happen now.
func (c *chaos) choose(round int) blow {
	if round%40 == 1 && c.live && !c.batch {
		return blows[len(blows)-1]
	}
	total := 0
	for _, b := range blows {
		total += b.weight
	}
	for {
		n := c.random.IntN(total)
		for _, b := range blows {
			if n -= b.weight; n >= 0 {
				continue
			}
			if b.client && c.client == nil || b.plugins && b.most == 0 && !b.daemon && c.killed >= pluginKills {
				break
			}
			return b
		}
	}
}

// strike freezes everything, looks at what it was doing, and lets the fault happen.
func (c *chaos) strike(b blow) {
	c.t.Helper()
	below := descendants(c.main.pid())
	everyone := append(pids(below), c.main.pid())
	if c.client != nil {
		everyone = append(everyone, c.client.pid())
	}
	signal(everyone, syscall.SIGSTOP)
	// What the kernel was writing when the signal came is finished only now.
	for _, pid := range everyone {
		if err := poll(time.Second, func() error { return stopped(pid) }); err != nil {
			c.t.Log(err)
		}
	}
	if !c.main.running() {
		signal(everyone, syscall.SIGCONT)
		return // it was done just before
	}
	phase := c.inspect(c.site)
	var victims []int
	if b.daemon || b.plugins && len(below) == 0 { // a plugin that does not run yet: the daemon is hit while it starts
		victims = append(victims, c.main.pid())
	}
	if b.plugins {
		victims = append(victims, pids(below)...)
	}
	if b.client {
		victims = append(victims, c.client.pid())
	}
	c.excused = c.excused || b.client || b.daemon || len(below) == 0
	if b.most == 0 {
		signal(victims, syscall.SIGKILL)
		if b.plugins {
			c.killed++
		}
	}
	signal(slices.DeleteFunc(everyone, func(pid int) bool { return slices.Contains(victims, pid) }), syscall.SIGCONT)
	if b.most > 0 {
		time.Sleep(b.least + time.Duration(c.random.Int64N(int64(b.most-b.least)))) // how long it is away is the fault
		if b.weight == 0 && len(below) > 0 {
			c.givenUp(below) // else the fault was none
		}
		signal(victims, syscall.SIGCONT)
	}
	if b.most == 0 && slices.Contains(victims, c.main.pid()) {
		<-c.main.exited
		c.main.processesGone(below)
		c.endClient()
	}
	c.hits[b.name]++
	if phase.working() {
		c.inFlight[b.name]++
	}
	c.t.Logf("%-34s %s", b.name, phase)
}

// givenUp waits until the daemon has ended a process: plugins that nothing was sent to may stand still for ever.
func (c *chaos) givenUp(below []process) {
	c.t.Helper()
	if err := poll(10*time.Second, func() error {
		for _, p := range below {
			if !p.alive() {
				return nil
			}
		}
		return errors.New("no plugin was ended for its silence")
	}); err != nil {
		c.t.Error(err)
	}
}

// endClient waits for an import whose daemon is gone. One that was just about to begin does the work itself: it goes the
// way of its daemon, since the next one needs the data dir.
func (c *chaos) endClient() {
	c.t.Helper()
	if c.client == nil {
		return
	}
	select {
	case <-c.client.exited:
	case <-time.After(2 * time.Second):
		below := descendants(c.client.pid())
		_ = c.client.cmd.Process.Kill() // it may have ended just now
		<-c.client.exited
		c.client.processesGone(below)
	}
}

// signal sends to processes that may have ended.
func signal(pids []int, s syscall.Signal) {
	for _, pid := range pids {
		_ = syscall.Kill(pid, s)
	}
}

// finish lets an installation come to rest and holds it to its promises.
func (c *chaos) finish() {
	c.t.Helper()
	s := c.site
	if c.live {
		if c.main != nil && c.main.running() {
			c.main.waitReady()
			c.publisher.kill()
			if c.client != nil {
				<-c.client.exited
			}
			c.main.stop()
		}
		c.publisher.kill()
	}
	if c.batch {
		if c.main != nil && !c.live {
			<-c.main.exited
		}
		s.mustRun("import", c.g.file)
	}
	d := s.start() // nothing new comes; what the last one left is archived and counted
	counted := d.steadyTotal()
	status, err := d.status()
	if err != nil {
		c.t.Fatal(err)
	}
	if status.Owned != counted || !c.live && counted != c.g.events {
		c.t.Errorf("%d events counted, %d owned (of the import %d)", counted, status.Owned, c.g.events)
	}
	for _, p := range status.Plugins {
		if p.DeadLetters != 0 {
			c.t.Errorf("plugin %s: %d dead letters", p.ID, p.DeadLetters)
		}
	}
	if c.batch {
		c.g.checkUntil(c.t, d, strconv.FormatInt(time.Now().AddDate(0, -1, 0).Unix(), 10), 1_000_000)
	}
	d.stop()
	if at := c.inspect(s); at.working() || at.early {
		c.t.Errorf("after all, the inbox and the plugins are not done: %s", at)
	}
	if a := c.survived(s); int64(len(a.ids)) != counted {
		c.t.Errorf("%d events archived, %d counted", len(a.ids), counted)
	}
	s.verifyClean()
	c.dead++
}

// run goes through the rounds; every few of them a new installation begins, since a look copies all of it. Faults that
// meet nothing prove nothing: where a few rounds met none, as many follow, but not for ever.
func (c *chaos) run(perSite int) {
	round, most := 0, time.Second
	if !c.live {
		most /= 2
	}
	more := func() bool { return round < c.rounds || len(c.inFlight) == 0 && round < 5*c.rounds }
	for more() {
		c.begin()
		for n := 0; n < perSite && more() && c.ensure(); n++ {
			c.moment(c.main, most)
			if !c.main.running() {
				most = max(most*3/4, 10*time.Millisecond) // an import came to its end: sooner, the next time
				continue
			}
			c.strike(c.choose(round))
			round++
		}
		c.finish()
	}
}

// report prints the page of what happened.
func (c *chaos) report(name string) {
	var b strings.Builder
	all, met := 0, 0
	for _, kind := range slices.Sorted(maps.Keys(c.hits)) {
		fmt.Fprintf(&b, "\n%8d  %s, %d with work in flight", c.hits[kind], kind, c.inFlight[kind])
		all, met = all+c.hits[kind], met+c.inFlight[kind]
		noteFault(c.t, kind, c.hits[kind])
	}
	noteResult(c.t, "faults that met work in flight", fmt.Sprintf("%d of %d", met, all))
	c.t.Logf("%s: %d faults, %d with work in flight, %d events seen in the inbox, %d imports came to their end, %d installations checked:%s",
		name, all, met, c.seen, c.imports, c.dead, b.String())
	if met == 0 {
		c.t.Error("no fault met work in flight: nothing was proved")
	}
}

// TestChaos_KilledAndStoppedAtRandom kills and stops the daemon, plugins and imports at random moments, 200 times in the
// long suite: under live load, under import, and both at once. Nothing is lost, nothing counts twice, nothing is left.
func TestChaos_KilledAndStoppedAtRandom(t *testing.T) {
	rounds, perSite := [...]int{3, 3, 3}, 10
	g := multiplied(t, goldens(t)[0], 50)
	if long() {
		rounds, perSite = [...]int{70, 60, 70}, 20
		g = multiplied(t, goldens(t)[0], 250)
		if _, missing := sharedTools(); missing == "" {
			g = generate(t, "--seed", "301", "--n", "100000", "--days", "2", "--dup", "0.02", "--late", "0.03")
		}
	} else {
		t.Parallel()
	}
	for i, load := range []string{"live", "import", "live and import"} {
		t.Run(load, func(t *testing.T) {
			t.Parallel()
			c := &chaos{crash: newCrash(t), g: g, live: i != 1, batch: i != 0, rounds: rounds[i], hits: map[string]int{}, inFlight: map[string]int{}}
			defer c.report(load)
			c.run(perSite)
		})
	}
}
