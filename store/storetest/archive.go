package storetest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
)

// Archive holds an engine to the contract of store.Archive.
func Archive[E Archiver](t *testing.T, fresh Fresh[E]) {
	cases(t, as(fresh, func(e E) Archiver { return e }), map[string]func(*testing.T, Open[Archiver]){
		"NewStream_StartsAtZero":                 archiveNew,
		"Block_ComesBackAsItWas":                 archiveRoundTrip,
		"Copies_AreOwnedOnce":                    archiveCopies,
		"CopyWithinABlock_IsOwnedOnce":           archiveCopyWithin,
		"CopyWithoutTimestamp_IsOwnedOnce":       archiveUntimed,
		"WhollyDuplicateBlock_MovesOn":           archiveAllDuplicate,
		"SameCallTwice_OwnsOnce":                 archiveTwice,
		"BlockAcrossArchivedTo_OwnsTheRest":      archiveStraddle,
		"Gap_IsRefused":                          archiveGap,
		"UnknownStream_IsAnError":                archiveUnknown,
		"Read_StartsAndStopsWhereAsked":          archiveRead,
		"SmallBlocks_AreReadableAtOnceAndLater":  archiveSmall,
		"LanesInOneStream_AreReadInOrder":        archiveLanes,
		"LargeBody_IsKept":                       archiveLargeBody,
		"Cancelled_CanBeRepeated":                archiveCancelled,
		"Reopened_GoesOn":                        archiveReopened,
		"RandomStreams_OwnEveryEventOnce/seed=1": func(t *testing.T, o Open[Archiver]) { archiveRandom(t, o, 1) },
		"RandomStreams_OwnEveryEventOnce/seed=2": func(t *testing.T, o Open[Archiver]) { archiveRandom(t, o, 2) },
	})
}

// attach opens the stream and fails unless it stands at want.
func attach(t testing.TB, a store.Archive, stream string, want uint64) {
	t.Helper()
	got, err := a.Attach(patience(t), stream)
	noError(t, err)
	if got != want {
		t.Fatalf("stream %s attached at %d, want %d", stream, got, want)
	}
}

// archive archives and checks what must hold for every answer.
func archive(t testing.TB, a store.Archive, stream string, blocks ...*block.Block) []store.Archived {
	t.Helper()
	out, err := a.Archive(patience(t), stream, blocks)
	noError(t, err)
	if len(out) != len(blocks) {
		t.Fatalf("%d answers for %d blocks", len(out), len(blocks))
	}
	for i, r := range out {
		if r.Owned == nil {
			t.Fatalf("block %d: no owned block in the answer", i)
		}
		if r.Owned.First != blocks[i].First || r.Owned.Upto != blocks[i].Upto {
			t.Fatalf("block %d: the owned block covers %d-%d, the one given %d-%d", i, r.Owned.First, r.Owned.Upto, blocks[i].First, blocks[i].Upto)
		}
	}
	return out
}

// wantOwned compares the numbers of owned events, duplicates and expired events with an answer.
func wantOwned(t testing.TB, r store.Archived, owned, duplicates, expired int) {
	t.Helper()
	if r.Owned.Len() != owned || r.Duplicates != duplicates || r.Expired != expired {
		t.Fatalf("%d owned, %d duplicates, %d expired; want %d, %d, %d", r.Owned.Len(), r.Duplicates, r.Expired, owned, duplicates, expired)
	}
}

// readAll reads a stream from a position to its end, so many events at a time, and checks the order.
func readAll(t testing.TB, a store.Archive, stream string, after uint64, events int, bodies bool) (all []*block.Block, end uint64) {
	t.Helper()
	at := after
	for {
		blocks, upto, err := a.Read(patience(t), store.ReadRequest{Stream: stream, After: at, Events: events, Bodies: bodies})
		noError(t, err)
		if upto == at {
			if total(blocks) > 0 {
				t.Fatalf("read after %d: %d events, but upto is where it began", at, total(blocks))
			}
			return all, at
		}
		if upto < at {
			t.Fatalf("read after %d goes back to %d", at, upto)
		}
		prev := at
		for _, b := range blocks {
			if b.First <= prev || b.Upto > upto {
				t.Fatalf("read after %d up to %d: a block covers %d-%d behind %d", at, upto, b.First, b.Upto, prev)
			}
			for i := range b.Len() {
				if s := b.Seq(i); s <= prev || s > b.Upto {
					t.Fatalf("position %d in a block %d-%d behind %d", s, b.First, b.Upto, prev)
				}
				prev = b.Seq(i)
			}
			prev = b.Upto
		}
		all = append(all, blocks...)
		at = upto
	}
}

