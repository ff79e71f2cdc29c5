package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/store"
)

// Ledger holds an engine to the contract of store.Ledger.
func Ledger[E Ledgerer](t *testing.T, fresh Fresh[E]) {
	cases(t, as(fresh, func(e E) Ledgerer { return e }), map[string]func(*testing.T, Open[Ledgerer]){
		"NewCheckpoint_StandsAtZero":            ledgerNew,
		"Commit_AddsUp":                         ledgerCommit,
		"SameCommitTwice_CountsOnce":            ledgerTwice,
		"SecondWriter_FencesTheFirst":           ledgerFenced,
		"Series_AreStable":                      ledgerSeries,
		"Series_SurviveALifeThatCommitsNothing": ledgerSeriesLost,
		"SeriesLimit_GoesToOther":               ledgerLimit,
		"Latest_NewestTimeAndIDWins":            ledgerLatest,
		"DeadLetters_AreKept":                   ledgerDead,
		"Positions_OfEveryStream":               ledgerPositions,
		"Unknown_IsAnError":                     ledgerUnknown,
		"FailedCommit_LeavesNothing":            ledgerAtomic,
		"Cancelled_CanBeRepeated":               ledgerCancelled,
		"Generations_AreApart":                  ledgerGenerations,
		"RandomCommits_AddUp/seed=1":            func(t *testing.T, o Open[Ledgerer]) { ledgerRandom(t, o, 1) },
		"RandomCommits_AddUp/seed=2":            func(t *testing.T, o Open[Ledgerer]) { ledgerRandom(t, o, 2) },
	})
}

// The plugin that the cases register: "count" by one dimension, "pairs" by two, "sum" by none, "news" of latest values.
const day = 24 * time.Hour

func plugin() store.Plugin {
	return store.Plugin{ID: "p", Version: "1.0", DataVersion: 1, Fingerprint: "f1", Metrics: []store.Metric{
		{ID: "count", Name: "Count", Kind: store.Counter, Unit: "events", Dimensions: []store.Dimension{{Name: "topic"}}, Intervals: []time.Duration{time.Second, time.Minute, day}},
		{ID: "pairs", Name: "Pairs", Kind: store.Counter, Dimensions: []store.Dimension{{Name: "user", MultiValued: true}, {Name: "topic"}}, Intervals: []time.Duration{time.Hour}, SeriesLimit: 5},
		{ID: "sum", Name: "Sum", Kind: store.Counter, Intervals: []time.Duration{time.Minute}},
		{ID: "news", Name: "News", Kind: store.Latest, Dimensions: []store.Dimension{{Name: "category"}, {Name: "constraint"}}},
	}}
}

func register(t testing.TB, e interface {
	Register(context.Context, store.Plugin) (store.Generations, error)
}, p store.Plugin) store.Generations {
	t.Helper()
	g, err := e.Register(patience(t), p)
	noError(t, err)
	return g
}

// checkpoint opens a checkpoint of the serving generation and fails unless it stands at want.
func checkpoint(t testing.TB, l store.Ledger, stream string, want uint64) store.Checkpoint {
	t.Helper()
	c, err := l.Checkpoint(patience(t), store.CheckpointKey{Plugin: "p", Generation: 1, Stream: stream})
	noError(t, err)
	if c.Pos() != want {
		t.Fatalf("checkpoint of %s stands at %d, want %d", stream, c.Pos(), want)
	}
	return c
}

// count is n at a bucket (seconds since 1970) and key.
type count struct {
	at  int64
	key string
	n   int64
}

// deltas packs counts as the plugin host does.
func deltas(t testing.TB, c store.Checkpoint, metric string, interval time.Duration, counts ...count) store.CounterDeltas {
	t.Helper()
	sums := map[store.Cell]int64{}
	for _, x := range counts {
		s, err := c.Series(metric, x.key)
		noError(t, err)
		sums[store.MakeCell(floor(x.at, int64(interval/time.Second)), s)] += x.n
	}
	d := store.CounterDeltas{Metric: metric, Interval: interval}
	for cell, n := range sums {
		d.Cells = append(d.Cells, store.Delta{Cell: cell, N: n})
	}
	slices.SortFunc(d.Cells, func(a, b store.Delta) int {
		if a.Cell < b.Cell {
			return -1
		}
		return 1
	})
	return d
}

func floor(x, by int64) int64 {
	if x < 0 && x%by != 0 {
		return x/by - 1
	}
	return x / by
}

func commit(t testing.TB, c store.Checkpoint, to uint64, d ...store.CounterDeltas) {
	t.Helper()
	noError(t, c.Commit(patience(t), &store.Commit{To: to, Counters: d}))
	if c.Pos() != to {
		t.Fatalf("committed to %d, but the checkpoint says %d", to, c.Pos())
	}
}

