package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/consumer/fedmsg"
)

// archivePage is what /api/v1/events and /datagrepper/raw answer, as a script reads it.
type archivePage struct {
	Events []struct {
		ID    string `json:"msg_id"`
		Topic string
		Users []string
		Msg   json.RawMessage
	}
	Messages []struct {
		ID        string `json:"msg_id"`
		Timestamp float64
	} `json:"raw_messages"`
	Next         *string
	Count, Total int64
	Pages        int
}

// TestEvents_TheArchiveAnswers imports a golden stream and asks for it by API, in datagrepper's words and by
// datanommer's commands.
func TestEvents_TheArchiveAnswers(t *testing.T) {
	t.Parallel()
	g := goldens(t)[0]
	events := stampedEvents(t, g)
	categories, topics := map[string]int64{}, map[string]int64{}
	newest := events[0]
	for _, e := range events {
		categories[fedmsg.Category(e.topic)]++
		topics[e.topic]++
		if e.at > newest.at {
			newest = e
		}
	}
	s := newSite(t, nil)
	s.mustRun("import", g.file)

	wantStats := func(by map[string]int64, args ...string) {
		t.Helper()
		var want []string
		for name, n := range by {
			want = append(want, fmt.Sprintf("%s has %d entries\n", name, n))
		}
		slices.Sort(want)
		got := slices.Sorted(strings.Lines(s.mustRun(append([]string{"stats"}, args...)...).stdout))
		if !slices.Equal(got, want) {
			t.Errorf("stats %v: %d lines, want %d: %s", args, len(got), len(want), firstDifference(strings.Join(got, ""), strings.Join(want, "")))
		}
	}
	wantStats(categories)
	wantStats(topics, "--topic")
	of := map[string]int64{}
	for topic, n := range topics {
		if fedmsg.Category(topic) == fedmsg.Category(newest.topic) {
			of[topic] = n
		}
	}
	wantStats(of, "--topic", "--category", fedmsg.Category(newest.topic))
	wantStats(map[string]int64{}, "--category", "nothing")

	var dumped []struct {
		ID      string
		Topic   string
		Headers map[string]any
	}
	if err := json.Unmarshal([]byte(s.mustRun("dump").stdout), &dumped); err != nil || int64(len(dumped)) != g.events {
		t.Fatalf("dump: %d messages, want %d; %v", len(dumped), g.events, err)
	}
	if text := s.mustRun("dump", "--since", "2100-01-01").stdout; text != "[]\n" {
		t.Errorf("a dump of nothing: %q", text)
	}
	if r := s.run("dump", "--since", "yesterday"); r.code != 2 {
		t.Errorf("dump --since yesterday: exit status %d", r.code)
	}
	var latest []map[string]struct{ Topic string }
	if err := json.Unmarshal([]byte(s.mustRun("latest").stdout), &latest); err != nil || len(latest) != len(categories) {
		t.Errorf("latest: %d, want one of each of %d categories; %v", len(latest), len(categories), err)
	}
	if text := s.mustRun("latest", "--overall", "--timestamp").stdout; text != fmt.Sprintf("[%d.0]\n", newest.at) {
		t.Errorf("the newest is of %s, want %d", text, newest.at)
	}
	if text := s.mustRun("latest", "--topic", "nothing", "--timesince", "--human").stdout; text != "[]\n" {
		t.Errorf("the newest of nothing: %s", text)
	}

	d := s.start()
	askArchive(t, s, g, dumped[0].ID, categories, topics)
	d.stop()
}

