package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	zombiezen "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/statscache/statscache/internal/demo"
	"github.com/statscache/statscache/store/sqlite"
)

const (
	yearLength = 365 * 24 * time.Hour
	yearPool   = 100_000 // different messages, which come again and again with ids and times of their own
)

// yearEvents is how many events BenchmarkYear takes: STATSCACHE_BENCH_EVENTS, or ten million.
func yearEvents(b *testing.B) int {
	b.Helper()
	text := os.Getenv("STATSCACHE_BENCH_EVENTS")
	if text == "" {
		return 10_000_000
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// messages gives messages without id and time, as busy as those of a distribution's bus: the shared generator's where
// that is here, else the demo's.
func messages(b *testing.B) [][]byte {
	b.Helper()
	var lines []byte
	if _, reason := sharedTools(); reason == "" {
		file := filepath.Join(b.TempDir(), "events.jsonl")
		runTool(b, "gen_events.py", "--seed", "5", "--n", strconv.Itoa(yearPool), "--out", file)
		var err error
		if lines, err = os.ReadFile(file); err != nil {
			b.Fatal(err)
		}
	} else {
		b.Log("messages are the demo's, of fewer people and topics: " + reason)
		g := demo.New(5)
		for range yearPool {
			lines = append(append(lines, g.Next(time.Unix(0, 0)).Body...), '\n')
		}
	}
	var out [][]byte
	for line := range bytes.Lines(lines) {
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(line, &fields); err != nil {
			b.Fatal(err)
		}
		delete(fields, "msg_id")
		delete(fields, "timestamp")
		rest, err := json.Marshal(fields)
		if err != nil {
			b.Fatal(err)
		}
		out = append(out, append(rest[1:], '\n'))
	}
	return out
}

// writeYear writes n events, evenly over a year that begins at start, to a pipe.
func writeYear(path string, pool [][]byte, n int, start time.Time) error {
	pipe, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	w, random := bufio.NewWriterSize(pipe, 1<<20), rand.New(rand.NewPCG(1, 2))
	var line []byte
	for i := range n {
		at := start.Unix() + int64(yearLength.Seconds()*float64(i)/float64(n))
		line = fmt.Appendf(line[:0], `{"msg_id":"%d-%08x-6db0-4c31-9d07-%012x","timestamp":%d,`, start.Year(), random.Uint32(), i, at)
		_, _ = w.Write(append(line, pool[random.IntN(len(pool))]...)) // a failed write comes up in Flush
	}
	err = w.Flush()
	if closed := pipe.Close(); err == nil {
		err = closed
	}
	return err
}

// reached is how many events every plugin has counted, as the file says.
func reached(b *testing.B, db *sqlite.DB) (least int64) {
	b.Helper()
	plugins, err := db.Plugins(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	least = -1
	for _, p := range plugins {
		positions, err := db.Positions(b.Context(), p.ID, 1)
		if err != nil {
			b.Fatal(err)
		}
		at := int64(0)
		for _, x := range positions {
			at += int64(x.Pos)
		}
		if least < 0 || at < least {
			least = at
		}
	}
	return max(0, least)
}

// importYear brings a year of events in with all bundled plugins and reports the rate as a whole and per million: the
// time between two moments when every plugin had counted so many.
func importYear(b *testing.B, s *site, n int) {
	b.Helper()
	pipe := filepath.Join(b.TempDir(), "events")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		b.Fatal(err)
	}
	binary(b) // not built while the clock runs
	pool := messages(b)
	written := make(chan error, 1)
	go func() { written <- writeYear(pipe, pool, n, time.Now().Add(-yearLength)) }()
	begin := time.Now()
	d := s.launch("import", pipe)
	m := watchMemory(d)
	var db *sqlite.DB
	d.waitFor(time.Minute, "a store", func() (err error) {
		db, err = sqlite.Open(b.Context(), sqlite.Options{Path: s.database(), ReadOnly: true})
		return err
	})
	part := min(1_000_000, n)
	used := func() (seconds float64) {
		if !d.running() {
			return 0
		}
		for _, p := range append(descendants(d.pid()), process{pid: d.pid()}) {
			seconds += cpuSeconds(b, p.pid)
		}
		return seconds
	}
	last, next, spent := begin, int64(part), 0.0
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for d.running() {
		select {
		case <-tick.C:
		case <-d.exited:
		}
		if at := reached(b, db); at >= next {
			now, cpu := time.Now(), used()
			n := float64(at - next + int64(part))
			b.Logf("%10d events: the last %.0f at %.0f a second, %.1f µs of CPU each", at, n, n/now.Sub(last).Seconds(), max(0, cpu-spent)*1e6/n)
			last, next, spent = now, at+int64(part), cpu
		}
	}
	took := time.Since(begin)
	if err := db.Close(); err != nil {
		b.Fatal(err)
	}
	m.report(b)
	if code := d.cmd.ProcessState.ExitCode(); code != 0 {
		b.Fatalf("import: exit status %d: %s", code, d.stderr.String())
	}
	if err := <-written; err != nil {
		b.Fatal(err)
	}
	b.Logf("%s, %.0f CPU seconds", strings.TrimSpace(d.stdout.String()), (d.cmd.ProcessState.UserTime() + d.cmd.ProcessState.SystemTime()).Seconds())
	b.ReportMetric(float64(n)/took.Seconds(), "events/s")
}

// countersSize adds up the pages of what plugins have counted, and names the largest tables.
func countersSize(b *testing.B, path string) (bytes int64) {
	b.Helper()
	c, err := zombiezen.OpenConn(path, zombiezen.OpenReadOnly)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = c.Close() }() // only read
	type table struct {
		name string
		size int64
	}
	var all []table
	if err := sqlitex.ExecuteTransient(c, "SELECT m.name, (SELECT pgsize FROM dbstat WHERE name=m.name AND aggregate=TRUE) FROM sqlite_schema m WHERE m.name GLOB 'count_*' OR m.name GLOB 'series_*' OR m.tbl_name GLOB 'series_*' OR m.name='latest'", &sqlitex.ExecOptions{
		ResultFunc: func(row *zombiezen.Stmt) error {
			all = append(all, table{row.ColumnText(0), row.ColumnInt64(1)})
			bytes += row.ColumnInt64(1)
			return nil
		}}); err != nil {
		b.Fatal(err)
	}
	slices.SortFunc(all, func(x, y table) int { return int(y.size - x.size) })
	for _, t := range all[:min(len(all), 12)] {
		b.Logf("%-30s %6d MB", t.name, t.size>>20)
	}
	return bytes
}

// BenchmarkYear imports a year of events with all bundled plugins, weighs their counters and asks what pages and widgets
// ask, each question another one, so that nothing is kept of its answer. STATSCACHE_BENCH_YEAR names a folder to keep the
// state in for the next run, which then only asks.
func BenchmarkYear(b *testing.B) {
	for range b.N {
		s := newSite(b, map[string]string{"statscache.retention": "{}"})
		if kept := os.Getenv("STATSCACHE_BENCH_YEAR"); kept != "" {
			s.data = kept
		}
		if _, err := os.Stat(s.database()); err != nil {
			importYear(b, s, yearEvents(b))
		}
		b.ReportMetric(float64(countersSize(b, s.database()))/1e6, "counters-MB")
		d := s.start()
		d.waitCaughtUp(time.Minute)
		askYear(b, d)
		d.stop()
	}
}

// askYear reports the median and the longest time of an answer to each kind of question, over HTTP.
func askYear(b *testing.B, d *daemon) {
	b.Helper()
	end := time.Now().UTC().Truncate(24 * time.Hour)
	day := func(n int) string { return end.AddDate(0, 0, n).Format(time.DateOnly) }
	users, topics, agents := d.values("volume-by-user", "user"), d.values("volume-by-topic", "topic"), d.values("contributions-by-agent-and-topic", "agent")
	pick := func(list []string, i int) string { return url.QueryEscape(list[i%len(list)]) }
	const base = "/api/v1/metrics/"
	for _, q := range []struct {
		name string
		url  func(i int) string
	}{
		{"count-topic-user", func(i int) string {
			return base + "involvement-by-user-and-topic/count?filter=user:" + pick(users, i) + "&filter=topic:" + pick(topics, i/3) + "&from=" + day(-364) + "&to=" + day(0)
		}},
		{"count-topic-agent-edges", func(i int) string {
			return base + "contributions-by-agent-and-topic/count?filter=agent:" + pick(agents, i) + "&filter=topic:" + pick(topics, i/3) + "&from=" + day(-300) + "T10:11:00Z&to=" + day(-5) + "T20:21:00Z"
		}},
		{"calendar-user", func(i int) string {
			return base + "volume-by-user/calendar?filter=user:" + pick(users, i) + "&from=" + day(-364) + "&to=" + day(1)
		}},
		{"calendar-user-Berlin", func(i int) string {
			return base + "volume-by-user/calendar?filter=user:" + pick(users, i) + "&from=" + day(-364) + "&to=" + day(1) + "&tz=Europe/Berlin"
		}},
		{"calendar-agent-Kolkata", func(i int) string {
			return base + "contributions-by-agent-and-category/calendar?filter=agent:" + pick(agents, i) + "&from=" + day(-364) + "&to=" + day(1) + "&tz=Asia/Kolkata"
		}},
		{"top-users-30d", func(i int) string {
			return base + "volume-by-user/top?by=user&limit=20&from=" + day(-30-i) + "&to=" + day(-i)
		}},
		{"top-agents-30d", func(i int) string {
			return base + "contributions-by-agent-and-topic/top?by=agent&limit=20&from=" + day(-30-i) + "&to=" + day(-i)
		}},
		{"series-year-category", func(i int) string {
			return base + "volume-by-category/series?step=1d&group_by=category&from=" + day(-364+i%50) + "&to=" + day(-i/50)
		}},
		{"user-page", func(i int) string { return "/api/v1/users/" + pick(users, i) }},
	} {
		var times []time.Duration
		for i := range 200 {
			began := time.Now()
			code, body, err := get("http://" + d.api + q.url(i))
			if err != nil || code != 200 {
				b.Fatalf("%s: %d %v %.300s", q.url(i), code, err, body)
			}
			times = append(times, time.Since(began))
		}
		slices.Sort(times)
		ms := func(at int) float64 { return float64(times[at].Microseconds()) / 1000 }
		b.ReportMetric(ms(len(times)/2), q.name+"-ms")
		b.Logf("%-24s median %7.2f ms, 95 of 100 %7.2f, longest %7.2f", q.name, ms(len(times)/2), ms(len(times)*95/100), ms(len(times)-1))
	}
}

// values lists the values of a dimension that count most.
func (d *daemon) values(metric, dim string) (out []string) {
	d.t.Helper()
	var doc struct{ Values []struct{ Value string } }
	code, body, err := get("http://" + d.api + "/api/v1/metrics/" + metric + "/dimensions/" + dim + "?limit=200")
	if err == nil && code == 200 {
		err = json.Unmarshal([]byte(body), &doc)
	}
	if err != nil || code != 200 || len(doc.Values) == 0 {
		d.t.Fatalf("values of %s: %d, %v: %.300s", metric, code, err, body)
	}
	for _, v := range doc.Values {
		out = append(out, v.Value)
	}
	return out
}
