package api

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// grepAnswered is an answer as datagrepper's clients read it.
type grepAnswered struct {
	Messages []struct {
		ID        string          `json:"msg_id"`
		V2ID      string          `json:"id"`
		Topic     string          `json:"topic"`
		Timestamp float64         `json:"timestamp"`
		Msg       json.RawMessage `json:"msg"`
		Meta      map[string]any  `json:"meta"`
	} `json:"raw_messages"`
	Total     int            `json:"total"`
	Pages     int            `json:"pages"`
	Count     int            `json:"count"`
	Arguments map[string]any `json:"arguments"`
}

func (a grepAnswered) numbers() (out []int) {
	for _, m := range a.Messages {
		n, _ := strconv.Atoi(strings.TrimPrefix(m.ID+m.V2ID, "2018-"))
		out = append(out, n)
	}
	return out
}

func numbersOf(n int, want func(i int) bool) (out []int) {
	for i := range n {
		if want(i) {
			out = append(out, i)
		}
	}
	return out
}

// TestDatagrepper_Clients plays the requests of programs that were written for datagrepper.
func TestDatagrepper_Clients(t *testing.T) {
	const n = 1000
	s := eventServer(t, n)
	at := func(i int) string { return strconv.FormatInt(eventTime(i), 10) }
	all := numbersOf(n, func(int) bool { return true })
	t.Run("the original statscache: pages 2 and on in no order", func(t *testing.T) {
		query := "/datagrepper/raw/?start=" + at(100) + ".0&order=asc&rows_per_page=100"
		first := answered[grepAnswered](t, s, query+"&page=1")
		if first.Pages != 9 || first.Total != 900 {
			t.Fatalf("%d pages, %d messages", first.Pages, first.Total)
		}
		pages := map[int][]int{1: first.numbers()}
		for _, p := range []int{7, 3, 9, 2, 8, 4, 6, 5} {
			pages[p] = answered[grepAnswered](t, s, query+"&page="+strconv.Itoa(p)).numbers()
		}
		var got []int
		for p := 1; p <= 9; p++ {
			got = append(got, pages[p]...)
		}
		if !slices.Equal(got, all[100:]) {
			t.Fatalf("%d messages", len(got))
		}
	})
	t.Run("fedmsg's consumer: what it missed", func(t *testing.T) {
		query := fmt.Sprintf("/datagrepper/raw?rows_per_page=100&start=%s&end=%d&order=asc&page=", at(650), testNow)
		var got []int
		pages := answered[grepAnswered](t, s, query+"1").Pages
		for p := 1; p <= pages; p++ {
			got = append(got, answered[grepAnswered](t, s, query+strconv.Itoa(p)).numbers()...)
		}
		if !slices.Equal(got, all[650:]) {
			t.Fatalf("%d messages, want %d", len(got), 350)
		}
	})
	t.Run("newest first, page by page and out of order", func(t *testing.T) {
		want := slices.Clone(all)
		slices.Reverse(want)
		for _, p := range []int{1, 2, 3, 33, 20, 40, 10} {
			got := answered[grepAnswered](t, s, "/datagrepper/v2/search?page="+strconv.Itoa(p)).numbers()
			if !slices.Equal(got, want[25*(p-1):25*p]) {
				t.Fatalf("page %d: %v", p, got)
			}
		}
		if got := answered[grepAnswered](t, s, "/datagrepper/raw?page=41"); got.Count != 0 || got.Messages == nil || got.Pages != 40 {
			t.Fatalf("a page behind the last: %+v", got)
		}
	})
	t.Run("a search of text, page by page", func(t *testing.T) {
		got := answered[grepAnswered](t, s, "/datagrepper/raw?contains=%22n%22%3A+5&rows_per_page=10&page=4&order=asc&category=git").numbers()
		want := numbersOf(n, func(i int) bool { return i%3 == 0 && strings.HasPrefix(strconv.Itoa(i), "5") })
		if !slices.Equal(got, want[30:min(40, len(want))]) {
			t.Fatalf("%v, want %v", got, want)
		}
	})
}

