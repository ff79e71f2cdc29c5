package plugins

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/statscache/statscache/plugins/proto"
)

// fullBatch is a batch of 1,024 events, ten a second, with names of a long-tailed choice.
func fullBatch() *pb.Batch {
	r := rand.New(rand.NewPCG(1, 2))
	users, packages := rand.NewZipf(r, 1.2, 8, 5000), rand.NewZipf(r, 1.1, 8, 20000)
	b, index := &pb.Batch{Id: 1, Names: []string{""}}, map[string]uint32{}
	name := func(format string, args ...any) uint32 {
		s := fmt.Sprintf(format, args...)
		if index[s] == 0 {
			index[s] = uint32(len(b.Names))
			b.Names = append(b.Names, s)
		}
		return index[s]
	}
	for i := range 1024 {
		b.TimeUs = append(b.TimeUs, int64(r.IntN(200_000)))
		if i == 0 {
			b.TimeUs[0] = 1.5e15
		}
		k := r.IntN(30)
		b.Topic = append(b.Topic, name("org.fedoraproject.prod.service%d.thing.changed%d", k, r.IntN(8)))
		b.Category = append(b.Category, name("service%d", k))
		b.Agent = append(b.Agent, 0)
		b.UserCount, b.PackageCount = append(b.UserCount, 1), append(b.PackageCount, 1)
		b.Users = append(b.Users, name("user%d", users.Uint64()))
		b.Packages = append(b.Packages, name("package-%d", packages.Uint64()))
	}
	return b
}

// fiveCounters is what the bundled plugin volume counts.
func fiveCounters() *Plugin {
	every := []time.Duration{time.Second, time.Minute}
	counter := func(name, dim string, on func(*Event, func(int64, ...string))) Counter {
		c := Counter{Name: name, Every: every, On: on}
		if dim != "" {
			c.Dims = []string{dim}
		}
		return c
	}
	return &Plugin{Counters: []Counter{
		counter("all", "", func(_ *Event, add func(int64, ...string)) { add(1) }),
		counter("categories", "category", func(e *Event, add func(int64, ...string)) { add(1, e.Category()) }),
		counter("topics", "topic", func(e *Event, add func(int64, ...string)) { add(1, e.Topic) }),
		counter("users", "user", func(e *Event, add func(int64, ...string)) {
			for _, u := range e.Users {
				add(1, u)
			}
		}),
		counter("packages", "package", func(e *Event, add func(int64, ...string)) {
			for _, u := range e.Packages {
				add(1, u)
			}
		}),
	}}
}

// BenchmarkAnswer is a plugin's work per event, with the decoding of the batch and the encoding of the result.
func BenchmarkAnswer(b *testing.B) {
	data, err := proto.Marshal(fullBatch())
	if err != nil {
		b.Fatal(err)
	}
	for _, part := range []string{"decode", "count", "all"} {
		b.Run(part, func(b *testing.B) {
			a, in := newAnswerer(fiveCounters()), fullBatch()
			b.ReportAllocs()
			for b.Loop() {
				if part != "count" {
					in = new(pb.Batch)
					if err := proto.Unmarshal(data, in); err != nil {
						b.Fatal(err)
					}
				}
				if part == "decode" {
					continue
				}
				r, err := a.answer(in)
				if err != nil {
					b.Fatal(err)
				}
				if part == "all" {
					if _, err := proto.Marshal(r); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1024, "ns/event")
		})
	}
}
