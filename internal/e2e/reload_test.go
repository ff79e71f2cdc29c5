package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/zmqpub"
)

// hangUp asks the daemon for another look at its configuration and waits until it has said so many times what came of
// it.
func (d *daemon) hangUp(says string, times int) {
	d.t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		d.t.Fatal(err)
	}
	d.waitFor(10*time.Second, "answer to SIGHUP", func() error {
		if n := strings.Count(d.stderr.String(), says); n < times {
			return fmt.Errorf("said %q %d times, want %d", says, n, times)
		}
		return nil
	})
}

// inProcessBus is a publisher in this process, and its port.
func inProcessBus(t *testing.T) (*zmqpub.Publisher, int) {
	t.Helper()
	p, err := zmqpub.Listen(zmqpub.Options{Queue: 100_000})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	_, number, _ := strings.Cut(p.Address(), ":")
	port, err := strconv.Atoi(number)
	if err != nil {
		t.Fatal(err)
	}
	return p, port
}

func publishEvent(p *zmqpub.Publisher, name string, i int64, at time.Time) {
	topic := "org.fedoraproject.dev." + name + ".thing"
	p.Publish(topic, fmt.Appendf(nil, `{"topic":%q,"msg_id":"%d-%s-%d","timestamp":%d,"msg":{}}`, topic, at.Year(), name, i, at.Unix()))
}

// TestReload_UnderLoad changes everything around an endpoint that publishes all the time, and breaks the configuration.
func TestReload_UnderLoad(t *testing.T) {
	t.Parallel()
	steady, steadyPort := inProcessBus(t)
	other, otherPort := inProcessBus(t)
	only := map[string]string{"endpoints": endpoints(map[string][]int{"steady": {steadyPort}})}
	both := map[string]string{"endpoints": endpoints(map[string][]int{"steady": {steadyPort}, "other": {otherPort}})}
	s := newSite(t, only)
	s.race = true
	d := s.start()
	d.waitFor(10*time.Second, "subscribed", func() error {
		if steady.Connected() != 1 {
			return errors.New("not yet")
		}
		return nil
	})
	done, counted := make(chan struct{}), make(chan int64)
	go func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for sent := int64(0); ; {
			select {
			case <-tick.C:
				publishEvent(steady, "steady", sent, time.Now())
				sent++
			case <-done:
				counted <- sent
				return
			}
		}
	}()
	const reloaded, refused = "configuration reloaded", "configuration refused; the old one goes on"
	connected := func(n int) {
		t.Helper()
		d.waitFor(10*time.Second, "subscribers of the other endpoint", func() error {
			if other.Connected() != n {
				return fmt.Errorf("%d, want %d", other.Connected(), n)
			}
			return nil
		})
	}
	const rounds = 5
	for round := range rounds {
		s.configure(both)
		d.hangUp(reloaded, 2*round+1)
		connected(1)
		publishEvent(other, "other", int64(round), time.Now())
		d.waitFor(10*time.Second, "the other endpoint's event", func() error {
			if n := d.total("volume-by-category-1d", "other"); n != int64(round+1) {
				return fmt.Errorf("%d counted, want %d", n, round+1)
			}
			return nil
		})

		broken := filepath.Join(s.conf, "broken.py")
		if err := os.WriteFile(broken, []byte("config = {\"statscache.retention\": 5, \"statscache.no_such\": 1}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		d.hangUp(refused, 2*round+2)
		if err := os.Remove(broken); err != nil {
			t.Fatal(err)
		}
		if other.Connected() != 1 {
			t.Error("a refused configuration changed the connections")
		}
		s.configure(only)
		d.hangUp(reloaded, 2*round+2)
		connected(0)
	}
	// Other topics come over the connection there is; a shorter retention refuses old events; pages get shorter; what
	// can't change is said.
	s.configure(map[string]string{"endpoints": only["endpoints"], "statscache.consumer.topics": `["org.fedoraproject.dev.steady."]`,
		"statscache.archive.retention": `"1d"`, "statscache.app.maximum_rows_per_page": "1", "statscache.journal.max_bytes": "1 << 24"})
	d.hangUp(reloaded, 2*rounds+1)
	d.hangUp("settings=statscache.journal.max_bytes", 2)
	d.waitFor(10*time.Second, "old events refused", func() error {
		publishEvent(steady, "steady", time.Now().UnixNano(), time.Now().AddDate(-1, 0, 0))
		n, err := d.metric("statscache_events_expired_total")
		if err == nil && n == 0 {
			err = errors.New("none yet")
		}
		return err
	})
	if _, header, body, err := fetch("http://" + d.api + "/api/volume-1s?stop=" + farStop); err != nil || strings.Count(body, "timestamp") != 1 {
		t.Errorf("pages are to have one row: %v %v\n%.300s", err, header, body)
	}
	s.configure(only)
	d.hangUp(reloaded, 2*rounds+3)

	close(done)
	sent := <-counted
	st := d.waitCounted(sent+rounds, 20*time.Second)
	if got := d.total("volume-by-topic-1m", "org.fedoraproject.dev.steady.thing"); got != sent {
		t.Errorf("%d events of the endpoint that stayed were counted, want the %d sent", got, sent)
	}
	if steady.Dropped() != 0 || len(st.Endpoints) != 1 || st.Endpoints[0].Rejected != 0 {
		t.Errorf("%d dropped, endpoints %+v", steady.Dropped(), st.Endpoints)
	}
	if n, err := d.metric("statscache_endpoint_reconnects_total"); err != nil || n != 0 {
		t.Errorf("%v reconnects (%v), want none", n, err)
	}
	d.stop()
	s.verifyClean()
}

// TestReload_BeforeTheDaemonIsReady hangs up from the first moment on.
func TestReload_BeforeTheDaemonIsReady(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	d := s.launch("run")
	d.waitFor(10*time.Second, "the data dir", func() error { // it begins: from the command on SIGHUP is no end
		if err := d.cmd.Process.Signal(syscall.Signal(0)); err != nil {
			return err
		}
		_, err := os.Stat(s.data)
		return err
	})
	for range 50 {
		if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond) // spreads the signals over the start
	}
	d.waitReady()
	d.hangUp("configuration reloaded", 2)
	d.stop()
}

// TestReload_ADemoGoesOn has nothing to read again.
func TestReload_ADemoGoesOn(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	d := s.launch("demo", "--history", "1d")
	d.waitFor(20*time.Second, "the data dir", func() error { _, err := os.Stat(s.data); return err })
	for range 2 { // while it makes up history, and while it runs
		if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		d.waitReady()
	}
	d.stop()
}