// askArchive asks a running daemon.
func askArchive(t *testing.T, s *site, g golden, someID string, categories, topics map[string]int64) {
	t.Helper()
	ask := func(path string) (p archivePage) {
		t.Helper()
		code, body, err := get("http://" + s.api + path)
		if err != nil || code != http.StatusOK {
			t.Fatalf("%s: %d, %v: %s", path, code, err, tail(body))
		}
		if err := json.Unmarshal([]byte(body), &p); err != nil {
			t.Fatalf("%s: %v in %s", path, err, tail(body))
		}
		return p
	}
	seen := map[string]bool{}
	for next := ""; ; {
		p := ask("/api/v1/events?size=1000" + next)
		for _, e := range p.Events {
			if seen[e.ID] || len(e.Msg) == 0 {
				t.Fatalf("event %s comes twice, or without its message", e.ID)
			}
			seen[e.ID] = true
		}
		if p.Next == nil {
			break
		}
		next = "&cursor=" + url.QueryEscape(*p.Next)
	}
	if int64(len(seen)) != g.events {
		t.Errorf("%d events page by page, want %d", len(seen), g.events)
	}
	asked := 0
	for name, n := range categories {
		if p := ask("/api/v1/events/count?category=" + url.QueryEscape(name)); p.Count != n {
			t.Errorf("category %s: counted %d, want %d", name, p.Count, n)
		}
		if p := ask("/datagrepper/raw?rows_per_page=1&category=" + url.QueryEscape(name)); p.Total != n {
			t.Errorf("category %s: datagrepper counts %d, want %d", name, p.Total, n)
		}
		if asked++; asked == 8 {
			break
		}
	}
	asked = 0
	for name, n := range topics {
		if p := ask("/api/v1/events?size=1000&topic=" + url.QueryEscape(name)); int64(len(p.Events)) != min(n, 1000) {
			t.Errorf("topic %s: %d events, want %d", name, len(p.Events), n)
		}
		if asked++; asked == 8 {
			break
		}
	}
	seen = map[string]bool{}
	query, last := "/datagrepper/raw/?start=0.0&order=asc&rows_per_page=100&page=", 0.0
	pages := ask(query + "1").Pages
	for page := 1; page <= pages; page++ {
		for _, m := range ask(fmt.Sprint(query, page)).Messages {
			if m.Timestamp < last {
				t.Fatalf("page %d goes back from %f to %f", page, last, m.Timestamp)
			}
			last, seen[m.ID] = m.Timestamp, true
		}
	}
	if int64(len(seen)) != g.events {
		t.Errorf("the original statscache would fetch %d messages, want %d", len(seen), g.events)
	}
	ask("/datagrepper/id?id=" + url.QueryEscape(someID))
	ask("/api/v1/events/" + url.PathEscape(someID))
	if p := ask("/api/v1/topics?limit=1000"); p.Count != 0 { // it has no such field: this is about the status
		t.Errorf("topics: %+v", p)
	}
}

// TestEvents_BackfilledFromASecondInstance fetches a golden stream from another statscache by its /datagrepper: both
// have the same numbers then, and what was fetched is byte for byte the message where it has one form only.
func TestEvents_BackfilledFromASecondInstance(t *testing.T) {
	t.Parallel()
	g := goldens(t)[0]
	events := stampedEvents(t, g)
	first, last := events[0].at, events[0].at
	for _, e := range events {
		first, last = min(first, e.at), max(last, e.at)
	}
	from, to := newSite(t, nil), newSite(t, nil)
	from.mustRun("import", g.file)
	d := from.start()
	start := time.Now()
	r := to.mustRun("backfill", "--url", "http://"+from.api+"/datagrepper/raw", "--from", fmt.Sprint(first), "--to", fmt.Sprint(last+2))
	t.Logf("%d events in %s: %s", g.events, time.Since(start).Round(time.Millisecond), tail(r.stdout+r.stderr))
	for _, args := range [][]string{{"stats", "--topic"}, {"latest", "--overall"}, {"latest", "--timestamp"}} {
		if got, want := to.mustRun(args...).stdout, from.mustRun(args...).stdout; got != want {
			t.Errorf("%v differs: %s", args, firstDifference(got, want))
		}
	}
	if r := from.run("count", "volume-by-user", "--by", "user", "--json", "--limit", "1000"); r.code == 0 {
		var want, got countAnswer
		again := to.mustRun("count", "volume-by-user", "--by", "user", "--json", "--limit", "1000")
		if err := errors.Join(json.Unmarshal([]byte(r.stdout), &want), json.Unmarshal([]byte(again.stdout), &got)); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got.Rows, want.Rows) || len(want.Rows) == 0 {
			t.Errorf("counts by user differ: %d and %d rows", len(got.Rows), len(want.Rows))
		}
	}
	d.stop()
}