func sameLines(t testing.TB, got, want []string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			g, w := "nothing", "nothing"
			if i < len(got) {
				g = got[i]
			}
			if i < len(want) {
				w = want[i]
			}
			t.Fatalf("event %d of %d is\n%.400s\nwant (of %d)\n%.400s", i, len(got), g, len(want), w)
		}
	}
}

func archiveNew(t *testing.T, open Open[Archiver]) {
	a := opened(t, open)
	attach(t, a, "s", 0)
	attach(t, a, "s", 0)
	attach(t, a, "another", 0)
	list, err := a.Streams(patience(t))
	noError(t, err)
	if want := []store.Stream{{ID: "another"}, {ID: "s"}}; !slices.Equal(list, want) {
		t.Fatalf("streams %+v, want %+v", list, want)
	}
	blocks, upto, err := a.Read(patience(t), store.ReadRequest{Stream: "s", Events: 10, Bodies: true})
	if err != nil || len(blocks) != 0 || upto != 0 {
		t.Fatalf("a new stream reads as %d blocks up to %d, %v", len(blocks), upto, err)
	}
}

func archiveRoundTrip(t *testing.T, open Open[Archiver]) {
	a := opened(t, open)
	attach(t, a, "s", 0)
	live, past := Events("live", 0, 700), Events("past", -100_000, 1024)
	live[3].Bare, live[4].Untimed, past[0].Bare, past[1023].Bare = true, true, true, true
	in := []*block.Block{Build(1, false, live[:300]), Build(301, true, past), Build(1325, false, live[300:])}
	for i, r := range archive(t, a, "s", in...) {
		wantOwned(t, r, in[i].Len(), 0, 0)
		sameLines(t, Describe(t, []*block.Block{r.Owned}, true), Describe(t, in[i:i+1], true))
	}
	for _, bodies := range []bool{true, false} {
		got, end := readAll(t, a, "s", 0, 500, bodies)
		if end != 1724 {
			t.Fatalf("read up to %d, want 1724", end)
		}
		sameLines(t, Describe(t, got, bodies), Describe(t, in, bodies))
	}
	list, err := a.Streams(patience(t))
	noError(t, err)
	if want := []store.Stream{{ID: "s", ArchivedTo: 1724, Owned: 1724}}; !slices.Equal(list, want) {
		t.Fatalf("streams %+v, want %+v", list, want)
	}
}

func archiveCopies(t *testing.T, open Open[Archiver]) {
	a := opened(t, open)
	attach(t, a, "s", 0)
	attach(t, a, "other", 0)
	first := Events("e", 0, 600)
	r := archive(t, a, "s", Block(1, first), Block(601, first[200:250]))
	wantOwned(t, r[0], 600, 0, 0)
	wantOwned(t, r[1], 0, 50, 0)
	mixed := append(Events("e", 500, 100), Events("new", 0, 7)...)
	wantOwned(t, archive(t, a, "s", Block(651, mixed))[0], 7, 100, 0)
	wantOwned(t, archive(t, a, "s", Build(758, true, mixed))[0], 0, 107, 0) // whatever the lane
	r = archive(t, a, "other", Block(1, append(Events("o", 0, 5), mixed...)))
	wantOwned(t, r[0], 5, 107, 0) // and whatever the stream
	blocks, _ := readAll(t, a, "other", 0, 100, true)
	sameLines(t, Describe(t, blocks, true), Describe(t, []*block.Block{Block(1, Events("o", 0, 5))}, true))
	if blocks, end := readAll(t, a, "s", 0, 100, false); total(blocks) != 607 || end != 864 {
		t.Fatalf("%d events up to %d, want 607 up to 864", total(blocks), end)
	}
}

func archiveCopyWithin(t *testing.T, open Open[Archiver]) {
	a := opened(t, open)
	attach(t, a, "s", 0)
	e := Events("e", 0, 20)
	r := archive(t, a, "s", Block(1, append(e, e[5], e[5], e[19])))[0]
	wantOwned(t, r, 20, 3, 0)
	sameLines(t, Describe(t, []*block.Block{r.Owned}, true), Describe(t, []*block.Block{Block(1, e)}, true))
}

