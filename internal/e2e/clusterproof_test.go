package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/consumer/journal"
	"github.com/statscache/statscache/store"
	"github.com/statscache/statscache/store/crate"
)

// settledFor is how long nothing may change before all is done: late events of others are looked for every 15 seconds.
const settledFor = 17 * time.Second

// chaosFaults names the variable with another number of faults than one of each kind, or 200 in the long form.
const chaosFaults = "STATSCACHE_CLUSTER_FAULTS"

// settle waits until everything that is archived is counted and nothing comes any more, and gives the number of events.
func (c *clusterChaos) settle(within time.Duration) int64 {
	c.t.Helper()
	web := c.webs[0].d
	last, since := int64(-1), time.Now()
	web.waitFor(within, "all is counted", func() error {
		time.Sleep(300 * time.Millisecond) // each look is work for the database
		s, err := web.look()
		if err != nil {
			return err
		}
		if s.Owned != last {
			last, since = s.Owned, time.Now()
		}
		for _, x := range s.Cluster.Streams {
			if !x.Retired && x.Node == "" {
				return fmt.Errorf("stream %s is nobody's", x.ID)
			}
		}
		if len(s.Plugins) == 0 {
			return errors.New("no plugin is known")
		}
		for _, p := range s.Plugins {
			if p.Lag > 0 || p.State == "quarantined" {
				return fmt.Errorf("plugin %s is %s, %d events behind", p.ID, p.State, p.Lag)
			}
		}
		n, err := web.totalNow("volume-1m")
		if err == nil && n != s.Owned {
			err = fmt.Errorf("%d events counted, %d owned", n, s.Owned)
		}
		if err == nil {
			err = c.drained(s)
		}
		if left := settledFor - time.Since(since); err == nil && left > 0 {
			err = fmt.Errorf("%d events; the last one came %s ago", last, time.Since(since).Round(time.Second))
		}
		return err
	})
	return last
}

// drained says which consumer's inbox has what is not archived: the store may take minutes to take it.
func (c *clusterChaos) drained(s clusterStatus) error {
	c.t.Helper()
	for _, m := range c.consumers {
		dir := c.t.TempDir()
		copyTree(c.t, filepath.Join(m.site.data, "journal"), dir)
		stream, err := journal.StreamOf(nil, dir)
		if err != nil {
			return err
		}
		known := false
		for _, x := range s.Cluster.Streams {
			if x.ID != stream {
				continue
			}
			known = true
			if ids := readInbox(c.t, dir, x.ArchivedTo); len(ids) > 0 {
				return fmt.Errorf("%d events in an inbox are not archived", len(ids))
			}
		}
		if !known {
			return fmt.Errorf("stream %s of an inbox is not known to all", stream)
		}
	}
	return nil
}

// totalNow adds up the events of an ident over all time; the database may be away.
func (d *daemon) totalNow(ident string) (sum int64, err error) {
	code, body, err := get("http://"+d.api+"/api/"+ident+"?order=asc&rows_per_page=1000000&stop="+farStop, "Accept", "text/csv")
	if err != nil || code != 200 {
		return 0, fmt.Errorf("%s: %d, %w: %.300s", ident, code, err, body)
	}
	for i, line := range strings.Split(strings.TrimSuffix(body, "\n"), "\n") {
		if i == 0 {
			continue
		}
		_, n, ok := cutLast(line)
		if !ok {
			return 0, fmt.Errorf("%s: row %q", ident, line)
		}
		sum += n
	}
	return sum, nil
}

// prove holds what is there in the end to the promises: the numbers are a recount of the archived events, each once;
// what a consumer was up to get is archived; both API nodes say the same; verify finds nothing.
func (c *clusterChaos) prove() {
	t := c.t
	t.Helper()
	owned := c.settle(8 * time.Minute)
	web := c.webs[0].d
	archived := web.archived()
	if int64(len(archived)) != owned {
		t.Errorf("%d events archived, %d owned", len(archived), owned)
	}
	times, want := map[string]int{}, map[string]int64{}
	for _, e := range archived {
		if times[e.ID]++; times[e.ID] > 1 {
			t.Errorf("event %s is archived %d times", e.ID, times[e.ID])
		}
		want[fmt.Sprintf("%d,%s", e.Time.Unix()+1, e.Topic)]++
	}
	c.missing(times)
	got := map[string]int64{}
	for _, line := range strings.Split(strings.TrimSuffix(web.rows("volume-by-topic-1s", 1_000_000), "\n"), "\n")[1:] {
		row, n, ok := cutLast(line)
		if !ok {
			t.Fatalf("row %q", line)
		}
		got[row] += n
	}
	lost, doubled := int64(0), int64(0)
	for row := range maps.Keys(merged(want, got)) {
		if d := got[row] - want[row]; d > 0 {
			doubled += d
		} else {
			lost -= d
		}
	}
	if lost+doubled > 0 {
		t.Errorf("against a recount of %d archived events, %d are lost and %d doubled in the numbers", len(archived), lost, doubled)
	}
	noteResult(t, "archived events in the numbers", fmt.Sprintf("%d, %d lost, %d doubled", len(archived), lost, doubled))
	c.alike("volume-1s", "volume-1m", "volume-1d", "volume-by-topic-1s", "volume-by-topic-1m", "volume-by-category-1m")
	c.askOracle(owned)
	for _, m := range c.all() {
		m.d.stop()
	}
	for _, p := range c.below {
		if p.alive() {
			t.Errorf("process %d (%s) of a killed one still runs", p.pid, p.command)
		}
	}
	c.site().verifyClean()
}

