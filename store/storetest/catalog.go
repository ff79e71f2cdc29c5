package storetest

import (
	"errors"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/eventually"
	"github.com/statscache/statscache/store"
)

// Cataloger is what the group Catalog asks of an engine.
type Cataloger interface {
	Ledgerer
	store.Catalog
}

// Catalog holds an engine to the contract of store.Catalog.
func Catalog[E Cataloger](t *testing.T, fresh Fresh[E]) {
	cases(t, as(fresh, func(e E) Cataloger { return e }), map[string]func(*testing.T, Open[Cataloger]){
		"NewPlugin_ServesGenerationOne":              catalogNew,
		"ChangedPlugin_BuildsBeside":                 catalogChanged,
		"ChangedBack_DropsWhatWasBuilt":              catalogBack,
		"Promote_SwapsAndRemoves":                    catalogPromote,
		"Promote_OfWhatIsNotBuilt_IsAnError":         catalogPromoteUnknown,
		"MetricOfAnotherPlugin_IsRefusedNamingBoth":  catalogConflict,
		"Descriptions_AreThoseOfTheLastRegistration": catalogDescription,
		"Versions_RiseWithWhatChanged":               catalogVersions,
		"Versions_SaySinceWhen":                      catalogCommitted,
		"SeriesUse_CountsWhatIsThere":                catalogSeriesUse,
	})
}

func catalogNew(t *testing.T, open Open[Cataloger]) {
	e := opened(t, open)
	if list, err := e.Plugins(patience(t)); err != nil || len(list) > 0 {
		t.Fatalf("a new store has plugins %+v, %v", list, err)
	}
	p, q := plugin(), store.Plugin{ID: "a", Version: "0.1", Fingerprint: "g", Metrics: []store.Metric{{ID: "a-metric", Kind: store.Counter, Intervals: []time.Duration{time.Hour},
		Layout: []byte(`{"title":"ü"}`), Retention: day}}}
	for range 2 { // the second time changes nothing
		for _, x := range []store.Plugin{p, q} {
			if g := register(t, e, x); g != (store.Generations{Serving: 1}) {
				t.Fatalf("plugin %s has generations %+v, want 1 serving", x.ID, g)
			}
		}
		noError(t, e.Close())
		e = opened(t, open)
		list, err := e.Plugins(patience(t))
		noError(t, err)
		if len(list) != 2 || !reflect.DeepEqual(list[0], q) || !samePlugin(list[1], p) {
			t.Fatalf("plugins %+v, want %+v", list, []store.Plugin{q, p})
		}
		wantMetrics(t, e, "a-metric 1", "count 1", "news 1", "pairs 1", "sum 1")
	}
}

// samePlugin compares plugins; an absent list and an empty one are the same.
func samePlugin(a, b store.Plugin) bool {
	if len(a.Metrics) != len(b.Metrics) {
		return false
	}
	for i := range a.Metrics {
		if !sameMetric(a.Metrics[i], b.Metrics[i]) {
			return false
		}
	}
	a.Metrics, b.Metrics = nil, nil
	return reflect.DeepEqual(a, b)
}

func sameMetric(a, b store.Metric) bool {
	for _, m := range []*store.Metric{&a, &b} {
		m.Dimensions = append([]store.Dimension{}, m.Dimensions...)
		m.Intervals = append([]time.Duration{}, m.Intervals...)
		m.Layout = append([]byte{}, m.Layout...)
	}
	return reflect.DeepEqual(a, b)
}

// wantMetrics compares the serving metrics with "id generation", in order.
func wantMetrics(t testing.TB, e store.Catalog, want ...string) []store.ServedMetric {
	t.Helper()
	list, err := e.Metrics(patience(t))
	noError(t, err)
	var got []string
	for _, m := range list {
		got = append(got, m.ID+" "+string(rune('0'+m.Generation)))
		if v := e.Version(m.ID); v == 0 || v < m.Version {
			t.Fatalf("metric %s has version %d in the catalog and is known at %d", m.ID, m.Version, v)
		}
	}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Fatalf("metrics %v, want %v", got, want)
	}
	return list
}

