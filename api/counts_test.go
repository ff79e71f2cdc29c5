package api

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/store"
)

// happened is an event of the brute-force side: a time and the values of its dimensions.
type happened struct {
	at     int64
	values []string
}

// countedStore holds a metric of events at every interval.
func countedStore(m store.Metric, events []happened) *fakeStore {
	f := newFakeStore()
	f.add(m)
	for _, iv := range m.Intervals {
		sums := map[store.Row]int64{}
		for _, e := range events {
			s := int64(iv / time.Second)
			sums[store.Row{Time: floorDiv(e.at, s) * s, Key: store.JoinKey(e.values)}]++
		}
		rows := make([]store.Row, 0, len(sums))
		for r, n := range sums {
			rows = append(rows, store.Row{Time: r.Time, Key: r.Key, N: n})
		}
		slices.SortFunc(rows, compareRows)
		f.rows[identOf(m.ID, iv)] = rows
	}
	return f
}

// seriesAnswer is what /series answers with shape=rows.
type seriesAnswer struct {
	From, To   time.Time
	Step, TZ   string
	Complete   bool
	Incomplete []incomplete
	Coarse     []coarseSpan
	Rows       []struct {
		Time    time.Time
		TimeEnd time.Time `json:"time_end"`
		User    string
		Topic   string
		Count   int64
	}
}

func ask[T any](t testing.TB, h http.Handler, target string) (out T) {
	t.Helper()
	w := get(h, http.MethodGet, target)
	if err := json.Unmarshal(w.Body.Bytes(), &out); w.Code != http.StatusOK || err != nil {
		t.Fatalf("%s: %d, %v: %s", target, w.Code, err, cut(w.Body.String(), 500))
	}
	return out
}

// label is what distinguishes the points of a step, found out another way than the planner does.
func label(step string, t int64, loc *time.Location) string {
	local := time.Unix(t, 0).In(loc)
	switch step {
	case "1d":
		return local.Format(time.DateOnly)
	case "7d":
		y, w := local.ISOWeek()
		return fmt.Sprint(y, w)
	case "1mo":
		return local.Format("2006-01")
	case "3mo":
		return fmt.Sprint(local.Year(), (int(local.Month())-1)/3)
	case "1y":
		return local.Format("2006")
	}
	d, err := time.ParseDuration(step)
	if err != nil {
		panic(err)
	}
	if day%d != 0 {
		return fmt.Sprint(floorDiv(t, int64(d/time.Second)))
	}
	return local.Format(time.DateOnly) + fmt.Sprint((local.Hour()*3600+local.Minute()*60+local.Second())/int(d/time.Second))
}

