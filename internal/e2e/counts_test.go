package e2e

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
)

// countAnswer is what series, top, count and calendar answer, as a script reads it.
type countAnswer struct {
	Count, Total int64
	Complete     bool
	Rows         []struct {
		Time    time.Time
		TimeEnd time.Time `json:"time_end"`
		Key     map[string]string
		Count   int64
	}
	Days []struct {
		Date  string
		Count int64
	}
}

// stamped is what counts of an event depend on.
type stamped struct {
	at    int64
	topic string
}

// stampedEvents reads a golden stream, each event once.
func stampedEvents(t testing.TB, g golden) []stamped {
	t.Helper()
	file, err := os.Open(g.file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	packed, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	var out []stamped
	seen := map[string]bool{}
	lines := bufio.NewScanner(packed)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e struct {
			ID        string `json:"msg_id"`
			Topic     string
			Timestamp float64
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		if !seen[e.ID] {
			seen[e.ID] = true
			out = append(out, stamped{int64(e.Timestamp), e.Topic})
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if int64(len(out)) != g.events {
		t.Fatalf("%s has %d events, the oracle says %d", g.file, len(out), g.events)
	}
	return out
}

// TestCounts_AreTheEvents asks the API and the command for counts of an imported stream and adds the events up itself.
func TestCounts_AreTheEvents(t *testing.T) {
	t.Parallel()
	g := goldens(t)[0]
	events := stampedEvents(t, g)
	first, last := events[0].at, events[0].at
	for _, e := range events {
		first, last = min(first, e.at), max(last, e.at)
	}
	s := newSite(t, nil)
	s.mustRun("import", g.file)
	command := func(args ...string) (c countAnswer) {
		t.Helper()
		text := s.mustRun(append([]string{"count", "--json"}, args...)...).stdout
		if err := json.Unmarshal([]byte(text), &c); err != nil {
			t.Fatalf("%v in %s", err, tail(text))
		}
		return c
	}
	if c := command("volume"); c.Count != g.events {
		t.Errorf("alone: count volume is %d, want %d", c.Count, g.events)
	}
	d := s.start()
	api := func(path string, parameters ...string) (c countAnswer) {
		t.Helper()
		q := url.Values{}
		for i := 0; i+1 < len(parameters); i += 2 {
			q.Add(parameters[i], parameters[i+1])
		}
		code, body, err := get("http://" + s.api + "/api/v1/metrics/" + path + "?" + q.Encode())
		if err != nil || code != http.StatusOK {
			t.Fatalf("%s?%s: %d, %v: %s", path, q.Encode(), code, err, tail(body))
		}
		if err := json.Unmarshal([]byte(body), &c); err != nil {
			t.Fatalf("%v in %s", err, tail(body))
		}
		return c
	}
	for _, name := range []string{"UTC", "Asia/Kolkata", "America/New_York"} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		from, to := first+(last-first)/7, last-(last-first)/5
		window := []string{"from", fmt.Sprint(from), "to", fmt.Sprint(to), "tz", name}
		days, topics, hours, total := map[string]int64{}, map[string]int64{}, map[string]int64{}, int64(0)
		for _, e := range events {
			if e.at >= from && e.at < to {
				local := time.Unix(e.at, 0).In(zone)
				total++
				days[local.Format(time.DateOnly)]++
				topics[e.topic]++
				hours[local.Format("2006-01-02T15 ")+e.topic]++
			}
		}
		if c := api("volume/count", window...); c.Count != total || !c.Complete {
			t.Errorf("%s: count is %d, complete %v; want %d", name, c.Count, c.Complete, total)
		}
		if c := command("volume", "--from", fmt.Sprint(from), "--to", fmt.Sprint(to), "--tz", name); c.Count != total {
			t.Errorf("%s: the command counts %d, want %d", name, c.Count, total)
		}
		calendar := api("volume/calendar", window...)
		for _, day := range calendar.Days {
			if day.Count != days[day.Date] {
				t.Errorf("%s: %s has %d, want %d", name, day.Date, day.Count, days[day.Date])
			}
			delete(days, day.Date)
		}
		if len(days) > 0 || calendar.Total != total {
			t.Errorf("%s: the calendar's total is %d, want %d; it lacks %v", name, calendar.Total, total, days)
		}
		top := api("volume-by-topic/top", append(window, "limit", "1000")...)
		for i, row := range top.Rows {
			if row.Count != topics[row.Key["topic"]] || i > 0 && row.Count > top.Rows[i-1].Count {
				t.Errorf("%s: %v has %d, want %d", name, row.Key, row.Count, topics[row.Key["topic"]])
			}
		}
		if len(top.Rows) != len(topics) || top.Total != total {
			t.Errorf("%s: %d topics of %d events, want %d of %d", name, len(top.Rows), top.Total, len(topics), total)
		}
		topic := top.Rows[0].Key["topic"]
		for _, row := range api("volume-by-topic/series", append(window, "step", "1h", "max_points", "20000", "shape", "rows", "filter", "topic:"+topic)...).Rows {
			key := row.Time.In(zone).Format("2006-01-02T15 ") + topic
			if row.Count != hours[key] {
				t.Errorf("%s: %s has %d, want %d", name, key, row.Count, hours[key])
			}
			delete(hours, key)
		}
		for key, n := range hours {
			if strings.HasSuffix(key, " "+topic) {
				t.Errorf("%s: the series lacks %s with %d", name, key, n)
			}
		}
	}
	if text := s.mustRun("count", "volume-by-topic", "--by", "topic", "--limit", "3").stdout; strings.Count(text, "\n") < 5 || !strings.Contains(text, "TOPIC") {
		t.Errorf("count --by prints\n%s", text)
	}
	if text := s.mustRun("count", "volume", "--step", "1d", "--from", fmt.Sprint(first), "--to", fmt.Sprint(last)).stdout; !strings.Contains(text, "TIME") {
		t.Errorf("count --step prints\n%s", text)
	}
	d.stop()
	for _, args := range [][]string{{"count"}, {"count", "volume", "user"}, {"count", "volume", "user=x"}, {"count", "volume", "--step", "x"}, {"count", "volume", "--tz", "Mars"}} {
		if r := s.run(args...); r.code != 2 || r.stderr == "" || r.stdout != "" {
			t.Errorf("%q: exit status %d, want 2 and a sentence:\n%s%s", args, r.code, r.stdout, r.stderr)
		}
	}
	if r := s.run("count", "volme"); r.code != 1 || !strings.Contains(r.stderr, "did you mean volume?") {
		t.Errorf("an unknown metric: exit status %d: %s", r.code, r.stderr)
	}
	s.configure(map[string]string{"statscache.plugins.disabled": `["volume"]`})
	s.mustRun("import", goldens(t)[1].file)
	if text := s.mustRun("count", "volume").stdout; !strings.Contains(text, "is not all there is: lagging") {
		t.Errorf("of a plugin that has not counted all that is archived count prints\n%s", text)
	}
}
