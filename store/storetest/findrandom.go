package storetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
)

// findRandom asks random questions of an archive whose events come out of order, in both lanes and several streams.
func findRandom(t *testing.T, open Open[Finder], seed uint64) {
	r := rand.New(rand.NewPCG(seed, 77))
	f := opened(t, open)
	var w truth
	streams := []string{"a", "b"}
	next := map[string]uint64{"a": 1, "b": 1}
	for _, s := range streams {
		attach(t, f, s, 0)
	}
	for k := 0; k < 60; k++ {
		s := streams[r.IntN(2)]
		list := Events(fmt.Sprint("r", k), 0, 1+r.IntN([]int{5, 40, 200}[r.IntN(3)]))
		backfill := r.IntN(3) == 0
		for i := range list {
			list[i].Time = int64(k)*100e6 + r.Int64N(150)*1e6 // many of one moment
			if backfill {
				list[i].Time = r.Int64N(6000) * 1e6
			}
			list[i].Untimed, list[i].Bare = r.IntN(20) == 0, r.IntN(20) == 0
		}
		w.give(t, f, s, Build(next[s], backfill, list))
		next[s] += uint64(len(list))
		if k == 30 {
			noError(t, f.Close())
			f = opened(t, open)
			for _, s := range streams {
				attach(t, f, s, next[s]-1)
			}
		}
	}
	for range 50 {
		req := store.FindRequest{EventFilter: randomFilter(r, w), Desc: r.IntN(2) == 0, Bodies: r.IntN(3) == 0, Limit: 1 + r.IntN([]int{3, 30, 5000}[r.IntN(3)])}
		if r.IntN(3) == 0 {
			req.MaxScan = 1 + r.IntN(2000)
		}
		if len(w.find(req.EventFilter, false))/req.Limit > 300 {
			req.Limit = 100
		}
		holdFind(t, f, w, req)
	}
}

// HoldFind holds the answers to random questions, page by page, against a look at each event of some blocks, which are
// all that an archive has of the time before a moment: of what came later nothing is asked.
func HoldFind(t testing.TB, f Finder, stream string, blocks []*block.Block, before int64, questions int, seed uint64) {
	t.Helper()
	var w truth
	for _, b := range blocks {
		w.add(t, stream, b)
	}
	w = slices.DeleteFunc(w, func(e store.Event) bool { return e.Time >= before })
	if len(w) == 0 {
		return
	}
	r := rand.New(rand.NewPCG(seed, 78))
	for range questions {
		req := store.FindRequest{EventFilter: randomFilter(r, w), Desc: r.IntN(2) == 0, Bodies: r.IntN(3) == 0}
		req.To = min(req.To, before)
		req.Limit = 1 + max(r.IntN([]int{30, 5000}[r.IntN(2)]), len(w)/100)
		holdFind(t, f, w, req)
	}
}

func randomFilter(r *rand.Rand, w truth) store.EventFilter {
	f := anyTime
	one := func() store.Event { return w[r.IntN(len(w))] }
	if r.IntN(2) == 0 {
		f.From = Base + r.Int64N(6500)*1e6
		f.To = f.From + r.Int64N([]int64{100, 3000, 6500}[r.IntN(3)])*1e6
	}
	pick := func(n *store.Names, of func(store.Event) []string) {
		for range r.IntN(4) {
			n.In = append(n.In, of(one())...)
		}
		if r.IntN(8) == 0 {
			n.In = append(n.In, "nobody")
		}
	}
	kinds := []struct {
		names *store.Names
		of    func(store.Event) []string
	}{
		{&f.Users, func(e store.Event) []string { return e.Users }},
		{&f.Packages, func(e store.Event) []string { return e.Packages }},
		{&f.Agents, func(e store.Event) []string { return []string{e.Agent} }},
		{&f.Topics, func(e store.Event) []string { return []string{e.Topic} }},
		{&f.Categories, func(e store.Event) []string { return []string{e.Category} }},
	}
	for _, k := range kinds {
		if r.IntN(4) == 0 {
			pick(k.names, k.of)
		}
		if r.IntN(6) == 0 {
			pick(k.names, k.of)
			k.names.NotIn, k.names.In = k.names.In, nil
		}
	}
	if r.IntN(5) == 0 {
		topic := one().Topic
		f.TopicPrefixes = []string{topic[:len(topic)-r.IntN(9)]}
	}
	if r.IntN(6) == 0 {
		f.Contains = []string{fmt.Sprintf(`"n":%d`, r.IntN(70)), one().ID}
	}
	if r.IntN(6) == 0 {
		f.NotContains = []string{fmt.Sprintf(`"n":%d`, r.IntN(70))}
	}
	return f
}
