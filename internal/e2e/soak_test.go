package e2e

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// TestSoak_FlappingBus keeps a daemon under a steady stream while publishers come and go, outages last and plugins are
// killed. In the end every archived event is counted once, and the memory has not grown. It runs for STATSCACHE_SOAK
// (a duration; `make soak`), for two minutes in the long suite.
func TestSoak_FlappingBus(t *testing.T) {
	during := 2 * time.Minute
	switch text := os.Getenv("STATSCACHE_SOAK"); {
	case text != "":
		var err error
		if during, err = time.ParseDuration(text); err != nil {
			t.Fatalf("STATSCACHE_SOAK: %v", err)
		}
	case !long():
		t.Skip("SKIPPED: two minutes and more; run `make e2e` or `make soak`")
	}
	ports := map[string][]int{"steady": {port(t)}, "flapping": {port(t)}, "dead": {port(t)}}
	steady := script(t, "", "stream.py", strconv.Itoa(ports["steady"][0]), "1", "1000", strconv.Itoa(int(during.Seconds())), "--name", "steady")
	steady.expect("bound", peerStart)
	s := newSite(t, map[string]string{"endpoints": endpoints(ports)})
	d := s.start()
	c := newCrash(t)
	steady.expect("start", 20*time.Second)

	begin, end := time.Now(), time.Now().Add(during)
	var early, largest int64
	plugins := 0
	flapping := 0
	for round := 1; time.Now().Before(end.Add(-15 * time.Second)); round++ {
		publisher := script(t, "", "stream.py", strconv.Itoa(ports["flapping"][0]), "1", "500", "3600", "--name", "flapping")
		publisher.expect("start", 20*time.Second)
		flapping++
		c.moment(d, 5*time.Second)
		if round%3 == 0 {
			for _, p := range descendants(d.pid()) {
				_ = syscall.Kill(p.pid, syscall.SIGKILL) // it may have ended just now
				plugins++
			}
		}
		c.moment(d, 2*time.Second)
		publisher.kill()
		c.moment(d, during/20) // an outage
		largest = max(largest, rss(d.pid()))
		if time.Since(begin) < during/4 {
			early = largest
		}
		if !d.running() {
			t.Fatal("the daemon has ended")
		}
	}
	sent := steady.expectNumber("sent", time.Minute)
	settled(t, d)
	status, err := d.status()
	if err != nil {
		t.Fatal(err)
	}
	if got := count(d, "steady"); got != sent {
		t.Errorf("%d events of the steady publisher counted, want %d", got, sent)
	}
	if got := d.total("volume-1m", ""); got != status.Owned {
		t.Errorf("%d events counted, %d owned", got, status.Owned)
	}
	t.Logf("%s: %d events, %d starts of the flapping publisher, %d plugins killed; %d MB in the first quarter, at most %d MB",
		during, status.Owned, flapping, plugins, early>>20, largest>>20)
	if early > 0 && largest > 2*early+(64<<20) {
		t.Errorf("the daemon grew from %d MB to %d MB", early>>20, largest>>20)
	}
	d.stop()
	s.verifyClean()
}

// count adds up the events of one stream.py over its topics.
func count(d *daemon, name string) int64 {
	var sum int64
	for _, category := range []string{"buildsys", "git", "bodhi", "fas", "wiki", "irc", "pagure", "copr"} {
		for k := range 4 {
			sum += d.total("volume-by-topic-1m", fmt.Sprintf("org.fedoraproject.dev.%s.%s.change%d", category, name, k))
		}
	}
	return sum
}
