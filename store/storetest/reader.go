package storetest

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/statscache/statscache/store"
)

// ReadWriter is what the group Reader asks of an engine: numbers are committed before they are read.
type ReadWriter interface {
	Cataloger
	store.Reader
}

// Reader holds an engine to the contract of store.Reader.
func Reader[E ReadWriter](t *testing.T, fresh Fresh[E]) {
	cases(t, as(fresh, func(e E) ReadWriter { return e }), map[string]func(*testing.T, Open[ReadWriter]){
		"Rows_InOrderAndInPages":       readerRows,
		"Rows_OfALargeBucket":          readerLargeBucket,
		"Rows_OfNothing":               readerNothing,
		"Unknown_IsAnError":            readerUnknown,
		"Latest_ByKey":                 readerLatest,
		"Span_FirstAndLast":            readerSpan,
		"EachCell_StopsWhenTold":       readerStop,
		"Rows_AreOfTheServingOnes":     readerServing,
		"Commits_AreSeenWholeOrNotYet": readerWhole,
	})
}

func readerRows(t *testing.T, open Open[ReadWriter]) {
	e := opened(t, open)
	register(t, e, plugin())
	r := rand.New(rand.NewPCG(5, 5))
	keys := []string{"", "a", "ab", "B", "z", "ä", "ü", "日本", "\U0001F4C8", "a b", "a-", "(other)"}
	sums := map[store.Row]int64{}
	var list []count
	for range 600 {
		x := count{int64(r.IntN(90)) - 30, keys[r.IntN(len(keys))], 1 + r.Int64N(5)}
		list = append(list, x)
		sums[store.Row{Time: x.at, Key: x.key}] += x.n
	}
	c := checkpoint(t, e, "s", 0)
	commit(t, c, 1, deltas(t, c, "count", time.Second, list...))
	var all []store.Row
	for x, n := range sums {
		all = append(all, store.Row{Time: x.Time, Key: x.Key, N: n})
	}
	for _, desc := range []bool{false, true} {
		slices.SortFunc(all, func(a, b store.Row) int {
			if desc {
				return cmp.Or(cmp.Compare(b.Time, a.Time), cmp.Compare(a.Key, b.Key))
			}
			return cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(a.Key, b.Key))
		})
		for _, span := range [][2]int64{{early, late}, {-30, 60}, {-5, 5}, {0, 1}, {59, 1000}} {
			var want []store.Row
			for _, x := range all {
				if x.Time >= span[0] && x.Time < span[1] {
					want = append(want, x)
				}
			}
			for _, page := range []int{1, 31, 100_000} {
				var got []store.Row
				for offset := 0; ; offset += page {
					rows, n, err := e.Rows(patience(t), store.RowQuery{Metric: "count", Interval: time.Second, From: span[0], To: span[1], Desc: desc, Offset: offset, Limit: page})
					noError(t, err)
					if n != len(want) {
						t.Fatalf("total %d, want %d", n, len(want))
					}
					if len(rows) == 0 {
						break
					}
					if got = append(got, rows...); page == 1 && offset > 10 {
						want = want[:len(got)]
						break
					}
				}
				if !slices.Equal(got, want) {
					t.Fatalf("rows of %v, desc %v, pages of %d:\n%v\nwant\n%v", span, desc, page, got, want)
				}
				if page == 1 {
					want = nil
					for _, x := range all {
						if x.Time >= span[0] && x.Time < span[1] {
							want = append(want, x)
						}
					}
				}
			}
		}
	}
}

func readerLargeBucket(t *testing.T, open Open[ReadWriter]) {
	e := opened(t, open)
	register(t, e, plugin())
	const n = 6000
	var list []count
	var keys []string
	for i := range n {
		key := fmt.Sprintf("key %x", i*2654435761%(1<<32))
		list, keys = append(list, count{60, key, int64(i)}), append(keys, key)
	}
	list = append(list, count{59, "before", 1}, count{61, "after", 1})
	c := checkpoint(t, e, "s", 0)
	commit(t, c, 1, deltas(t, c, "count", time.Second, list...))
	slices.Sort(keys)
	keys = append(append([]string{"before"}, keys...), "after")
	for _, at := range [][2]int{{0, 3}, {1, 50}, {3000, 100}, {n - 2, 10}, {0, 2 * n}} {
		rows, total, err := e.Rows(patience(t), store.RowQuery{Metric: "count", Interval: time.Second, From: 0, To: 100, Offset: at[0], Limit: at[1]})
		noError(t, err)
		want := keys[at[0]:min(len(keys), at[0]+at[1])]
		if total != n+2 || len(rows) != len(want) {
			t.Fatalf("%d rows of %d at %v, want %d of %d", len(rows), total, at, len(want), n+2)
		}
		for i := range rows {
			if rows[i].Key != want[i] {
				t.Fatalf("row %d of %v is %q, want %q", i, at, rows[i].Key, want[i])
			}
		}
	}
}