// changed is the plugin with other metrics: "count" by other intervals, "more" new, the others gone.
func changed(fingerprint string) store.Plugin {
	p := plugin()
	p.Fingerprint, p.DataVersion, p.Version = fingerprint, 2, "2.0"
	p.Metrics = []store.Metric{p.Metrics[0], {ID: "more", Name: "More", Kind: store.Counter, Intervals: []time.Duration{time.Minute}}}
	p.Metrics[0].Intervals = []time.Duration{time.Second, time.Hour}
	return p
}

func catalogChanged(t *testing.T, open Open[Cataloger]) {
	e := opened(t, open)
	register(t, e, plugin())
	for _, x := range []struct {
		fingerprint string
		building    uint32
	}{{"f2", 2}, {"f2", 2}, {"f3", 3}, {"f3", 3}, {"f2", 4}} { // what was given up is begun again
		if g := register(t, e, changed(x.fingerprint)); g != (store.Generations{Serving: 1, Building: x.building}) {
			t.Fatalf("fingerprint %s gives %+v, want 1 serving and %d building", x.fingerprint, g, x.building)
		}
		wantMetrics(t, e, "count 1", "news 1", "pairs 1", "sum 1")
		noError(t, e.Close())
		e = opened(t, open)
	}
}

func catalogBack(t *testing.T, open Open[Cataloger]) {
	e := opened(t, open)
	register(t, e, plugin())
	one := checkpoint(t, e, "s", 0)
	commit(t, one, 3, deltas(t, one, "count", time.Second, count{1, "a", 1}))
	register(t, e, changed("f2"))
	two, err := e.Checkpoint(patience(t), store.CheckpointKey{Plugin: "p", Generation: 2, Stream: "s"})
	noError(t, err)
	commit(t, two, 2)
	if g := register(t, e, plugin()); g != (store.Generations{Serving: 1}) {
		t.Fatalf("back to %+v, want 1 serving", g)
	}
	if err := two.Commit(patience(t), &store.Commit{To: 3}); !errors.Is(err, store.ErrFenced) {
		t.Fatalf("a writer of the generation that was given up: %v, want ErrFenced", err)
	}
	commit(t, one, 4, deltas(t, one, "count", time.Second, count{1, "a", 1}))
	sameCells(t, cells(t, e, "count", 1, time.Second), map[string]int64{`1 "a"`: 2})
}

func catalogPromote(t *testing.T, open Open[Cataloger]) {
	e := opened(t, open)
	register(t, e, plugin())
	one := checkpoint(t, e, "s", 0)
	noError(t, one.Commit(patience(t), &store.Commit{To: 3, Counters: []store.CounterDeltas{deltas(t, one, "count", time.Second, count{1, "a", 1}), deltas(t, one, "count", day, count{1, "a", 1})},
		Puts: []store.Put{{Metric: "news", Key: "k", ID: "x", Value: []byte(`1`)}}, Dead: []store.DeadLetter{{Seq: 2, ID: "x", At: time.Unix(1, 0)}}}))
	register(t, e, changed("f2"))
	two, err := e.Checkpoint(patience(t), store.CheckpointKey{Plugin: "p", Generation: 2, Stream: "s"})
	noError(t, err)
	commit(t, two, 3, deltas(t, two, "count", time.Hour, count{1, "b", 5}))
	before := e.Version("count")
	for range 2 { // a repeated call changes nothing
		noError(t, e.Promote(patience(t), "p", 2))
	}
	if e.Version("count") <= before {
		t.Fatalf("version of count was %d and is %d after the swap", before, e.Version("count"))
	}
	check := func() {
		t.Helper()
		wantMetrics(t, e, "count 2", "more 2")
		sameCells(t, cells(t, e, "count", 2, time.Hour), map[string]int64{`0 "b"`: 5})
		for _, f := range []func() error{
			func() error {
				return e.EachCell(patience(t), store.CellQuery{Plugin: "p", Metric: "count", Generation: 1, Interval: time.Second, From: early, To: late}, func(store.Row) error { return nil })
			},
			func() error {
				return e.EachLatest(patience(t), "p", "news", 1, func(store.LatestRow) error { return nil })
			},
		} {
			if err := f(); !errors.Is(err, store.ErrUnknown) {
				t.Fatalf("reading the old generation: %v, want ErrUnknown", err)
			}
		}
		if list, err := e.Positions(patience(t), "p", 1); err != nil || len(list) > 0 {
			t.Fatalf("the old generation has positions %+v, %v", list, err)
		}
	}
	check()
	if err := one.Commit(patience(t), &store.Commit{To: 9}); !errors.Is(err, store.ErrFenced) {
		t.Fatalf("a writer of the old generation: %v, want ErrFenced", err)
	}
	commit(t, two, 4, deltas(t, two, "more", time.Minute, count{1, "", 1}))
	noError(t, e.Close())
	e = opened(t, open)
	check()
	if g := register(t, e, changed("f2")); g != (store.Generations{Serving: 2}) {
		t.Fatalf("generations %+v, want 2 serving", g)
	}
	if g := register(t, e, plugin()); g != (store.Generations{Serving: 2, Building: 3}) {
		t.Fatalf("generations %+v, want 2 serving and 3 building", g)
	}
}

