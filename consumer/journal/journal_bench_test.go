package journal

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/statscache/statscache/internal/block"
)

// liveBlocks gives blocks of 256 events with bodies of 650 bytes that compress about as real ones do.
func liveBlocks(first uint64, n int) (out []*block.Block) {
	filler := makeBlock(1, 1, 4096)
	noise, _ := filler.Bodies()
	w := block.NewBuilder(func(string) string { return "cat" })
	for range n {
		for i := range 256 {
			pos := first + uint64(i)
			body := fmt.Appendf(nil, `{"msg_id":"2018-%032x","noise":"%x","pad":"%s"}`, pos, noise[0][pos*7%3900:][:90], strings.Repeat("statscache ", 37))
			w.Add(&block.Event{ID: body[11:48], IDAt: 11, Topic: fmt.Appendf(nil, "org.x.prod.cat.t%d", i%40),
				Users: [][]byte{fmt.Appendf(nil, "user%d", i%50)}, Time: int64(pos), Source: "ep", Body: body[:650]})
		}
		b := w.Build(first, 1, false)
		out, first = append(out, b), b.Upto+1
	}
	return out
}

func BenchmarkAppend(b *testing.B) {
	for _, group := range []int{1, 4, 16} {
		b.Run(fmt.Sprintf("blocks=%d", group), func(b *testing.B) {
			j := open(b, Options{Dir: b.TempDir()})
			template, events := liveBlocks(1, group), 0
			b.ReportAllocs()
			for b.Loop() {
				next := j.Next()
				blocks := make([]*block.Block, group)
				for i, t := range template {
					moved := *t
					moved.First, moved.Upto = next, next+255
					blocks[i], next = &moved, next+256
				}
				if err := j.Append(blocks); err != nil {
					b.Fatal(err)
				}
				events += 256 * group
				if used, limit := j.Bytes(); used > limit/2 {
					if err := j.Trim(next - 1); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(events)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(events), "ns/event")
		})
	}
}

func BenchmarkReadAfter(b *testing.B) {
	for _, from := range []struct {
		name string
		tail int
	}{{"memory", 1 << 30}, {"files", -1}} {
		b.Run(from.name, func(b *testing.B) {
			j := open(b, Options{Dir: b.TempDir(), TailBytes: from.tail})
			for range 40 {
				appendAll(b, j, liveBlocks(j.Next(), 10)...)
			}
			last, after, events := j.Next()-1, uint64(0), uint64(0)
			b.ReportAllocs()
			for b.Loop() {
				blocks, err := j.ReadAfter(context.Background(), after, 4<<20)
				if err != nil {
					b.Fatal(err)
				}
				end := blocks[len(blocks)-1].Upto
				events += end - after
				if after = end; after == last {
					after = 0
				}
			}
			b.ReportMetric(float64(events)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	opt := Options{Dir: b.TempDir()}
	j := open(b, opt)
	for range 40 {
		appendAll(b, j, liveBlocks(j.Next(), 16)...)
	}
	used, _ := j.Bytes()
	j.Close()
	b.SetBytes(used)
	for b.Loop() {
		j, err := Open(opt)
		if err != nil {
			b.Fatal(err)
		}
		j.Close()
	}
}