const (
	early = -1 << 36 // far below and far above every bucket of the cases
	late  = 1 << 36
)

// cells reads all rows of a generation: "start key" -> n.
func cells(t testing.TB, l Ledgerer, metric string, generation uint32, interval time.Duration) map[string]int64 {
	t.Helper()
	out := map[string]int64{}
	q := store.CellQuery{Plugin: "p", Metric: metric, Generation: generation, Interval: interval, From: early, To: late}
	noError(t, l.EachCell(patience(t), q, func(r store.Row) error {
		k := fmt.Sprintf("%d %q", r.Time, r.Key)
		if _, ok := out[k]; ok {
			t.Fatalf("%s %s: two rows at %s", metric, interval, k)
		}
		out[k] = r.N
		return nil
	}))
	return out
}

// sameCells compares rows; a row of 0 and none are the same.
func sameCells(t testing.TB, got, want map[string]int64) {
	t.Helper()
	for k, n := range want {
		if got[k] != n {
			t.Fatalf("%s is %d, want %d (of %d rows, %d wanted)", k, got[k], n, len(got), len(want))
		}
	}
	for k, n := range got {
		if _, ok := want[k]; !ok && n != 0 {
			t.Fatalf("%s is %d, want no such row", k, n)
		}
	}
}

func ledgerNew(t *testing.T, open Open[Ledgerer]) {
	l := opened(t, open)
	register(t, l, plugin())
	noError(t, checkpoint(t, l, "s", 0).Close())
	c := checkpoint(t, l, "s", 0)
	commit(t, c, 7)
	noError(t, c.Close())
	checkpoint(t, l, "s", 7)
	checkpoint(t, l, "another", 0)
}

func ledgerCommit(t *testing.T, open Open[Ledgerer]) {
	l := opened(t, open)
	register(t, l, plugin())
	c := checkpoint(t, l, "s", 0)
	commit(t, c, 10,
		deltas(t, c, "count", time.Second, count{100, "a", 1}, count{100, "b", 2}, count{101, "a", 3}, count{-1, "a", 4}),
		deltas(t, c, "count", time.Minute, count{100, "a", 1}, count{-1, "b", 7}),
		deltas(t, c, "count", day, count{100, "a", 4}, count{-1, "a", 5}, count{1_524_736_800, "b", 6}),
		deltas(t, c, "sum", time.Minute, count{100, "", 9}))
	noError(t, c.Close())
	noError(t, l.Close())
	l = opened(t, open)
	c = checkpoint(t, l, "s", 10)
	commit(t, c, 11,
		deltas(t, c, "count", time.Second, count{100, "a", 10}, count{102, "c", 1}),
		deltas(t, c, "count", day, count{86_399, "a", -4}),
		deltas(t, c, "pairs", time.Hour, count{3600, store.JoinKey([]string{"ralph", "a\x00b"}), 1}, count{3600, "", 2}))
	sameCells(t, cells(t, l, "count", 1, time.Second), map[string]int64{`100 "a"`: 11, `100 "b"`: 2, `101 "a"`: 3, `-1 "a"`: 4, `102 "c"`: 1})
	sameCells(t, cells(t, l, "count", 1, time.Minute), map[string]int64{`60 "a"`: 1, `-60 "b"`: 7})
	sameCells(t, cells(t, l, "count", 1, day), map[string]int64{`0 "a"`: 0, `-86400 "a"`: 5, `1524700800 "b"`: 6})
	sameCells(t, cells(t, l, "sum", 1, time.Minute), map[string]int64{`60 ""`: 9})
	sameCells(t, cells(t, l, "pairs", 1, time.Hour), map[string]int64{fmt.Sprintf("3600 %q", "ralph\x00a\x01\x01b"): 1, `3600 ""`: 2})
}

func ledgerTwice(t *testing.T, open Open[Ledgerer]) {
	l := opened(t, open)
	register(t, l, plugin())
	c := checkpoint(t, l, "s", 0)
	x := &store.Commit{To: 5, Counters: []store.CounterDeltas{deltas(t, c, "count", time.Second, count{1, "a", 1})},
		Dead: []store.DeadLetter{{Seq: 3, ID: "x", Error: "broken", At: time.Unix(9, 0)}}}
	for range 3 {
		noError(t, c.Commit(patience(t), x))
	}
	commit(t, c, 9, deltas(t, c, "count", time.Second, count{1, "a", 1}))
	noError(t, c.Commit(patience(t), x)) // long past: nothing
	if c.Pos() != 9 {
		t.Fatalf("at %d, want 9", c.Pos())
	}
	sameCells(t, cells(t, l, "count", 1, time.Second), map[string]int64{`1 "a"`: 2})
	if _, n, err := l.DeadLetters(patience(t), "p", 10); err != nil || n != 1 {
		t.Fatalf("%d dead letters, %v; want 1", n, err)
	}
}

