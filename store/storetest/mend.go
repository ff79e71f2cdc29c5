package storetest

import (
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
)

// Scanner is what the group Scan asks of an engine.
type Scanner interface {
	Archiver
	store.Scanner
}

// Scan holds an engine to the contract of store.Scanner.
func Scan[E Scanner](t *testing.T, fresh Fresh[E]) {
	cases(t, as(fresh, func(e E) Scanner { return e }), map[string]func(*testing.T, Open[Scanner]){
		"Span_HoldsItsEventsOnceAndNoOthers": scanSpans,
		"Function_EndsItWithItsError":        scanStops,
	})
}

// scanEvents archives events of two streams, live and history, in small blocks and full ones: what Scan must find.
func scanEvents(t *testing.T, e Scanner) (live, history []Event) {
	t.Helper()
	live, history = Events("live", 0, 1500), Events("history", 1000, 1300)
	for stream, list := range map[string][]Event{"a": live, "b": history} {
		_, err := e.Attach(patience(t), stream)
		noError(t, err)
		for at, step := 0, 0; at < len(list); at += step {
			if step = min(3, len(list)-at); at >= 100 {
				step = min(900, len(list)-at)
			}
			_, err := e.Archive(patience(t), stream, []*block.Block{Build(uint64(at)+1, stream == "b", list[at:at+step])})
			noError(t, err)
		}
	}
	_, err := e.Archive(patience(t), "a", []*block.Block{Block(1501, history[:5])}) // copies: not owned, not found
	noError(t, err)
	return live, history
}

func scanSpans(t *testing.T, open Open[Scanner]) {
	e := opened(t, open)
	live, history := scanEvents(t, e)
	check := func(e Scanner) {
		for _, span := range [][2]int64{{math.MinInt64, math.MaxInt64}, {Base, Base + 1e6}, {Base + 1, Base + 1e6}, {Base + 1000e6, Base + 1001e6},
			{Base + 1200e6, Base + 1400e6}, {Base + 2299e6, Base + 9000e6}, {Base - 5e6, Base}, {Base + 50e6, Base + 50e6}} {
			for _, bodies := range []bool{false, true} {
				var got, want []string
				err := e.Scan(patience(t), store.ScanRequest{From: span[0], To: span[1], Bodies: bodies}, func(stream string, b *block.Block) error {
					for i := range b.Len() {
						got = append(got, stream+" "+time.UnixMicro(b.Time[i]).UTC().Format(time.RFC3339Nano))
					}
					if !bodies {
						return nil
					}
					ids, err := b.IDs()
					for i, id := range ids {
						got[len(got)-b.Len()+i] += " " + id
					}
					return err
				})
				noError(t, err)
				for stream, list := range map[string][]Event{"a": live, "b": history} {
					for _, x := range list {
						if at := Base + x.Time; at >= span[0] && at < span[1] {
							line := stream + " " + time.UnixMicro(at).UTC().Format(time.RFC3339Nano)
							if bodies {
								line += " " + x.ID
							}
							want = append(want, line)
						}
					}
				}
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Fatalf("events of %v, bodies %v: %d, want %d; the first ones %q, want %q", span, bodies, len(got), len(want), first(got), first(want))
				}
			}
		}
	}
	check(e)
	noError(t, e.Close())
	e = opened(t, open)
	check(e)
	for i, x := range live { // the first and the last event of any block are found by their very time
		if i > 110 && i%100 > 9 && i < len(live)-9 { // amid a large block
			continue
		}
		n, at := 0, Base+x.Time
		noError(t, e.Scan(patience(t), store.ScanRequest{From: at, To: at + 1}, func(stream string, b *block.Block) error {
			if stream == "a" {
				n += b.Len()
			}
			return nil
		}))
		if n != 1 {
			t.Fatalf("%d live events at %d, want 1", n, x.Time)
		}
	}
}

func first(list []string) []string { return list[:min(3, len(list))] }

