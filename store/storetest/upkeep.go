package storetest

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/statscache/statscache/store"
)

// Upkeep holds a whole engine to the contract of store.Upkeep.
func Upkeep[E store.Store](t *testing.T, fresh Fresh[E]) {
	cases(t, as(fresh, func(e E) store.Store { return e }), map[string]func(*testing.T, Open[store.Store]){
		"Counters_BehindTheHorizonAreGone":       upkeepCounters,
		"Counters_BehindTheHorizonStayOut":       upkeepRefused,
		"Counters_HorizonNeverGoesBack":          upkeepBack,
		"Counters_OfAllGenerations":              upkeepGenerations,
		"Archive_BehindTheHorizonIsGone":         upkeepArchive,
		"Archive_HorizonNeverGoesBack":           upkeepArchiveBack,
		"Archive_CopiesOfRemovedOnesAreRefused":  upkeepCopies,
		"NewStore_HasNoHorizons":                 upkeepNone,
		"Counters_ManyRowsAndTheRestIsUntouched": upkeepMany,
		"Letters_OfRemovedEventsAreGone":         upkeepLetters,
	})
}

func expire(t testing.TB, e store.Store, want int64, h ...store.Horizon) {
	t.Helper()
	n, err := e.ExpireCounters(patience(t), h)
	noError(t, err)
	if n != want {
		t.Fatalf("%d rows removed, want %d", n, want)
	}
}

func upkeepNone(t *testing.T, open Open[store.Store]) {
	e := opened(t, open)
	h, err := e.Horizons(patience(t))
	noError(t, err)
	if h.Archive != math.MinInt64 || len(h.Counters) != 0 {
		t.Fatalf("horizons %+v", h)
	}
}

func upkeepCounters(t *testing.T, open Open[store.Store]) {
	e := opened(t, open)
	register(t, e, plugin())
	c := checkpoint(t, e, "s", 0)
	commit(t, c, 1, deltas(t, c, "count", time.Minute, count{-60, "a", 1}, count{0, "a", 2}, count{60, "a", 3}, count{60, "b", 4}, count{120, "a", 5}),
		deltas(t, c, "count", time.Second, count{1, "a", 1}), deltas(t, c, "count", day, count{1, "a", 1}, count{86_400, "a", 1}))
	before := e.Version("count")
	expire(t, e, 4, store.Horizon{Metric: "count", Interval: time.Minute, Before: 61}) // the bucket at 60 starts before it
	if e.Version("count") <= before {
		t.Fatal("rows went and the version stayed")
	}
	expire(t, e, 1, store.Horizon{Metric: "count", Interval: day, Before: 86_400}, store.Horizon{Metric: "sum", Interval: time.Minute, Before: 5})
	for range 2 {
		sameCells(t, cells(t, e, "count", 1, time.Minute), map[string]int64{`120 "a"`: 5})
		sameCells(t, cells(t, e, "count", 1, time.Second), map[string]int64{`1 "a"`: 1})
		sameCells(t, cells(t, e, "count", 1, day), map[string]int64{`86400 "a"`: 1})
		rows, n, err := e.Rows(patience(t), store.RowQuery{Metric: "count", Interval: time.Minute, From: early, To: late, Limit: 10})
		if err != nil || n != 1 || len(rows) != 1 || rows[0] != (store.Row{Time: 120, Key: "a", N: 5}) {
			t.Fatalf("rows %+v of %d, %v", rows, n, err)
		}
		if first, _, ok, err := e.Span(patience(t), "count", time.Minute); err != nil || !ok || first != 120 {
			t.Fatalf("span begins at %d, %v, %v; want 120", first, ok, err)
		}
		h, err := e.Horizons(patience(t))
		noError(t, err)
		slices.SortFunc(h.Counters, func(a, b store.Horizon) int { return int(a.Before - b.Before) })
		want := []store.Horizon{{Metric: "sum", Interval: time.Minute, Before: 5}, {Metric: "count", Interval: time.Minute, Before: 61}, {Metric: "count", Interval: day, Before: 86_400}}
		if !slices.Equal(h.Counters, want) {
			t.Fatalf("horizons %+v, want %+v", h.Counters, want)
		}
		noError(t, e.Close())
		e = opened(t, open)
	}
}

