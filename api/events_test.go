package api

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
	"github.com/statscache/statscache/store/sqlite"
)

// The fake finds the same two events whatever is asked.
func (f *fakeStore) Find(_ context.Context, r store.FindRequest) (store.Page, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := store.Page{Events: []store.Event{fakeEvent("x"), fakeEvent("y")}[:min(2, r.Limit)]}
	if r.Limit < 2 {
		p.Next = &store.EventCursor{Time: 1, ID: "x"}
	}
	return p, f.fail
}

func (f *fakeStore) Event(_ context.Context, id string) (store.Event, error) {
	if id != "x" {
		return store.Event{}, store.ErrUnknown
	}
	return fakeEvent(id), f.fail
}

func (f *fakeStore) CountEvents(_ context.Context, q store.EventFilter, _ int) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(q.Contains) > 0 {
		return 0, store.ErrTooCostly
	}
	return 2, f.fail
}

func fakeEvent(id string) store.Event {
	return store.Event{Stream: "s", Seq: 1, ID: id, Topic: "org.fedoraproject.prod.git.receive", Category: "git", Time: 1, Received: 2, Source: "a",
		Users: []string{"ralph"}, Agent: "ralph", Signed: block.Verified, Body: fmt.Appendf(nil, `{"msg_id":%q,"i":3,"topic":"org.fedoraproject.prod.git.receive","timestamp":1e-6,"msg":{"a":[1,null]}}`, id)}
}

// eventStore is a store with n events a minute apart, of five users, three packages and the topics of three services.
func eventStore(t testing.TB, n int) *sqlite.DB {
	t.Helper()
	db, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "statscache.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if _, err := db.Attach(t.Context(), "s"); err != nil {
		t.Fatal(err)
	}
	w := block.NewBuilder(categoryOf)
	for i := range n {
		id := fmt.Sprintf("2018-%04d", i)
		service := []string{"git", "bodhi", "buildsys"}[i%3]
		topic := "org.fedoraproject.prod." + service + ".t" + strconv.Itoa(i%2)
		user := "user" + strconv.Itoa(i%5)
		body := fmt.Sprintf(`{"msg_id": %q, "topic": %q, "timestamp": %d.5, "i": %d, "username": %q, "msg": {"n": %d, "text": "käse <%d>"}, "source_name": "datanommer", "source_version": "0.6"}`,
			id, topic, eventTime(i), i, user, i, i)
		e := &block.Event{ID: []byte(id), IDAt: strings.Index(body, id), Topic: []byte(topic), Time: eventTime(i)*1e6 + 5e5, Source: "main",
			Users: [][]byte{[]byte(user)}, Agent: []byte(user), Signed: block.Unsigned, Body: []byte(body)}
		if i%3 == 0 {
			e.Packages = [][]byte{[]byte("pkg" + strconv.Itoa(i%2)), []byte("shared")}
		}
		w.Add(e)
	}
	if _, err := db.Archive(t.Context(), "s", []*block.Block{w.Build(1, eventTime(n)*1e6, false)}); err != nil {
		t.Fatal(err)
	}
	return db
}

// eventTime is when event i happened, but for half a second (seconds since 1970): the last ones just before testNow.
func eventTime(i int) int64 { return testNow - 60*1000 + 60*int64(i) }

func eventServer(t testing.TB, n int) *Server {
	return newTestServer(t, Options{Store: eventStore(t, n), Now: clockAt(testNow).Now})
}

