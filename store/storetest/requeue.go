package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/statscache/statscache/store"
)

// Requeuer is what the group Requeue asks of an engine. Its checkpoints must be store.Revivers.
type Requeuer interface {
	Ledgerer
	store.Requeuer
}

// Requeue holds an engine to the contracts of store.Requeuer and store.Reviver.
func Requeue[E Requeuer](t *testing.T, fresh Fresh[E]) {
	cases(t, as(fresh, func(e E) Requeuer { return e }), map[string]func(*testing.T, Open[Requeuer]){
		"Buried_ListsAGenerationByPlace":            requeueBuried,
		"Revive_CountsAndTakesTheLettersAway":       requeueRevive,
		"Revive_KeepsThoseThatAreDeadAgain":         requeueDeadAgain,
		"Revive_Twice_CountsOnce":                   requeueTwice,
		"Revive_OfSomeThatAreGone_ChangesNothing":   requeueMoved,
		"Revive_OfAFencedWriter_ChangesNothing":     requeueFenced,
		"Revive_GoesOnBesideCommits":                requeueBeside,
		"Revive_OfAnotherGenerationsLetter_IsNoOne": requeueGenerations,
		"Revive_ThatCannotBeMeant_IsRefused":        requeueRefused,
		"Revive_Cancelled_CanBeRepeated":            requeueCancelled,
	})
}

// buriedAt commits up to a position with dead letters at some.
func buriedAt(t testing.TB, c store.Checkpoint, to uint64, seqs ...uint64) (out []store.DeadLetter) {
	t.Helper()
	for _, seq := range seqs {
		out = append(out, store.DeadLetter{Seq: seq, ID: fmt.Sprint("id-", seq), Error: "broken", At: time.UnixMicro(Base + int64(seq)).UTC()})
	}
	noError(t, c.Commit(patience(t), &store.Commit{To: to, Dead: out}))
	return out
}

func revive(t testing.TB, c store.Checkpoint, r *store.Revival) error {
	t.Helper()
	return c.(store.Reviver).Revive(patience(t), r)
}

// wantBuried compares all dead letters of generation 1.
func wantBuried(t testing.TB, e Requeuer, want ...store.StreamDeadLetter) {
	t.Helper()
	list, n, err := e.Buried(patience(t), "p", 1, store.Place{}, 1000)
	noError(t, err)
	for i := range list {
		list[i].At = list[i].At.UTC()
	}
	if n != len(want) || !slices.Equal(list, want) {
		t.Fatalf("%d dead letters %+v, want %d: %+v", n, list, len(want), want)
	}
}

func inStream(stream string, list ...store.DeadLetter) (out []store.StreamDeadLetter) {
	for _, d := range list {
		out = append(out, store.StreamDeadLetter{Stream: stream, DeadLetter: d})
	}
	return out
}

func requeueBuried(t *testing.T, open Open[Requeuer]) {
	e := opened(t, open)
	register(t, e, plugin())
	want := inStream("a", buriedAt(t, checkpoint(t, e, "a", 0), 40, 3, 17, 31)...)
	want = append(want, inStream("b", buriedAt(t, checkpoint(t, e, "b", 0), 9, 2, 8)...)...)
	wantBuried(t, e, want...)
	var paged []store.StreamDeadLetter
	for after := (store.Place{}); ; {
		list, n, err := e.Buried(patience(t), "p", 1, after, 2)
		noError(t, err)
		if n != len(want) {
			t.Fatalf("%d in all, want %d", n, len(want))
		}
		if len(list) == 0 {
			break
		}
		last := list[len(list)-1]
		after = store.Place{Stream: last.Stream, Seq: last.Seq}
		paged = append(paged, list...)
	}
	if len(paged) != len(want) {
		t.Fatalf("page by page: %+v", paged)
	}
	for _, generation := range []uint32{0, 2} {
		if list, n, err := e.Buried(patience(t), "p", generation, store.Place{}, 10); err != nil || n != 0 || len(list) != 0 {
			t.Fatalf("generation %d has %d, %v", generation, n, err)
		}
	}
}