func upkeepRefused(t *testing.T, open Open[store.Store]) {
	e := opened(t, open)
	register(t, e, plugin())
	expire(t, e, 0, store.Horizon{Metric: "count", Interval: time.Second, Before: 10}, store.Horizon{Metric: "count", Interval: day, Before: -86_400})
	at := uint64(0)
	for range 2 {
		c := checkpoint(t, e, "s", at)
		at++
		commit(t, c, at, deltas(t, c, "count", time.Second, count{-1, "a", 1}, count{9, "a", 1}, count{10, "a", 1}, count{11, "b", 1}),
			deltas(t, c, "count", time.Minute, count{9, "a", 1}), deltas(t, c, "count", day, count{-86_401, "a", 1}, count{-86_400, "a", 1}))
		n := int64(at)
		sameCells(t, cells(t, e, "count", 1, time.Second), map[string]int64{`10 "a"`: n, `11 "b"`: n})
		sameCells(t, cells(t, e, "count", 1, time.Minute), map[string]int64{`0 "a"`: n})
		sameCells(t, cells(t, e, "count", 1, day), map[string]int64{`-86400 "a"`: n})
		noError(t, e.Close())
		e = opened(t, open)
	}
}

func upkeepBack(t *testing.T, open Open[store.Store]) {
	e := opened(t, open)
	register(t, e, plugin())
	c := checkpoint(t, e, "s", 0)
	commit(t, c, 1, deltas(t, c, "count", time.Second, count{1, "a", 1}, count{100, "a", 1}))
	expire(t, e, 1, store.Horizon{Metric: "count", Interval: time.Second, Before: 50})
	expire(t, e, 0, store.Horizon{Metric: "count", Interval: time.Second, Before: 20})
	commit(t, c, 2, deltas(t, c, "count", time.Second, count{30, "a", 1}, count{60, "a", 1}))
	sameCells(t, cells(t, e, "count", 1, time.Second), map[string]int64{`60 "a"`: 1, `100 "a"`: 1})
	if h, err := e.Horizons(patience(t)); err != nil || len(h.Counters) != 1 || h.Counters[0].Before != 50 {
		t.Fatalf("horizons %+v, %v; want 50", h, err)
	}
}

func upkeepGenerations(t *testing.T, open Open[store.Store]) {
	e := opened(t, open)
	register(t, e, plugin())
	one := checkpoint(t, e, "s", 0)
	register(t, e, changed("f2"))
	two, err := e.Checkpoint(patience(t), store.CheckpointKey{Plugin: "p", Generation: 2, Stream: "s"})
	noError(t, err)
	for _, c := range []store.Checkpoint{one, two} {
		commit(t, c, 1, deltas(t, c, "count", time.Second, count{1, "a", 1}, count{2, "b", 1}, count{9, "a", 1}))
	}
	expire(t, e, 4, store.Horizon{Metric: "count", Interval: time.Second, Before: 5})
	for generation := uint32(1); generation <= 2; generation++ {
		sameCells(t, cells(t, e, "count", generation, time.Second), map[string]int64{`9 "a"`: 1})
	}
}

func upkeepMany(t *testing.T, open Open[store.Store]) {
	e := opened(t, open)
	register(t, e, plugin())
	c := checkpoint(t, e, "s", 0)
	var list []count
	for i := range 25_000 {
		list = append(list, count{int64(i), "a", 1})
	}
	commit(t, c, 1, deltas(t, c, "count", time.Second, list...))
	expire(t, e, 24_000, store.Horizon{Metric: "count", Interval: time.Second, Before: 24_000})
	if got := cells(t, e, "count", 1, time.Second); len(got) != 1000 || got[`24000 "a"`] != 1 {
		t.Fatalf("%d rows are left, want 1000", len(got))
	}
}

