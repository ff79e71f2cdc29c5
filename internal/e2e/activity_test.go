package e2e

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// archivedEvent is what an archived event says about people.
type archivedEvent struct {
	ID    string `json:"msg_id"`
	Topic string
	Time  time.Time `json:"timestamp"`
	Users []string
	Agent *string

	Packages []string
}

// archived lists all events of the archive.
func (d *daemon) archived() (all []archivedEvent) {
	d.t.Helper()
	query := url.Values{"order": {"asc"}, "size": {"1000"}}
	for {
		var page struct {
			Events []archivedEvent
			Next   *string
		}
		code, body, err := get("http://" + d.api + "/api/v1/events?" + query.Encode())
		if err == nil && code == 200 {
			err = json.Unmarshal([]byte(body), &page)
		}
		if err != nil || code != 200 {
			d.t.Fatalf("archived events: %d, %v: %.300s", code, err, body)
		}
		all = append(all, page.Events...)
		if page.Next == nil {
			return all
		}
		query.Set("cursor", *page.Next)
	}
}

// recount is a counter made anew: volume by end of the window and by key.
type recount map[int64]map[[2]string]int

func (r recount) add(at time.Time, seconds int64, first, second string) {
	end := at.Unix() - at.Unix()%seconds + seconds
	if r[end] == nil {
		r[end] = map[[2]string]int{}
	}
	r[end][[2]string{first, second}]++
}

// csv writes the rows as the API does: columns by name, rows by time and then by key in the order of the dimensions.
func (r recount) csv(t testing.TB, dims [2]string) string {
	t.Helper()
	names := []string{dims[0], dims[1], "volume"}
	slices.Sort(names)
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	write := func(record []string) {
		if err := w.Write(record); err != nil {
			t.Fatal(err)
		}
	}
	write(append([]string{"timestamp"}, names...))
	for _, end := range slices.Sorted(maps.Keys(r)) {
		keys := slices.SortedFunc(maps.Keys(r[end]), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
		for _, key := range keys {
			columns := map[string]string{dims[0]: key[0], dims[1]: key[1], "volume": strconv.Itoa(r[end][key])}
			record := []string{strconv.FormatInt(end, 10)}
			for _, name := range names {
				record = append(record, columns[name])
			}
			write(record)
		}
	}
	w.Flush()
	return b.String()
}

// checkActivity counts anew who did what and who was involved, and holds every row of the plugin to it.
func (d *daemon) checkActivity(events []archivedEvent) {
	d.t.Helper()
	intervals := map[string]int64{"15m": 900, "1h": 3600, "1d": 86400}
	for _, m := range []struct {
		metric  string
		every   []string
		dims    [2]string
		entries func(archivedEvent) [][2]string
	}{
		{"contributions-by-agent-and-topic", []string{"1h", "1d"}, [2]string{"agent", "topic"}, func(e archivedEvent) [][2]string {
			if e.Agent == nil {
				return nil
			}
			return [][2]string{{*e.Agent, e.Topic}}
		}},
		{"contributions-by-agent-and-category", []string{"15m", "1h", "1d"}, [2]string{"agent", "category"}, func(e archivedEvent) [][2]string {
			if e.Agent == nil {
				return nil
			}
			return [][2]string{{*e.Agent, categoryOf(e.Topic)}}
		}},
		{"involvement-by-user-and-topic", []string{"1h", "1d"}, [2]string{"user", "topic"}, func(e archivedEvent) (out [][2]string) {
			for _, u := range e.Users {
				out = append(out, [2]string{u, e.Topic})
			}
			return out
		}},
		{"involvement-by-user-and-package", []string{"1d"}, [2]string{"user", "package"}, func(e archivedEvent) (out [][2]string) {
			for _, u := range e.Users {
				for _, p := range e.Packages {
					out = append(out, [2]string{u, p})
				}
			}
			return out
		}},
	} {
		for _, every := range m.every {
			want := recount{}
			for _, e := range events {
				for _, key := range m.entries(e) {
					want.add(e.Time, intervals[every], key[0], key[1])
				}
			}
			if len(want) == 0 {
				d.t.Errorf("%s: nothing to compare", m.metric)
			}
			if difference := firstDifference(d.rows(m.metric+"-"+every, 10_000), want.csv(d.t, m.dims)); difference != "" {
				d.t.Errorf("%s-%s: %s", m.metric, every, difference)
			}
		}
	}
}

// checkPerson holds what /api/v1/users says of the one with most messages to the events.
func (d *daemon) checkPerson(events []archivedEvent) {
	d.t.Helper()
	of := map[string]int64{}
	for _, e := range events {
		for _, u := range e.Users {
			of[u]++
		}
	}
	name := ""
	for u, n := range of {
		if n > of[name] || n == of[name] && u < name {
			name = u
		}
	}
	topics, packages, days := map[string]int64{}, map[string]int64{}, map[string]int64{}
	first, last := events[0].Time, events[0].Time
	for _, e := range events {
		first, last = slices.MinFunc([]time.Time{first, e.Time}, time.Time.Compare), slices.MaxFunc([]time.Time{last, e.Time}, time.Time.Compare)
		if slices.Contains(e.Users, name) {
			topics[e.Topic]++
			days[e.Time.UTC().Format(time.DateOnly)]++
			for _, p := range e.Packages {
				packages[p]++
			}
		}
	}
	q := url.Values{"from": {first.Format(time.DateOnly)}, "to": {last.AddDate(0, 0, 1).Format(time.DateOnly)}, "limit": {"1000"}}
	var got struct {
		Calendar, Topics, Packages countAnswer
		Events                     []archivedEvent
	}
	code, body, err := get("http://" + d.api + "/api/v1/users/" + url.PathEscape(name) + "?" + q.Encode())
	if err == nil && code == 200 {
		err = json.Unmarshal([]byte(body), &got)
	}
	if err != nil || code != 200 {
		d.t.Fatalf("numbers of %s: %d, %v: %.300s", name, code, err, body)
	}
	for _, day := range got.Calendar.Days {
		if day.Count != days[day.Date] {
			d.t.Errorf("%s: %s has %d messages, want %d", name, day.Date, day.Count, days[day.Date])
		}
	}
	for dim, x := range map[string]struct {
		got  countAnswer
		want map[string]int64
	}{"topic": {got.Topics, topics}, "package": {got.Packages, packages}} {
		for i, row := range x.got.Rows {
			if row.Count != x.want[row.Key[dim]] || i > 0 && row.Count > x.got.Rows[i-1].Count {
				d.t.Errorf("%s: %s %s has %d, want %d", name, dim, row.Key[dim], row.Count, x.want[row.Key[dim]])
			}
		}
		if len(x.got.Rows) != min(1000, len(x.want)) || len(x.want) == 0 {
			d.t.Errorf("%s: %d different %ss, want %d", name, len(x.got.Rows), dim, len(x.want))
		}
	}
	if got.Calendar.Total != of[name] || int64(len(got.Events)) != min(10, of[name]) {
		d.t.Errorf("%s: %d messages and %d events, want %d", name, got.Calendar.Total, len(got.Events), of[name])
	}
}

// categoryOf is the rule of the original.
func categoryOf(topic string) string {
	parts, at := strings.Split(topic, "."), 3
	if strings.Contains(topic, "VirtualTopic") {
		at = 2
	}
	if len(parts) <= at {
		return "Unclassified"
	}
	return parts[at]
}

// headerUsers reads the users of every event of a stream out of its headers.
func headerUsers(t testing.TB, file string) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	for line := range bytes.Lines(text) {
		var e struct {
			ID      string          `json:"msg_id"`
			Headers map[string]bool `json:"headers"`
		}
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		out[e.ID] = []string{}
		for h := range e.Headers {
			if user, ok := strings.CutPrefix(h, "fedora_messaging_user_"); ok {
				out[e.ID] = append(out[e.ID], user)
			}
		}
		slices.Sort(out[e.ID])
	}
	return out
}