func ledgerFenced(t *testing.T, open Open[Ledgerer]) {
	l := opened(t, open)
	register(t, l, plugin())
	first := checkpoint(t, l, "s", 0)
	commit(t, first, 3, deltas(t, first, "count", time.Second, count{1, "a", 1}))
	other := checkpoint(t, l, "other", 0)
	second := checkpoint(t, opened(t, open), "s", 3) // another process
	err := first.Commit(patience(t), &store.Commit{To: 4, Counters: []store.CounterDeltas{deltas(t, first, "count", time.Second, count{1, "a", 100})}})
	if !errors.Is(err, store.ErrFenced) {
		t.Fatalf("the first writer's commit: %v, want ErrFenced", err)
	}
	commit(t, second, 4, deltas(t, second, "count", time.Second, count{1, "a", 1}))
	commit(t, other, 1) // other streams are not concerned
	sameCells(t, cells(t, l, "count", 1, time.Second), map[string]int64{`1 "a"`: 2})
}

func ledgerSeries(t *testing.T, open Open[Ledgerer]) {
	l := opened(t, open)
	register(t, l, plugin())
	a, b := checkpoint(t, l, "a", 0), checkpoint(t, l, "b", 0)
	want := map[string]int64{}
	for round := range 3 {
		for i := range 100 {
			key := fmt.Sprintf("key-%d ü\x00 %s", i, strings.Repeat("k", 2*i))
			commitTo := uint64(round*100 + i + 1)
			c := []store.Checkpoint{a, b}[(i+round)%2]
			if i%5 == 0 {
				s1, err1 := a.Series("count", key)
				s2, err2 := a.Series("count", key)
				if err1 != nil || err2 != nil || s1 != s2 || s1 >= store.MaxSeries {
					t.Fatalf("series %d, %d, %v, %v", s1, s2, err1, err2)
				}
			}
			if i%10 == 3 || round > 0 {
				commit(t, c, commitTo, deltas(t, c, "count", time.Second, count{5, key, 1}))
				want[fmt.Sprintf("5 %q", key)]++
			}
		}
		sameCells(t, cells(t, l, "count", 1, time.Second), want)
	}
	if _, err := a.Series("no such metric", "k"); !errors.Is(err, store.ErrUnknown) {
		t.Fatalf("series of an unknown metric: %v, want ErrUnknown", err)
	}
}

func ledgerSeriesLost(t *testing.T, open Open[Ledgerer]) {
	l := opened(t, open)
	register(t, l, plugin())
	c := checkpoint(t, l, "s", 0)
	for i := range 50 {
		_, err := c.Series("count", fmt.Sprint("lost", i))
		noError(t, err)
	}
	noError(t, l.Close())
	l = opened(t, open)
	c = checkpoint(t, l, "s", 0)
	want := map[string]int64{}
	var d []count
	for i := range 70 {
		key := fmt.Sprint("lost", 69-i)
		d = append(d, count{1, key, int64(i)})
		want[fmt.Sprintf("1 %q", key)] = int64(i)
	}
	commit(t, c, 1, deltas(t, c, "count", time.Second, d...))
	noError(t, l.Close())
	sameCells(t, cells(t, opened(t, open), "count", 1, time.Second), want)
}

func ledgerLimit(t *testing.T, open Open[Ledgerer]) {
	l := opened(t, open)
	register(t, l, plugin())
	c := checkpoint(t, l, "s", 0)
	var d []count
	for i := range 5 {
		d = append(d, count{0, fmt.Sprint("k", i), 1})
	}
	d = append(d, count{0, "k5", 1}, count{0, "k6", 1}, count{0, store.OtherKey, 1}, count{0, "k1", 1})
	commit(t, c, 1, deltas(t, c, "pairs", time.Hour, d...))
	noError(t, l.Close())
	l = opened(t, open)
	c = checkpoint(t, l, "s", 1)
	commit(t, c, 2, deltas(t, c, "pairs", time.Hour, count{0, "k9", 1}, count{0, "k0", 1}))
	sameCells(t, cells(t, l, "pairs", 1, time.Hour), map[string]int64{`0 "k0"`: 2, `0 "k1"`: 2, `0 "k2"`: 1, `0 "k3"`: 1, `0 "k4"`: 1, `0 "(other)"`: 4})
}