func upkeepArchive(t *testing.T, open Open[store.Store]) {
	e := opened(t, open)
	attach(t, e, "s", 0)
	list := Events("e", 0, 3000) // a second apart
	archive(t, e, "s", Block(1, list[:1000]), Build(1001, true, list[1000:2000]), Block(2001, list[2000:2900]), Block(2901, list[2900:]))
	n, err := e.ExpireArchive(patience(t), Base+2500e6)
	noError(t, err)
	for range 2 {
		blocks, end := readAll(t, e, "s", 0, 500, true)
		left := total(blocks)
		if end != 3000 || left < 500 || left+int(n) != 3000 {
			t.Fatalf("%d events removed, %d left up to %d; want those of 2500 s and later to be among what is left", n, left, end)
		}
		seen := map[string]bool{}
		for _, b := range blocks {
			ids, err := b.IDs()
			noError(t, err)
			for _, id := range ids {
				seen[id] = true
			}
		}
		for _, x := range list[2500:] {
			if !seen[x.ID] {
				t.Fatalf("event %s is gone", x.ID)
			}
		}
		if h, err := e.Horizons(patience(t)); err != nil || h.Archive != Base+2500e6 {
			t.Fatalf("horizons %+v, %v", h, err)
		}
		noError(t, e.Close())
		e = opened(t, open)
	}
	attach(t, e, "s", 3000)
	wantOwned(t, archive(t, e, "s", Block(3001, append(Events("e", 2400, 200), Events("new", 2450, 100)...)))[0], 50, 100, 150)
}

func upkeepArchiveBack(t *testing.T, open Open[store.Store]) {
	e := opened(t, open)
	attach(t, e, "s", 0)
	for _, at := range []int64{100e6, 50e6} {
		if _, err := e.ExpireArchive(patience(t), Base+at); err != nil {
			t.Fatal(err)
		}
	}
	wantOwned(t, archive(t, e, "s", Block(1, Events("e", 0, 150)))[0], 50, 0, 100)
}

// upkeepCopies removes a lot and offers everything again: nothing may come back, whatever was removed of it.
func upkeepCopies(t *testing.T, open Open[store.Store]) {
	e := opened(t, open)
	attach(t, e, "s", 0)
	list := Events("e", 0, 2500)
	at := uint64(0)
	give := func() (owned, duplicates, expired int) {
		for from := 0; from < len(list); from += 100 {
			r := archive(t, e, "s", Block(at+1, list[from:from+100]))[0]
			at += 100
			owned, duplicates, expired = owned+r.Owned.Len(), duplicates+r.Duplicates, expired+r.Expired
		}
		return owned, duplicates, expired
	}
	if n, _, _ := give(); n != 2500 {
		t.Fatalf("%d owned, want 2500", n)
	}
	for _, horizon := range []int{700, 1999, 2499} {
		_, err := e.ExpireArchive(patience(t), Base+int64(horizon)*1e6)
		noError(t, err)
		for range 2 {
			if n, d, x := give(); n != 0 || d != 2500-horizon || x != horizon {
				t.Fatalf("horizon %d: %d owned, %d duplicates, %d expired", horizon, n, d, x)
			}
			noError(t, e.Close())
			e = opened(t, open)
			attach(t, e, "s", at)
		}
	}
}

// upkeepLetters removes old events: their dead letters go, the others stay.
func upkeepLetters(t *testing.T, open Open[store.Store]) {
	e := opened(t, open)
	x, ok := e.(store.LetterExpirer)
	if !ok {
		t.Skip("the engine keeps dead letters for ever")
	}
	const old = -100 * 86_400 // s before the base: more than any engine keeps together
	register(t, e, plugin())
	attach(t, e, "s", 0)
	attach(t, e, "t", 0)
	archive(t, e, "s", Block(1, Events("old", old, 1000)), Build(1001, true, Events("backfilled", old+1000, 1000)))
	archive(t, e, "s", Block(2001, Events("new", 0, 1000)))
	archive(t, e, "t", Block(1, Events("other", 1000, 10)))
	c, d := checkpoint(t, e, "s", 0), checkpoint(t, e, "t", 0)
	buriedAt(t, c, 1900, 1, 1000, 1700)
	kept := buriedAt(t, c, 3000, 2001, 3000)
	others := buriedAt(t, d, 10, 1)
	gone := func(want int) {
		t.Helper()
		got, err := x.ExpireLetters(patience(t))
		noError(t, err)
		if n := got[store.LettersOf{Plugin: "p", Generation: 1}]; n != want || len(got) > 1 {
			t.Fatalf("%v are gone, want %d", got, want)
		}
	}
	gone(0)
	_, err := e.ExpireArchive(patience(t), Base-86_400e6)
	noError(t, err)
	gone(3)
	gone(0)
	wantBuried(t, e.(Requeuer), append(inStream("s", kept...), inStream("t", others...)...)...)
}
