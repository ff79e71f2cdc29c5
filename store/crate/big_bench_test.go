package crate

import (
	"context"
	"fmt"
	"math"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/statscache/statscache/internal/cratetest"
	"github.com/statscache/statscache/store"
)

// STATSCACHE_BENCH_CRATE names a schema for what the large benchmarks read, on the server of STATSCACHE_TEST_CRATE: made
// once, it is found there by the next run. Without it each run makes it anew, which takes minutes.
const benchSchema = "STATSCACHE_BENCH_CRATE"

// benchYear is when what the large benchmarks read begins.
var benchYear = time.Date(2018, 1, 1, 0, 0, 0, 0, time.UTC) // immutable

const benchPart = 20_000 // rows made by one statement: four of them have room in 1 GB of heap

// filled opens a schema with rows that the server itself makes, which are there already where the schema is kept.
// parts are the statements that make them, all is how many there are in the end.
func filled(b *testing.B, prepare func(d *DB), table string, all int, parts []string) *DB {
	b.Helper()
	at := cratetest.Start
	if name := os.Getenv(benchSchema); name != "" {
		at = func(t testing.TB) string {
			u, err := url.Parse(os.Getenv(cratetest.Env))
			if err != nil || u.Host == "" {
				t.Fatalf("%s needs %s", benchSchema, cratetest.Env)
			}
			u.Path = "/" + name + "_" + table
			return u.String()
		}
	}
	d, err := Open(b.Context(), Options{URL: at(b), Statement: 10 * time.Minute})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = d.Close() })
	have := func() (n int) {
		if err := d.refresh(b.Context(), table); err != nil {
			b.Fatal(err)
		}
		if err := d.query(b.Context(), "count", func() {}, func(r pgx.Rows) error { return r.Scan(&n) }, "SELECT count(*) FROM "+table); err != nil {
			b.Fatal(err)
		}
		return n
	}
	if have() != all {
		prepare(d)
		began := time.Now()
		g, ctx := errgroup.WithContext(b.Context())
		g.SetLimit(inFlight)
		for _, sql := range parts {
			g.Go(func() error { return d.exec(ctx, "fill "+table, sql) })
		}
		if err := g.Wait(); err != nil {
			b.Fatal(err)
		}
		if n := have(); n != all {
			b.Fatalf("%d rows, want %d", n, all)
		}
		b.Logf("%d rows made in %s", all, time.Since(began).Round(time.Second))
	}
	size := int64(0)
	if err := d.query(b.Context(), "measure", func() {}, func(r pgx.Rows) error { return r.Scan(&size) },
		"SELECT sum(size)::bigint FROM sys.shards WHERE schema_name = CURRENT_SCHEMA AND primary AND table_name = '"+table+"'"); err != nil {
		b.Fatal(err)
	}
	b.Logf("%d bytes a row on disk", size/int64(all))
	return d
}

// benchMetric is a counter of the large benchmark.
type benchMetric struct {
	id       string
	interval time.Duration
	buckets  int    // of the interval, from benchYear on
	keys     int    // in each bucket
	k1, k2   string // expressions on the number of the key
}

// benchMetrics make 10 million rows: a year of counts, by hour and day.
var benchMetrics = []benchMetric{ // never changed
	{"volume", time.Minute, 1_200_000 - 9125, 1, "", ""},
	{"volume", time.Hour, 8760, 1, "", ""},
	{"volume", 24 * time.Hour, 365, 1, "", ""},
	{"by-topic", time.Hour, 8760, 200, "'org.fedoraproject.prod.topic' || k", ""},
	{"by-topic", 24 * time.Hour, 365, 200, "'org.fedoraproject.prod.topic' || k", ""},
	{"by-user", 24 * time.Hour, 365, 2000, "'user' || k", ""},
	{"by-user-topic", 24 * time.Hour, 365, 16_920, "'user' || (k / 9)", "'org.fedoraproject.prod.topic' || (k % 200)"},
}