func readerNothing(t *testing.T, open Open[ReadWriter]) {
	e := opened(t, open)
	register(t, e, plugin())
	c := checkpoint(t, e, "s", 0)
	commit(t, c, 1, deltas(t, c, "count", time.Second, count{1, "a", 1}))
	for name, q := range map[string]store.RowQuery{
		"another time": {From: 2, To: 10, Limit: 5}, "empty span": {From: 5, To: 5, Limit: 5}, "span turned round": {From: 9, To: 1, Limit: 5},
		"past the end": {From: 0, To: 10, Offset: 1, Limit: 5}, "no limit": {From: 0, To: 10}, "ends of time": {From: -1 << 63, To: 1<<63 - 1, Offset: 1 << 40, Limit: 1},
	} {
		q.Metric, q.Interval = "count", time.Second
		rows, n, err := e.Rows(patience(t), q)
		want := 0
		if q.From <= 1 && q.To > 1 {
			want = 1
		}
		if err != nil || len(rows) > 0 || n != want {
			t.Fatalf("%s: %d rows of %d, %v; want none of %d", name, len(rows), n, err, want)
		}
	}
}

func readerUnknown(t *testing.T, open Open[ReadWriter]) {
	e := opened(t, open)
	register(t, e, plugin())
	for _, q := range []store.RowQuery{{Metric: "nothing", Interval: time.Second, To: 9, Limit: 1}, {Metric: "count", Interval: time.Hour, To: 9, Limit: 1}} {
		if _, _, err := e.Rows(patience(t), q); !errors.Is(err, store.ErrUnknown) {
			t.Fatalf("rows of %+v: %v, want ErrUnknown", q, err)
		}
		if _, _, _, err := e.Span(patience(t), q.Metric, q.Interval); !errors.Is(err, store.ErrUnknown) {
			t.Fatalf("span of %+v: %v, want ErrUnknown", q, err)
		}
	}
	if _, err := e.Latest(patience(t), "nothing"); !errors.Is(err, store.ErrUnknown) {
		t.Fatalf("latest: %v, want ErrUnknown", err)
	}
}

func readerLatest(t *testing.T, open Open[ReadWriter]) {
	e := opened(t, open)
	register(t, e, plugin())
	if list, err := e.Latest(patience(t), "news"); err != nil || len(list) > 0 {
		t.Fatalf("latest of nothing: %+v, %v", list, err)
	}
	c := checkpoint(t, e, "s", 0)
	var puts []store.Put
	keys := []string{"ü", "b", "a", "", "日本", "Z"}
	for i, k := range keys {
		puts = append(puts, store.Put{Metric: "news", Key: k, Time: int64(-i), ID: fmt.Sprint("id", i), Value: fmt.Appendf(nil, `{"n":%d}`, i)})
	}
	noError(t, c.Commit(patience(t), &store.Commit{To: 1, Puts: puts}))
	list, err := e.Latest(patience(t), "news")
	noError(t, err)
	slices.SortFunc(puts, func(a, b store.Put) int { return cmp.Compare(a.Key, b.Key) })
	for i, p := range puts {
		if len(list) != len(puts) || list[i].Key != p.Key || list[i].Time != p.Time || list[i].ID != p.ID || string(list[i].Value) != string(p.Value) {
			t.Fatalf("latest %+v, want %+v", list, puts)
		}
	}
}