func scanStops(t *testing.T, open Open[Scanner]) {
	e := opened(t, open)
	scanEvents(t, e)
	enough, calls := errors.New("enough"), 0
	err := e.Scan(patience(t), store.ScanRequest{From: math.MinInt64, To: math.MaxInt64}, func(string, *block.Block) error {
		calls++
		return enough
	})
	if !errors.Is(err, enough) || calls != 1 {
		t.Fatalf("%d calls, %v; want one and its error", calls, err)
	}
}

// Mendable is what the group Mend asks of an engine.
type Mendable interface {
	ReadWriter
	store.Mender
}

// Mend holds an engine to the contract of store.Mender.
func Mend[E Mendable](t *testing.T, fresh Fresh[E]) {
	cases(t, as(fresh, func(e E) Mendable { return e }), map[string]func(*testing.T, Open[Mendable]){
		"Repair_SetsAddsAndRemoves":             mendRepair,
		"Repair_OfNumbersThatMoved_IsRefused":   mendMoved,
		"Repair_OfTheUnknown_IsAnErrorAndWhole": mendUnknown,
		"Repair_KnowsTheOtherSeries":            mendOther,
		"Rebuild_BuildsBesideAndIsPromoted":     mendRebuild,
		"Rebuild_IsGivenUpForTheNextOne":        mendRebuildAgain,
	})
}

func mendRepair(t *testing.T, open Open[Mendable]) {
	e := opened(t, open)
	register(t, e, plugin())
	c := checkpoint(t, e, "s", 0)
	noError(t, c.Commit(patience(t), &store.Commit{To: 7, Counters: []store.CounterDeltas{
		deltas(t, c, "count", time.Second, count{-1, "a", 2}, count{1, "a", 3}, count{1, "b", 4}), deltas(t, c, "count", day, count{1, "a", 5})},
		Puts: []store.Put{{Metric: "news", Key: "k", Time: 5, ID: "x", Value: []byte(`1`)}, {Metric: "news", Key: "gone", Time: 5, ID: "x", Value: []byte(`1`)}}}))
	noError(t, c.Close())
	before, other := e.Version("count"), e.Version("sum")
	r := store.Repair{Plugin: "p", Generation: 1, At: []store.Position{{Stream: "s", Pos: 7, Intent: 7}}, Cells: []store.CellFix{
		{Metric: "count", Interval: time.Second, Time: -1, Key: "a", N: 9},
		{Metric: "count", Interval: time.Second, Time: 1, Key: "b", N: 0},
		{Metric: "count", Interval: time.Second, Time: 3, Key: "new", N: 1},
		{Metric: "count", Interval: time.Second, Time: 3, Key: "nobody", N: 0},
		{Metric: "count", Interval: day, Time: 0, Key: "a", N: 6},
		{Metric: "count", Interval: day, Time: -86400, Key: "b", N: 1},
	}, Latest: []store.LatestFix{{Metric: "news", Row: store.LatestRow{Key: "k", Time: 4, ID: "y", Value: []byte(`2`)}}, {Metric: "news", Row: store.LatestRow{Key: "gone"}}}}
	for range 2 { // a repeated call changes nothing
		noError(t, e.Repair(patience(t), r))
	}
	check := func() {
		t.Helper()
		sameCells(t, cells(t, e, "count", 1, time.Second), map[string]int64{`-1 "a"`: 9, `1 "a"`: 3, `3 "new"`: 1})
		sameCells(t, cells(t, e, "count", 1, day), map[string]int64{`0 "a"`: 6, `-86400 "b"`: 1})
		list, err := e.Latest(patience(t), "news")
		noError(t, err)
		if len(list) != 1 || list[0].Key != "k" || list[0].Time != 4 || list[0].ID != "y" || string(list[0].Value) != "2" {
			t.Fatalf("latest values %+v, want the repaired one", list)
		}
	}
	check()
	if e.Version("count") <= before || e.Version("sum") != other {
		t.Fatalf("versions went from %d and %d to %d and %d: only the first changed", before, other, e.Version("count"), e.Version("sum"))
	}
	noError(t, e.Close())
	e = opened(t, open)
	check()
	c = checkpoint(t, e, "s", 7) // counting goes on upon it
	commit(t, c, 8, deltas(t, c, "count", time.Second, count{3, "new", 1}, count{3, "newer", 1}))
	sameCells(t, cells(t, e, "count", 1, time.Second), map[string]int64{`-1 "a"`: 9, `1 "a"`: 3, `3 "new"`: 2, `3 "newer"`: 1})
}

