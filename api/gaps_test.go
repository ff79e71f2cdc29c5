package api

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// gapServer answers from a small store with what is missing as the test sets it.
func gapServer(t *testing.T, at time.Time) (s *Server, known *Gaps, tick func()) {
	t.Helper()
	clock := clockAt(at.Unix())
	known = &Gaps{}
	s = newTestServer(t, Options{Store: smallStore(), Now: clock.Now, Gaps: func() Gaps { return *known }})
	return s, known, func() { clock.Advance(statusLife) }
}

func at(text string) time.Time {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	return t
}

func reasonsOf(list []incomplete) string {
	var parts []string
	for _, i := range list {
		parts = append(parts, fmt.Sprintf("%s %s..%s", i.Reason, i.From.Format("02T15:04:05"), i.To.Format("02T15:04:05")))
	}
	return strings.Join(parts, ", ")
}

// TestCounts_SayWhatIsMissing: every answer that says whether it is complete says gap and backfilling.
func TestCounts_SayWhatIsMissing(t *testing.T) {
	s, known, _ := gapServer(t, at("2018-05-20T00:00:00Z"))
	known.Gaps = []Gap{
		{From: at("2018-04-20T00:00:00Z"), To: at("2018-04-26T00:00:10Z"), Kind: GapStopped},
		{From: at("2018-04-26T10:00:00Z"), To: at("2018-04-26T10:00:30Z"), Kind: GapDown},
		{From: at("2018-04-26T10:00:20Z"), To: at("2018-04-26T10:01:00Z"), Kind: GapLost, Missing: 4},
		{From: at("2018-04-26T23:00:00Z"), To: at("2018-04-28T00:00:00Z"), Kind: GapDown},
	}
	known.Backfilling = []Span{{From: at("2018-04-26T10:00:50Z"), To: at("2018-04-26T11:00:00Z")}}
	const want = "gap 26T00:00:00..26T00:00:10, gap 26T10:00:00..26T10:00:50, gap 26T23:00:00..27T00:00:00, backfilling 26T10:00:50..26T11:00:00"
	window := "from=2018-04-26&to=2018-04-27"
	for _, url := range []string{"series?" + window, "series?shape=rows&" + window, "series?group_by=user&top=1&step=1h&" + window, "count?" + window, "top?" + window,
		"calendar?" + window, "dimensions/user?" + window} {
		got := ask[head](t, s, "/api/v1/metrics/m/"+url)
		if reasonsOf(got.Incomplete) != want || got.Complete {
			t.Errorf("%s\ngot  %s, complete %v\nwant %s", url, reasonsOf(got.Incomplete), got.Complete, want)
		}
	}
	person := ask[struct{ Calendar, Topics head }](t, s, "/api/v1/users/x?"+window)
	if got := reasonsOf(person.Calendar.Incomplete); got != want {
		t.Errorf("a person's calendar says %s", got)
	}
	if got := ask[head](t, s, "/api/v1/metrics/m/count?from=2018-04-26T01:00:00Z&to=2018-04-26T02:00:00Z"); !got.Complete || len(got.Incomplete) > 0 {
		t.Errorf("an hour without a gap: %+v", got)
	}
	if got := ask[countDocument](t, s, "/api/v1/metrics/m/count?from=2018-04-26T01:00:00Z&to=2018-04-26T02:00:00Z&previous=1"); got.Previous != nil {
		t.Error("a number is compared with one that isn't all there was")
	}
	told := ask[Gaps](t, s, "/api/v1/gaps")
	if len(told.Gaps) != 4 || told.Gaps[1].Backfilling || !told.Gaps[2].Backfilling || told.Gaps[2].Missing != 4 || len(told.Backfilling) != 1 {
		t.Errorf("/api/v1/gaps: %+v", told)
	}
}