// splitStream writes the first and the last lines of a stream into two files that share a part of it.
func splitStream(t testing.TB, file string) (first, second string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	dir := t.TempDir()
	first, second = filepath.Join(dir, "first.jsonl"), filepath.Join(dir, "second.jsonl")
	for path, part := range map[string][][]byte{first: lines[:len(lines)*6/10], second: lines[len(lines)*4/10:]} {
		if err := os.WriteFile(path, bytes.Join(part, nil), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return first, second
}

// takenIn brings a stream in: imported before the daemon starts, live, or half and half with a part that comes both ways.
func takenIn(t testing.TB, way, file string, events int64, settings map[string]string) *daemon {
	t.Helper()
	imported, live := file, file
	switch way {
	case "imported":
		live = ""
	case "live":
		imported = ""
	case "mixed":
		imported, live = splitStream(t, file)
	}
	settings = maps.Clone(settings)
	var publisher *peer
	if live != "" {
		p := port(t)
		publisher = script(t, "", "replay.py", strconv.Itoa(p), "1", live)
		publisher.expect("bound", peerStart)
		if settings == nil {
			settings = map[string]string{}
		}
		settings["endpoints"] = endpoints(map[string][]int{"live": {p}})
	}
	s := newSite(t, settings)
	if imported != "" {
		s.mustRun("import", imported)
	}
	d := s.start()
	if publisher != nil {
		publisher.expect("sent", 60*time.Second)
	}
	d.waitFor(2*time.Minute, fmt.Sprintf("%d events counted", events), func() error {
		status, err := d.status()
		if err != nil {
			return err
		}
		if err := status.caughtUp(); err != nil {
			return err
		}
		if n := d.total("volume-by-category-1h", ""); n != events {
			return fmt.Errorf("%d events counted", n)
		}
		return nil
	})
	return d
}

// TestActivity_EqualsARecount counts the archived events of generated streams anew, also live, mixed and where people are
// found by the rules alone.
func TestActivity_EqualsARecount(t *testing.T) {
	t.Parallel()
	needSharedTools(t)
	type stream struct {
		way  string
		args []string
	}
	streams := []stream{{"mixed", []string{"--seed", "201", "--n", "4000", "--days", "3", "--start", "2018-12-30", "--dup", "0.05", "--late", "0.1"}}}
	if long() {
		streams = append(streams,
			stream{"imported", []string{"--seed", "202", "--n", "50000", "--days", "40", "--start", "2016-02-10", "--dup", "0.1", "--late", "0.1"}},
			stream{"live", []string{"--seed", "203", "--n", "20000", "--days", "2", "--start", "2018-10-27", "--dup", "0.1"}},
			stream{"mixed", []string{"--seed", "204", "--n", "20000", "--days", "5", "--start", "2018-03-24", "--no-headers", "--dup", "0.05"}},
			stream{"imported", []string{"--seed", "205", "--n", "50000", "--days", "30", "--start", "2018-06-01", "--no-headers"}},
		)
	}
	for _, x := range streams {
		t.Run(x.way+" "+strings.Join(x.args, " "), func(t *testing.T) {
			g := generate(t, x.args...)
			d := takenIn(t, x.way, g.file, g.events, nil)
			events := d.archived()
			if int64(len(events)) != g.events {
				t.Fatalf("%d events archived, want %d", len(events), g.events)
			}
			if !slices.Contains(x.args, "--no-headers") {
				want := headerUsers(t, g.file)
				for _, e := range events {
					if got := slices.Sorted(slices.Values(e.Users)); !slices.Equal(got, want[e.ID]) {
						t.Fatalf("event %s has the users %q, want %q", e.ID, got, want[e.ID])
					}
				}
			}
			d.checkActivity(events)
			d.checkPerson(events)
			d.stop()
			d.verifyClean()
		})
	}
}

// TestPeople_WithoutHeadersAreTheTruths imports streams whose people stand in the messages alone: nearly all names that
// the generator put there are counted, and nearly all that is counted it put there.
func TestPeople_WithoutHeadersAreTheTruths(t *testing.T) {
	t.Parallel()
	needSharedTools(t)
	seeds := []string{"301"}
	n := "5000"
	if long() {
		seeds, n = append(seeds, "302", "303"), "50000"
	}
	for _, seed := range seeds {
		dir := t.TempDir()
		truth := filepath.Join(dir, "truth.tsv")
		g := golden{name: "truth", file: filepath.Join(dir, "events.jsonl"), expected: map[string]string{}}
		runTool(t, "gen_events.py", "--seed", seed, "--n", n, "--days", "2", "--no-headers", "--truth", truth, "--out", g.file)
		g.ask(t, "--truth", truth)
		g.count(t)
		d := takenIn(t, "imported", g.file, g.events, nil)
		for _, ident := range []string{"volume-by-user-1m", "volume-by-package-1m"} {
			got, want := csvVolumes(t, d.rows(ident, 100_000)), csvVolumes(t, g.expected[ident])
			var right, ours, theirs int
			for key, n := range want {
				theirs += n
				right += min(n, got[key])
			}
			for _, n := range got {
				ours += n
			}
			found, precise := float64(right)/float64(theirs), float64(right)/float64(ours)
			t.Logf("seed %s, %s: %.4f of %d found, %.4f of %d right", seed, ident, found, theirs, precise, ours)
			if theirs == 0 || !(found >= 0.98) || !(precise >= 0.98) {
				t.Errorf("seed %s, %s: %d of %d found, %d counted; want 0.98 of both", seed, ident, right, theirs, ours)
			}
		}
		d.stop()
		d.verifyClean()
	}
}

// csvVolumes reads rows of one dimension: the volume by time and key.
func csvVolumes(t testing.TB, text string) map[string]int {
	t.Helper()
	lines, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	at := slices.Index(lines[0], "volume")
	out := map[string]int{}
	for _, line := range lines[1:] {
		n, err := strconv.Atoi(line[at])
		if err != nil {
			t.Fatal(err)
		}
		out[strings.Join(slices.Delete(slices.Clone(line), at, at+1), "\x00")] += n
	}
	return out
}
