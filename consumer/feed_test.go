package consumer

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
)

// fakeArchive holds blocks of streams.
type fakeArchive struct {
	streams map[string][]*block.Block
	reads   int
}

func (f *fakeArchive) Streams(context.Context) ([]store.Stream, error) {
	var out []store.Stream
	for id, blocks := range f.streams {
		out = append(out, store.Stream{ID: id, ArchivedTo: blocks[len(blocks)-1].Upto})
	}
	return out, nil
}

func (f *fakeArchive) Read(_ context.Context, r store.ReadRequest) ([]*block.Block, uint64, error) {
	f.reads++
	var out []*block.Block
	upto, n := r.After, 0
	for _, b := range f.streams[r.Stream] {
		if b.Upto > r.After && n < r.Events {
			out = append(out, b)
			upto, n = b.Upto, n+b.Len()
		}
	}
	return out, upto, nil
}

func blockOf(first uint64, n int, bodyBytes int) *block.Block {
	w := block.NewBuilder(func(string) string { return "c" })
	r := rand.NewChaCha8([32]byte{byte(first)}) // hard to compress: its size in memory is what the test is about
	for i := range n {
		body := make([]byte, bodyBytes)
		_, _ = r.Read(body)
		w.Add(&block.Event{ID: fmt.Appendf(nil, "%d", first+uint64(i)), IDAt: -1, Topic: []byte("a.b.c.d"), Body: body})
	}
	return w.Build(first, 1, false)
}

// walk reads a stream from a position to its end and checks that every event comes once, in order.
func walk(t *testing.T, f *feed, stream string, after, end uint64) {
	t.Helper()
	seen := after
	for pos := after; pos < end; {
		blocks, upto, err := f.Next(context.Background(), stream, pos, false)
		if err != nil {
			t.Fatal(err)
		}
		if upto <= pos {
			t.Fatalf("no progress at %d", pos)
		}
		for _, b := range blocks {
			for i := range b.Len() {
				if s := b.Seq(i); s > pos {
					if s <= seen {
						t.Fatalf("event %d after %d", s, seen)
					}
					seen = s
				}
			}
		}
		pos = upto
	}
	if seen != end {
		t.Fatalf("ended at event %d, want %d", seen, end)
	}
}

func TestFeed_RecentFromMemoryOlderFromTheArchive(t *testing.T) {
	a := &fakeArchive{streams: map[string][]*block.Block{}}
	f := newFeed(a, "live", 0)
	var last uint64
	for range 120 {
		b := blockOf(last+1, 100, 8000)
		last = b.Upto
		a.streams["live"] = append(a.streams["live"], b)
		f.offer([]*block.Block{b}, last)
	}
	if f.bytes > feedBytes || f.start == 0 {
		t.Fatalf("memory holds %d bytes from %d on", f.bytes, f.start)
	}
	walk(t, f, "live", 0, last)
	if a.reads == 0 {
		t.Fatal("what memory had let go was not read back")
	}
	before := a.reads
	walk(t, f, "live", f.start, last)
	walk(t, f, "live", last-150, last) // inside a block
	if a.reads != before {
		t.Fatal("recent events were read back")
	}
}

func TestFeed_HolesMoveTheCursor(t *testing.T) {
	f := newFeed(&fakeArchive{}, "live", 0)
	empty, err := blockOf(1, 10, 1).Keep(make([]bool, 10))
	if err != nil {
		t.Fatal(err)
	}
	f.offer([]*block.Block{empty}, 10)
	blocks, upto, err := f.Next(context.Background(), "live", 0, false)
	if err != nil || upto != 10 || len(blocks) != 0 {
		t.Fatalf("%d blocks up to %d, %v", len(blocks), upto, err)
	}
}

func TestFeed_WaitsForTheNextEventOfTheLiveStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed(&fakeArchive{}, "live", 7)
		got := make(chan uint64)
		go func() {
			_, upto, _ := f.Next(t.Context(), "live", 7, false)
			got <- upto
		}()
		synctest.Wait()
		f.offer([]*block.Block{blockOf(8, 3, 1)}, 10)
		if upto := <-got; upto != 10 {
			t.Fatalf("woken up to %d", upto)
		}
	})
}

func TestFeed_StreamsThatAreOverComeFirst(t *testing.T) {
	a := &fakeArchive{streams: map[string][]*block.Block{"live": {blockOf(1, 5, 1)}, "old": {blockOf(1, 9, 1)}}}
	f := newFeed(a, "live", 5)
	list, err := f.Streams(context.Background())
	if err != nil || len(list) != 2 || list[0] != "old" || list[1] != "live" {
		t.Fatalf("%v, %v", list, err)
	}
	walk(t, f, "old", 0, 9)
}

func TestFeed_WhatWasArchivedByAnUnansweredCallIsReadBack(t *testing.T) {
	a := &fakeArchive{streams: map[string][]*block.Block{"live": {blockOf(1, 5, 1), blockOf(6, 5, 1), blockOf(11, 5, 1)}}}
	f := newFeed(a, "live", 0)
	f.offer(a.streams["live"][:1], 5)
	f.reach(10)
	f.offer(a.streams["live"][2:], 15)
	walk(t, f, "live", 0, 15)
	if a.reads == 0 {
		t.Fatal("nothing was read back")
	}
}