func readerSpan(t *testing.T, open Open[ReadWriter]) {
	e := opened(t, open)
	register(t, e, plugin())
	if _, _, ok, err := e.Span(patience(t), "count", time.Minute); ok || err != nil {
		t.Fatalf("span of nothing: %v, %v", ok, err)
	}
	c := checkpoint(t, e, "s", 0)
	commit(t, c, 1, deltas(t, c, "count", time.Minute, count{-61, "a", 1}, count{0, "b", 1}, count{7300, "c", 1}))
	first, last, ok, err := e.Span(patience(t), "count", time.Minute)
	if err != nil || !ok || first != -120 || last != 7260 {
		t.Fatalf("span %d-%d, %v, %v; want -120-7260", first, last, ok, err)
	}
}

func readerStop(t *testing.T, open Open[ReadWriter]) {
	e := opened(t, open)
	register(t, e, plugin())
	c := checkpoint(t, e, "s", 0)
	commit(t, c, 1, deltas(t, c, "count", time.Second, count{1, "a", 1}, count{2, "a", 1}, count{3, "a", 1}, count{4, "a", 1}))
	enough := errors.New("enough")
	n := 0
	q := store.CellQuery{Plugin: "p", Metric: "count", Generation: 1, Interval: time.Second, From: 2, To: 4}
	err := e.EachCell(patience(t), q, func(store.Row) error {
		n++
		return enough
	})
	if !errors.Is(err, enough) || n != 1 {
		t.Fatalf("called %d times, %v; want once and the error", n, err)
	}
	n = 0
	noError(t, e.EachCell(patience(t), q, func(r store.Row) error {
		n++
		_, _, err := e.Rows(patience(t), store.RowQuery{Metric: "count", Interval: time.Second, From: r.Time, To: r.Time + 1, Limit: 1}) // the store is usable inside
		return err
	}))
	if n != 2 {
		t.Fatalf("%d cells in [2, 4), want 2", n)
	}
}

func readerServing(t *testing.T, open Open[ReadWriter]) {
	e := opened(t, open)
	register(t, e, plugin())
	one := checkpoint(t, e, "s", 0)
	commit(t, one, 1, deltas(t, one, "count", time.Second, count{1, "a", 1}))
	register(t, e, changed("f2"))
	two, err := e.Checkpoint(patience(t), store.CheckpointKey{Plugin: "p", Generation: 2, Stream: "s"})
	noError(t, err)
	commit(t, two, 1, deltas(t, two, "count", time.Second, count{1, "a", 100}))
	for _, want := range []int64{1, 100} {
		rows, _, err := e.Rows(patience(t), store.RowQuery{Metric: "count", Interval: time.Second, From: 0, To: 9, Limit: 9})
		if err != nil || len(rows) != 1 || rows[0].N != want {
			t.Fatalf("rows %+v, %v; want one of %d", rows, err, want)
		}
		noError(t, e.Promote(patience(t), "p", 2))
	}
}

// readerWhole reads beside a writer: what was committed together is seen together, and never goes back.
func readerWhole(t *testing.T, open Open[ReadWriter]) {
	e := opened(t, open)
	register(t, e, plugin())
	c := checkpoint(t, e, "s", 0)
	var first []count
	for i := range 200 {
		first = append(first, count{int64(i % 20), fmt.Sprint("k", i/20), 1})
	}
	d := deltas(t, c, "count", time.Second, first...)
	commit(t, c, 1, d)
	done := make(chan error, 1)
	go func() {
		var err error
		for to := uint64(2); to <= 50 && err == nil; to++ {
			err = c.Commit(patience(t), &store.Commit{To: to, Counters: []store.CounterDeltas{d}})
		}
		done <- err
	}()
	last := int64(0)
	for running := true; running; {
		select {
		case err := <-done:
			noError(t, err)
			running = false
		default:
		}
		rows, n, err := e.Rows(patience(t), store.RowQuery{Metric: "count", Interval: time.Second, From: 0, To: 20, Limit: 1000})
		noError(t, err)
		if n != 200 || len(rows) != 200 || rows[0].N < last {
			t.Fatalf("%d rows of %d, the first is %d behind %d", len(rows), n, rows[0].N, last)
		}
		last = rows[0].N
		for _, r := range rows {
			if r.N != last {
				t.Fatalf("row %+v beside %d: half a commit", r, last)
			}
		}
	}
	if last != 50 {
		t.Fatalf("ends at %d, want 50", last)
	}
}
