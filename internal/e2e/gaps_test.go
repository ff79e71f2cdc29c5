package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/fakearchive"
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
	all := []*peer{publish(t, s, "relayed", 6, 1, "--active")}
	d.waitCounted(100, 30*time.Second) // alone it looks as if there was but one
	for range 2 {
		all = append(all, publish(t, s, "relayed", 1, 1, "--active"))
	}
	var sent int64
	for _, p := range all {
		sent += p.expectNumber("published ", time.Minute)
	}
	d.waitCounted(sent, 30*time.Second)
	d.stop()
	if n, reason := s.lostMessages(); n != 0 {
		t.Errorf("%d are found missing: %s", n, reason)
	}
}

// TestGaps_ABackfillClosesWhatCountersFound: while it fetches, numbers and gaps say so; then nothing is missing any more.
func TestGaps_ABackfillClosesWhatCountersFound(t *testing.T) {
	t.Parallel()
	b := newBus(t, 1000, 100)
	s := newSite(t, map[string]string{"endpoints": endpoints(map[string][]int{"bus": {b.port}})})
	now := time.Now().Unix()
	lost := now - 3600
	if err := os.MkdirAll(s.data, 0o700); err != nil {
		t.Fatal(err)
	}
	ledger := fmt.Sprintf(`{"listened":%d,"gaps":[{"from":%d,"to":%d,"why":"messages of endpoint bus at x:1 were lost","lost":true,"missing":2}]}`, now-1, lost, lost+10)
	if err := os.WriteFile(filepath.Join(s.data, "gaps.json"), []byte(ledger), 0o600); err != nil {
		t.Fatal(err)
	}
	row := func(id string, at int64) fakearchive.Row {
		return fakearchive.Row{Time: float64(at), Raw: fmt.Appendf(nil, `{"i":1,"msg_id":"2026-%s","timestamp":%d,"topic":"org.fedoraproject.dev.gap.x","msg":{}}`, id, at)}
	}
	archive, asked, open := fakearchive.New(1, []fakearchive.Row{row("before", lost-600), row("lost-1", lost), row("lost-2", lost+9)}), make(chan struct{}), make(chan struct{})
	var once sync.Once
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		once.Do(func() { close(asked) })
		<-open
		archive.ServeHTTP(w, r)
	}))
	defer server.Close()
	opened := sync.OnceFunc(func() { close(open) })
	defer opened()
	d := s.start()
	b.waitSubscribed()
	window := fmt.Sprintf("http://%s/api/v1/metrics/volume/count?from=%d&to=%d", d.api, lost-300, lost+300)
	says := func(what string, wants ...string) {
		t.Helper()
		for url, want := range map[string]string{window: wants[0], "http://" + d.api + "/api/v1/gaps": wants[1]} {
			d.waitFor(5*time.Second, what, func() error {
				code, body, err := get(url)
				if err != nil || code != http.StatusOK || !strings.Contains(body, want) {
					return fmt.Errorf("%s: %d, %v: %s, want %s", url, code, err, body, want)
				}
				return nil
			})
		}
	}
	says("the gap is told", `"reason":"gap"`, `"kind":"lost","reason":"messages of endpoint bus at x:1 were lost","missing":2,"backfilling":false`)
	ended := make(chan result, 1)
	go func() { ended <- s.run("backfill", "--gaps", "--url", server.URL+"/raw", "--json") }()
	select {
	case <-asked:
	case r := <-ended:
		t.Fatalf("it ended before it asked: %s%s", r.stdout, r.stderr)
	}
	says("it is being fetched", `"reason":"backfilling"`, `"missing":2,"backfilling":true`)
	if text := s.mustRun("gaps").stdout; !strings.Contains(text, "were lost (being fetched)") || !strings.Contains(text, " is being fetched\n") {
		t.Errorf("gaps says\n%s", text)
	}
	opened()
	var sum struct{ Owned int }
	if r := <-ended; json.Unmarshal([]byte(r.stdout), &sum) != nil || sum.Owned != 2 {
		t.Errorf("want two new: %d, %s%s", r.code, r.stdout, r.stderr)
	}
	says("nothing is missing any more", `"complete":true`, `"backfilling":[]`)
	if n, reason := s.lostMessages(); n != 0 || reason != "" {
		t.Errorf("%d are missing still: %s", n, reason)
	}
	d.stop()
	s.verifyClean()
}

// TestCluster_ServeTellsWhatConsumersMissed: a process without a ledger knows of others' gaps, and that nobody listens.
func TestCluster_ServeTellsWhatConsumersMissed(t *testing.T) {
	needLong(t, "takes a minute")
	b := newBus(t, 1000, 64)
	c := newCluster(t, map[string][]int{"bus": {b.port}})
	consumer := c.site()
	d := consumer.launch("consume")
	d.waitJoined()
	b.waitSubscribed()
	d.stop()
	d, web := consumer.launch("consume"), c.start("serve")
	d.waitJoined()
	compute := c.start("compute") // whose plugins make metrics
	says := func(what, path string, wants ...string) {
		t.Helper()
		web.waitFor(time.Minute, what, func() error {
			code, body, err := get("http://" + web.api + path)
			for _, want := range wants {
				if err != nil || code != http.StatusOK || !strings.Contains(body, want) {
					return fmt.Errorf("%s: %d, %v: %s, want %s", path, code, err, body, want)
				}
			}
			return nil
		})
	}
	says("what the consumer missed", "/api/v1/gaps", `"kind":"stopped"`, `: no statscache listened"`)
	says("in every number", "/api/v1/metrics/volume/count?from=now-1h", `"reason":"gap"`)
	if text := c.site().mustRun("gaps").stdout; !strings.Contains(text, "stopped") || !strings.Contains(text, ": no statscache listened") {
		t.Errorf("gaps says\n%s", text)
	}
	d.kill()
	says("that nobody listens", "/api/v1/gaps", `"reason":"no statscache listened"`)
	compute.stop()
	web.stop()
}