// TestDatagrepper_DocumentedRequests are the request lines of datagrepper's documentation, with times of our own.
func TestDatagrepper_DocumentedRequests(t *testing.T) {
	const n = 1000
	s := eventServer(t, n)
	date := func(i int) string { return time.Unix(eventTime(i), 0).UTC().Format("2006-01-02T15:04:05") + "%2B00:00" }
	recent := func(i int) bool { return i >= 880 }
	for query, want := range map[string]func(i int) bool{
		"delta=7200":                             recent,
		"end=" + date(50) + "&start=" + date(20): func(i int) bool { return i >= 20 && i < 50 },
		"end=" + strings.ReplaceAll(date(50), "%2B", "+") + "&delta=600": func(i int) bool { return i >= 40 && i < 50 },
		"delta=7200&category=bodhi":                                      func(i int) bool { return recent(i) && i%3 == 1 },
		"delta=7200&category=bodhi&category=git":                         func(i int) bool { return recent(i) && i%3 != 2 },
		"delta=7200&user=user1&user=user2":                               func(i int) bool { return recent(i) && (i%5 == 1 || i%5 == 2) },
		"delta=7200&package=pkg1":                                        func(i int) bool { return recent(i) && i%3 == 0 && i%2 == 1 },
		"delta=7200&not_category=buildsys":                               func(i int) bool { return recent(i) && i%3 != 2 },
		"delta=7200&user=user1&not_category=bodhi":                       func(i int) bool { return recent(i) && i%5 == 1 && i%3 != 1 },
		"delta=7200&category=bodhi&category=git&user=user0&user=user3":   func(i int) bool { return recent(i) && i%3 != 2 && (i%5 == 0 || i%5 == 3) },
		"topic=org.fedoraproject.prod.git.t0&delta=7200":                 func(i int) bool { return recent(i) && i%6 == 0 },
		"end=" + strconv.FormatInt(eventTime(30), 10):                    func(i int) bool { return i < 30 }, // datagrepper forgets it
		"start=" + strconv.FormatInt(eventTime(990), 10) + ".5":          func(i int) bool { return i >= 990 },
	} {
		for _, path := range []string{"/datagrepper/raw", "/datagrepper/raw/", "/datagrepper/v2/search", "/datagrepper/v2/search/"} {
			got := answered[grepAnswered](t, s, path+"?rows_per_page=100&order=asc&"+query)
			all := numbersOf(n, want)
			if got.Total != len(all) || !slices.Equal(got.numbers(), all[:min(100, len(all))]) {
				t.Errorf("%s?%s: %d messages, want %d: %v", path, query, got.Total, len(all), got.numbers())
			}
			if got.Count != len(got.Messages) || got.Pages != (len(all)+99)/100 {
				t.Errorf("%s?%s: count %d, pages %d", path, query, got.Count, got.Pages)
			}
		}
	}
}

func TestDatagrepper_AnswersAsDatagrepperDoes(t *testing.T) {
	s := eventServer(t, 1000)
	at := eventTime(12)
	for path, want := range map[string]string{
		"/datagrepper/id?id=2018-0012": fmt.Sprintf(`{"i":12,"msg_id":"2018-0012","topic":"org.fedoraproject.prod.git.t0","timestamp":%d.5,"certificate":null,"signature":null,`+
			`"agent_name":"user2","username":"user2","crypto":null,"msg":{"n": 12, "text": "käse <12>"},"headers":null,"source_name":"datanommer","source_version":"0.6",`+
			`"users":["user2"],"packages":["pkg0","shared"]}`, at),
		"/datagrepper/v2/id?id=2018-0012": fmt.Sprintf(`{"body":{"n": 12, "text": "käse <12>"},"headers":{"sent-at":%q},"id":"2018-0012","priority":0,"queue":null,"topic":"org.fedoraproject.prod.git.t0"}`,
			time.Unix(at, 0).UTC().Format("2006-01-02T15:04:05")+".500000+00:00"),
		"/datagrepper/messagecount":                  `{"messagecount":1000}`,
		"/datagrepper/messagecount/":                 `{"messagecount":1000}`,
		"/datagrepper/healthz/live":                  `{"status": 200, "title": "OK"}`,
		"/datagrepper/healthz/ready":                 `{"status": 200, "title": "OK"}`,
		"/datagrepper/id/?id=2018-0012&callback=f.g": fmt.Sprintf(`/**/f.g({"i":12,"msg_id":"2018-0012","topic":"org.fedoraproject.prod.git.t0","timestamp":%d.5,`, at),
		"/datagrepper/raw?start=5&end=9.5&user=x&meta=date": `{"raw_messages":[],"total":0,"pages":0,"count":0,"arguments":{"start":5.0,"delta":4.5,"end":9.5,"users":["x"],"packages":[],"categories":[],` +
			`"topics":[],"agents":[],"contains":[],"not_users":[],"not_packages":[],"not_categories":[],"not_topics":[],"not_agents":[],"page":1,"rows_per_page":25,"order":"desc","meta":["date"]}}`,
	} {
		w := get(s, http.MethodGet, path)
		if got := strings.TrimSpace(w.Body.String()); w.Code != http.StatusOK || !strings.HasPrefix(got, want) {
			t.Errorf("%s: %d\ngot  %s\nwant %s", path, w.Code, got, want)
		}
	}
	none := answered[grepAnswered](t, s, "/datagrepper/raw")
	if none.Arguments["start"] != nil || none.Arguments["end"] != nil || none.Total != 1000 || none.Count != 25 {
		t.Errorf("without a window: %+v", none.Arguments)
	}
	meta := answered[grepAnswered](t, s, "/datagrepper/raw?rows_per_page=1&meta=usernames&meta=date&meta=packages&meta=link&order=asc").Messages[0].Meta
	if fmt.Sprintf("%v, %v, %v, %v", meta["usernames"], meta["date"], meta["packages"], meta["link"]) != "[user0], 17 hours ago, [pkg0 shared], <nil>" {
		t.Errorf("meta %v", meta)
	}
	w := get(s, http.MethodGet, "/datagrepper/raw?rows_per_page=3", "Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
	if !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") || strings.Count(w.Body.String(), "<li>") != 3 {
		t.Errorf("for a browser: %s", w.Body)
	}
	if w := get(s, http.MethodPost, "/datagrepper/messagecount"); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
	if w := get(s, http.MethodGet, "/datagrepper/widget.js?css=true"); !strings.Contains(w.Body.String(), "datagrepper-widget") || strings.Contains(w.Body.String(), "STYLED") {
		t.Errorf("widget: %s", w.Body)
	}
}