func mendMoved(t *testing.T, open Open[Mendable]) {
	e := opened(t, open)
	register(t, e, plugin())
	c := checkpoint(t, e, "s", 0)
	commit(t, c, 7, deltas(t, c, "count", time.Second, count{1, "a", 3}))
	fix := []store.CellFix{{Metric: "count", Interval: time.Second, Time: 1, Key: "a", N: 9}}
	for name, at := range map[string][]store.Position{"behind": {{Stream: "s", Pos: 6, Intent: 6}}, "ahead": {{Stream: "s", Pos: 8, Intent: 8}}, "without a stream": nil,
		"with another stream": {{Stream: "s", Pos: 7, Intent: 7}, {Stream: "t", Pos: 1, Intent: 1}}} {
		if err := e.Repair(patience(t), store.Repair{Plugin: "p", Generation: 1, At: at, Cells: fix}); !errors.Is(err, store.ErrMoved) {
			t.Fatalf("%s: %v, want ErrMoved", name, err)
		}
	}
	sameCells(t, cells(t, e, "count", 1, time.Second), map[string]int64{`1 "a"`: 3})
}

func mendUnknown(t *testing.T, open Open[Mendable]) {
	e := opened(t, open)
	register(t, e, plugin())
	c := checkpoint(t, e, "s", 0)
	commit(t, c, 7, deltas(t, c, "count", time.Second, count{1, "a", 3}))
	good := store.CellFix{Metric: "count", Interval: time.Second, Time: 1, Key: "a", N: 9}
	at := []store.Position{{Stream: "s", Pos: 7, Intent: 7}}
	for name, r := range map[string]store.Repair{
		"plugin":     {Plugin: "q", Generation: 1, At: at, Cells: []store.CellFix{good}},
		"generation": {Plugin: "p", Generation: 2, At: at, Cells: []store.CellFix{good}},
		"metric":     {Plugin: "p", Generation: 1, At: at, Cells: []store.CellFix{good, {Metric: "nothing", Interval: time.Second}}},
		"interval":   {Plugin: "p", Generation: 1, At: at, Cells: []store.CellFix{good, {Metric: "count", Interval: time.Hour}}},
		"latest":     {Plugin: "p", Generation: 1, At: at, Cells: []store.CellFix{good}, Latest: []store.LatestFix{{Metric: "nothing"}}},
	} {
		if err := e.Repair(patience(t), r); !errors.Is(err, store.ErrUnknown) {
			t.Fatalf("%s: %v, want ErrUnknown", name, err)
		}
	}
	if _, err := e.Rebuild(patience(t), "q"); !errors.Is(err, store.ErrUnknown) {
		t.Fatalf("rebuild of nothing: %v, want ErrUnknown", err)
	}
	if err := e.Repair(patience(t), store.Repair{Plugin: "p", Generation: 1, At: at, Cells: []store.CellFix{{Metric: "count", Interval: day, Time: 5, Key: "a", N: 1}}}); err == nil {
		t.Fatal("a bucket that starts within another one was accepted")
	}
	sameCells(t, cells(t, e, "count", 1, time.Second), map[string]int64{`1 "a"`: 3})
}

