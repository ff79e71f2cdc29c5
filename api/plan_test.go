package api

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/store"
)

func TestPlan_ReadsCoarseInTheMiddle(t *testing.T) {
	all := levels{{1, minTime}, {60, minTime}, {3600, minTime}, {86400, minTime}}
	old := levels{{1, 10 * 86400}, {60, 9 * 86400}, {3600, minTime}, {86400, minTime}}
	for name, c := range map[string]struct {
		edges    []int64
		from, to int64
		ls       levels
		want     string
	}{
		"whole days":             {[]int64{0, 172800}, 0, 172800, all, "86400[0,172800)"},
		"fine at the edges":      {[]int64{3000, 180001}, 3000, 180001, all, "60[3000,3600) 3600[3600,86400) 86400[86400,172800) 3600[172800,180000) 1[180000,180001)"},
		"less than any but 1 s":  {[]int64{7, 9}, 7, 9, all, "1[7,9)"},
		"one read for all hours": {[]int64{0, 3600, 7200, 10800}, 0, 10800, all, "3600[0,10800)/3600"},
		"a run between halves":   {[]int64{0, 3600, 7200, 10800, 14400}, 1800, 12600, all, "60[1800,3600) 3600[3600,10800)/3600 60[10800,12600)"},
		"days of another zone":   {[]int64{-1800, 84600}, -1800, 84600, all, "60[-1800,0) 3600[0,82800) 60[82800,84600)"},
		"before 1970":            {[]int64{-86400 - 60, -86400}, -86460, -86400, all, "60[-86460,-86400)"},
		"only hours are left":    {[]int64{86460, 90000}, 86460, 90000, old, "3600[86400,90000) coarse 3600[86400,90000)"},
		"points within an hour":  {[]int64{86400, 87000, 87600, 90000, 93600}, 86400, 93600, old, "3600[86400,93600)/3600 coarse 3600[86400,90000)"},
		"days of Berlin":         {[]int64{93600 - 14400, 165600, 252000 - 3600, 334800}, 79200, 334800, levels{{86400, minTime}}, "86400[86400,345600)/86400 coarse 86400[0,345600)"},
		"days of New York":       {[]int64{18000, 104400, 190800}, 18000, 190800, levels{{86400, minTime}}, "86400[0,172800)/86400 coarse 86400[0,259200)"},
		"an hour of a day":       {[]int64{50000, 53600}, 50000, 53600, levels{{86400, minTime}}, "86400[0,86400) coarse 86400[0,86400)"},
		"seconds are left":       {[]int64{864005, 864007}, 864005, 864007, old, "1[864005,864007)"},
		"across horizons":        {[]int64{5*86400 + 1800, 10*86400 + 5}, 5*86400 + 1800, 10*86400 + 5, old, "3600[435600,518400) 86400[518400,864000) 1[864000,864005) coarse 3600[432000,435600)"},
		"all is gone":            {[]int64{0, 60}, 0, 60, levels{{1, 100}, {60, 120}}, ""},
		"some is gone":           {[]int64{0, 240}, 0, 240, levels{{60, 120}}, "60[120,240)"},
	} {
		p := newPlan(c.edges, c.from, c.to, 1<<40, c.ls, false)
		var parts []string
		for _, r := range p.reads {
			text := fmt.Sprintf("%d[%d,%d)", r.interval, r.from, r.to)
			if r.step > 0 {
				text += fmt.Sprintf("/%d", r.step)
			}
			parts = append(parts, text)
		}
		for _, x := range p.coarse {
			parts = append(parts, fmt.Sprintf("coarse %d[%d,%d)", x.interval, x.from, x.to))
		}
		if got := strings.Join(parts, " "); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// TestPlan_ReadsEverySecondOnce: whatever the levels, horizons and edges, reads don't overlap, reach over no horizon and
// cover what is kept of every point.
func TestPlan_ReadsEverySecondOnce(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 2))
	t.Logf("seed %d", seed)
	for range 2000 {
		var ls levels
		horizon := int64(0)
		for _, s := range [][]int64{{1, 4, 24, 96}, {2, 12}, {1}, {6, 24}}[r.IntN(4)] {
			ls = append(ls, level{s, horizon})
		}
		for i := len(ls) - 1; i >= 0; i-- {
			if r.IntN(2) == 0 {
				horizon += r.Int64N(150)
			}
			ls[i].horizon = horizon
		}
		e := r.Int64N(100)
		from, edges := e+r.Int64N(5), []int64{e}
		for range 1 + r.IntN(12) {
			e += []int64{24, 24, 24, 1 + r.Int64N(200)}[r.IntN(4)] + 5
			edges = append(edges, e)
		}
		to := e - r.Int64N(5)
		p := newPlan(edges, from, to, []int64{0, 1 << 40}[r.IntN(2)], ls, r.IntN(2) == 0)
		owner := map[int64]int{}
		for _, x := range p.reads {
			h := int64(0)
			for _, l := range ls {
				if l.seconds == x.interval {
					h = l.horizon
				}
			}
			if x.from%x.interval != 0 || x.to%x.interval != 0 || x.from >= x.to || x.from < h || x.step%x.interval != 0 {
				t.Fatalf("%v, %v: read %+v", ls, edges, x)
			}
			for s := x.from; s < x.to; s++ {
				if owner[s]++; owner[s] > 1 {
					t.Fatalf("%v, %v [%d,%d): second %d is read twice: %+v", ls, edges, from, to, s, p.reads)
				}
				if p.pointAt(s) < 0 {
					t.Fatalf("%v, %v: second %d is read for no point", ls, edges, s)
				}
			}
		}
		for i, pt := range p.points {
			if i > 0 && pt.from != p.points[i-1].to {
				t.Fatalf("%v, %v: points %+v", ls, edges, p.points)
			}
			for s := max(pt.from, -floorDiv(-ls.kept(), 96)*96); s < pt.to; s++ {
				if owner[s] == 0 {
					t.Fatalf("%v, %v [%d,%d): second %d of %+v isn't read: %+v", ls, edges, from, to, s, pt, p.reads)
				}
			}
		}
	}
}