func archiveUntimed(t *testing.T, open Open[Archiver]) {
	a := opened(t, open)
	attach(t, a, "s", 0)
	e := Events("e", 0, 10)
	e[4].Untimed = true
	again := e[4]
	again.Time += 3600e6 // received an hour later
	wantOwned(t, archive(t, a, "s", Block(1, e))[0], 10, 0, 0)
	wantOwned(t, archive(t, a, "s", Block(11, []Event{again}))[0], 0, 1, 0)
}

func archiveAllDuplicate(t *testing.T, open Open[Archiver]) {
	a := opened(t, open)
	attach(t, a, "s", 0)
	archive(t, a, "s", Block(1, Events("e", 0, 30)))
	wantOwned(t, archive(t, a, "s", Block(31, Events("e", 0, 30)))[0], 0, 30, 0)
	attach(t, a, "s", 60)
	if blocks, end := readAll(t, a, "s", 30, 10, true); total(blocks) != 0 || end != 60 {
		t.Fatalf("%d events up to %d behind 30, want none up to 60", total(blocks), end)
	}
}

func archiveTwice(t *testing.T, open Open[Archiver]) {
	a := opened(t, open)
	attach(t, a, "s", 0)
	in := []*block.Block{Block(1, Events("e", 0, 600)), Block(601, Events("e", 600, 3))}
	archive(t, a, "s", in...)
	for _, r := range archive(t, a, "s", in...) {
		wantOwned(t, r, 0, 0, 0)
	}
	if blocks, end := readAll(t, a, "s", 0, 1000, true); total(blocks) != 603 || end != 603 {
		t.Fatalf("%d events up to %d, want 603 up to 603", total(blocks), end)
	}
}

func archiveStraddle(t *testing.T, open Open[Archiver]) {
	a := opened(t, open)
	attach(t, a, "s", 0)
	e := Events("e", 0, 50)
	archive(t, a, "s", Block(1, e[:20]))
	r := archive(t, a, "s", Block(1, e))[0]
	wantOwned(t, r, 30, 0, 0)
	blocks, end := readAll(t, a, "s", 0, 1000, true)
	sameLines(t, Describe(t, blocks, true), Describe(t, []*block.Block{Block(1, e)}, true))
	if end != 50 {
		t.Fatalf("read up to %d, want 50", end)
	}
}

func archiveGap(t *testing.T, open Open[Archiver]) {
	a := opened(t, open)
	attach(t, a, "s", 0)
	archive(t, a, "s", Block(1, Events("e", 0, 5)))
	if _, err := a.Archive(patience(t), "s", []*block.Block{Block(7, Events("f", 0, 5))}); err == nil {
		t.Fatal("a block that leaves out position 6 was taken")
	}
	attach(t, a, "s", 5)
	wantOwned(t, archive(t, a, "s", Block(6, Events("f", 0, 5)))[0], 5, 0, 0)
}

func archiveUnknown(t *testing.T, open Open[Archiver]) {
	a := opened(t, open)
	if _, err := a.Archive(patience(t), "s", []*block.Block{Block(1, Events("e", 0, 5))}); !errors.Is(err, store.ErrUnknown) {
		t.Fatalf("Archive: %v, want ErrUnknown", err)
	}
	if _, _, err := a.Read(patience(t), store.ReadRequest{Stream: "s", Events: 1}); !errors.Is(err, store.ErrUnknown) {
		t.Fatalf("Read: %v, want ErrUnknown", err)
	}
}

func archiveRead(t *testing.T, open Open[Archiver]) {
	a := opened(t, open)
	attach(t, a, "s", 0)
	e := Events("e", 0, 3000)
	archive(t, a, "s", Block(1, e[:1000]), Block(1001, e[1000:2000]), Block(2001, e[2000:]))
	want := Describe(t, []*block.Block{Block(1, e[:1000]), Block(1001, e[1000:2000]), Block(2001, e[2000:])}, true)
	for _, after := range []uint64{0, 1, 499, 999, 1000, 1001, 2999} {
		for _, events := range []int{1, 1000, 5000} {
			got, end := readAll(t, a, "s", after, events, true)
			if end != 3000 {
				t.Fatalf("read after %d ends at %d, want 3000", after, end)
			}
			sameLines(t, Describe(t, got, true), want[after:])
		}
	}
	for _, after := range []uint64{3000, 3001, 1 << 40} {
		if blocks, upto, err := a.Read(patience(t), store.ReadRequest{Stream: "s", After: after, Events: 10}); err != nil || len(blocks) > 0 || upto != after {
			t.Fatalf("read after %d: %d blocks up to %d, %v", after, len(blocks), upto, err)
		}
	}
}

