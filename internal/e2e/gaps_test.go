package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/testpython"
)

// lostMessages adds up what counters showed to be missing, as the command tells it.
func (s *site) lostMessages() (missing int64, reason string) {
	s.t.Helper()
	var known struct {
		Gaps []struct {
			Kind, Reason string
			From, To     time.Time
			Missing      int64
		}
	}
	text := s.mustRun("gaps", "--json").stdout
	if err := json.Unmarshal([]byte(text), &known); err != nil {
		s.t.Fatalf("%s: %v", text, err)
	}
	for _, g := range known.Gaps {
		if g.Kind == "lost" {
			if !g.From.Before(g.To) || time.Since(g.To) > 5*time.Minute {
				s.t.Errorf("a gap from %s to %s", g.From, g.To)
			}
			missing, reason = missing+g.Missing, g.Reason
		}
	}
	return missing, reason
}

// TestGaps_APublisherCountsOnWhileTheConnectionIsCut: what a real fedmsg publisher sent meanwhile is found missing to the
// message, every number says so, and what another instance got is fetched from it.
func TestGaps_APublisherCountsOnWhileTheConnectionIsCut(t *testing.T) {
	t.Parallel()
	const seconds, sent = 4, 800
	at := port(t)
	named := func(port int) map[string]string {
		return map[string]string{"endpoints": endpoints(map[string][]int{"lossy": {port}}), "sign_messages": "False", "high_water_mark": "0",
			"io_threads": "1", "zmq_enabled": "True", "zmq_strict": "False", "zmq_reconnect_ivl_max": "1000"}
	}
	whole := newSite(t, named(at))
	w := newWire(t, fmt.Sprintf("127.0.0.1:%d", at))
	_, number, _ := strings.Cut(w.address(), ":")
	var through int
	if _, err := fmt.Sscan(number, &through); err != nil {
		t.Fatal(err)
	}
	lossy := newSite(t, named(through))
	archive, d := whole.start(), lossy.start()
	p := publish(t, whole, "lossy", seconds, 2.5)
	waitEndpointUp(t, archive, "lossy")
	waitEndpointUp(t, d, "lossy")
	d.waitFor(20*time.Second, "enough is received for its counter to be trusted", func() error {
		n, err := d.metric("statscache_events_received_total")
		if err == nil && n < 100 {
			err = fmt.Errorf("%.0f received", n)
		}
		return err
	})
	if n, err := d.metric("statscache_endpoint_counted"); err != nil || n != 1 {
		t.Errorf("the counter is trusted: %v, %v", n, err)
	}
	w.cut()
	if n := p.expectNumber("published ", time.Minute); n != sent {
		t.Fatalf("%d were published", n)
	}
	archive.waitCounted(sent, 30*time.Second)
	received := d.steadyTotal()
	d.stop() // which tells at once what it tells every ten seconds
	missing, reason := lossy.lostMessages()
	if missing == 0 || missing != sent-received || !strings.Contains(reason, "lossy") {
		t.Errorf("of %d messages %d came; %d are found missing (%s)", sent, received, missing, reason)
	}
	if text := lossy.mustRun("gaps").stdout; !strings.Contains(text, fmt.Sprintf("  lost     %d ", missing)) {
		t.Errorf("gaps says\n%s", text)
	}
	r := lossy.mustRun("backfill", "--gaps", "--url", "http://"+archive.api+"/datagrepper/", "--json")
	var sum struct{ Owned int64 }
	if err := json.Unmarshal([]byte(r.stdout), &sum); err != nil || sum.Owned != missing {
		t.Errorf("%d of %d are fetched (%v): %s", sum.Owned, missing, err, r.stdout)
	}
	lossy.verifyClean()
	if n, _ := whole.lostMessages(); n != 0 {
		t.Errorf("the one that got all misses %d", n)
	}
	archive.stop()
}

// TestGaps_BehindARelayNothingIsFoundMissing: there the numbers of several publishers come mixed.
func TestGaps_BehindARelayNothingIsFoundMissing(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	busConfig(t, s)
	python(t, filepath.Dir(s.conf), filepath.Join(filepath.Dir(testpython.Find(t)), "fedmsg-relay"))
	d := s.start()
	waitEndpointUp(t, d, "relay_outbound")
	var sent int64
	first := publish(t, s, "relayed", 1, 1, "--active")
	sent += first.expectNumber("published ", time.Minute) // alone it looks as if there was but one
	d.waitCounted(sent, 30*time.Second)
	for range 2 {
		var both []*peer
		for range 2 {
			both = append(both, publish(t, s, "relayed", 1, 1, "--active"))
		}
		for _, p := range both {
			sent += p.expectNumber("published ", time.Minute)
		}
		d.waitCounted(sent, 30*time.Second)
	}
	d.stop()
	if n, reason := s.lostMessages(); n != 0 {
		t.Errorf("%d are found missing: %s", n, reason)
	}
}
