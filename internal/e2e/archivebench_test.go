package e2e

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/consumer/fedmsg"
)

// onlyPlugin switches all bundled plugins off but one, or all.
func onlyPlugin(id string) string {
	var off []string
	for _, x := range []string{"activity", "pagure", "releng", "volume"} {
		if x != id {
			off = append(off, strconv.Quote(x))
		}
	}
	return "[" + strings.Join(off, ", ") + "]"
}

// BenchmarkArchive brings a year of ten million events (STATSCACHE_BENCH_EVENTS: so many) in, without plugins, in ten
// parts, one of them again, and asks for them: with the files in the kernel's memory and without. Then the plugin volume
// counts them, and datanommer's commands are asked. STATSCACHE_BENCH_ARCHIVE names a data dir to keep: where there is one
// from the same day, it is only asked.
func BenchmarkArchive(b *testing.B) {
	events, err := strconv.Atoi(cmp.Or(os.Getenv("STATSCACHE_BENCH_EVENTS"), "10000000"))
	if err != nil || events < 100 {
		b.Fatalf("STATSCACHE_BENCH_EVENTS: %d, %v", events, err)
	}
	h := newHistory(b, events, time.Now().Add(-366*24*time.Hour).Truncate(24*time.Hour), 365*24*time.Hour)
	s := newSite(b, map[string]string{"statscache.plugins.disabled": onlyPlugin(""), "statscache.retention": "{}"})
	if kept := os.Getenv("STATSCACHE_BENCH_ARCHIVE"); kept != "" {
		s.data = kept
	}
	if _, err := os.Stat(s.database()); err != nil {
		benchImports(b, s, h)
	}
	d := s.start()
	asker := &archiveAsker{daemon: d, h: h}
	asker.all(b)
	d.stop()
	benchStats(b, s)
}

// importSummary is what `import --json` answers.
type importSummary struct{ Lines, Owned, Duplicates int }

// timedImport imports files and gives how long the command took.
func (s *site) timedImport(args ...string) (sum importSummary, took time.Duration) {
	s.t.Helper()
	begin := time.Now()
	r := s.mustRun(append([]string{"import", "--json"}, args...)...)
	took = time.Since(begin)
	if err := json.Unmarshal([]byte(r.stdout), &sum); err != nil {
		s.t.Fatal(err)
	}
	return sum, took
}

// benchImports fills the archive.
func benchImports(b *testing.B, s *site, h *history) {
	const parts = 10
	binary(b) // its build is not to be measured
	file := filepath.Join(b.TempDir(), "events.jsonl")
	part := func(i int) (from, to int) { return h.events * i / parts, h.events * (i + 1) / parts }
	for i := range parts {
		b.Run(fmt.Sprintf("import/%d", i+1), func(b *testing.B) {
			from, to := part(i)
			size := h.write(b, file, from, to)
			sum, took := s.timedImport(file)
			if sum.Owned != to-from {
				b.Fatalf("%+v of %d events", sum, to-from)
			}
			b.ReportMetric(float64(to-from)/took.Seconds(), "events/s")
			b.ReportMetric(float64(size)/float64(to-from), "raw-bytes/event")
			b.ReportMetric(float64(fileSize(b, s.database()))/float64(to), "disk-bytes/event")
			b.ReportMetric(0, "ns/op")
		})
	}
	for _, i := range []int{0, parts - 1} {
		b.Run(fmt.Sprintf("again/%d", i+1), func(b *testing.B) {
			from, to := part(i)
			h.write(b, file, from, to)
			sum, took := s.timedImport(file)
			if sum.Duplicates != to-from {
				b.Fatalf("%+v of %d events", sum, to-from)
			}
			b.ReportMetric(float64(to-from)/took.Seconds(), "events/s")
			b.ReportMetric(0, "ns/op")
		})
	}
	if err := os.Remove(file); err != nil {
		b.Fatal(err)
	}
}

// archiveAsker asks a daemon about the archive.
type archiveAsker struct {
	*daemon
	h     *history
	asked int
}