func catalogPromoteUnknown(t *testing.T, open Open[Cataloger]) {
	e := opened(t, open)
	register(t, e, plugin())
	for _, x := range []struct {
		plugin     string
		generation uint32
	}{{"nobody", 1}, {"p", 2}, {"p", 0}} {
		if err := e.Promote(patience(t), x.plugin, x.generation); !errors.Is(err, store.ErrUnknown) {
			t.Fatalf("promote %+v: %v, want ErrUnknown", x, err)
		}
	}
	noError(t, e.Promote(patience(t), "p", 1))
}

func catalogConflict(t *testing.T, open Open[Cataloger]) {
	e := opened(t, open)
	register(t, e, plugin())
	other := store.Plugin{ID: "rival", Fingerprint: "x", Metrics: []store.Metric{{ID: "own", Kind: store.Latest}, {ID: "news", Kind: store.Latest}}}
	_, err := e.Register(patience(t), other)
	if err == nil || !strings.Contains(err.Error(), "rival") || !strings.Contains(err.Error(), "plugin p") || !strings.Contains(err.Error(), "news") {
		t.Fatalf("a second plugin with the metric news: %v; want an error that names both plugins and the metric", err)
	}
	if list, err := e.Plugins(patience(t)); err != nil || len(list) != 1 {
		t.Fatalf("plugins %+v, %v; want p alone", list, err)
	}
	other.Metrics = other.Metrics[:1]
	register(t, e, other)
}

func catalogDescription(t *testing.T, open Open[Cataloger]) {
	e := opened(t, open)
	register(t, e, plugin())
	before := e.Version("count")
	p := plugin()
	p.Version, p.Metrics[0].Summary, p.Metrics[0].Layout = "1.1", "What was said", []byte(`{"rows":[1,2]}`)
	if g := register(t, e, p); g != (store.Generations{Serving: 1}) {
		t.Fatalf("generations %+v, want 1 serving: the fingerprint is the same", g)
	}
	list := wantMetrics(t, e, "count 1", "news 1", "pairs 1", "sum 1")
	if !sameMetric(list[0].Metric, p.Metrics[0]) || list[0].Plugin != "p" {
		t.Fatalf("metric %+v, want %+v", list[0], p.Metrics[0])
	}
	if e.Version("count") <= before {
		t.Fatalf("the description changed, the version is %d as before", before)
	}
	if e.Version("no such metric") != 0 {
		t.Fatal("an unknown metric has a version")
	}
}

