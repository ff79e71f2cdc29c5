package api

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

func FuzzQuery(f *testing.F) {
	for _, q := range []string{
		"", "page=2&rows_per_page=3", "order=asc&start=1524700000.5&stop=1e9", "limit=0", "callback=a.b", "callback=alert(1)//",
		"page=99999999999999999999", "start=nan", "a=%zz", "&&=&=1", "stop=-62135596800", "callback=%E2%80%A8", "page=4611686018427387904&rows_per_page=2",
	} {
		f.Add(q, "application/json", "br")
	}
	f.Add("", "text/csv;q=0.9, application/json;q=0.5", "gzip;q=1, *;q=0")
	f.Add("callback=cb", ";;,/,*/*;q=x", ",,;")
	s := newTestServer(f, Options{Store: compatStore(f)})
	f.Fuzz(func(t *testing.T, query, accept, encoding string) {
		for _, path := range []string{"/api/volume-by-category-1s", "/api/" + releng, "/api/"} {
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.URL.RawQuery = query
			r.RequestURI = path + "?" + query
			r.Header.Set("Accept", accept)
			r.Header.Set("Accept-Encoding", encoding)
			var first *httptest.ResponseRecorder
			for range 2 {
				w := httptest.NewRecorder()
				s.ServeHTTP(w, r)
				checkAnswer(t, w)
				if first == nil {
					first = w
				}
				if w.Code != first.Code || w.Body.String() != first.Body.String() || w.Header().Get("Link") != first.Header().Get("Link") {
					t.Fatalf("asked again it answers otherwise: %v and %v", first, w)
				}
			}
		}
	})
}

// checkAnswer holds for every answer, whatever was asked.
func checkAnswer(t *testing.T, w *httptest.ResponseRecorder) {
	t.Helper()
	switch w.Code {
	case http.StatusOK, http.StatusBadRequest, http.StatusNotAcceptable, http.StatusRequestURITooLong:
	default:
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	for _, v := range w.Header() {
		if strings.ContainsAny(strings.Join(v, ""), "\r\n\x00") {
			t.Fatalf("a header with a line end: %q", v)
		}
	}
	for l := range strings.SplitSeq(w.Header().Get("Link"), ", ") {
		if l == "" {
			continue
		}
		target, rel, ok := strings.Cut(strings.TrimPrefix(l, "<"), ">; ")
		if _, err := url.Parse(target); !ok || err != nil || (rel != `rel="next"` && rel != `rel="previous"`) {
			t.Fatalf("link %q", l)
		}
	}
	if w.Header().Get("Content-Encoding") != "" {
		return
	}
	body := w.Body.String()
	switch ct, _, _ := strings.Cut(w.Header().Get("Content-Type"), ";"); ct {
	case "application/json", "application/problem+json":
		if !json.Valid([]byte(body)) {
			t.Fatalf("not JSON: %s", body)
		}
	case "application/javascript":
		name, rest, ok := strings.Cut(strings.TrimPrefix(body, "/**/"), "(")
		if !ok || !isCallback(name) || !json.Valid([]byte(strings.TrimSuffix(rest, ")"))) {
			t.Fatalf("not a call: %s", body)
		}
	}
}

// FuzzExplainQuery: whatever is asked to be explained, it is refused, or within what the explanation is told to expect.
func FuzzExplainQuery(f *testing.F) {
	for _, q := range []string{
		"time=1524739200&filter=topic:a&filter=topic:b&filter=user:c", "time=2018-04-26T00:00:00Z&step=1m&limit=5", "time=now&end=1", "",
		"time=1524739200&step=0s", "time=1e300", "time=9999999999999", "time=1&time=2", "time=1&filter=", "time=1&filter=:", "time=1&nonsense=1",
		"time=1&limit=-1", "time=1&step=9223372036854775807s", "time=-1d&step=1.5h",
	} {
		f.Add(q)
	}
	now := time.Date(2018, 4, 26, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, query string) {
		values, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		q, err := parseExplain("volume", values, now)
		if err != nil {
			return
		}
		n := 0
		for dimension, list := range q.Filter {
			if n += len(list); dimension == "" || len(list) == 0 {
				t.Fatalf("filter %q", q.Filter)
			}
		}
		if q.Step < 0 || q.Events < 0 || q.Events > MaxExplained || n > maxFilterValues {
			t.Fatalf("%+v", q)
		}
		if _, err := json.Marshal(q); err != nil {
			t.Fatalf("%+v: %v", q, err)
		}
	})
}

func FuzzCounts(f *testing.F) {
	for _, q := range []string{
		"", "from=2018-04-26&to=2018-04-27&step=1h&group_by=user,topic&top=2&other=1", "from=now-6h&to=now/d", "tz=Pacific/Apia&from=2011-12-29&to=2012-01-02&step=1d",
		"from=0001-01-03&to=9998-12-31&max_points=1", "from=0001-01-03&to=9998-12-31&step=2400y", "filter=user:a%00b&not=topic:", "step=1mo&from=-100y&fill=null&shape=rows",
		"from=-62135510400&step=7s", "by=user&limit=3&format=csv", "prefix=%ff&format=ndjson", "step=86401s&tz=Asia/Kathmandu", "tz=Local", "from=now/y&step=36h", "max_points=20000&from=now-1d&step=7s",
	} {
		f.Add(q)
	}
	s := newTestServer(f, Options{Store: smallStore()})
	f.Fuzz(func(t *testing.T, query string) {
		for _, path := range []string{"m/series", "m/top", "m/count", "m/calendar", "m/dimensions/user", "m/latest", "../users/ann"} {
			path = strings.Replace("/api/v1/metrics/"+path, "metrics/../", "", 1)
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.URL.RawQuery = query
			r.RequestURI = path + "?" + query
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			checkAnswer(t, w)
		}
	})
}