func requeueRevive(t *testing.T, open Open[Requeuer]) {
	e := opened(t, open)
	register(t, e, plugin())
	c := checkpoint(t, e, "s", 0)
	dead := buriedAt(t, c, 50, 3, 17, 31)
	commit(t, c, 60, deltas(t, c, "count", time.Second, count{1, "a", 5}), deltas(t, c, "count", day, count{1, "a", 5}))
	noError(t, revive(t, c, &store.Revival{Taken: dead[:2], Counters: []store.CounterDeltas{
		deltas(t, c, "count", time.Second, count{1, "a", 1}, count{2, "new", 1}), deltas(t, c, "count", day, count{1, "a", 1}, count{2, "new", 1})},
		Puts: []store.Put{{Metric: "news", Key: "k", Time: 7, ID: "x", Value: []byte(`1`)}}}))
	if c.Pos() != 60 {
		t.Fatalf("the position moved to %d", c.Pos())
	}
	noError(t, e.Close())
	e = opened(t, open)
	checkpoint(t, e, "s", 60)
	sameCells(t, cells(t, e, "count", 1, time.Second), map[string]int64{`1 "a"`: 6, `2 "new"`: 1})
	sameCells(t, cells(t, e, "count", 1, day), map[string]int64{`0 "a"`: 6, `0 "new"`: 1})
	n := 0
	noError(t, e.EachLatest(patience(t), "p", "news", 1, func(r store.LatestRow) error { n++; return nil }))
	if n != 1 {
		t.Fatalf("%d latest values, want 1", n)
	}
	wantBuried(t, e, inStream("s", dead[2])...)
}

func requeueDeadAgain(t *testing.T, open Open[Requeuer]) {
	e := opened(t, open)
	register(t, e, plugin())
	c := checkpoint(t, e, "s", 0)
	dead := buriedAt(t, c, 50, 3, 17)
	again := dead[1]
	again.Error, again.At = "broken otherwise", again.At.Add(time.Second)
	for range 2 {
		noError(t, revive(t, c, &store.Revival{Taken: dead, Dead: []store.DeadLetter{again},
			Counters: []store.CounterDeltas{deltas(t, c, "count", time.Second, count{1, "a", 1})}}))
	}
	sameCells(t, cells(t, e, "count", 1, time.Second), map[string]int64{`1 "a"`: 1})
	wantBuried(t, e, inStream("s", again)...)
	noError(t, revive(t, c, &store.Revival{Taken: []store.DeadLetter{again}}))
	wantBuried(t, e)
}

func requeueTwice(t *testing.T, open Open[Requeuer]) {
	e := opened(t, open)
	register(t, e, plugin())
	c := checkpoint(t, e, "s", 0)
	dead := buriedAt(t, c, 50, 3, 17)
	for range 3 {
		noError(t, revive(t, c, &store.Revival{Taken: dead, Counters: []store.CounterDeltas{deltas(t, c, "count", time.Second, count{1, "a", 2})}}))
	}
	noError(t, e.Close())
	e = opened(t, open) // another life, which doesn't know whether the first got through
	c = checkpoint(t, e, "s", 50)
	noError(t, revive(t, c, &store.Revival{Taken: dead, Counters: []store.CounterDeltas{deltas(t, c, "count", time.Second, count{1, "a", 2})}}))
	sameCells(t, cells(t, e, "count", 1, time.Second), map[string]int64{`1 "a"`: 2})
	wantBuried(t, e)
}

func requeueMoved(t *testing.T, open Open[Requeuer]) {
	e := opened(t, open)
	register(t, e, plugin())
	c := checkpoint(t, e, "s", 0)
	dead := buriedAt(t, c, 50, 3, 17)
	noError(t, revive(t, c, &store.Revival{Taken: dead[:1]}))
	err := revive(t, c, &store.Revival{Taken: dead, Counters: []store.CounterDeltas{deltas(t, c, "count", time.Second, count{1, "a", 1})}})
	if !errors.Is(err, store.ErrMoved) {
		t.Fatalf("%v, want ErrMoved", err)
	}
	sameCells(t, cells(t, e, "count", 1, time.Second), map[string]int64{})
	wantBuried(t, e, inStream("s", dead[1])...)
}