// TestCounts_AGapEndsKeptAnswers: a kept answer about the past ends when what is missing changes, and not before.
func TestCounts_AGapEndsKeptAnswers(t *testing.T) {
	s, known, tick := gapServer(t, at("2018-05-20T00:00:00Z"))
	const url = "/api/v1/metrics/m/count?from=2018-04-26&to=2018-04-27"
	get := func(etag string) (int, string, string) {
		t.Helper()
		r := httptest.NewRequest(http.MethodGet, url, nil)
		if etag != "" {
			r.Header.Set("If-None-Match", etag)
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		var got head
		if w.Code == http.StatusOK {
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
		}
		return w.Code, w.Header().Get("Etag"), reasonsOf(got.Incomplete)
	}
	step := func(what string, change func(), wantCode int, etag, want string) string {
		t.Helper()
		change()
		tick()
		code, now, got := get(etag)
		if code != wantCode || got != want {
			t.Errorf("%s: %d %q, want %d %q", what, code, got, wantCode, want)
		}
		return now
	}
	whole := step("nothing is missing", func() {}, 200, "", "")
	misses := func() float64 { return counted(t, s.observe.misses) }
	before := misses()
	step("nothing has changed", func() {}, 304, whole, "")
	if misses() != before {
		t.Error("an answer was made anew though nothing had changed")
	}
	gone := Gap{From: at("2018-04-26T10:00:00Z"), To: at("2018-04-26T11:00:00Z"), Kind: GapDown}
	broken := step("a gap", func() { known.Gaps = []Gap{gone} }, 200, whole, "gap 26T10:00:00..26T11:00:00")
	if broken == whole {
		t.Error("the ETag of an answer with a gap is that of the one without")
	}
	step("still", func() {}, 304, broken, "")
	step("being fetched", func() { known.Backfilling = []Span{{gone.From, gone.To}} }, 200, broken, "backfilling 26T10:00:00..26T11:00:00")
	step("closed", func() { *known = Gaps{} }, 304, whole, "")

	open := func(to string) func() {
		return func() {
			known.Gaps = []Gap{{From: at("2018-04-26T23:00:00Z"), To: at(to), Kind: GapStopped, Ongoing: true}}
		}
	}
	step("nobody listens", open("2018-05-20T00:10:00Z"), 200, whole, "gap 26T23:00:00..27T00:00:00")
	before = misses()
	step("nobody listens still", open("2018-05-20T00:10:01Z"), 200, whole, "gap 26T23:00:00..27T00:00:00")
	if misses() != before {
		t.Error("a gap that goes on ends answers about the past")
	}
}

func TestSpans_AgainstSeconds(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	list := func() (out []span) {
		for range r.IntN(12) {
			from := r.Int64N(100)
			out = append(out, span{from, from + r.Int64N(12)})
		}
		return out
	}
	in := func(list []span, s int64) bool {
		for _, x := range list {
			if s >= x.from && s < x.to {
				return true
			}
		}
		return false
	}
	for range 2000 {
		a, b := list(), list()
		m, off := merged(append([]span{}, a...)), merged(append([]span{}, b...))
		from, to := r.Int64N(60), 40+r.Int64N(70)
		cutOut, left := within(m, from, to), without(m, off)
		few := fewer(m, 3)
		if len(few) > 3 {
			t.Fatalf("%v are told as %v", m, few)
		}
		for s := range int64(120) {
			if in(m, s) != in(a, s) || in(cutOut, s) != (in(a, s) && s >= from && s < to) || in(left, s) != (in(a, s) && !in(b, s)) || in(a, s) && !in(few, s) {
				t.Fatalf("second %d of %v, without %v, from %d to %d: %v, %v, %v, %v", s, a, b, from, to, m, cutOut, left, few)
			}
		}
		for i, x := range left {
			if x.from >= x.to || i > 0 && x.from < left[i-1].to {
				t.Fatalf("%v without %v is %v", m, off, left)
			}
		}
	}
}

func TestMissing_ManyGapsAreToldAsFew(t *testing.T) {
	var g Gaps
	for i := range int64(20_000) {
		g.Gaps = append(g.Gaps, Gap{From: time.Unix(i*10, 0), To: time.Unix(i*10+1, 0)})
	}
	if got := newMissing(g, time.Unix(1e9, 0)).lacks(0, 1e6); len(got) > mostSpans {
		t.Errorf("an answer names %d gaps", len(got))
	}
}

// TestMissing_VersionOfAGapThatGoesOn: an outage that goes on must not end every kept answer each second, its end must.
func TestMissing_VersionOfAGapThatGoesOn(t *testing.T) {
	version := func(to int64, ongoing bool) uint64 {
		g := Gaps{Gaps: []Gap{{From: time.Unix(100, 0), To: time.Unix(200, 0)}, {From: time.Unix(300, 0), To: time.Unix(to, 0), Ongoing: ongoing}}}
		return newMissing(g, time.Unix(to+2, 0)).version
	}
	if version(400, true) != version(401, true) {
		t.Error("the version changes while a gap goes on")
	}
	if version(401, true) == version(401, false) || version(401, false) == version(402, false) {
		t.Error("the version is the same after its end")
	}
}
