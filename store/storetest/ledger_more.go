package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/statscache/statscache/store"
)

// latest reads all latest values of the plugin's "news": key -> "time id value".
func latest(t testing.TB, l Ledgerer, generation uint32) map[string]string {
	t.Helper()
	out := map[string]string{}
	noError(t, l.EachLatest(patience(t), "p", "news", generation, func(r store.LatestRow) error {
		out[r.Key] = fmt.Sprintf("%d %s %s", r.Time, r.ID, r.Value)
		return nil
	}))
	return out
}

func ledgerLatest(t *testing.T, open Open[Ledgerer]) {
	l := opened(t, open)
	register(t, l, plugin())
	puts := func(stream string, from, to uint64, list ...store.Put) {
		t.Helper()
		c := checkpoint(t, l, stream, from)
		noError(t, c.Commit(patience(t), &store.Commit{To: to, Puts: list}))
		noError(t, c.Close())
	}
	put := func(key string, at int64, id, value string) store.Put {
		return store.Put{Metric: "news", Key: key, Time: at, ID: id, Value: []byte(value)}
	}
	rawhide := store.JoinKey([]string{"rawhide", "x86_64"})
	puts("s", 0, 1, put(rawhide, 10, "b", `"first"`), put(rawhide, 30, "a", `{"third":1}`), put(rawhide, 20, "c", `"second"`), put("", 5, "z", `null`))
	puts("other", 0, 1, put(rawhide, 29, "zz", `"late"`), put("", 5, "zz", `1`), put("", 5, "a", `2`))
	want := map[string]string{rawhide: `30 a {"third":1}`, "": "5 zz 1"}
	if got := latest(t, l, 1); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("latest %q, want %q", got, want)
	}
	noError(t, l.Close())
	l = opened(t, open)
	puts("s", 1, 2, put(rawhide, 30, "b", `"newest"`), put("", -5, "zzz", `3`))
	want[rawhide] = `30 b "newest"`
	if got := latest(t, l, 1); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("latest %q, want %q", got, want)
	}
}

func ledgerDead(t *testing.T, open Open[Ledgerer]) {
	l := opened(t, open)
	register(t, l, plugin())
	c := checkpoint(t, l, "s", 0)
	var want []store.StreamDeadLetter
	for i := range 5 {
		d := store.DeadLetter{Seq: uint64(10*i + 3), ID: fmt.Sprint("id-", i), Error: fmt.Sprintf("line %d\nüb\"er", i), At: time.UnixMicro(Base + int64(i)*1e6).UTC()}
		noError(t, c.Commit(patience(t), &store.Commit{To: uint64(10*i + 10), Dead: []store.DeadLetter{d}}))
		want = append(want, store.StreamDeadLetter{Stream: "s", DeadLetter: d})
	}
	slices.Reverse(want)
	noError(t, l.Close())
	l = opened(t, open)
	for _, limit := range []int{0, 2, 100} {
		list, n, err := l.DeadLetters(patience(t), "p", limit)
		noError(t, err)
		for i := range list {
			list[i].At = list[i].At.UTC()
		}
		if n != 5 || !slices.Equal(list, want[:min(limit, 5)]) {
			t.Fatalf("%d dead letters %+v, want 5 %+v", n, list, want[:min(limit, 5)])
		}
	}
	if list, n, err := l.DeadLetters(patience(t), "nobody", 9); err != nil || n != 0 || len(list) != 0 {
		t.Fatalf("an unknown plugin has %d dead letters, %v", n, err)
	}
}

func ledgerPositions(t *testing.T, open Open[Ledgerer]) {
	l := opened(t, open)
	register(t, l, plugin())
	commit(t, checkpoint(t, l, "b", 0), 20)
	commit(t, checkpoint(t, l, "a", 0), 1<<40)
	got, err := l.Positions(patience(t), "p", 1)
	noError(t, err)
	slices.SortFunc(got, func(a, b store.Position) int { return int(a.Stream[0]) - int(b.Stream[0]) })
	if want := []store.Position{{Stream: "a", Pos: 1 << 40, Intent: 1 << 40}, {Stream: "b", Pos: 20, Intent: 20}}; !slices.Equal(got, want) {
		t.Fatalf("positions %+v, want %+v", got, want)
	}
	if got, err := l.Positions(patience(t), "p", 2); err != nil || len(got) > 0 {
		t.Fatalf("a generation that is not there has positions %+v, %v", got, err)
	}
}

func ledgerUnknown(t *testing.T, open Open[Ledgerer]) {
	l := opened(t, open)
	register(t, l, plugin())
	for _, key := range []store.CheckpointKey{{Plugin: "nobody", Generation: 1, Stream: "s"}, {Plugin: "p", Generation: 2, Stream: "s"}} {
		if _, err := l.Checkpoint(patience(t), key); !errors.Is(err, store.ErrUnknown) {
			t.Fatalf("checkpoint of %+v: %v, want ErrUnknown", key, err)
		}
	}
	c := checkpoint(t, l, "s", 0)
	for name, x := range map[string]*store.Commit{
		"metric":   {To: 1, Counters: []store.CounterDeltas{{Metric: "nothing", Interval: time.Second, Cells: []store.Delta{{Cell: 1, N: 1}}}}},
		"interval": {To: 1, Counters: []store.CounterDeltas{{Metric: "count", Interval: time.Hour, Cells: []store.Delta{{Cell: 1, N: 1}}}}},
		"put":      {To: 1, Puts: []store.Put{{Metric: "nothing", Key: "k", ID: "x", Value: []byte("1")}}},
	} {
		if err := c.Commit(patience(t), x); !errors.Is(err, store.ErrUnknown) {
			t.Fatalf("commit with an unknown %s: %v, want ErrUnknown", name, err)
		}
	}
}