// answered reads a good answer.
func answered[T any](t testing.TB, s *Server, path string) (v T) {
	t.Helper()
	w := get(s, http.MethodGet, path)
	if w.Code != http.StatusOK {
		t.Fatalf("%s: %d %s", path, w.Code, w.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("%s: %v: %s", path, err, w.Body)
	}
	return v
}

// eventPage is what clients read of a page.
type eventPage struct {
	Events []struct {
		ID       string          `json:"msg_id"`
		Time     time.Time       `json:"timestamp"`
		Topic    string          `json:"topic"`
		Category string          `json:"category"`
		Users    []string        `json:"users"`
		Packages []string        `json:"packages"`
		Agent    string          `json:"agent"`
		Signed   string          `json:"signed"`
		Msg      json.RawMessage `json:"msg"`
	} `json:"events"`
	Next, Previous *string
	Window         struct{ From, To *time.Time }
}

func (p eventPage) numbers() (out []int) {
	for _, e := range p.Events {
		n, _ := strconv.Atoi(strings.TrimPrefix(e.ID, "2018-"))
		out = append(out, n)
	}
	return out
}

func TestEvents_FiltersAndWindows(t *testing.T) {
	const n = 900
	s := eventServer(t, n)
	at := func(i int) string { return strconv.FormatInt(eventTime(i), 10) }
	for query, want := range map[string]func(i int) bool{
		"":                        func(int) bool { return true },
		"user=user1":              func(i int) bool { return i%5 == 1 },
		"user=user1&user=user2":   func(i int) bool { return i%5 == 1 || i%5 == 2 },
		"user=user1&category=git": func(i int) bool { return i%5 == 1 && i%3 == 0 },
		"package=shared":          func(i int) bool { return i%3 == 0 },
		"agent=user3&not_topic=org.fedoraproject.prod.git.t0": func(i int) bool { return i%5 == 3 && !(i%3 == 0 && i%2 == 0) },
		"topic=org.fedoraproject.prod.bodhi.*":                func(i int) bool { return i%3 == 1 },
		"topic=org.fedoraproject.prod.bodhi.t1":               func(i int) bool { return i%3 == 1 && i%2 == 1 },
		"not_category=git&not_user=user0":                     func(i int) bool { return i%3 != 0 && i%5 != 0 },
		"contains=%3C77%3E":                                   func(i int) bool { return i == 77 },
		"not_contains=k%C3%A4se":                              func(int) bool { return false },
		"start=" + at(100) + "&end=" + at(200):                func(i int) bool { return i >= 100 && i < 200 },
		"start=" + at(850):                                    func(i int) bool { return i >= 850 },
		"end=" + at(50):                                       func(i int) bool { return i < 50 },
		"delta=7200":                                          func(i int) bool { return i >= 880 },
		"start=" + at(10) + "&delta=600":                      func(i int) bool { return i >= 10 && i < 20 },
		"end=" + at(30) + "&delta=10m":                        func(i int) bool { return i >= 20 && i < 30 },
		"start=now-3h":                                        func(i int) bool { return i >= 820 },
		"user=nobody":                                         func(int) bool { return false },
	} {
		var all []int
		for i := range n {
			if want(i) {
				all = append(all, i)
			}
		}
		asc := answered[eventPage](t, s, "/api/v1/events?order=asc&size=1000&"+query)
		if got := asc.numbers(); !slices.Equal(got, all) || asc.Next != nil {
			t.Errorf("%s: %d events, want %d: %v", query, len(got), len(all), got)
		}
		slices.Reverse(all)
		if got := answered[eventPage](t, s, "/api/v1/events?size=1000&"+query).numbers(); !slices.Equal(got, all) {
			t.Errorf("%s, newest first: %d events, want %d", query, len(got), len(all))
		}
		count := answered[struct {
			Count  int
			Source string
		}](t, s, "/api/v1/events/count?"+query)
		if count.Count != len(all) || count.Source != "archive" {
			t.Errorf("%s: counted %+v, want %d", query, count, len(all))
		}
	}
}

func TestEvents_PagingBothWays(t *testing.T) {
	s := eventServer(t, 100)
	for _, order := range []string{"asc", "desc"} {
		query := "/api/v1/events?category=git&size=7&order=" + order
		var pages [][]int
		var back *string
		for next := ""; ; {
			p := answered[eventPage](t, s, query+next)
			if next == "" && p.Previous != nil {
				t.Fatalf("%s: the first page has one before it", order)
			}
			pages = append(pages, p.numbers())
			back = p.Previous
			if p.Next == nil {
				break
			}
			next = "&cursor=" + url.QueryEscape(*p.Next)
		}
		if len(pages) != 5 || len(slices.Concat(pages...)) != 34 {
			t.Fatalf("%s: pages %v", order, pages)
		}
		for i := len(pages) - 2; i >= 0; i-- {
			if back == nil {
				t.Fatalf("%s: no way back from page %d", order, i+1)
			}
			p := answered[eventPage](t, s, query+"&cursor="+url.QueryEscape(*back))
			if !slices.Equal(p.numbers(), pages[i]) {
				t.Fatalf("%s: page %d backwards is %v, want %v", order, i, p.numbers(), pages[i])
			}
			if p.Next == nil {
				t.Fatalf("%s: page %d backwards has none behind it", order, i)
			}
			if on := answered[eventPage](t, s, query+"&cursor="+url.QueryEscape(*p.Next)); !slices.Equal(on.numbers(), pages[i+1]) {
				t.Fatalf("%s: behind page %d is %v, want %v", order, i, on.numbers(), pages[i+1])
			}
			back = p.Previous
		}
	}
}

func TestEvents_OneAndItsFormats(t *testing.T) {
	s := eventServer(t, 20)
	w := get(s, http.MethodGet, "/api/v1/events/2018-0012")
	want := `{"msg_id":"2018-0012","topic":"org.fedoraproject.prod.git.t0","category":"git","timestamp":"` + time.Unix(eventTime(12), 5e8).UTC().Format(time.RFC3339Nano) +
		`","received":"` + time.Unix(eventTime(20), 0).UTC().Format(time.RFC3339Nano) + `","source":"main","users":["user2"],"packages":["pkg0","shared"],"agent":"user2","signed":"unsigned","bytes":`
	if w.Code != http.StatusOK || !strings.HasPrefix(w.Body.String(), want) || !strings.Contains(w.Body.String(), `"msg":{"n":12,"text":"käse`) {
		t.Errorf("%d %s\nwant %s", w.Code, w.Body, want)
	}
	if w := get(s, http.MethodGet, "/api/v1/events/2018-0012", "If-None-Match", w.Header().Get("Etag")); w.Code != http.StatusNotModified {
		t.Errorf("asked again: %d", w.Code)
	}
	if w := get(s, http.MethodGet, "/api/v1/events/nothing"); w.Code != http.StatusNotFound {
		t.Errorf("unknown: %d", w.Code)
	}
	w = get(s, http.MethodGet, "/api/v1/events?size=2&order=asc&format=csv")
	if lines := strings.Split(w.Body.String(), "\n"); len(lines) != 4 || !strings.HasPrefix(lines[0], "timestamp,msg_id,topic,") || !strings.Contains(lines[1], ",2018-0000,org.fedoraproject.prod.git.t0,git,user0,") {
		t.Errorf("csv: %s", w.Body)
	}
	if link := w.Header().Get("Link"); !strings.Contains(link, "cursor=") || !strings.HasSuffix(link, `>; rel="next"`) {
		t.Errorf("csv has no link to the next page: %q", link)
	}
	w = get(s, http.MethodGet, "/api/v1/events?size=3&format=ndjson")
	if lines := strings.Split(strings.TrimSpace(w.Body.String()), "\n"); len(lines) != 3 || !json.Valid([]byte(lines[2])) {
		t.Errorf("ndjson: %s", w.Body)
	}
}

func TestEvents_Refusals(t *testing.T) {
	s := eventServer(t, 3)
	for query, parameter := range map[string]string{
		"usr=x": "usr", "user=": "user", "size=0": "size", "size=1001": "size", "size=x": "size", "order=up": "order", "cursor=": "cursor", "cursor=!": "cursor",
		"cursor=YTE": "cursor", "start=yesterday": "start", "end=1&start=2": "end", "delta=-1": "delta", "delta=1&start=1&end=2": "delta", "start=1&start=2": "start",
		"topic=a&topic=b*": "topic", "not_topic=a*": "not_topic", "format=xml": "format", "user=" + strings.Repeat("x", 3000): "user",
	} {
		w := get(s, http.MethodGet, "/api/v1/events?"+query)
		var p problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != http.StatusBadRequest || p.Parameter != parameter {
			t.Errorf("%s: %d %s", cut(query, 60), w.Code, w.Body)
		}
	}
	if w := get(s, http.MethodGet, "/api/v1/events/count?size=3"); w.Code != http.StatusBadRequest {
		t.Errorf("count of a page: %d", w.Code)
	}
	w := get(newTestServer(t, Options{Store: newFakeStore()}), http.MethodGet, "/api/v1/events/count?contains=x")
	if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), `"type":"urn:statscache:problem:too-many-events"`) {
		t.Errorf("too costly: %d %s", w.Code, w.Body)
	}
}