func catalogVersions(t *testing.T, open Open[Cataloger]) {
	e := opened(t, open)
	register(t, e, plugin())
	c := checkpoint(t, e, "s", 0)
	versions := func() (out [3]uint64) {
		for i, id := range []string{"count", "sum", "news"} {
			out[i] = e.Version(id)
		}
		return out
	}
	rises := func(what string, do func(), want [3]bool) {
		t.Helper()
		before := versions()
		do()
		for i, after := range versions() {
			if after < before[i] || (after > before[i]) != want[i] {
				t.Fatalf("%s: versions were %v and are %v, should rise: %v", what, before, versions(), want)
			}
		}
	}
	x := &store.Commit{To: 1, Counters: []store.CounterDeltas{deltas(t, c, "count", time.Second, count{1, "a", 1})}}
	rises("counters", func() { noError(t, c.Commit(patience(t), x)) }, [3]bool{true, false, false})
	rises("the same again", func() { noError(t, c.Commit(patience(t), x)) }, [3]bool{})
	rises("nothing", func() { commit(t, c, 2) }, [3]bool{})
	rises("a put", func() {
		noError(t, c.Commit(patience(t), &store.Commit{To: 3, Puts: []store.Put{{Metric: "news", Key: "k", Time: 5, ID: "b", Value: []byte("1")}}}))
	}, [3]bool{false, false, true})
	before := versions()
	noError(t, e.Close())
	e = opened(t, open)
	if after := versions(); after != before {
		t.Fatalf("versions were %v and are %v after reopening", before, after)
	}
	other := opened(t, open) // another process sees what this one commits, soon
	c = checkpoint(t, e, "s", 3)
	commit(t, c, 4, deltas(t, c, "sum", time.Minute, count{1, "", 1}))
	eventually.True(t, deadline, "the other process sees the commit", func() bool {
		_, err := other.Metrics(t.Context())
		noError(t, err)
		return other.Version("sum") >= e.Version("sum")
	})
}

func catalogCommitted(t *testing.T, open Open[Cataloger]) {
	e := opened(t, open)
	from, ok := e.(store.Committer)
	if !ok {
		t.Skip("the engine does not know")
	}
	register(t, e, plugin())
	before := time.Now().Truncate(time.Millisecond)
	c := checkpoint(t, e, "s", 0)
	commit(t, c, 1, deltas(t, c, "sum", time.Minute, count{1, "", 1}))
	version, at, err := from.Committed(patience(t), "sum")
	if err != nil || version != e.Version("sum") || at.Before(before) || at.After(time.Now()) {
		t.Errorf("version %d since %s, %v; want %d since between %s and now", version, at, err, e.Version("sum"), before)
	}
	other := opened(t, open)
	if v, x, err := other.(store.Committer).Committed(patience(t), "sum"); err != nil || v != version || !x.Equal(at) {
		t.Errorf("another process says version %d since %s, %v; want %d since %s", v, x, err, version, at)
	}
	if v, x, err := from.Committed(patience(t), "no such metric"); err != nil || v != 0 || !x.IsZero() {
		t.Errorf("a metric that isn't there has version %d since %s, %v", v, x, err)
	}
}

func catalogSeriesUse(t *testing.T, open Open[Cataloger]) {
	e := opened(t, open)
	if _, ok := e.(store.SeriesUser); !ok {
		t.Skip("the engine does not know")
	}
	register(t, e, plugin())
	c := checkpoint(t, e, "s", 0)
	commit(t, c, 1, deltas(t, c, "pairs", time.Hour, count{0, "a", 1}, count{0, "b", 1}, count{9000, "b", 1}), deltas(t, c, "sum", time.Minute, count{1, "", 1}))
	noError(t, e.Close())
	x := opened(t, open).(store.SeriesUser)
	for range 2 {
		use, err := x.SeriesUse(patience(t))
		noError(t, err)
		want := map[string]store.SeriesUse{"count": {Series: 0, Limit: store.DefaultSeriesLimit}, "pairs": {Series: 2, Limit: 5}, "sum": {Series: 1, Limit: store.DefaultSeriesLimit}}
		if !maps.Equal(use, want) {
			t.Errorf("%v, want %v", use, want)
		}
	}
}
