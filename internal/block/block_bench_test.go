package block

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

func benchEvents() []*Event {
	events := sample(rand.New(rand.NewPCG(1, 2)), MaxEvents)
	for _, e := range events {
		e.Body = append(e.Body, bytes.Repeat([]byte(`,"status":"CLOSED","user":"somebody"`), 10)...)
	}
	return events
}

// BenchmarkBuilder is the cost of an event from its scanned fields to packed columns.
func BenchmarkBuilder(b *testing.B) {
	events := benchEvents()
	w := NewBuilder(category)
	b.ReportAllocs()
	for b.Loop() {
		for _, e := range events {
			w.Add(e)
		}
		w.Build(1, 2, false)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/MaxEvents, "ns/event")
}

func BenchmarkAppend(b *testing.B) {
	blk := build(benchEvents(), 1)
	var dst []byte
	for b.Loop() {
		dst = blk.Append(dst[:0])
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/MaxEvents, "ns/event")
	b.ReportMetric(float64(len(dst))/MaxEvents, "bytes/event")
}

func BenchmarkDecode(b *testing.B) {
	data := build(benchEvents(), 1).Append(nil)
	for b.Loop() {
		if _, err := Decode(data); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/MaxEvents, "ns/event")
}

// BenchmarkPick reads one event of a full block's header.
func BenchmarkPick(b *testing.B) {
	header := build(benchEvents(), 1).AppendHeader(nil, false)
	for b.Loop() {
		if _, err := Pick(header, []int{700}); err != nil {
			b.Fatal(err)
		}
	}
}