// all asks every kind of question.
func (a *archiveAsker) all(b *testing.B) {
	h := a.h
	topics := h.topics()
	category := func(topic string) string { return fedmsg.Category(topic) }
	prefix := topics[0][:strings.LastIndexByte(topics[0], '.')] + ".*"
	middle := func(i int) string { return fmt.Sprint("end=", h.at(h.events/2+i*h.events/100)) }
	month := func(i int) string { return fmt.Sprint("end=", h.at(h.events*9/10-i*h.events/50), "&delta=30d") }
	user := func(rank int) string { return "user=" + h.user(rank) }
	pkg := func(rank int) string { return "package=" + h.packageOf(rank) }
	topic := func(name string) string { return "topic=" + url.QueryEscape(name) }
	rare := func(i int) string { return topic(topics[i%5] + ".rare" + strconv.Itoa(7*i)) }
	events := func(filters ...string) func(int) string {
		return func(int) string { return "/api/v1/events?" + strings.Join(filters, "&") }
	}
	each := func(f func(i int) string) func(int) string {
		return func(i int) string { return "/api/v1/events?" + f(i) }
	}
	count := func(f func(i int) string) func(int) string {
		return func(i int) string { return "/api/v1/events/count?" + month(i) + f(i) }
	}
	for _, q := range []struct {
		name string
		path func(i int) string
	}{
		{"page/newest", events()},
		{"page/user-common", each(func(i int) string { return user(i) })},
		{"page/user-median", each(func(i int) string { return user(historyUsers/2 + i) })},
		{"page/user-rare", each(func(i int) string { return user(historyUsers - 1 - i) })},
		{"page/user-nobody", each(func(i int) string { return fmt.Sprint("user=nobody", i) })},
		{"page/package-common", each(func(i int) string { return pkg(i) })},
		{"page/package-rare", each(func(i int) string { return pkg(historyPackages - 1 - i) })},
		{"page/agent", each(func(i int) string { return "agent=" + h.user(100+i) })},
		{"page/topic-common", each(func(i int) string { return topic(topics[i%5]) })},
		{"page/topic-rare", each(rare)},
		{"page/topic-prefix", events(topic(prefix))},
		{"page/topic-prefix-rare", each(func(i int) string { return topic(fmt.Sprintf("%s.rare%d*", topics[i%20], 7*i)) })},
		{"page/category-common", events("category=" + category(topics[0]))},
		{"page/category-rare", events("category=" + category(topics[len(topics)-1]))},
		{"page/user-and-topic", each(func(i int) string { return user(10+i) + "&" + topic(topics[20+i]) })},
		{"page/median-user-and-topic", each(func(i int) string { return user(historyUsers/2+i) + "&" + topic(topics[i]) })},
		{"page/user-and-package", each(func(i int) string { return user(i) + "&" + pkg(300+i) })},
		{"page/user-not-category", each(func(i int) string { return user(i) + "&not_category=" + category(topics[0]) })},
		{"page/not-categories", events("not_category="+category(topics[0]), "not_category="+category(topics[3]), "not_user="+h.user(0))},
		{"middle/all", each(middle)},
		{"middle/user-median", each(func(i int) string { return user(historyUsers/2+i) + "&" + middle(i) })},
		{"middle/user-and-topic", each(func(i int) string { return user(10+i) + "&" + topic(topics[20+i]) + "&" + middle(i) })},
		{"middle/asc", each(func(i int) string { return fmt.Sprint("order=asc&start=", h.at(h.events/3+i*h.events/100)) })},
		{"count/month", count(func(int) string { return "" })},
		{"count/month-category", count(func(int) string { return "&category=" + category(topics[0]) })},
		{"count/month-user", count(func(i int) string { return "&" + user(i) })},
		{"count/month-user-median", count(func(i int) string { return "&" + user(historyUsers/2+i) })},
		{"count/month-user-not-category", count(func(i int) string { return "&" + user(i) + "&not_category=" + category(topics[0]) })},
		{"id/known", func(int) string { return "/api/v1/events/" + h.id(rand.IntN(h.events)) }},
		{"id/absent", func(i int) string { return fmt.Sprint("/api/v1/events/2018-nothing-", rand.Int64()) }},
		{"contains/day-without-a-hit", each(func(i int) string {
			return fmt.Sprint("contains=zzz-nothing&delta=1d&end=", h.at(h.events/2+i*h.events/100))
		})},
	} {
		b.Run(q.name, func(b *testing.B) { a.measure(b, q.path) })
	}
}