func TestDatagrepper_RefusesInItsWords(t *testing.T) {
	s := eventServer(t, 3)
	for path, want := range map[string]string{
		"/datagrepper/raw?rows_per_page=0":    `400 {"error":"rows_per_page must be \u003e 0"}`,
		"/datagrepper/raw?rows_per_page=101":  `400 {"error":"rows_per_page must be \u003c= 100"}`,
		"/datagrepper/raw?page=0":             `400 {"error":"page must be \u003e 0"}`,
		"/datagrepper/raw?page=x":             `400 {"error":"page must be \u003e 0"}`,
		"/datagrepper/raw?order=up":           `400 {"error":"order must be either 'desc' or 'asc'"}`,
		"/datagrepper/raw?size=tiny":          `400 {"error":"size must be`,
		"/datagrepper/raw?chrome=maybe":       `400 {"error":"chrome should be`,
		"/datagrepper/raw?meta=nothing":       `400 {"error":"meta must be in`,
		"/datagrepper/raw?start=yesterday":    `400 {"error":"start must be`,
		"/datagrepper/raw?end=NaN":            `400 {"error":"end must lie`,
		"/datagrepper/raw?delta=-1":           `400 {"error":"delta must be`,
		"/datagrepper/raw?callback=alert(1)":  `400 {"error":"callback must be`,
		"/datagrepper/id":                     `400 {"error":"id must be given`,
		"/datagrepper/id?id=nothing":          `404 {"error":"not_found"}`,
		"/datagrepper/charts/pie":             `404 {"error":"not_found"}`,
		"/datagrepper/charts/line?N=2":        `400 {"error":"N must be`,
		"/datagrepper/charts/line?width=1e9":  `400 {"error":"width must be`,
		"/datagrepper/charts/line?style=ugly": `404 {"error":"not_found"}`,
	} {
		w := get(s, http.MethodGet, path)
		if got := fmt.Sprintf("%d %s", w.Code, w.Body); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

func TestDatagrepper_Charts(t *testing.T) {
	s := eventServer(t, 1000)
	for kind := range chartTypes {
		for _, query := range []string{"", "category=git&category=bodhi&split_on=categories&user=user1&user=user2&split_on=users&fill=true&title=%3Cscript%3E&style=neon&N=15&delta=60000",
			"logarithmic=True&show_x_labels=False&show_y_labels=false&show_dots=no&human_readable=False&height=100&width=100&user=nobody"} {
			w := get(s, http.MethodGet, "/datagrepper/charts/"+kind+"?"+query)
			if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "image/svg+xml" {
				t.Fatalf("%s?%s: %d %s", kind, query, w.Code, w.Body)
			}
			d := xml.NewDecoder(w.Body)
			for {
				if _, err := d.Token(); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatalf("%s?%s: %v", kind, query, err)
				}
			}
		}
	}
	w := get(s, http.MethodGet, "/datagrepper/charts/bar?N=4&delta=60000&human_readable=false&title=x")
	for _, want := range []string{": 250</title>"} {
		if strings.Count(w.Body.String(), want) != 4 {
			t.Errorf("1000 events in four parts: %s", w.Body)
		}
	}
}

// FuzzDatagrepper_Arguments asks whatever comes: no answer may be a failure of ours, and what a page says must be true.
func FuzzDatagrepper_Arguments(f *testing.F) {
	for _, seed := range []string{"", "start=1&end=2&delta=3", "rows_per_page=0", "page=99999999999999999999", "end=1e300", "start=-1e18", "meta=date&meta=text&user=a&not_user=a",
		"contains=%00&contains=%ff", "callback=a.b.c", "order=asc&page=3&rows_per_page=100", "delta=1e-9", "start=2018-04-26T10:00:00+02:00", "id=%2f", "size=small&chrome=0", "split_on=users&user=a&N=3", "%zz=1", "a=1;b=2"} {
		f.Add(seed)
	}
	s := eventServer(f, 300)
	f.Fuzz(func(t *testing.T, query string) {
		for _, path := range []string{"/datagrepper/raw", "/datagrepper/v2/id", "/datagrepper/charts/line"} {
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.URL.RawQuery, r.RequestURI = query, ""
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			if w.Code >= 500 {
				t.Fatalf("%s?%s: %d %s", path, query, w.Code, w.Body)
			}
			if path != "/datagrepper/raw" || w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/json" {
				continue
			}
			var a grepAnswered
			if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
				t.Fatalf("%q: %v", query, err)
			}
			if a.Count != len(a.Messages) || a.Count > a.Total || a.Total > 300 {
				t.Fatalf("%q: %d messages, count %d, total %d", query, len(a.Messages), a.Count, a.Total)
			}
		}
	})
}