func archiveSmall(t *testing.T, open Open[Archiver]) {
	a := opened(t, open)
	attach(t, a, "s", 0)
	e := Events("e", 0, 1500)
	for at := 0; at < len(e); {
		n := min(1+at%13, len(e)-at)
		wantOwned(t, archive(t, a, "s", Block(uint64(at+1), e[at:at+n]))[0], n, 0, 0)
		at += n
		if at%7 == 0 {
			got, end := readAll(t, a, "s", uint64(max(0, at-40)), 100, false)
			if end != uint64(at) || total(got) != min(40, at) {
				t.Fatalf("%d events up to %d, want %d up to %d", total(got), end, min(40, at), at)
			}
		}
	}
	check := func(a store.Archive) {
		got, _ := readAll(t, a, "s", 0, 700, true)
		var want []*block.Block
		for at := 0; at < len(e); at += 500 {
			want = append(want, Block(uint64(at+1), e[at:at+500]))
		}
		sameLines(t, Describe(t, got, true), Describe(t, want, true))
	}
	check(a)
	noError(t, a.Close())
	a = opened(t, open)
	attach(t, a, "s", 1500)
	check(a)
	wantOwned(t, archive(t, a, "s", Block(1501, e[1000:1020]))[0], 0, 20, 0)
}

func archiveLanes(t *testing.T, open Open[Archiver]) {
	a := opened(t, open)
	attach(t, a, "s", 0)
	var want []*block.Block
	at := 0
	for i := range 60 {
		n, backfill := 1+i%7, i%2 == 1
		if i%10 == 9 {
			n = 900
		}
		b := Build(uint64(at+1), backfill, Events("e", at, n))
		wantOwned(t, archive(t, a, "s", b)[0], n, 0, 0)
		want = append(want, b)
		at += n
	}
	lines := Describe(t, want, true)
	for _, x := range []struct{ events, after int }{{1, at - 1000}, {50, 0}, {100_000, 0}} {
		got, end := readAll(t, a, "s", uint64(x.after), x.events, true)
		if end != uint64(at) {
			t.Fatalf("read up to %d, want %d", end, at)
		}
		sameLines(t, Describe(t, got, true), lines[x.after:])
	}
}

func archiveLargeBody(t *testing.T, open Open[Archiver]) {
	a := opened(t, open)
	attach(t, a, "s", 0)
	e := []Event{{ID: "large", Body: `{"msg_id":"large","pad":"` + strings.Repeat("0123456789abcdef", 300_000) + `"}`}}
	wantOwned(t, archive(t, a, "s", Block(1, e))[0], 1, 0, 0)
	got, _ := readAll(t, a, "s", 0, 1, true)
	sameLines(t, Describe(t, got, true), Describe(t, []*block.Block{Block(1, e)}, true))
}

func archiveCancelled(t *testing.T, open Open[Archiver]) {
	a := opened(t, open)
	attach(t, a, "s", 0)
	ctx, cancel := context.WithCancel(patience(t))
	cancel()
	in := []*block.Block{Block(1, Events("e", 0, 10)), Block(11, Events("e", 10, 900))}
	if _, err := a.Archive(ctx, "s", in); err == nil {
		t.Fatal("a cancelled call succeeded")
	}
	if _, err := a.Archive(patience(t), "s", in); err != nil {
		t.Fatal(err)
	}
	if got, end := readAll(t, a, "s", 0, 1000, true); total(got) != 910 || end != 910 {
		t.Fatalf("%d events up to %d, want 910 up to 910", total(got), end)
	}
}

func archiveReopened(t *testing.T, open Open[Archiver]) {
	at := 0
	for i := range 5 {
		a := opened(t, open)
		attach(t, a, "s", uint64(at))
		n := 400 * (i + 1) / 2
		var blocks []*block.Block
		for from := at; from < at+n; from += 100 {
			blocks = append(blocks, Block(uint64(from+1), Events("e", from, 100)))
		}
		for j, r := range archive(t, a, "s", blocks...) {
			wantOwned(t, r, blocks[j].Len(), 0, 0)
		}
		at += n
		end := uint64(at)
		wantOwned(t, archive(t, a, "s", Block(end+1, Events("e", 0, 10)))[0], 0, 10, 0)
		at += 10
		if got, _ := readAll(t, a, "s", 0, 100, false); total(got) != at-10*(i+1) {
			t.Fatalf("life %d: %d events of %d positions", i, total(got), at)
		}
		noError(t, a.Close())
	}
}