// TestCounts_SayWhatTheyLack: what is gone, coarser than asked for, open or yet to be counted is said.
func TestCounts_SayWhatTheyLack(t *testing.T) {
	f := smallStore()
	begin := time.Date(2018, 4, 26, 0, 0, 0, 0, time.UTC)
	clock := clockAt(begin.Add(40 * time.Hour).Unix())
	lag := uint64(0)
	s := newTestServer(t, Options{Store: f, Now: clock.Now, Plugins: func() []PluginStatus { return []PluginStatus{{ID: "test", Lag: lag}} }})
	says := func(url string) string {
		t.Helper()
		got := ask[struct {
			head
			Count int64
			Times []int64
		}](t, s, "/api/v1/metrics/m/"+url)
		parts := []string{fmt.Sprintf("%s..%s", got.From.Format("02T15:04:05"), got.To.Format("02T15:04:05"))}
		if got.Step != "" {
			parts = append(parts, fmt.Sprintf("%d of %s", len(got.Times), got.Step))
		} else {
			parts = append(parts, fmt.Sprint(got.Count))
		}
		for _, i := range got.Incomplete {
			parts = append(parts, fmt.Sprintf("%s %s..%s", i.Reason, i.From.Format("02T15:04:05"), i.To.Format("02T15:04:05")))
		}
		for _, c := range got.Coarse {
			parts = append(parts, fmt.Sprintf("%s %s..%s", c.Interval, c.From.Format("02T15:04:05"), c.To.Format("02T15:04:05")))
		}
		if got.Complete != (len(got.Incomplete) == 0) {
			t.Errorf("%s: complete is %v", url, got.Complete)
		}
		return strings.Join(parts, ", ")
	}
	check := func(url, want string) {
		t.Helper()
		if got := says(url); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", url, got, want)
		}
	}
	check("count?from=2018-04-26&to=2018-04-27", "26T00:00:00..27T00:00:00, 96")
	check("count", "26T00:00:00..28T00:00:00, 192, open 27T00:00:00..28T00:00:00")
	check("count?tz=Asia/Tokyo", "25T15:00:00..28T15:00:00, 192, open 27T15:00:00..28T15:00:00")
	check("series?from=now-2h&step=30m", "27T14:00:00..27T16:30:00, 5 of 30m, open 27T16:00:00..27T16:30:00")
	check("series?from=now/d&max_points=10", "27T00:00:00..27T18:00:00, 6 of 3h, open 27T15:00:00..27T18:00:00")
	check("series?from=-1w&max_points=7", "20T16:00:00..30T00:00:00, 2 of 7d, open 23T00:00:00..30T00:00:00")
	check("count?from=2018-04-26T10:00:30Z&to=2018-04-26T10:15:01Z", "26T10:00:30..26T10:15:01, 1")
	f.change("m", func() {
		f.gone = []store.Horizon{{Metric: "m", Interval: time.Second, Before: begin.Unix() + 20*3600}, {Metric: "m", Interval: time.Minute, Before: begin.Unix() + 20*3600}, {Metric: "other", Interval: time.Hour, Before: 1 << 40}}
	})
	check("count?from=2018-04-26T10:00:30Z&to=2018-04-26T10:15:01Z", "26T10:00:30..26T10:15:01, 4, 1h 26T10:00:00..26T11:00:00")
	check("series?from=2018-04-26T10:00:00Z&to=2018-04-26T13:00:00Z&step=15m", "26T10:00:00..26T13:00:00, 3 of 1h, 1h 26T10:00:00..26T13:00:00")
	check("series?from=2018-04-26T10:00:00Z&to=2018-04-26T13:00:00Z", "26T10:00:00..26T13:00:00, 3 of 1h")
	check("series?from=2018-04-26T10:00:00Z&to=2018-04-26T13:00:00Z&step=90m", "26T10:00:00..26T13:00:00, 3 of 1h30m, 1h 26T10:00:00..26T11:00:00")
	f.change("m", func() {
		for _, iv := range []time.Duration{time.Second, time.Minute, time.Hour, day} {
			f.gone = append(f.gone, store.Horizon{Metric: "m", Interval: iv, Before: begin.Unix() + 86400})
		}
		f.gone = f.gone[3:]
	})
	check("count?from=2018-04-26T10:00:30Z&to=2018-04-27T01:00:00Z", "26T10:00:30..27T01:00:00, 4, expired 26T10:00:30..27T00:00:00")
	lag = 3
	check("count?from=2018-04-27&to=2018-04-27T01:00:00Z", "27T00:00:00..27T01:00:00, 4, lagging 27T00:00:00..27T01:00:00")
	clock.Advance(48 * time.Hour)
	lag = 0
	check("count?from=2018-04-27&to=2018-04-27T01:00:00Z&not=user:x", "27T00:00:00..27T01:00:00, 4")
}