// TestCounts_AreTheBruteForce asks random questions about random events around changes of the clock: each point must
// hold what happened in it, and be cut where the clock or the calendar of the zone says.
func TestCounts_AreTheBruteForce(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d", seed)
	changes := map[string]string{
		"UTC": "2016-02-29", "Europe/Berlin": "2018-03-25", "Europe/London": "2018-10-28", "America/New_York": "2018-11-04",
		"America/Sao_Paulo": "2018-11-04", "Australia/Lord_Howe": "2018-04-01", "Asia/Kolkata": "2018-12-31", "Pacific/Apia": "2011-12-30",
		"Asia/Kathmandu": "2019-12-31", "Africa/Casablanca": "2018-06-14", "Asia/Beirut": "2018-03-25", "Pacific/Chatham": "2018-09-29",
	}
	sets := [][]time.Duration{
		intervals("1s", "15s", "1m", "1h", "1d"), intervals("1s", "5s", "1m"), intervals("1s"), intervals("1s", "90s", "2m", "7m", "1d"),
	}
	steps := map[string]time.Duration{"7s": time.Minute, "15s": time.Minute, "1m": 10 * time.Minute, "15m": 20 * time.Hour, "1h": 2 * day, "90m": 3 * day,
		"6h": 9 * day, "7h": 9 * day, "12h": 10 * day, "1d": 50 * day, "7d": 100 * day, "1mo": year, "3mo": year, "1y": 3 * year}
	for range 100 {
		zoneName := slices.Sorted(keys(changes))[r.IntN(len(changes))]
		loc, err := zone(zoneName)
		if err != nil {
			t.Fatal(err)
		}
		stepName := slices.Sorted(keys(steps))[r.IntN(len(steps))]
		span := int64(steps[stepName] / time.Second)
		at, err := time.ParseInLocation(time.DateOnly, changes[zoneName], loc)
		if err != nil {
			t.Fatal(err)
		}
		begin := at.Unix() - r.Int64N(span)
		events := make([]happened, 150)
		for i := range events {
			events[i] = happened{begin + r.Int64N(2*span) - span/2, []string{[]string{"a", "b", "c,\"x"}[r.IntN(3)], []string{"t", "u"}[r.IntN(2)]}}
		}
		f := countedStore(store.Metric{ID: "m", Dimensions: []store.Dimension{{Name: "user", MultiValued: true}, {Name: "topic"}}, Intervals: sets[r.IntN(len(sets))]}, events)
		s := newTestServer(t, Options{Store: f, Now: clockAt(begin + 10*span + 400*daySeconds).Now})
		from, to := begin+r.Int64N(span/2+1), begin+span/2+1+r.Int64N(span)
		if r.IntN(3) == 0 && steps[stepName] > day {
			from, to = pointStep{days: 1}.floor(from, loc), pointStep{days: 1}.next(to, loc)
		}
		matches := func(happened) bool { return true }
		query := fmt.Sprintf("?from=%d&to=%d&tz=%s", from, to, url.QueryEscape(zoneName))
		switch r.IntN(4) {
		case 0:
			query += "&filter=user:a&filter=user:b&filter=topic:t"
			matches = func(e happened) bool { return e.values[0] != `c,"x` && e.values[1] == "t" }
		case 1:
			query += "&not=user:a&not=user:zzz"
			matches = func(e happened) bool { return e.values[0] != "a" }
		}
		what := fmt.Sprintf("%s by %s in %v", query, stepName, f.metrics[0].Intervals)
		got := ask[seriesAnswer](t, s, "/api/v1/metrics/m/series"+query+"&max_points=20000&shape=rows&group_by=topic,user&step="+stepName)
		if got.TZ != zoneName || got.From.Unix() != from || got.To.Unix() != to || got.Step != stepName && stepName != "90m" || !got.Complete || len(got.Coarse) > 0 {
			t.Fatalf("%s: answers about %s to %s by %s in %s, complete %v, coarse %v", what, got.From, got.To, got.Step, got.TZ, got.Complete, got.Coarse)
		}
		type cell struct {
			from, to    int64
			user, topic string
		}
		counts, points := map[cell]int64{}, [][2]int64{}
		for _, row := range got.Rows {
			counts[cell{row.Time.Unix(), row.TimeEnd.Unix(), row.User, row.Topic}] += row.Count
			if p := [2]int64{row.Time.Unix(), row.TimeEnd.Unix()}; len(points) == 0 || points[len(points)-1] != p {
				points = append(points, p)
			}
		}
		days, total := map[string]int64{}, int64(0)
		for _, e := range events {
			if e.at < from || e.at >= to || !matches(e) {
				continue
			}
			total++
			days[time.Unix(e.at, 0).In(loc).Format(time.DateOnly)]++
			i := slices.IndexFunc(points, func(p [2]int64) bool { return p[0] <= e.at && e.at < p[1] })
			if i < 0 {
				t.Fatalf("%s: no point holds %d", what, e.at)
			}
			c := cell{points[i][0], points[i][1], e.values[0], e.values[1]}
			if counts[c]--; counts[c] == 0 {
				delete(counts, c)
			}
		}
		for c, n := range counts {
			if n != 0 {
				t.Fatalf("%s: [%d,%d) of %s and %s is off by %d", what, c.from, c.to, c.user, c.topic, n)
			}
		}
		for i, p := range points {
			if i > 0 && points[i-1][1] != p[0] || label(stepName, p[0], loc) != label(stepName, p[1]-1, loc) || label(stepName, p[1]-1, loc) == label(stepName, p[1], loc) ||
				label(stepName, p[0]-1, loc) == label(stepName, p[0], loc) {
				t.Fatalf("%s: point %d is cut from %s to %s", what, i, time.Unix(p[0], 0).In(loc), time.Unix(p[1], 0).In(loc))
			}
		}
		if n := ask[countDocument](t, s, "/api/v1/metrics/m/count"+query).Count; n != total {
			t.Fatalf("%s: count is %d, want %d", what, n, total)
		}
		if (to-from)/daySeconds < 1000 {
			cal := ask[calendarDocument](t, s, "/api/v1/metrics/m/calendar"+query)
			for _, d := range cal.Days {
				if d.Count != days[d.Date] || (d.Count == 0) != (d.Level == 0) || d.Level > 4 {
					t.Fatalf("%s: calendar has %+v, want %d", what, d, days[d.Date])
				}
				delete(days, d.Date)
			}
			if len(days) > 0 || cal.Total != total {
				t.Fatalf("%s: calendar lacks %v; total %d, want %d", what, days, cal.Total, total)
			}
		}
	}
}

