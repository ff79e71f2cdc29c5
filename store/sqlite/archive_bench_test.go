package sqlite

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
)

// bus makes blocks of events of about 650 bytes: 40 topics, 3,000 users, 8,000 packages, by a skewed choice.
type bus struct {
	r     *rand.Rand
	kinds []*block.Block // templates
	next  uint64
	at    int64
}

func newBus(events int) *bus {
	b := &bus{r: rand.New(rand.NewPCG(1, 2)), next: 1, at: 1_524_736_800_000_000}
	words := strings.Fields("build task state change package owner release rawhide x86_64 noarch pending complete failed branch commit review request update stable testing submitted comment koji bodhi pagure copr infrastructure fedora epel modular container image")
	w := block.NewBuilder(func(topic string) string { return strings.Split(topic, ".")[3] })
	zipf := func(n int) int { return int(float64(n) * b.r.Float64() * b.r.Float64() * b.r.Float64()) }
	for range 64 {
		for i := range events {
			id := fmt.Sprintf("2018-%08x-%04x-%012x", b.r.Uint32(), i, b.r.Uint64()>>16)
			topic := fmt.Sprintf("org.fedoraproject.prod.cat%d.topic%d", zipf(9), zipf(40))
			user, pkg := fmt.Sprint("user", zipf(3000)), fmt.Sprint("package", zipf(8000))
			body := fmt.Sprintf(`{"msg_id":"%s","topic":"%s","username":"%s","i":%d,"timestamp":1524736800,"msg":{"package":"%s","build":%d,"text":"`, id, topic, user, i, pkg, b.r.Uint32())
			for len(body) < 640 {
				body += fmt.Sprintf(`%s: %d, `, words[b.r.IntN(len(words))], b.r.IntN(1<<b.r.IntN(20)))
			}
			w.Add(&block.Event{ID: []byte(id), IDAt: 11, Topic: []byte(topic), Time: 0, Source: "main", Users: [][]byte{[]byte(user)}, Packages: [][]byte{[]byte(pkg)}, Agent: []byte(user), Body: []byte(body + `"}}`)})
		}
		b.kinds = append(b.kinds, w.Build(1, 0, false))
	}
	return b
}

// block gives a block of new events: a template with other hashes and times (its frames still hold the old ids).
func (b *bus) block(backfill bool) *block.Block {
	c := *b.kinds[b.r.IntN(len(b.kinds))]
	c.First, c.Upto, c.Backfill = b.next, b.next+uint64(c.Len())-1, backfill
	b.next = c.Upto + 1
	c.Hash, c.Time = make([]uint64, c.Len()), make([]int64, c.Len())
	for i := range c.Hash {
		b.at += 500
		c.Hash[i], c.Time[i] = b.r.Uint64(), b.at
	}
	return &c
}

// cpu is the processor time that this process has used: steadier than the clock on a machine with others on it.
func cpu() time.Duration {
	var r unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func benchDB(b *testing.B) *DB {
	d, err := Open(context.Background(), Options{Path: filepath.Join(b.TempDir(), "statscache.db")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = d.Close() })
	for _, s := range []string{"s", "copies"} {
		if _, err := d.Attach(context.Background(), s); err != nil {
			b.Fatal(err)
		}
	}
	return d
}

func give(b *testing.B, d *DB, stream string, blocks ...*block.Block) (owned int) {
	b.Helper()
	out, err := d.Archive(context.Background(), stream, blocks)
	if err != nil {
		b.Fatal(err)
	}
	for _, r := range out {
		owned += r.Owned.Len()
	}
	return owned
}

// BenchmarkArchive_FullBlocks archives 16 blocks of 1,024 events a call; an iteration is one event.
func BenchmarkArchive_FullBlocks(b *testing.B) {
	d, src := benchDB(b), newBus(block.MaxEvents)
	longest, used, n := time.Duration(0), time.Duration(0), 0
	for n < b.N {
		b.StopTimer()
		var group []*block.Block
		for range 16 {
			group = append(group, src.block(false))
		}
		b.StartTimer()
		start, before := time.Now(), cpu()
		n += give(b, d, "s", group...)
		used += cpu() - before
		longest = max(longest, time.Since(start))
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(used.Nanoseconds())/float64(n), "cpu-ns/event")
	b.ReportMetric(float64(longest.Milliseconds()), "longest-ms")
	var r unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &r)
	b.ReportMetric(float64(r.Maxrss>>10), "maxrss-MB")
	size, _ := d.writerInt("SELECT sum(pgsize) FROM dbstat")
	b.ReportMetric(float64(size)/float64(n), "B/event")
}

func (d *DB) writerInt(q string) (int64, error) {
	c := <-d.writer
	defer func() { d.writer <- c }()
	return c.int(q)
}

// BenchmarkArchive_Copies gives everything a second time, as a second endpoint does, one segment later.
func BenchmarkArchive_Copies(b *testing.B) {
	d, src := benchDB(b), newBus(block.MaxEvents)
	var copies []*block.Block
	for range 3 * segmentBlocks {
		x := src.block(false)
		give(b, d, "s", x)
		bare := *x
		copies = append(copies, &bare)
	}
	next := uint64(1)
	n := 0
	b.ResetTimer()
	before := cpu()
	for i := 0; n < b.N; i++ {
		x := *copies[i%len(copies)]
		x.First, x.Upto = next, next+uint64(x.Len())-1
		next = x.Upto + 1
		if give(b, d, "copies", &x) != 0 {
			b.Fatal("a copy was owned")
		}
		n += x.Len()
	}
	b.ReportMetric(float64((cpu()-before).Nanoseconds())/float64(n), "cpu-ns/event")
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkArchive_SmallBlocks archives one block of 5 events a call, each durable at once; an iteration is one call.
func BenchmarkArchive_SmallBlocks(b *testing.B) {
	d, src := benchDB(b), newBus(5)
	before := cpu()
	for b.Loop() {
		give(b, d, "s", src.block(false))
	}
	b.ReportMetric(float64((cpu()-before).Microseconds())/float64(b.N), "cpu-µs/op")
}

// BenchmarkRead reads full blocks back, as a plugin that catches up does; an iteration is one event.
func BenchmarkRead(b *testing.B) {
	d, src := benchDB(b), newBus(block.MaxEvents)
	for range 100 {
		give(b, d, "s", src.block(false))
	}
	for _, bodies := range []bool{false, true} {
		b.Run(fmt.Sprintf("bodies=%v", bodies), func(b *testing.B) {
			n, at := 0, uint64(0)
			for n < b.N {
				blocks, upto, err := d.Read(context.Background(), store.ReadRequest{Stream: "s", After: at, Events: 4096, Bodies: bodies})
				if err != nil {
					b.Fatal(err)
				}
				for _, x := range blocks {
					n += x.Len()
				}
				if at = upto; len(blocks) == 0 {
					at = 0
				}
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
