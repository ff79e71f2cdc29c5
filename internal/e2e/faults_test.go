package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMisbehaving_EveryWayAtOnce runs one plugin for each way of misbehaving beside volume, in one daemon: each ends as
// it should, which the API, the metrics, the log and `plugin list` show, and volume counts everything.
func TestMisbehaving_EveryWayAtOnce(t *testing.T) {
	t.Parallel()
	type end struct {
		name    string
		reason  string // in the error of one that fails, "" for one that goes on
		restart bool   // its process must have been started anew; others may be, on a machine that is busy
		dead    bool   // some events became dead letters
		log     string // in a line of the log that names it
	}
	ends := []end{
		{"crashes", "exit status 3", true, false, "plugin restarts"},
		{"hangs", "no answer in time", true, false, "plugin restarts"},
		{"hoards", "memory", true, false, "plugin restarts"},
		{"exits", "my database is gone", true, false, "plugin restarts"},
		{"wrong-metric", "there is no counter metric 7", true, false, "plugin restarts"},
		{"wrong-time", "lies outside the batch's", true, false, "plugin restarts"},
		{"wrong-size", "count 1152921504606846976", true, false, "plugin restarts"},
		{"wrong-text", "UTF-8", true, false, "plugin restarts"},
		{"wrong-batch", "result for batch", true, false, "plugin restarts"},
		{"poison", "", true, true, "dead letters now"},
		{"large-batches", "", true, false, "plugin restarts"},
		{"floods", "", false, false, "prints too much"},
		{"changes", "", true, false, "plugin restarts"},
	}
	b := newBus(t, 300_000, 200)
	s := newSite(t, map[string]string{"endpoints": endpoints(map[string][]int{"bus": {b.port}})})
	s.buildPlugins("misfit")
	program := filepath.Join(s.data, "plugins", "misfit")
	for _, e := range ends {
		if err := os.Link(program, filepath.Join(s.data, "plugins", e.name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(program); err != nil {
		t.Fatal(err)
	}
	d := s.launch("run") // it is never ready: that is what it says of plugins that fail
	b.waitSubscribed()
	b.publishFor(200, 4*time.Second)
	b.publishFor(5000, 200*time.Millisecond) // batches of more than the few events that one of them takes
	d.waitFor(patience, "volume has counted everything", func() error {
		if n := d.total("volume-1m", ""); n != b.sent {
			return fmt.Errorf("%d events counted, want %d", n, b.sent)
		}
		return nil
	})
	for _, e := range ends {
		var p pluginLine
		d.waitFor(2*patience, e.name+" ends as it should", func() error {
			lines, err := d.plugins()
			if err != nil {
				return err
			}
			p = lines[e.name]
			failing := (p.State == "backing-off" || p.State == "quarantined") && strings.Contains(p.Error, e.reason)
			well := p.State == "running" && p.Lag == 0
			if e.reason != "" && !failing || e.reason == "" && !well || e.restart && p.Restarts == 0 || e.dead != (p.DeadLetters > 0) {
				return fmt.Errorf("%+v", p)
			}
			return nil
		})
		t.Logf("%-13s %-11s %3d restarts, %d dead letters: %s", e.name, p.State, p.Restarts, p.DeadLetters, p.Error)
		if e.reason == "" {
			metric := "counts-of-" + e.name + "-1m"
			if e.name == "changes" {
				metric = "counts-of-changes-after-its-change-1m"
			}
			if n := d.total(metric, ""); n != b.sent-p.DeadLetters {
				t.Errorf("%s counted %d of %d events, %d dead letters", e.name, n, b.sent, p.DeadLetters)
			}
		}
		said := false
		for line := range strings.Lines(d.stderr.String()) {
			said = said || strings.Contains(line, "plugin="+e.name+" ") && strings.Contains(line, e.log)
		}
		if !said {
			t.Errorf("%s: no line of the log has %q", e.name, e.log)
		}
		noteFault(t, "plugin misbehaves: "+e.name, max(1, int(p.Restarts)))
	}
	d.stillAlive()
	_, scrape, err := get("http://" + s.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	var list struct{ Plugins []pluginLine }
	if err := json.Unmarshal([]byte(s.mustRun("plugin", "list", "--json").stdout), &list); err != nil {
		t.Fatal(err)
	}
	table := s.mustRun("plugin", "list").stdout
	for _, e := range ends {
		found := false
		for _, p := range list.Plugins {
			found = found || p.ID == e.name && strings.Contains(p.Error, e.reason) && (!e.restart || p.Restarts > 0) && e.dead == (p.DeadLetters > 0)
		}
		restarted := strings.Contains(scrape, `statscache_plugin_restarts_total{plugin="`+e.name+`"} `) &&
			(!e.restart || !strings.Contains(scrape, `statscache_plugin_restarts_total{plugin="`+e.name+`"} 0`+"\n"))
		if !found || !restarted || !strings.Contains(table, e.name) || !strings.Contains(scrape, `statscache_plugin_state{plugin="`+e.name+`",`) {
			t.Errorf("%s: in the list %t, in the metrics %t\n%s", e.name, found, restarted, table)
		}
	}
	if p := func() pluginLine { l, _ := d.plugins(); return l["volume"] }(); p.State != "running" || p.Restarts > 0 || p.DeadLetters > 0 {
		t.Errorf("volume: %+v", p)
	}
	if n := d.total("volume-1m", ""); n != b.sent {
		t.Errorf("volume counted %d of %d", n, b.sent)
	}
	d.stop()
}