// measure asks a kind of question some times, each time another one, warm and cold.
func (a *archiveAsker) measure(b *testing.B, path func(i int) string) {
	const times = 15
	ask := func(i int) float64 {
		p := path(i)
		if strings.Contains(p, "?") && !strings.Contains(p, "start=") && !strings.Contains(p, "delta=") {
			// No answer that is kept for a second is to be measured, and each question counts once: so every one is new.
			a.asked++
			p += fmt.Sprint("&start=", a.asked)
		}
		begin := time.Now()
		code, body, err := get("http://" + a.api + p)
		took := time.Since(begin)
		if err != nil || code != 200 && code != 404 {
			b.Fatalf("%s: %d %v %s", p, code, err, tail(body))
		}
		return float64(took.Microseconds()) / 1000
	}
	readFiles(b, a.data) // the last kind of question left them cold, and an id is asked for once only
	for i := range times {
		ask(i)
	}
	var warm, cold []float64
	for range 3 {
		<-time.After(1100 * time.Millisecond) // those whose window can't be told apart are answered anew after a second
		for i := range times {
			warm = append(warm, ask(i))
		}
	}
	for i := range times {
		dropCaches(b, a.data)
		if i == 0 {
			<-time.After(1100 * time.Millisecond)
		}
		cold = append(cold, ask(i))
	}
	for name, list := range map[string][]float64{"warm": warm, "cold": cold} {
		slices.Sort(list)
		b.ReportMetric(list[len(list)/2], name+"-ms")
		b.ReportMetric(list[len(list)-1], name+"-worst-ms")
	}
	b.ReportMetric(0, "ns/op")
}

// benchStats has the plugin volume count what is archived and asks datanommer's commands.
func benchStats(b *testing.B, s *site) {
	s.configure(map[string]string{"statscache.plugins.disabled": onlyPlugin("volume"), "statscache.retention": "{}"})
	b.Run("counted", func(b *testing.B) {
		begin := time.Now()
		d := s.start()
		d.waitCaughtUp(30 * time.Minute)
		st, err := d.status()
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(st.Owned)/time.Since(begin).Seconds(), "events/s")
		b.ReportMetric(0, "ns/op")
		d.stop()
	})
	for _, args := range [][]string{{"stats"}, {"stats", "--topic"}, {"latest"}} {
		b.Run("command/"+strings.Join(args, ""), func(b *testing.B) {
			begin := time.Now()
			s.mustRun(args...)
			b.ReportMetric(float64(time.Since(begin).Milliseconds()), "ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkBackfill_FromAnotherInstance fetches a month of another statscache's archive on this machine: events/s from the
// start of the command to its end, when they are archived, and when every plugin has counted them too.
func BenchmarkBackfill_FromAnotherInstance(b *testing.B) {
	const events = 200_000
	for range b.N {
		h := newHistory(b, events, time.Now().Add(-40*24*time.Hour).Truncate(time.Hour), 30*24*time.Hour)
		file := filepath.Join(b.TempDir(), "events.jsonl")
		h.write(b, file, 0, events)
		first := newSite(b, map[string]string{"statscache.plugins.disabled": onlyPlugin("")})
		first.timedImport(file)
		d := first.start()
		for name, settings := range map[string]map[string]string{"archived": {"statscache.plugins.disabled": onlyPlugin("")}, "counted": {"statscache.retention": "{}"}} {
			second := newSite(b, settings)
			begin := time.Now()
			r := second.mustRun("backfill", "--json", "--url", "http://"+first.api+"/datagrepper/", "--from", fmt.Sprint(h.at(0)), "--to", fmt.Sprint(h.at(events)+1))
			took := time.Since(begin)
			var sum struct{ Owned int }
			if err := json.Unmarshal([]byte(r.stdout), &sum); err != nil || sum.Owned != events {
				b.Fatalf("%v: %s", err, r.stdout)
			}
			b.ReportMetric(events/took.Seconds(), name+"-events/s")
		}
		d.stop()
	}
}