func keys[K comparable, V any](m map[K]V) func(func(K) bool) {
	return func(yield func(K) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// smallStore has a metric of two dimensions, four events an hour on two days.
func smallStore() *fakeStore {
	var events []happened
	start := time.Date(2018, 4, 26, 0, 0, 0, 0, time.UTC).Unix()
	for i := range 2 * 24 * 4 {
		user := []string{"ann", "bob", "cy"}[min(i%4, 2)]
		events = append(events, happened{start + int64(i)*900, []string{user, "t" + strconv.Itoa(i%2)}})
	}
	return countedStore(store.Metric{ID: "m", Dimensions: []store.Dimension{{Name: "user", MultiValued: true}, {Name: "topic"}}, Intervals: intervals("1s", "1m", "1h", "1d")}, events)
}

func TestCounts_Formats(t *testing.T) {
	f := smallStore()
	s := newTestServer(t, Options{Store: f, Now: clockAt(testNow).Now})
	m := "/api/v1/metrics/m/"
	about := `"metric":"m","from":"2018-04-26T00:00:00Z","to":"2018-04-27T00:00:00Z",`
	rest := `"as_of":"2023-11-14T22:13:20Z","version":1,"multi_valued":%,"complete":true,"incomplete":[],"coarse":[]`
	day := "?from=2018-04-26&to=2018-04-27"
	for _, c := range []struct{ url, multi, want string }{
		{"count" + day, "true", `{` + about + `"tz":"UTC",` + rest + `,"count":96}`},
		{"count" + day + "&filter=user:ann", "false", `{` + about + `"tz":"UTC",` + rest + `,"count":24}`},
		{"count" + day + "&format=csv", "", "metric,from,to,count\nm,2018-04-26T00:00:00Z,2018-04-27T00:00:00Z,96"},
		{"count" + day + "&format=ndjson", "", `{"metric":"m","from":"2018-04-26T00:00:00Z","to":"2018-04-27T00:00:00Z","count":96}`},
		{"series" + day + "&step=12h&group_by=user&top=1&other=1", "true", `{` + about + `"step":"12h","tz":"UTC",` + rest +
			`,"times":[1524700800,1524744000],"series":[{"key":{"user":"cy"},"counts":[24,24],"total":48},{"key":{"user":"(other)"},"other":true,"counts":[24,24],"total":48}]}`},
		{"series" + day + "&step=12h&group_by=topic&filter=user:ann&fill=null&shape=rows", "false", `{` + about + `"step":"12h","tz":"UTC",` + rest +
			`,"rows":[{"time":"2018-04-26T00:00:00Z","time_end":"2018-04-26T12:00:00Z","topic":"t0","count":12},{"time":"2018-04-26T12:00:00Z","time_end":"2018-04-27T00:00:00Z","topic":"t0","count":12}]}`},
		{"series" + day + "&step=12h&filter=user:nobody&fill=null", "false", `{` + about + `"step":"12h","tz":"UTC",` + rest + `,"times":[1524700800,1524744000],"series":[{"key":{},"counts":[null,null],"total":0}]}`},
		{"series" + day + "&step=12h&group_by=user,topic&format=csv", "", "time,time_end,user,topic,count\n" +
			"2018-04-26T00:00:00Z,2018-04-26T12:00:00Z,ann,t0,12\n2018-04-26T00:00:00Z,2018-04-26T12:00:00Z,bob,t1,12\n2018-04-26T00:00:00Z,2018-04-26T12:00:00Z,cy,t0,12\n2018-04-26T00:00:00Z,2018-04-26T12:00:00Z,cy,t1,12\n" +
			"2018-04-26T12:00:00Z,2018-04-27T00:00:00Z,ann,t0,12\n2018-04-26T12:00:00Z,2018-04-27T00:00:00Z,bob,t1,12\n2018-04-26T12:00:00Z,2018-04-27T00:00:00Z,cy,t0,12\n2018-04-26T12:00:00Z,2018-04-27T00:00:00Z,cy,t1,12"},
		{"series" + day + "&step=1d&group_by=user&shape=columns&format=csv", "", "time,time_end,ann,bob,cy\n2018-04-26T00:00:00Z,2018-04-27T00:00:00Z,24,24,48"},
		{"series?from=2018-04-25&to=2018-04-27&step=1d&format=csv&fill=null", "", "time,time_end,count\n2018-04-25T00:00:00Z,2018-04-26T00:00:00Z,\n2018-04-26T00:00:00Z,2018-04-27T00:00:00Z,96"},
		{"top" + day + "&by=user&limit=2", "true", `{` + about + `"tz":"UTC",` + rest + `,"total":96,"rows":[{"key":{"user":"cy"},"count":48},{"key":{"user":"ann"},"count":24}]}`},
		{"top" + day + "&by=user,topic&not=user:cy&format=ndjson", "", "{\"user\":\"ann\",\"topic\":\"t0\",\"count\":24}\n{\"user\":\"bob\",\"topic\":\"t1\",\"count\":24}"},
		{"calendar?from=2018-04-25&to=2018-04-28&tz=Europe/Berlin&filter=user:ann", "false", `{"metric":"m","from":"2018-04-24T22:00:00Z","to":"2018-04-27T22:00:00Z","tz":"Europe/Berlin",` + rest +
			`,"total":46,"max":24,"days":[{"date":"2018-04-25","count":0,"level":0},{"date":"2018-04-26","count":22,"level":4},{"date":"2018-04-27","count":24,"level":4}]}`},
		{"calendar" + day + "&format=csv", "", "date,count,level\n2018-04-26,96,4"},
		{"dimensions/user" + day + "&prefix=b", "true", `{` + about + `"tz":"UTC",` + rest + `,"dimension":"user","values":[{"value":"bob","count":24}]}`},
		{"dimensions/topic" + day + "&format=csv&limit=1", "", "value,count\nt0,48"},
	} {
		w := get(s, http.MethodGet, m+c.url)
		want := strings.ReplaceAll(strings.ReplaceAll(c.want, rest, strings.Replace(rest, "%", c.multi, 1)), "%", c.multi)
		if got := strings.TrimSpace(w.Body.String()); got != want {
			t.Errorf("%s\ngot  %d %s\nwant     %s", c.url, w.Code, got, want)
		}
		head := get(s, http.MethodHead, m+c.url)
		if head.Code != http.StatusOK || head.Body.Len() > 0 || head.Header().Get("Content-Length") != w.Header().Get("Content-Length") {
			t.Errorf("HEAD %s: %d, %d bytes", c.url, head.Code, head.Body.Len())
		}
		if o := w.Header().Get("Access-Control-Allow-Origin"); o != "*" {
			t.Errorf("%s: other sites may not read it: %q", c.url, o)
		}
	}
	if ct := get(s, http.MethodGet, m+"count"+day, "Accept", "application/x-ndjson").Header().Get("Content-Type"); ct != "application/x-ndjson" {
		t.Errorf("Accept is answered by %s", ct)
	}
	if ce := get(s, http.MethodGet, m+"series"+day+"&step=15m", "Accept-Encoding", "br").Header().Get("Content-Encoding"); ce != "br" {
		t.Errorf("a long series comes as %q", ce)
	}
}

func TestCounts_UnusableQuestions(t *testing.T) {
	f := smallStore()
	f.add(store.Metric{ID: "log", Kind: store.Latest, Dimensions: []store.Dimension{{Name: "category"}}})
	s := newTestServer(t, Options{Store: f})
	for url, want := range map[string]string{
		"m/series?stpe=1d":                               "step",
		"m/series?filter=usr:ann":                        "user",
		"m/series?group_by=user,tropic":                  "topic",
		"m/count?by=user":                                "by: is no parameter",
		"m/count?from=2018-04-27&to=2018-04-26":          "2018-04-26T00:00:00Z must be later",
		"m/count?from=2018-04-27&to=2018-04-27":          "must be later",
		"m/count?from=2040-01-01":                        "end of today",
		"m/count?tz=Mars/Olympus":                        "IANA",
		"m/count?tz=Local":                               "IANA",
		"m/count?tz=../../etc/passwd":                    "IANA",
		"m/count?filter=user":                            "dimension:value",
		"m/count?from=1&from=2":                          "more than once",
		"m/count?from=yesterday":                         "must be a time",
		"m/count?from=-99999999999999":                   "must be a time",
		"m/series?step=0s":                               "not a step",
		"m/series?step=1x":                               "not a step",
		"m/series?step=99999y":                           "",
		"m/series?max_points=0":                          "1 to 20000",
		"m/series?from=2018-01-01&to=2019-01-01&step=1s": "too-many-points",
		"m/series?from=0001-01-03&to=9999-12-01&step=1d": "too-many-points",
		"m/calendar?from=1970-01-01":                     "at most 3660 days",
		"m/series?top=0":                                 "top: must be",
		"m/series?other=maybe":                           "1 or 0",
		"m/series?fill=previous":                         "zero or null",
		"m/series?shape=table":                           "columns or rows",
		"m/series?format=xml":                            "json, csv or ndjson",
		"m/series?format=":                               "json, csv or ndjson",
		"m/top?by=":                                      "has no dimension",
		"m/top?limit=1001":                               "1 to 1000",
		"m/latest":                                       "kind counter",
		"log/count":                                      "kind latest",
		"m/dimensions/usr":                               "user",
		"log/latest?filter=categry:x":                    "category",
	} {
		w := get(s, http.MethodGet, "/api/v1/metrics/"+url)
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), want) || w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s; want 400 that says %q", url, w.Code, w.Body, want)
		}
	}
	if w := get(s, http.MethodGet, "/api/v1/metrics/nn/count"); w.Code != http.StatusNotFound {
		t.Errorf("no such metric: %d", w.Code)
	}
}

