package e2e

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/consumer/config"
	"github.com/statscache/statscache/internal/fakearchive"
)

// archived gives a golden stream as an archive holds it: every message once, by its time.
func (g golden) archived(t testing.TB) []fakearchive.Row {
	t.Helper()
	var rows []fakearchive.Row
	seen := map[string]bool{}
	file, err := os.Open(g.file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }() // only read
	var in io.Reader = file
	if strings.HasSuffix(g.file, ".gz") {
		if in, err = gzip.NewReader(file); err != nil {
			t.Fatal(err)
		}
	}
	for messages := json.NewDecoder(in); ; {
		var raw json.RawMessage
		var m struct {
			MsgID     string  `json:"msg_id"`
			Timestamp float64 `json:"timestamp"`
		}
		if err := messages.Decode(&raw); errors.Is(err, io.EOF) {
			return rows
		} else if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatal(err)
		}
		if !seen[m.MsgID] {
			seen[m.MsgID] = true
			rows = append(rows, fakearchive.Row{Time: m.Timestamp, Raw: raw})
		}
	}
}

// fetchSpan is the time that holds all of some rows.
func fetchSpan(rows []fakearchive.Row) []string {
	lo, hi := rows[0].Time, rows[0].Time
	for _, r := range rows {
		lo, hi = min(lo, r.Time), max(hi, r.Time)
	}
	return []string{"--from", fmt.Sprint(int64(lo)), "--to", fmt.Sprint(int64(hi) + 1)}
}

// TestBackfill_CountsOnceWhateverFaultsAndKills: fetched from an archive that fails, cuts, repeats, reorders and holds
// back, by commands and daemons that are killed, every number is the oracle's.
func TestBackfill_CountsOnceWhateverFaultsAndKills(t *testing.T) {
	t.Parallel()
	g := multiplied(t, goldens(t)[0], 25)
	rows := g.archived(t)
	archive := fakearchive.New(3, rows)
	archive.Faults = fakearchive.Faults{Error: 0.01, Throttle: 0.01, Cut: 0.01, Truncated: 0.05, Repeated: 0.05, Shuffled: 0.05}
	server := httptest.NewServer(archive)
	defer server.Close()
	s := newSite(t, map[string]string{"statscache.datagrepper.endpoint": fmt.Sprintf("%q", server.URL+"/datagrepper/raw")})
	fetch := append([]string{"backfill"}, fetchSpan(rows)...)
	rng := rand.New(rand.NewPCG(1, 2))
	kills := 0
	for before := -1; kills < 4; kills++ { // each life gets further than the one before
		d := s.launch(fetch...)
		asked, _ := archive.Asked()
		want := asked + 10 + rng.IntN(20)
		err := poll(20*time.Second, func() error {
			if now, _ := archive.Asked(); now < want {
				return fmt.Errorf("%d requests of %d", now, want)
			}
			if !d.running() {
				return errEnded
			}
			return nil
		})
		if err != nil {
			break // it was done before
		}
		below := descendants(d.pid())
		if err := d.cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		<-d.exited
		d.processesGone(below)
		if asked == before {
			t.Fatal("a life that asked for nothing")
		}
		before = asked
	}
	d := s.start()
	r := s.mustRun(fetch...)
	if !strings.Contains(r.stdout, "backfill: ") || !strings.Contains(r.stdout, " new, ") {
		t.Errorf("it says %s", r.stdout)
	}
	requests, again := archive.Asked()
	t.Logf("%d requests, %d for pages known before, %d kills; %s", requests, again, kills, r.stdout)
	g.check(t, d, 1_000_000)
	if now := s.mustRun(append(fetch, "--json")...); !strings.Contains(now.stdout, `"requests":0`) {
		t.Errorf("a second backfill of the same span asks again: %s", now.stdout)
	}
	d.stop()
	s.verifyClean()
}