// askOracle compares the rows of every ident with those that the oracle makes of the archived events.
func (c *clusterChaos) askOracle(events int64) {
	c.t.Helper()
	const what = "rows against the oracle's of the archived events"
	if _, reason := sharedTools(); reason != "" {
		c.t.Log("SKIPPED: " + what + ": " + reason)
		noteResult(c.t, what, "SKIPPED: "+reason)
		return
	}
	g := golden{file: filepath.Join(c.t.TempDir(), "archived.jsonl"), expected: map[string]string{}}
	c.saveBodies(g.file)
	g.ask(c.t)
	if g.count(c.t); g.events != events {
		c.t.Errorf("the oracle counts %d events in the archive, want %d", g.events, events)
	}
	g.check(c.t, c.webs[0].d, 1_000_000)
	compared := fmt.Sprintf("%d idents of %d events compared", len(g.expected), g.events)
	c.t.Log(what + ": " + compared)
	noteResult(c.t, what, compared)
}

// saveBodies writes the archived messages as they were received, one in a line.
func (c *cluster) saveBodies(file string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	db, err := crate.Open(ctx, crate.Options{URL: c.url})
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	var lines []byte
	for r := (store.FindRequest{EventFilter: store.EventFilter{From: math.MinInt64, To: math.MaxInt64}, Limit: 1000, Bodies: true, MaxBytes: 16 << 20}); ; {
		page, err := db.Find(ctx, r)
		if err != nil {
			c.t.Fatal(err)
		}
		for _, e := range page.Events {
			lines = append(append(lines, e.Body...), '\n')
		}
		if r.After = page.Next; r.After == nil {
			break
		}
	}
	if err := os.WriteFile(file, lines, 0o600); err != nil {
		c.t.Fatal(err)
	}
}

func merged(a, b map[string]int64) map[string]int64 {
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}

// alike compares the answers of both API nodes.
func (c *clusterChaos) alike(idents ...string) {
	c.t.Helper()
	for _, ident := range idents {
		one, two := c.webs[0].d.rows(ident, 1_000_000), c.webs[1].d.rows(ident, 1_000_000)
		if difference := firstDifference(two, one); difference != "" {
			c.t.Errorf("the API nodes differ in %s: %s", ident, difference)
		}
	}
}

// missing looks for events that were sent and are not archived. That is lost which a consumer got and had the time to
// keep; what was sent while none was up, or was on its way to one that was killed, is reported.
func (c *clusterChaos) missing(archived map[string]int) {
	c.t.Helper()
	for _, m := range c.consumers {
		m.ends(time.Now())
	}
	known, lost, away, onTheWay, k := 0, 0, 0, 0, 0
	for n := int64(1); n <= c.bus.sent; n++ {
		if archived["2026-"+c.bus.run+"-"+strconv.FormatInt(n, 10)] > 0 {
			known++
			continue
		}
		for k < len(c.sent)-1 && c.sent[k].n < n {
			k++
		}
		from, to := c.sent[max(0, k-1)].at, c.sent[k].at
		switch {
		case c.heard(from, to.Add(underWay)):
			if lost++; lost <= 5 {
				c.t.Errorf("event %d, sent at %s to a consumer that was up, is not archived", n, to.Format(time.TimeOnly))
			}
		case c.heard(from, to):
			onTheWay++
		default:
			away++
		}
	}
	if known != len(archived) {
		c.t.Errorf("%d archived events were never sent", len(archived)-known)
	}
	if lost > 0 {
		c.t.Errorf("%d events are lost", lost)
	}
	noteResult(c.t, "events sent", fmt.Sprintf("%d; not archived: %d that a consumer had, %d on their way to one that was killed or stopped, %d while none was up",
		c.bus.sent, lost, onTheWay, away))
	if int64(known) < c.bus.sent/4 {
		c.t.Errorf("%d of %d events are archived: that proves little", known, c.bus.sent)
	}
}

// heard says whether one consumer listened all that time.
func (c *clusterChaos) heard(from, to time.Time) bool {
	return slices.ContainsFunc(c.consumers, func(m *member) bool {
		return slices.ContainsFunc(m.spans, func(s span) bool { return !s.from.After(from) && !s.to.Before(to) })
	})
}

// TestClusterChaos_EveryRoleOnThreeNodes: two consumers of the same publishers, two compute nodes and two API nodes on a
// CrateDB of three nodes, of which anybody is killed and stopped at random, while connections are cut.
func TestClusterChaos_EveryRoleOnThreeNodes(t *testing.T) {
	faults, rate, pause, within := len(clusterFaults), 50, 600*time.Millisecond, 4*time.Minute
	if long() {
		faults, rate, pause, within = 200, 50, 1200*time.Millisecond, 10*time.Minute
	}
	if text := os.Getenv(chaosFaults); text != "" {
		var err error
		if faults, err = strconv.Atoi(text); err != nil || faults <= 0 {
			t.Fatalf("%s=%q: want a number of faults", chaosFaults, text)
		}
	} else if !long() && overloaded() {
		t.Skip("SKIPPED: the machine has far more to do than it can, so this would take many minutes; run `make e2e`, or set " + chaosFaults + "=12")
	}
	c := newClusterChaos(t)
	defer c.report()
	c.run(faults, rate, pause, within)
	c.prove()
}
