package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// buildPlugins compiles programs of testdata/plugins into an installation's folder for plugins.
func (s *site) buildPlugins(names ...string) {
	s.t.Helper()
	folder := filepath.Join(s.data, "plugins")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		s.t.Fatal(err)
	}
	for _, name := range names {
		cmd := exec.CommandContext(s.t.Context(), "go", "build", "-o", filepath.Join(folder, name), "./testdata/plugins/"+name)
		if out, err := cmd.CombinedOutput(); err != nil {
			s.t.Fatalf("build plugin %s: %v\n%s", name, err, out)
		}
	}
}

// pluginLine is a plugin as /api/v1/plugins shows it.
type pluginLine struct {
	ID          string `json:"id"`
	State       string `json:"state"`
	Lag         int64  `json:"lag"`
	Restarts    int64  `json:"restarts"`
	DeadLetters int64  `json:"dead_letters"`
	Error       string `json:"error"`
}

func (d *daemon) plugins() (map[string]pluginLine, error) {
	code, body, err := get("http://" + d.api + "/api/v1/plugins")
	if err != nil || code != 200 {
		return nil, fmt.Errorf("/api/v1/plugins says %d: %s (%w)", code, body, err)
	}
	var answer struct{ Plugins []pluginLine }
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		return nil, fmt.Errorf("/api/v1/plugins: %w", err)
	}
	lines := map[string]pluginLine{}
	for _, p := range answer.Plugins {
		lines[p.ID] = p
	}
	return lines, nil
}

// TestMisbehaving_PluginsBesideVolume runs volume beside a plugin that crashes at every event, one that hangs for ever
// and one that allocates without end: 10 s at 2,000 events/s, a minute at 20,000 in the long suite.
func TestMisbehaving_PluginsBesideVolume(t *testing.T) {
	t.Parallel()
	during, rate := 10*time.Second, 2000
	if long() {
		during, rate = time.Minute, 20_000
	}
	if raced {
		rate = min(rate, 1000)
	}
	bad := []string{"crasher", "hanger", "hoarder"}
	b := newBus(t, 200_000, 200)
	s := newSite(t, map[string]string{"endpoints": endpoints(map[string][]int{"bus": {b.port}})})
	s.buildPlugins(bad...)
	d := s.launch("run") // it is never ready: that is what it says of plugins that fail
	b.waitSubscribed()
	d.waitFor(readyWithin, "volume runs", func() error {
		lines, err := d.plugins()
		if err == nil && lines["volume"].State != "running" {
			err = fmt.Errorf("volume is %s", lines["volume"].State)
		}
		return err
	})

	stop := make(chan struct{})
	watched := make(chan watch, 1)
	go func() { watched <- watchPlugins(d, bad, stop) }()
	b.publishFor(rate, during)
	close(stop)
	w := <-watched
	d.stillAlive()
	if w.err != nil {
		t.Fatal(w.err)
	}
	d.waitFor(30*time.Second, "volume has counted everything", func() error {
		if n := d.total("volume-1m", ""); n != b.sent {
			return fmt.Errorf("%d events counted, want %d", n, b.sent)
		}
		return nil
	})
	b.check(d)
	// 2 s of events is the promise. Under the race detector everything is slow, most of all the start of processes.
	if most := int64(2 * rate); w.lag > most && !raced {
		t.Errorf("volume lagged by %d events, at most %d are allowed", w.lag, most)
	}
	after, err := d.plugins()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("3 misbehaving plugins beside volume for %s at %d events/s: volume lagged by %d events at most (%.2f s) and counted all %d; the daemon took %d MB at most, a plugin %d MB",
		during, rate, w.lag, float64(w.lag)/float64(rate), b.sent, w.daemon>>20, w.plugin>>20)
	noteResult(t, fmt.Sprintf("volume beside a crasher, a hanger and a hoarder, %s at %d events/s", during, rate),
		fmt.Sprintf("lag at most %.2f s, all %d counted; the daemon took %d MB at most", float64(w.lag)/float64(rate), b.sent, w.daemon>>20))
	for _, id := range bad {
		p := d.waitFailing(id)
		noteFault(t, "plugin failed by itself: "+id, int(p.Restarts))
		t.Logf("  %-8s %s after %d restarts, %d dead letters; states seen: %v; %s", id, p.State, p.Restarts, p.DeadLetters, slices.Sorted(maps.Keys(w.states[id])), p.Error)
	}
	if p := after["volume"]; p.State != "running" || p.Restarts != 0 || p.DeadLetters != 0 {
		t.Errorf("volume: %+v", p)
	}
	if !raced && (w.daemon > 400<<20 || w.plugin > 1<<30) {
		t.Errorf("the daemon took %d MB, a plugin %d MB", w.daemon>>20, w.plugin>>20)
	}
	d.stop()
}

// waitFailing waits until a plugin is shown to back off or to be quarantined, and why. In between it is tried again.
func (d *daemon) waitFailing(id string) (p pluginLine) {
	d.t.Helper()
	d.waitFor(20*time.Second, "plugin "+id+" is seen to fail", func() error {
		lines, err := d.plugins()
		if err != nil {
			return err
		}
		p = lines[id]
		if p.State != "backing-off" && p.State != "quarantined" || p.Error == "" || p.Restarts == 0 {
			return fmt.Errorf("%+v", p)
		}
		return nil
	})
	return p
}

// watch is what was seen of plugins.
type watch struct {
	lag            int64 // volume's largest
	states         map[string]map[string]bool
	daemon, plugin int64 // largest resident memory
	err            error
}

// watchPlugins looks at plugins until stop is closed, ten times a second.
func watchPlugins(d *daemon, ids []string, stop <-chan struct{}) watch {
	w := watch{states: map[string]map[string]bool{}}
	for _, id := range ids {
		w.states[id] = map[string]bool{}
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-stop:
			return w
		case <-tick.C:
		}
		w.daemon = max(w.daemon, rss(d.pid()))
		for _, p := range descendants(d.pid()) {
			w.plugin = max(w.plugin, rss(p.pid))
		}
		if i%5 != 0 {
			continue
		}
		counted, err := d.counted()
		if err != nil {
			w.err = err
			return w
		}
		lines, err := d.plugins()
		if err != nil {
			w.err = err
			return w
		}
		st, err := d.status()
		if err != nil {
			w.err = err
			return w
		}
		// What the host says is of its last look at the streams; what the numbers say is the truth.
		w.lag = max(w.lag, lines["volume"].Lag, st.Owned-counted)
		for _, id := range ids {
			if state := lines[id].State; state != "" {
				w.states[id][state] = true
			}
		}
	}
}

// counted adds up what the API shows; 0 before there is a metric. Unlike total it may be called from any goroutine.
func (d *daemon) counted() (sum int64, err error) {
	code, body, err := get("http://"+d.api+"/api/volume-1m?rows_per_page=1000&stop="+farStop, "Accept", "text/csv")
	if err != nil || code == 404 {
		return 0, err
	}
	if code != 200 {
		return 0, fmt.Errorf("/api/volume-1m says %d: %s", code, body)
	}
	for line := range strings.Lines(body) {
		if _, n, ok := cutLast(strings.TrimSpace(line)); ok {
			sum += n
		}
	}
	return sum, nil
}