func TestCounts_PreviousIsWhatWasCountedInAsLongATime(t *testing.T) {
	f := newFakeStore()
	f.add(store.Metric{ID: "m", Intervals: intervals("1m")})
	at := func(minute int64, n int64) { f.count("m", time.Minute, testNow-testNow%3600+minute*60, "", n) }
	for _, c := range [][2]int64{{-190, 1}, {-130, 10}, {-61, 100}, {-60, 1000}, {-10, 10_000}, {5, 100_000}} {
		at(c[0], c[1])
	}
	s := newTestServer(t, Options{Store: f, Now: clockAt(testNow - testNow%3600 + 600).Now})
	hour := func(n int64) string { return fmt.Sprint(testNow - testNow%3600 + n*3600) }
	for query, want := range map[string]string{
		"from=" + hour(-1) + "&to=" + hour(0) + "&previous=1": `"count":100}`,
		"from=" + hour(-1) + "&to=" + hour(1) + "&previous=1": `"count":110}`, // ten minutes of the second hour have passed
		"from=now-70m&previous=1":                             `"count":110}`,
		"from=" + hour(-2) + "&to=" + hour(0) + "&previous=1": `"count":11100}`, // not all of it was counted
		"from=" + hour(-1) + "&to=" + hour(0):                 `"count":11000}`,
		"previous=1":                                          `"count":111111}`,
	} {
		if body := get(s, http.MethodGet, "/api/v1/metrics/m/count?"+query).Body.String(); !strings.Contains(body, want) {
			t.Errorf("%s: %s, want %s", query, body, want)
		}
	}
}