func mendOther(t *testing.T, open Open[Mendable]) {
	e := opened(t, open)
	register(t, e, plugin())
	c := checkpoint(t, e, "s", 0)
	var list []count
	for _, k := range []string{"a", "b", "c", "d", "e", "f", "g"} { // the limit is 5
		list = append(list, count{0, k, 1})
	}
	commit(t, c, 7, deltas(t, c, "pairs", time.Hour, list...))
	at := []store.Position{{Stream: "s", Pos: 7, Intent: 7}}
	noError(t, e.Repair(patience(t), store.Repair{Plugin: "p", Generation: 1, At: at, Cells: []store.CellFix{{Metric: "pairs", Interval: time.Hour, Key: store.OtherKey, N: 8}}}))
	if got := cells(t, e, "pairs", 1, time.Hour)[`0 "(other)"`]; got != 8 {
		t.Fatalf("the other series counts %d, want 8", got)
	}
	if err := e.Repair(patience(t), store.Repair{Plugin: "p", Generation: 1, At: at, Cells: []store.CellFix{{Metric: "pairs", Interval: time.Hour, Key: "h", N: 8}}}); err == nil {
		t.Fatal("a series beyond the limit was made")
	}
}

func mendRebuild(t *testing.T, open Open[Mendable]) {
	e := opened(t, open)
	register(t, e, plugin())
	c := checkpoint(t, e, "s", 0)
	commit(t, c, 7, deltas(t, c, "count", time.Second, count{1, "a", 3}))
	g, err := e.Rebuild(patience(t), "p")
	noError(t, err)
	if g != (store.Generations{Serving: 1, Building: 2}) {
		t.Fatalf("generations %+v, want 1 serving and 2 building", g)
	}
	wantMetrics(t, e, "count 1", "news 1", "pairs 1", "sum 1")
	commit(t, c, 8, deltas(t, c, "count", time.Second, count{1, "a", 1})) // the serving one goes on
	noError(t, e.Close())
	e = opened(t, open)
	for range 2 {
		if g := register(t, e, plugin()); g != (store.Generations{Serving: 1, Building: 2}) {
			t.Fatalf("registering again gives %+v: the rebuild is forgotten", g)
		}
	}
	two, err := e.Checkpoint(patience(t), store.CheckpointKey{Plugin: "p", Generation: 2, Stream: "s"})
	noError(t, err)
	if two.Pos() != 0 {
		t.Fatalf("the new generation begins at %d, want 0", two.Pos())
	}
	commit(t, two, 8, deltas(t, two, "count", time.Second, count{1, "a", 40}))
	sameCells(t, cells(t, e, "count", 1, time.Second), map[string]int64{`1 "a"`: 4})
	noError(t, e.Promote(patience(t), "p", 2))
	wantMetrics(t, e, "count 2", "news 2", "pairs 2", "sum 2")
	sameCells(t, cells(t, e, "count", 2, time.Second), map[string]int64{`1 "a"`: 40})
	if g := register(t, e, plugin()); g != (store.Generations{Serving: 2}) {
		t.Fatalf("generations %+v, want 2 serving", g)
	}
}

func mendRebuildAgain(t *testing.T, open Open[Mendable]) {
	e := opened(t, open)
	register(t, e, plugin())
	_, err := e.Rebuild(patience(t), "p")
	noError(t, err)
	two, err := e.Checkpoint(patience(t), store.CheckpointKey{Plugin: "p", Generation: 2, Stream: "s"})
	noError(t, err)
	g, err := e.Rebuild(patience(t), "p")
	noError(t, err)
	if g != (store.Generations{Serving: 1, Building: 3}) {
		t.Fatalf("generations %+v, want 1 serving and 3 building", g)
	}
	if err := two.Commit(patience(t), &store.Commit{To: 3}); !errors.Is(err, store.ErrFenced) {
		t.Fatalf("a writer of the one that was given up: %v, want ErrFenced", err)
	}
	if g := register(t, e, changed("f2")); g != (store.Generations{Serving: 1, Building: 4}) {
		t.Fatalf("a changed plugin gives %+v, want 1 serving and 4 building", g)
	}
}