func ledgerAtomic(t *testing.T, open Open[Ledgerer]) {
	l := opened(t, open)
	register(t, l, plugin())
	c := checkpoint(t, l, "s", 0)
	good := deltas(t, c, "count", time.Second, count{1, "a", 1}, count{2, "b", 1})
	bad := store.CounterDeltas{Metric: "nothing", Interval: time.Second, Cells: []store.Delta{{Cell: 1, N: 1}}}
	if err := c.Commit(patience(t), &store.Commit{To: 1, Counters: []store.CounterDeltas{good, bad}}); err == nil {
		t.Fatal("a commit to a metric that is not there succeeded")
	}
	sameCells(t, cells(t, l, "count", 1, time.Second), nil)
	commit(t, c, 1, good) // the series it used are as good as new
	sameCells(t, cells(t, l, "count", 1, time.Second), map[string]int64{`1 "a"`: 1, `2 "b"`: 1})
}

func ledgerCancelled(t *testing.T, open Open[Ledgerer]) {
	l := opened(t, open)
	register(t, l, plugin())
	c := checkpoint(t, l, "s", 0)
	ctx, cancel := context.WithCancel(patience(t))
	cancel()
	x := &store.Commit{To: 1, Counters: []store.CounterDeltas{deltas(t, c, "count", time.Second, count{1, "a", 1})}}
	if err := c.Commit(ctx, x); err == nil {
		t.Fatal("a cancelled commit succeeded")
	}
	noError(t, c.Commit(patience(t), x))
	sameCells(t, cells(t, l, "count", 1, time.Second), map[string]int64{`1 "a"`: 1})
}

func ledgerGenerations(t *testing.T, open Open[Ledgerer]) {
	l := opened(t, open)
	register(t, l, plugin())
	one := checkpoint(t, l, "s", 0)
	commit(t, one, 5, deltas(t, one, "count", time.Second, count{1, "a", 1}))
	p := plugin()
	p.DataVersion, p.Fingerprint = 2, "f2"
	p.Metrics[0].Intervals = []time.Duration{time.Second, time.Hour}
	if g := register(t, l, p); g != (store.Generations{Serving: 1, Building: 2}) {
		t.Fatalf("generations %+v, want 1 serving and 2 building", g)
	}
	two, err := l.Checkpoint(patience(t), store.CheckpointKey{Plugin: "p", Generation: 2, Stream: "s"})
	noError(t, err)
	if two.Pos() != 0 {
		t.Fatalf("a new generation stands at %d, want 0", two.Pos())
	}
	commit(t, two, 3, deltas(t, two, "count", time.Second, count{1, "b", 10}, count{1, "a", 20}), deltas(t, two, "count", time.Hour, count{1, "a", 7}))
	commit(t, one, 6, deltas(t, one, "count", time.Second, count{1, "a", 1}))
	sameCells(t, cells(t, l, "count", 1, time.Second), map[string]int64{`1 "a"`: 2})
	sameCells(t, cells(t, l, "count", 2, time.Second), map[string]int64{`1 "a"`: 20, `1 "b"`: 10})
	sameCells(t, cells(t, l, "count", 2, time.Hour), map[string]int64{`0 "a"`: 7})
}

// ledgerRandom plays commits of several streams, with repeats, new writers and new lives, against a map.
func ledgerRandom(t *testing.T, open Open[Ledgerer], seed uint64) {
	r := rand.New(rand.NewPCG(seed, 7))
	l := opened(t, open)
	register(t, l, plugin())
	names := []string{"a", "b", "c"}
	at := map[string]uint64{}
	writers := map[string]store.Checkpoint{}
	want := map[time.Duration]map[string]int64{time.Second: {}, time.Minute: {}, day: {}}
	for range 60 {
		s := names[r.IntN(len(names))]
		switch r.IntN(10) {
		case 0:
			noError(t, l.Close())
			l = opened(t, open)
			clear(writers)
		case 1:
			delete(writers, s)
		}
		if writers[s] == nil {
			writers[s] = checkpoint(t, l, s, at[s])
		}
		c := writers[s]
		x := &store.Commit{To: at[s] + 1 + r.Uint64N(1000)}
		for _, interval := range []time.Duration{time.Second, time.Minute, day} {
			var list []count
			for range r.IntN(150) {
				y := count{r.Int64N(7200) - 3600, fmt.Sprint("k", r.IntN(60)), r.Int64N(9)}
				list = append(list, y)
				step := int64(interval / time.Second)
				want[interval][fmt.Sprintf("%d %q", floor(y.at, step)*step, y.key)] += y.n
			}
			x.Counters = append(x.Counters, deltas(t, c, "count", interval, list...))
		}
		for range 1 + r.IntN(2) {
			noError(t, c.Commit(patience(t), x))
		}
		at[s] = x.To
	}
	for interval, rows := range want {
		sameCells(t, cells(t, l, "count", 1, interval), rows)
	}
}
