package e2e

import (
	"fmt"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/testpython"
)

// busConfig is the fedmsg.d of a small bus: two names with two endpoints each, and a relay. The real fedmsg and
// statscache read the same file.
func busConfig(t testing.TB, s *site) {
	t.Helper()
	s.configure(map[string]string{
		"endpoints": endpoints(map[string][]int{
			"one":            {port(t), port(t)},
			"two":            {port(t), port(t)},
			"relay_outbound": {port(t)},
		}),
		"relay_inbound":         fmt.Sprintf("[\"tcp://127.0.0.1:%d\"]", port(t)),
		"sign_messages":         "False",
		"high_water_mark":       "0",
		"io_threads":            "1",
		"zmq_enabled":           "True",
		"zmq_strict":            "False",
		"zmq_reconnect_ivl":     "100",
		"zmq_reconnect_ivl_max": "1000",
	})
}

// publish starts a real fedmsg publisher at 200 messages a second. It begins settle after its endpoint is up.
func publish(t testing.TB, s *site, name string, seconds, settle float64, flags ...string) *peer {
	t.Helper()
	text := func(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
	p := script(t, filepath.Dir(s.conf), "publish.py", append([]string{name, "200", text(seconds), text(settle)}, flags...)...)
	p.expect("up", peerStart)
	return p
}

// TestFedmsg_EverythingPublishedIsCounted runs real publishers: two processes share the two endpoints of one name, one
// more has a name whose other endpoint stays dead, and one goes through fedmsg's own relay.
func TestFedmsg_EverythingPublishedIsCounted(t *testing.T) {
	t.Parallel()
	const seconds, second = 4, 1
	s := newSite(t, nil)
	busConfig(t, s)
	relay := python(t, filepath.Dir(s.conf), filepath.Join(filepath.Dir(testpython.Find(t)), "fedmsg-relay"))
	d := s.start()
	waitEndpointUp(t, d, "relay_outbound")
	publishers := []*peer{
		publish(t, s, "one", seconds, second),
		publish(t, s, "one", seconds, second),
		publish(t, s, "two", seconds, second),
		publish(t, s, "relayed", seconds, second, "--active"),
	}
	var sent int64
	for _, p := range publishers {
		sent += p.expectNumber("published", 60*time.Second)
	}
	status := d.waitCounted(sent, 10*time.Second)
	if status.Owned != sent {
		t.Errorf("%d events owned, want the %d published", status.Owned, sent)
	}
	each := sent / int64(len(publishers))
	for name, want := range map[string]int64{"one": 2 * each, "two": each, "relayed": each} {
		if got := d.total("volume-by-topic-1s", "org.fedoraproject.dev.e2e."+name); got != want {
			t.Errorf("%d events of %s counted, want %d", got, name, want)
		}
	}
	if got := d.total("volume-1s", ""); got != sent {
		t.Errorf("%d events counted, want %d", got, sent)
	}
	relay.kill()
	d.stop()
	s.verifyClean()
}

// TestFedmsg_RestartedPublisherIsPickedUpWithinTwoSeconds kills a publisher and starts it again, three times.
func TestFedmsg_RestartedPublisherIsPickedUpWithinTwoSeconds(t *testing.T) {
	t.Parallel()
	const seconds, second = 1, 1
	s := newSite(t, nil)
	busConfig(t, s)
	d := s.start()
	first := publish(t, s, "one", 60, second)
	d.waitCounted(100, 20*time.Second)
	before := int64(0)
	for range 3 {
		first.kill()
		// Once the connection is known to be lost and the inbox is quiet, what comes is the next publisher's.
		waitEndpointDown(t, d, "one")
		before = settled(t, d)
		first = publish(t, s, "one", seconds, 2*second)
		sent := first.expectNumber("published", 30*time.Second)
		if status := d.waitCounted(before+sent, 10*time.Second); status.Owned != before+sent {
			t.Errorf("%d events owned, want %d", status.Owned, before+sent)
		}
	}
	d.stop()
	s.verifyClean()
}

func waitEndpointUp(t testing.TB, d *daemon, name string) {
	t.Helper()
	d.waitFor(peerStart, name+" up", func() error { return endpointIs(d, name, 1) })
}

func waitEndpointDown(t testing.TB, d *daemon, name string) {
	t.Helper()
	d.waitFor(10*time.Second, name+" down", func() error { return endpointIs(d, name, 0) })
}

// endpointIs compares how many addresses of an endpoint are connected.
func endpointIs(d *daemon, name string, want float64) error {
	up, err := d.metric("statscache_endpoint_up", `endpoint="`+name+`"`)
	if err == nil && up != want {
		err = fmt.Errorf("%v addresses of %s are up, want %v", up, name, want)
	}
	return err
}

// settled waits until all that was received is owned and counted, and gives how many that are.
func settled(t testing.TB, d *daemon) int64 {
	t.Helper()
	var owned int64
	d.waitFor(10*time.Second, "quiet", func() error {
		received, err := d.metric("statscache_events_received_total")
		if err != nil {
			return err
		}
		status, err := d.status()
		if err != nil {
			return err
		}
		if owned = status.Owned; float64(owned) != received {
			return fmt.Errorf("%d owned of %v received", owned, received)
		}
		return nil
	})
	d.waitCounted(owned, 10*time.Second)
	return owned
}
