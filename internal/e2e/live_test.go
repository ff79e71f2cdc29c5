package e2e

import (
	"fmt"
	"strconv"
	"testing"
	"time"
)

const peerStart = 20 * time.Second // a Python process with zmq or fedmsg, on a busy machine

func TestLive_GoldenOverZeroMQEqualsTheOracles(t *testing.T) {
	for _, tt := range []struct {
		name        string
		subscribers int // how many times the one endpoint is listed
	}{{"listed once", 1}, {"listed twice", 2}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := goldens(t)[0]
			p := port(t)
			ports := map[string][]int{}
			for i := range tt.subscribers {
				ports[fmt.Sprintf("golden.%d", i)] = []int{p}
			}
			publisher := script(t, "", "replay.py", strconv.Itoa(p), strconv.Itoa(tt.subscribers), g.file)
			publisher.expect("bound", peerStart)
			s := newSite(t, map[string]string{"endpoints": endpoints(ports)})
			s.race = true
			d := s.start()
			sent := publisher.expectNumber("sent", 20*time.Second)
			// Each copy comes in or is known to be one; then the numbers can't change any more.
			d.waitFor(20*time.Second, "every copy taken", func() error {
				owned, err := d.metric("statscache_events_owned_total")
				if err != nil {
					return err
				}
				duplicates, err := d.metric("statscache_events_duplicate_total")
				if want := float64(sent) * float64(tt.subscribers); err == nil && owned+duplicates != want {
					err = fmt.Errorf("%v owned and %v duplicates, want %v together", owned, duplicates, want)
				}
				return err
			})
			d.waitCounted(g.events, 20*time.Second)
			g.check(t, d, 1_000_000)
			d.stop()
			s.verifyClean()
		})
	}
}

func TestLive_HostileMessagesAreRejectedByReason(t *testing.T) {
	t.Parallel()
	g := goldens(t)[0]
	bad, good := port(t), port(t)
	hostile := script(t, "", "hostile.py", strconv.Itoa(bad))
	hostile.expect("bound", peerStart)
	replay := script(t, "", "replay.py", strconv.Itoa(good), "1", g.file)
	replay.expect("bound", peerStart)
	s := newSite(t, map[string]string{"endpoints": endpoints(map[string][]int{"hostile": {bad}, "good": {good}})})
	d := s.start()
	between := hostile.expectNumber("sent", 20*time.Second)
	replay.expect("sent", 20*time.Second)
	want := map[string]float64{"frames": 2, "encoding": 1, "json": 2, "envelope": 3, "topic": 1, "time": 1, "size": 0}
	d.waitFor(20*time.Second, "all rejected", func() error {
		var all float64
		for reason := range want {
			n, err := d.metric("statscache_events_rejected_total", `reason="`+reason+`"`)
			if err != nil {
				return err
			}
			all += n
		}
		if all < 10 {
			return fmt.Errorf("%v rejected", all)
		}
		return nil
	})
	for reason, n := range want {
		if got, err := d.metric("statscache_events_rejected_total", `reason="`+reason+`"`); err != nil || got != n {
			t.Errorf("%v rejected for %s (%v), want %v", got, reason, err, n)
		}
	}
	status := d.waitCounted(g.events+between, 20*time.Second)
	if status.Owned != g.events+between {
		t.Errorf("%d events owned, want %d", status.Owned, g.events+between)
	}
	if got := d.total("volume-by-topic-1m", "org.fedoraproject.dev.e2e.hostile"); got != between {
		t.Errorf("%d good events of the hostile publisher counted, want %d", got, between)
	}
	d.stop()
	s.verifyClean()
}

func TestLive_StoppedUnderLoad(t *testing.T) {
	t.Parallel()
	p := port(t)
	publisher := script(t, "", "stream.py", strconv.Itoa(p), "1", "1000", "4")
	publisher.expect("bound", peerStart)
	s := newSite(t, map[string]string{"endpoints": endpoints(map[string][]int{"load": {p}})})
	s.race = true
	d := s.start()
	publisher.expect("start", 20*time.Second)
	sent := publisher.expectNumber("sent", 30*time.Second)
	status := d.waitCounted(sent, 20*time.Second)
	if status.Owned != sent {
		t.Errorf("%d events owned, want the %d sent", status.Owned, sent)
	}
	publisher.kill()

	again := script(t, "", "stream.py", strconv.Itoa(p), "1", "1000", "10")
	again.expect("start", peerStart)
	d.waitCounted(sent+300, 20*time.Second)
	d.stop() // in the middle of the stream
	s.verifyClean()
	d = s.start()
	if got := d.steadyTotal(); got < sent+300 {
		t.Errorf("%d events counted after a restart, want at least %d", got, sent+300)
	}
	d.stop()
}