func TestEvents_CountsComeFromCounters(t *testing.T) {
	f := newFakeStore()
	for _, m := range originalMetrics() {
		f.add(m)
	}
	f.mu.Lock()
	for i := range f.metrics {
		f.metrics[i].Plugin = "volume"
	}
	f.mu.Unlock()
	for _, iv := range []time.Duration{time.Second, 15 * time.Second, time.Minute, time.Hour, 24 * time.Hour} {
		f.count("volume-by-category", iv, testNow-3600, "git", 40)
		f.count("volume-by-category", iv, testNow-3600, "bodhi", 2)
	}
	s := newTestServer(t, Options{Store: f, Now: clockAt(testNow).Now})
	type counted struct {
		Count  int
		Source string
	}
	for query, want := range map[string]counted{
		"category=git":                {40, "counters"},
		"category=git&category=bodhi": {42, "counters"},
		"category=git&start=now-1d":   {40, "counters"},
		"category=git&end=now-1d":     {0, "counters"},
		"not_category=git":            {2, "archive"},
		"category=git&user=x":         {2, "archive"},
		"category=git&start=1.5":      {2, "archive"},
	} {
		if got := answered[counted](t, s, "/api/v1/events/count?"+query); got != want {
			t.Errorf("%s: %+v, want %+v", query, got, want)
		}
	}
	f.count("volume-by-category", 24*time.Hour, testNow-3600, store.OtherKey, 3)
	if got := answered[counted](t, s, "/api/v1/events/count?category=git&start=1970-02-01"); got != (counted{2, "archive"}) {
		t.Errorf("counted by a metric that has put names together: %+v", got)
	}
	if m, _ := countersOf(&directory{}, store.EventFilter{From: math.MinInt64}); m != nil {
		t.Error("a metric that isn't served counts")
	}
}

// FuzzEnvelope: of an object the walk gives what encoding/json gives, of anything else nothing that panics.
func FuzzEnvelope(f *testing.F) {
	for _, text := range []string{`{"a":1,"msg":{"x":["}",{"y":"\\\""}]},"i":-1.5e3 }`, ` { "k" : "v" , "k":[] } `, `{}`, `[]`, `"{"`, `{"a":`, `{"a"`, `{"`, `{"a":1,`, `{"\u006dsg":null,"\n":true}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got := envelopeOf(body)
		var want map[string]json.RawMessage
		if !utf8.Valid(body) || json.Unmarshal(body, &want) != nil {
			return
		}
		if (got == nil) != (want == nil) {
			t.Fatalf("%q: %q, want %q", body, got, want)
		}
		names := map[string]bool{}
		for _, x := range got {
			names[string(x.name)] = true
		}
		for name, value := range want {
			if string(got.get(name)) != string(value) {
				t.Fatalf("%q: %s is %q, want %q", body, name, got.get(name), value)
			}
		}
		if len(names) != len(want) {
			t.Fatalf("%q has the members %v, want %q", body, names, want)
		}
	})
}