// benchCounters gives a store with them, and its plugin's generation.
func benchCounters(b *testing.B) *DB {
	plugin := store.Plugin{ID: "bench", Fingerprint: "f"}
	var parts []string
	all := 0
	for _, x := range benchMetrics {
		dims, dkey, k1, k2 := []store.Dimension{}, "''", "NULL", "NULL"
		if x.k1 != "" {
			dims, dkey, k1 = append(dims, store.Dimension{Name: "a"}), x.k1, x.k1
		}
		if x.k2 != "" {
			dims, dkey, k2 = append(dims, store.Dimension{Name: "b"}), x.k1+" || '\x01' || "+x.k2, x.k2
		}
		if n := len(plugin.Metrics); n > 0 && plugin.Metrics[n-1].ID == x.id {
			plugin.Metrics[n-1].Intervals = append(plugin.Metrics[n-1].Intervals, x.interval)
		} else {
			plugin.Metrics = append(plugin.Metrics, store.Metric{ID: x.id, Kind: store.Counter, Dimensions: dims, Intervals: []time.Duration{x.interval}})
		}
		gran := int(x.interval / time.Second)
		rows := x.buckets * x.keys
		all += rows
		for from := 0; from < rows; from += benchPart {
			parts = append(parts, fmt.Sprintf("INSERT INTO counters (metric, generation, gran, bucket, dkey, slot, k1, k2, k3, n, pos, was, was_pos) (SELECT '%s', 1, %d, "+
				"%d + g / %d * %d, %s, 's', %s, %s, NULL, 1 + g %% 97, 1, 0, 0 FROM (SELECT g, g %% %d AS k FROM generate_series(%d, %d) AS s(g)) AS t) ON CONFLICT DO NOTHING",
				x.id, gran, benchYear.Unix(), x.keys, gran, dkey, k1, k2, x.keys, from, min(from+benchPart, rows)-1))
		}
	}
	return filled(b, func(d *DB) {
		ctx := b.Context()
		if _, err := d.Register(ctx, plugin); err != nil {
			b.Fatal(err)
		}
		c, err := d.Checkpoint(ctx, store.CheckpointKey{Plugin: plugin.ID, Generation: 1, Stream: "s"})
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Commit(ctx, &store.Commit{To: 1}); err != nil {
			b.Fatal(err)
		}
	}, "counters", all, parts)
}

// BenchmarkCounters asks what pages ask of 10 million rows of counts.
func BenchmarkCounters(b *testing.B) {
	d := benchCounters(b)
	day := func(n int) int64 { return benchYear.AddDate(0, 0, n).Unix() }
	const hour, wholeDay = time.Hour, 24 * time.Hour
	one := func(dim int, value string) store.Match { return store.Match{Dim: dim, In: []string{value}} }
	for _, c := range []struct {
		name string
		q    store.SumQuery
	}{
		{"series-30d-hours", store.SumQuery{Metric: "volume", Interval: hour, Step: 3600}},
		{"series-30d-hours-of-200-topics", store.SumQuery{Metric: "by-topic", Interval: hour, Step: 3600}},
		{"series-30d-hours-of-one-topic", store.SumQuery{Metric: "by-topic", Interval: hour, Step: 3600, Where: []store.Match{one(0, "org.fedoraproject.prod.topic7")}}},
		{"count-user-topic", store.SumQuery{Metric: "by-user-topic", Interval: wholeDay, Where: []store.Match{one(0, "user70"), one(1, "org.fedoraproject.prod.topic31")}}},
		{"top20-30d", store.SumQuery{Metric: "by-user", Interval: wholeDay, By: []int{0}, Top: 20}},
		{"top20-30d-of-user-topic", store.SumQuery{Metric: "by-user-topic", Interval: wholeDay, By: []int{0}, Top: 20}},
	} {
		c.q.From, c.q.To = day(90), day(120)
		benchAsk(b, c.name, func(ctx context.Context) error {
			sums, err := d.Sums(ctx, c.q)
			if err == nil && len(sums) == 0 {
				err = fmt.Errorf("nothing is there")
			}
			return err
		})
	}
	benchAsk(b, "rows-page", func(ctx context.Context) error {
		_, _, err := d.Rows(ctx, store.RowQuery{Metric: "by-topic", Interval: wholeDay, To: math.MaxInt64, Desc: true, Limit: 100})
		return err
	})
	benchAsk(b, "series-count", func(ctx context.Context) error {
		_, err := d.countSeries(ctx, store.Metric{ID: "by-user-topic", Intervals: []time.Duration{wholeDay}}, 1)
		return err
	})
}