// TestBackfill_CatchUp: what came while nobody listened is there after the start, also where the daemon that began to
// fetch it was killed.
func TestBackfill_CatchUp(t *testing.T) {
	t.Parallel()
	g := multiplied(t, goldens(t)[0], 25)
	rows := g.archived(t)
	archive := fakearchive.New(4, rows)
	server := httptest.NewServer(archive)
	defer server.Close()
	from, err := config.ParseTime(fetchSpan(rows)[1], time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, map[string]string{"statscache.datagrepper.endpoint": fmt.Sprintf("%q", server.URL), "statscache.consumer.catch_up": "True",
		"statscache.consumer.epoch": fmt.Sprintf("%q", from.Format(time.RFC3339))})
	d := s.start()
	d.waitFor(20*time.Second, "some requests", func() error {
		if n, _ := archive.Asked(); n < 15 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	if err := d.cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	<-d.exited
	d = s.start()
	d.waitCounted(g.events, 30*time.Second)
	g.check(t, d, 1_000_000)
	d.stop()
	s.verifyClean()
}

// TestBackfill_Refusals: what can't be is one sentence.
func TestBackfill_Refusals(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	closed := "http://" + address(t) + "/raw"
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"no archive", []string{"--from", "-1d"}, 1, "statscache.datagrepper.endpoint"},
		{"no start", []string{"--url", closed}, 1, "statscache.consumer.epoch"},
		{"backwards", []string{"--url", closed, "--from", "now", "--to", "-1d"}, 1, "there is nothing between"},
		{"not a time", []string{"--from", "yesterday"}, 2, "--from"},
		{"not a URL", []string{"--from", "-1d", "--url", "ftp://x"}, 1, "http or https URL"},
	} {
		t.Run(c.name, func(t *testing.T) {
			oneSentence(t, s.run(append([]string{"backfill"}, c.args...)...), c.code, c.want)
		})
	}
	if _, err := os.Stat(filepath.Join(s.data, "backfill.json")); err == nil {
		t.Error("what was refused left a file behind")
	}
}

// TestBackfill_FromAnotherInstance: what one statscache has archived, another one fetches by the first one's /datagrepper,
// and comes to the same numbers.
func TestBackfill_FromAnotherInstance(t *testing.T) {
	t.Parallel()
	n := int64(10)
	if long() {
		n = 500
	}
	g := multiplied(t, goldens(t)[0], n)
	first := newSite(t, nil)
	first.mustRun("import", g.file)
	d := first.start()
	second := newSite(t, map[string]string{"statscache.datagrepper.endpoint": fmt.Sprintf("%q", "http://"+first.api+"/datagrepper/")})
	second.race = true
	began := time.Now()
	r := second.mustRun(append([]string{"backfill"}, fetchSpan(g.archived(t))...)...)
	t.Logf("%d events in %s, both sides and the plugins included: %s", g.events, time.Since(began).Round(time.Millisecond), r.stdout)
	if !strings.Contains(r.stdout, fmt.Sprintf("%d new,", g.events)) {
		t.Errorf("it says %s", r.stdout)
	}
	d.stop()
	d = second.start()
	g.check(t, d, 1_000_000)
	d.stop()
	second.verifyClean()
}

// TestBackfill_Gaps: what came while no daemon listened is fetched, and nothing else.
func TestBackfill_Gaps(t *testing.T) {
	t.Parallel()
	b := newBus(t, 1000, 100)
	s := newSite(t, map[string]string{"endpoints": endpoints(map[string][]int{"bus": {b.port}})})
	d := s.start()
	b.waitSubscribed()
	d.stop()
	row := func(id string, at int64) fakearchive.Row {
		return fakearchive.Row{Time: float64(at), Raw: fmt.Appendf(nil, `{"i":1,"msg_id":"2026-%s","timestamp":%d,"topic":"org.fedoraproject.dev.gap.x","msg":{}}`, id, at)}
	}
	now := time.Now().Unix()
	archive := fakearchive.New(1, []fakearchive.Row{row("long-ago", now-3600), row("missed-1", now), row("missed-2", now)})
	server := httptest.NewServer(archive)
	defer server.Close()
	fetch := []string{"backfill", "--gaps", "--url", server.URL + "/raw", "--json"}
	want := func(r result, fetched, owned int) {
		t.Helper()
		var sum struct{ Fetched, Owned, Gaps int }
		if err := json.Unmarshal([]byte(r.stdout), &sum); err != nil || sum.Fetched != fetched || sum.Owned != owned || sum.Gaps != 1 {
			t.Errorf("%s (%v), want %d fetched and %d new of one gap", r.stdout, err, fetched, owned)
		}
	}
	want(s.mustRun(append(fetch, "--from", fmt.Sprint(now-7200), "--to", "now")...), 2, 2)
	d = s.start()
	want(s.mustRun(fetch...), 2, 0) // so young that an archive may get more of it
	if code, body, err := get("http://" + d.api + "/api/v1/gaps"); code != 200 || !strings.Contains(body, `"kind":"stopped","reason":"no statscache listened"`) {
		t.Errorf("/api/v1/gaps: %d, %v: %s", code, err, body)
	}
	if code, body, err := get("http://" + d.api + "/api/v1/metrics/volume/count?from=now-1h"); code != 200 || !strings.Contains(body, `"reason":"gap"`) {
		t.Errorf("a count over the gap: %d, %v: %s", code, err, body)
	}
	if text := s.mustRun("count", "volume").stdout; !strings.Contains(text, "is not all there is: gap") {
		t.Errorf("count says %s", text)
	}
	d.stop()
	s.verifyClean()
}