func requeueFenced(t *testing.T, open Open[Requeuer]) {
	e := opened(t, open)
	register(t, e, plugin())
	old := checkpoint(t, e, "s", 0)
	dead := buriedAt(t, old, 50, 3)
	x := &store.Revival{Taken: dead, Counters: []store.CounterDeltas{deltas(t, old, "count", time.Second, count{1, "a", 1})}}
	fresh := checkpoint(t, e, "s", 50)
	if err := revive(t, old, x); !errors.Is(err, store.ErrFenced) {
		t.Fatalf("%v, want ErrFenced", err)
	}
	wantBuried(t, e, inStream("s", dead...)...)
	x.Counters = []store.CounterDeltas{deltas(t, fresh, "count", time.Second, count{1, "a", 1})} // its numbers of series are its own
	noError(t, revive(t, fresh, x))
	sameCells(t, cells(t, e, "count", 1, time.Second), map[string]int64{`1 "a"`: 1})
}

func requeueBeside(t *testing.T, open Open[Requeuer]) {
	e := opened(t, open)
	register(t, e, plugin())
	c := checkpoint(t, e, "s", 0)
	want, left := int64(0), []store.DeadLetter{}
	for to := uint64(10); to <= 100; to += 10 {
		left = append(left, buriedAt(t, c, to, to-4, to-2)...)
		commit(t, c, to+1, deltas(t, c, "count", time.Second, count{int64(to), "a", 1}, count{0, "all", 1}))
		want++
		if to%20 == 0 {
			noError(t, revive(t, c, &store.Revival{Taken: left[:3], Counters: []store.CounterDeltas{deltas(t, c, "count", time.Second, count{0, "all", 3})}}))
			left, want = left[3:], want+3
		}
	}
	if got := cells(t, e, "count", 1, time.Second)[`0 "all"`]; got != want {
		t.Fatalf("%d, want %d", got, want)
	}
	wantBuried(t, e, inStream("s", left...)...)
}

func requeueGenerations(t *testing.T, open Open[Requeuer]) {
	e := opened(t, open)
	register(t, e, plugin())
	dead := buriedAt(t, checkpoint(t, e, "s", 0), 50, 3)
	p := plugin()
	p.Fingerprint = "f2"
	g := register(t, e, p)
	c, err := e.Checkpoint(patience(t), store.CheckpointKey{Plugin: "p", Generation: g.Building, Stream: "s"})
	noError(t, err)
	noError(t, revive(t, c, &store.Revival{Taken: dead, Counters: []store.CounterDeltas{deltas(t, c, "count", time.Second, count{1, "a", 1})}}))
	sameCells(t, cells(t, e, "count", g.Building, time.Second), map[string]int64{})
	wantBuried(t, e, inStream("s", dead...)...)
}

func requeueRefused(t *testing.T, open Open[Requeuer]) {
	e := opened(t, open)
	register(t, e, plugin())
	c := checkpoint(t, e, "s", 0)
	dead := buriedAt(t, c, 50, 3)
	for name, r := range map[string]*store.Revival{
		"nothing taken":     {Counters: []store.CounterDeltas{deltas(t, c, "count", time.Second, count{1, "a", 1})}},
		"taken twice":       {Taken: []store.DeadLetter{dead[0], dead[0]}},
		"dead with no name": {Taken: dead, Dead: []store.DeadLetter{{Seq: 4, At: time.Unix(1, 0)}}},
		"dead as before":    {Taken: dead, Dead: dead},
		"unknown metric":    {Taken: dead, Counters: []store.CounterDeltas{{Metric: "no", Interval: time.Second}}},
	} {
		if err := revive(t, c, r); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	wantBuried(t, e, inStream("s", dead...)...)
}

func requeueCancelled(t *testing.T, open Open[Requeuer]) {
	e := opened(t, open)
	register(t, e, plugin())
	c := checkpoint(t, e, "s", 0)
	dead := buriedAt(t, c, 50, 3)
	x := &store.Revival{Taken: dead, Counters: []store.CounterDeltas{deltas(t, c, "count", time.Second, count{1, "a", 1})}}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.(store.Reviver).Revive(ctx, x); err == nil {
		t.Fatal("no error of a call that was cancelled")
	}
	noError(t, revive(t, c, x))
	sameCells(t, cells(t, e, "count", 1, time.Second), map[string]int64{`1 "a"`: 1})
	wantBuried(t, e)
}