// benchAsk times a question, after it has been asked some times: the server compiles what it does often.
func benchAsk(b *testing.B, name string, ask func(context.Context) error) {
	b.Run(name, func(b *testing.B) {
		for range 20 {
			if err := ask(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		for b.Loop() {
			if err := ask(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/float64(b.N), "ms/op")
	})
}

// BenchmarkFind asks for pages of 25 of two million archived events with their bodies, of four months.
func BenchmarkFind(b *testing.B) {
	const events = 2_000_000
	end := benchYear.AddDate(0, 4, 0)
	step := int(end.Sub(benchYear).Microseconds()) / events
	var parts []string
	for from, month := 0, 0; from < events; month++ {
		next := min(int(benchYear.AddDate(0, month+1, 0).Sub(benchYear).Microseconds()+int64(step)-1)/step, events)
		for ; from < next; from = min(from+benchPart, next) {
			parts = append(parts, fmt.Sprintf("INSERT INTO events (part, id, ts, stream, seq, topic, category, users, packages, agent, source, signed, untimed, received, backfill, size, body) "+
				"(SELECT %d, '2018-' || md5(g::text), %d + g::bigint * %d, 's', g + 1, 'org.fedoraproject.prod.cat' || (g %% 20) || '.topic' || (g %% 400), 'cat' || (g %% 20), "+
				"['user' || (g %% 1000)], ['package' || (g %% 9973)], 'user' || (g %% 1000), 'bench', 0, false, %d + g::bigint * %d, false, 700, "+
				"'{\"msg_id\":\"2018-' || md5(g::text) || '\",\"topic\":\"org.fedoraproject.prod.cat' || (g %% 20) || '.topic' || (g %% 400) || '\",\"i\":' || g || ',\"msg\":{\"owner\":\"user' || (g %% 1000) || "+
				"'\",\"srpm\":\"package' || (g %% 9973) || '-1.' || (g %% 90) || '.src.rpm\",\"text\":\"' || md5((g + 1)::text) || md5((g + 2)::text) || md5((g + 3)::text) || '%s\"}}' "+
				"FROM generate_series(%d, %d) AS s(g)) ON CONFLICT DO NOTHING",
				201801+month, benchYear.UnixMicro(), step, benchYear.UnixMicro(), step, fmt.Sprintf("%0320d", 7), from, min(from+benchPart, next)-1))
		}
	}
	d := filled(b, func(d *DB) {
		if _, err := d.Attach(b.Context(), "s"); err != nil {
			b.Fatal(err)
		}
		if err := d.exec(b.Context(), "announce", "UPDATE streams SET archived_to = $1, owned = $1 WHERE id = 's'", int64(events)); err != nil {
			b.Fatal(err)
		}
	}, "events", events, parts)
	all := store.EventFilter{From: math.MinInt64, To: math.MaxInt64}
	window := store.EventFilter{From: benchYear.AddDate(0, 1, 0).UnixMicro(), To: benchYear.AddDate(0, 1, 7).UnixMicro()}
	of := func(f store.EventFilter, set func(*store.EventFilter)) store.EventFilter {
		set(&f)
		return f
	}
	for _, q := range []struct {
		name string
		f    store.EventFilter
	}{
		{"newest", all},
		{"user", of(all, func(f *store.EventFilter) { f.Users.In = []string{"user77"} })},
		{"topic-prefix", of(all, func(f *store.EventFilter) { f.TopicPrefixes = []string{"org.fedoraproject.prod.cat3."} })},
		{"package-in-a-week", of(window, func(f *store.EventFilter) { f.Packages.In = []string{"package400"} })},
		{"category", of(all, func(f *store.EventFilter) { f.Categories.In = []string{"cat5"} })},
		{"nobody", of(all, func(f *store.EventFilter) { f.Users.In = []string{"nobody"} })},
	} {
		var second *store.EventCursor
		ask := func(after **store.EventCursor) func(context.Context) error {
			return func(ctx context.Context) error {
				page, err := d.Find(ctx, store.FindRequest{EventFilter: q.f, Desc: true, Limit: 25, Bodies: true, After: *after})
				if second == nil {
					second = page.Next
				}
				return err
			}
		}
		first := new(*store.EventCursor)
		benchAsk(b, "page/"+q.name, ask(first))
		if second != nil {
			benchAsk(b, "next/"+q.name, ask(&second))
		}
	}
	benchAsk(b, "count/user", func(ctx context.Context) error {
		_, err := d.CountEvents(ctx, of(all, func(f *store.EventFilter) { f.Users.In = []string{"user77"} }), 0)
		return err
	})
	benchAsk(b, "one", func(ctx context.Context) error {
		_, err := d.Event(ctx, "2018-c4ca4238a0b923820dcc509a6f75849b") // md5 of 1
		return err
	})
}