// TestCounts_HoldUntilACommitOrTheMomentEnds: one question to the store per state, however many ask.
func TestCounts_HoldUntilACommitOrTheMomentEnds(t *testing.T) {
	f := smallStore()
	clock := clockAt(testNow)
	s := newTestServer(t, Options{Store: f, Now: clock.Now})
	fixed, moving := "/api/v1/metrics/m/count?from=2018-04-26&to=2018-04-27", "/api/v1/metrics/m/count?from=now-1w"
	asked := func(url string) int64 {
		before := f.asked.Load()
		for range 3 {
			get(s, http.MethodGet, url)
		}
		return f.asked.Load() - before
	}
	if a, b := asked(fixed), asked(moving); a != 1 || b == 0 {
		t.Errorf("asked %d and %d times", a, b)
	}
	if a, b := asked(fixed), asked(moving); a != 0 || b != 0 {
		t.Errorf("asked again, the store was asked %d and %d times", a, b)
	}
	clock.Advance(time.Second)
	if a, b := asked(fixed), asked(moving); a != 0 || b == 0 {
		t.Errorf("a second later the store was asked %d and %d times", a, b)
	}
	etag := get(s, http.MethodGet, fixed).Header().Get("Etag")
	f.count("m", time.Second, 1524700800, store.JoinKey([]string{"ann", "t0"}), 0)
	if w := get(s, http.MethodGet, fixed, "If-None-Match", etag); w.Code != http.StatusOK {
		t.Errorf("after a commit: %d", w.Code)
	}
	f.change("m", func() { f.tooCostly = true })
	if w := get(s, http.MethodGet, fixed); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "urn:statscache:problem:too-many-counts") {
		t.Errorf("too costly: %d %s", w.Code, w.Body)
	}
}
