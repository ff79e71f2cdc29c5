package sqlite

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
)

// BenchmarkFind asks an archive of two million events (STATSCACHE_FIND_EVENTS: so many), half a millisecond apart, by
// names that are common and rare. first is the first question of a process: it reads the segments that are still open.
func BenchmarkFind(b *testing.B) {
	n := 2_000_000
	if text := os.Getenv("STATSCACHE_FIND_EVENTS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			b.Fatal(err)
		}
	}
	path := filepath.Join(b.TempDir(), "statscache.db")
	d, err := Open(b.Context(), Options{Path: path})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := d.Attach(b.Context(), "s"); err != nil {
		b.Fatal(err)
	}
	src := newBus(block.MaxEvents)
	begin := src.at
	for i := 0; i < n; {
		x := src.block(false)
		i += x.Len()
		give(b, d, "s", x)
	}
	if err := d.Close(); err != nil {
		b.Fatal(err)
	}
	end := src.at
	part := func(from, to float64) store.EventFilter {
		return store.EventFilter{From: begin + int64(from*float64(end-begin)), To: begin + int64(to*float64(end-begin))}
	}
	by := func(f store.EventFilter, set func(f *store.EventFilter)) store.EventFilter {
		set(&f)
		return f
	}
	all := store.EventFilter{From: math.MinInt64, To: math.MaxInt64}
	user := func(name string) func(f *store.EventFilter) {
		return func(f *store.EventFilter) { f.Users.In = []string{name} }
	}
	rare := src.kinds[7].Names[src.kinds[7].Users[500]]
	page := func(f store.EventFilter) func(d *DB) error {
		return func(d *DB) error {
			_, err := d.Find(context.Background(), store.FindRequest{EventFilter: f, Desc: true, Limit: 25, Bodies: true})
			return err
		}
	}
	count := func(f store.EventFilter) func(d *DB) error {
		return func(d *DB) error {
			_, err := d.CountEvents(context.Background(), f, 0)
			return err
		}
	}
	for _, q := range []struct {
		name string
		ask  func(d *DB) error
	}{
		{"page/newest", page(all)},
		{"page/user-common", page(by(all, user("user0")))},
		{"page/user-of-some-blocks", page(by(all, user(rare)))},
		{"page/user-nobody", page(by(all, user("nobody")))},
		{"page/package", page(by(all, func(f *store.EventFilter) { f.Packages.In = []string{"package4000"} }))},
		{"page/topic-rare", page(by(all, func(f *store.EventFilter) { f.Topics.In = []string{"org.fedoraproject.prod.cat8.topic39"} }))},
		{"page/prefix", page(by(all, func(f *store.EventFilter) { f.TopicPrefixes = []string{"org.fedoraproject.prod.cat3."} }))},
		{"page/category", page(by(all, func(f *store.EventFilter) { f.Categories.In = []string{"cat5"} }))},
		{"page/user-and-topic", page(by(all, func(f *store.EventFilter) {
			f.Users.In, f.Topics.In = []string{"user1"}, []string{"org.fedoraproject.prod.cat7.topic30"}
		}))},
		{"page/middle", page(by(part(0, .5), user("user0")))},
		{"count/twelfth-category", count(by(part(.5, .583), func(f *store.EventFilter) { f.Categories.In = []string{"cat1"} }))},
		{"count/all-user", count(by(all, user("user0")))},
		{"count/all", count(all)},
		{"contains/27000-without-a-hit", page(by(store.EventFilter{From: end - 27_000*500, To: end}, func(f *store.EventFilter) { f.Contains = []string{"zzz-nothing"} }))},
		{"id/absent", func(d *DB) error { _, _ = d.Event(context.Background(), "2018-nothing"); return nil }},
	} {
		b.Run(q.name, func(b *testing.B) {
			d := open(b, Options{Path: path, ReadOnly: true})
			defer func() { _ = d.Close() }()
			if err := q.ask(d); err != nil { // the first question reads the open segments
				b.Fatal(err)
			}
			used := cpu()
			for b.Loop() {
				if err := q.ask(d); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((cpu()-used).Microseconds())/float64(b.N), "cpu-µs/op")
		})
	}
	b.Run("first", func(b *testing.B) {
		used := cpu()
		for b.Loop() {
			d := open(b, Options{Path: path, ReadOnly: true})
			if err := page(all)(d); err != nil {
				b.Fatal(err)
			}
			_ = d.Close()
		}
		b.ReportMetric(float64((cpu()-used).Microseconds())/float64(b.N), "cpu-µs/op")
	})
}
