package api

import (
	"bytes"
	"compress/gzip"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/statscache/statscache/store"
)

func TestValidators_NotModifiedHasTheSameHeaders(t *testing.T) {
	s := newTestServer(t, Options{Store: compatStore(t)})
	for _, path := range []string{
		"/api/", "/api/volume-by-category-1m?page=2", "/api/" + releng, "/api/" + releng + "/layout", "/api/v1/metrics",
		"/api/v1/metrics/volume", "/api/v1/plugins", "/api/v1/status", "/web/style.css",
	} {
		t.Run(path, func(t *testing.T) {
			full := get(s, http.MethodGet, path, "Accept-Encoding", "br")
			tag := full.Header().Get("ETag")
			if full.Code != http.StatusOK || tag == "" {
				t.Fatalf("status %d, ETag %q", full.Code, tag)
			}
			for _, known := range []string{tag, strings.TrimPrefix(tag, "W/"), `"x", ` + tag, "*"} {
				for _, method := range []string{http.MethodGet, http.MethodHead} {
					w := get(s, method, path, "If-None-Match", known, "Accept-Encoding", "br")
					if w.Code != http.StatusNotModified || w.Body.Len() > 0 {
						t.Errorf("%s with %s: %d and %d bytes", method, known, w.Code, w.Body.Len())
					}
					want := full.Header().Clone()
					want.Del("Content-Length")
					want.Del("Content-Encoding")
					if !reflect.DeepEqual(w.Header(), want) {
						t.Errorf("headers %v\nwant %v", w.Header(), want)
					}
				}
			}
			if w := get(s, http.MethodGet, path, "If-None-Match", `W/"0"`); w.Code != http.StatusOK {
				t.Errorf("another ETag: %d", w.Code)
			}
		})
	}
}

func TestHead_SaysWhatGetWouldSend(t *testing.T) {
	srv := httptest.NewServer(newTestServer(t, Options{Store: compatStore(t)}))
	defer srv.Close()
	for _, path := range []string{"/web/status", "/api/", "/api/volume-by-category-1s", "/api/nope", "/nope", "/api/volume-1s?page=0"} {
		var headers []http.Header
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			r, err := http.NewRequest(method, srv.URL+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Accept-Encoding", "gzip")
			resp, err := srv.Client().Transport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if (len(body) == 0) != (method == http.MethodHead) {
				t.Errorf("%s %s: %d bytes", method, path, len(body))
			}
			resp.Header.Del("Date")
			headers = append(headers, resp.Header)
		}
		if headers[0].Get("Content-Length") == "" || !maps.EqualFunc(headers[0], headers[1], func(a, b []string) bool { return reflect.DeepEqual(a, b) }) {
			t.Errorf("%s: GET %v\nHEAD %v", path, headers[0], headers[1])
		}
	}
}

func TestEncoding_EveryCodingCarriesTheSameBody(t *testing.T) {
	s := newTestServer(t, Options{Store: compatStore(t)})
	const path = "/api/volume-by-category-1s"
	plain := get(s, http.MethodGet, path).Body.String()
	for _, c := range []struct{ accept, want string }{
		{"gzip", "gzip"}, {"br", "br"}, {"zstd", "zstd"}, {"gzip, deflate, br, zstd", "br"}, {"gzip, zstd", "zstd"},
		{"br;q=0.5, gzip", "gzip"}, {"br;q=0, gzip;q=0, *", "zstd"}, {"*", "br"}, {"GZIP", "gzip"}, {"x-gzip", "gzip"},
		{"", ""}, {"identity", ""}, {"deflate", ""}, {"br;q=0", ""}, {"identity, br;q=0.5", ""}, {"br;q=x", ""}, {"br;q=NaN", ""},
		{strings.Repeat("a,", 500) + "br", ""},
	} {
		for range 2 {
			w := get(s, http.MethodGet, path, "Accept-Encoding", c.accept)
			if got := w.Header().Get("Content-Encoding"); got != c.want {
				t.Errorf("%.60q: %q, want %q", c.accept, got, c.want)
			}
			if got := decode(t, w.Header().Get("Content-Encoding"), w.Body.Bytes()); got != plain {
				t.Errorf("%q: another body: %.80q", c.accept, got)
			}
			if w.Header().Get("Vary") != "Accept, Accept-Encoding" {
				t.Errorf("Vary: %q", w.Header().Get("Vary"))
			}
		}
	}
	if w := get(s, http.MethodGet, path+"?limit=0", "Accept-Encoding", "br"); w.Header().Get("Content-Encoding") != "" || w.Body.String() != "[]" {
		t.Errorf("two bytes were compressed: %v", w.Header())
	}
}

func decode(t *testing.T, coding string, body []byte) string {
	t.Helper()
	var r io.Reader = bytes.NewReader(body)
	var err error
	switch coding {
	case "gzip":
		r, err = gzip.NewReader(r)
	case "br":
		r = brotli.NewReader(r)
	case "zstd":
		r, err = zstd.NewReader(r)
	}
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestParameters_UnusableOnesAreNamed(t *testing.T) {
	s := newTestServer(t, Options{Store: compatStore(t)})
	for parameter, values := range map[string][]string{
		"order":         {"", "ASC", "up", "asc,desc"},
		"start":         {"", "x", "nan", "inf", "-inf", "1e20", "-1e20", "2018-04-26", "0x10", "1_000", " 1", "1524700000000"},
		"stop":          {"", "now", "1e400"},
		"limit":         {"", "-1", "1.5", "x", "+1", "0x1"},
		"page":          {"", "0", "-1", "x", "1e3", "2", "99999999999999999999999999"},
		"rows_per_page": {"", "0", "00", "-5", "x"},
		"callback": {
			"", "alert(1)//", "a b", "a;b", "a-b", "1a", ".a", "a.", "a..b", "a[0]", "<script>", "ä", "a\u2028b", "a/**/",
			"a\nb", "\"", "'", "a.1b", strings.Repeat("a", maxCallback+1),
		},
	} {
		for _, v := range values {
			q := "?limit=5&" + parameter + "=" + escape(v)
			if parameter == "limit" {
				q = "?limit=" + escape(v)
			}
			w := get(s, http.MethodGet, "/api/volume-by-category-1s"+q)
			if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), `"parameter":"`+parameter+`"`) {
				t.Errorf("%s=%q: %d %s", parameter, v, w.Code, w.Body)
			}
			if ct := w.Header().Get("Content-Type"); ct != "application/problem+json" {
				t.Errorf("%s=%q: %s", parameter, v, ct)
			}
		}
	}
	long := strings.Repeat("9", maxValue+1)
	if w := get(s, http.MethodGet, "/api/volume-1s?limit="+long); w.Code != http.StatusBadRequest {
		t.Errorf("a long value: %d", w.Code)
	}
	if w := get(s, http.MethodGet, "/api/volume-1s?x="+strings.Repeat("a", maxQuery)); w.Code != http.StatusRequestURITooLong {
		t.Errorf("a long query: %d", w.Code)
	}
	if w := get(s, http.MethodGet, "/api/volume-1s?"+strings.Repeat("a&", maxPairs+1)); w.Code != http.StatusBadRequest {
		t.Errorf("many parameters: %d", w.Code)
	}
	if w := get(s, http.MethodGet, "/api/volume-1s?page=%zz"); w.Code != http.StatusBadRequest {
		t.Errorf("a broken escape: %d", w.Code)
	}
}

func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		b.WriteByte('%')
		b.WriteByte("0123456789ABCDEF"[s[i]>>4])
		b.WriteByte("0123456789ABCDEF"[s[i]&15])
	}
	return b.String()
}

func TestParameters_UsableOnes(t *testing.T) {
	s := newTestServer(t, Options{Store: compatStore(t), MaximumRows: 50})
	for query, want := range map[string]string{ // X-Link-Number of X-Link-Count
		"rows_per_page=1":                                      "1 of 2818",
		"rows_per_page=9999999999999999999999":                 "1 of 57",
		"rows_per_page=50&page=57":                             "57 of 57",
		"page=1&page=0&order=asc&order=x":                      "1 of 57", // the first of a kind counts
		"start=1.5247e9&stop=1524710000.5&limit=0001":          "1 of 1",
		"limit=99999999999999999999999":                        "1 of 57",
		"start=1524723040.5&stop=1524723041.5&rows_per_page=1": "1 of 2",
		"start=1524723041.5&stop=1524723042":                   "1 of 0",
		"start=5&stop=4":                                       "1 of 0",
		"start=-62135596800&stop=253402300799":                 "1 of 57",
		"unknown=%00%FF&x":                                     "1 of 57",
	} {
		w := get(s, http.MethodGet, "/api/volume-by-category-1s?"+query)
		if got := w.Header().Get("X-Link-Number") + " of " + w.Header().Get("X-Link-Count"); w.Code != http.StatusOK || got != want {
			t.Errorf("%s: %d, page %s, want %s", query, w.Code, got, want)
		}
	}
}

func TestPages_TogetherAreAllRowsOnce(t *testing.T) {
	s := newTestServer(t, Options{Store: compatStore(t), MaximumRows: 5000})
	for _, order := range []string{"asc", "desc"} {
		all := get(s, http.MethodGet, "/api/volume-by-category-1s?rows_per_page=5000&limit=400&order="+order).Body.String()
		next := "/api/volume-by-category-1s?rows_per_page=37&limit=400&order=" + order
		var parts []string
		for next != "" {
			w := get(s, http.MethodGet, next)
			if w.Code != http.StatusOK {
				t.Fatalf("%s: %d", next, w.Code)
			}
			parts = append(parts, strings.Trim(w.Body.String(), "[]"))
			next = ""
			for l := range strings.SplitSeq(w.Header().Get("Link"), ", ") {
				if u, ok := strings.CutSuffix(l, `>; rel="next"`); ok {
					next = strings.TrimPrefix(u, "<")
				}
			}
		}
		if len(parts) != 11 || "["+strings.Join(parts, ",")+"]" != all {
			t.Errorf("%s: %d pages that are not the whole", order, len(parts))
		}
	}
}

func TestLinks_AreAbsoluteAndKeepEverything(t *testing.T) {
	f := compatStore(t)
	const q = "?tag=a%20b%26c%3D%C3%A4%3E&rows_per_page=3&page=2&order=asc&start=1524700000"
	kept := "?tag=a+b%26c%3D%C3%A4%3E&rows_per_page=3&order=asc&start=1524700000&page="
	forwarded := []string{"X-Forwarded-Host", "evil.example", "X-Forwarded-Proto", "https", "Forwarded", "host=evil.example"}
	for _, c := range []struct{ name, base, host, want string }{
		{"from the request", "", "stats.example:8840", "http://stats.example:8840"},
		{"IPv6", "", "[::1]:8840", "http://[::1]:8840"},
		{"configured", "https://stats.example/below/", "internal:8840", "https://stats.example/below"},
		{"a Host that is none", "", `a>;rel="x",<b`, ""},
		{"no Host", "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newTestServer(t, Options{Store: f, BaseURL: c.base})
			for range 2 {
				r := httptest.NewRequest(http.MethodGet, "/api/volume-by-category-1s"+q, nil)
				r.Host = c.host
				for i := 0; i < len(forwarded); i += 2 {
					r.Header.Set(forwarded[i], forwarded[i+1])
				}
				w := httptest.NewRecorder()
				s.ServeHTTP(w, r)
				url := c.want + "/api/volume-by-category-1s" + kept
				want := "<" + url + `1>; rel="previous", <` + url + `3>; rel="next"`
				if got := w.Header().Get("Link"); got != want {
					t.Errorf("got  %s\nwant %s", got, want)
				}
			}
		})
	}
	s := newTestServer(t, Options{Store: f})
	for _, host := range []string{"one.example", "two.example"} { // one answer, but not one Link
		r := httptest.NewRequest(http.MethodGet, "/api/volume-by-category-1s", nil)
		r.Host = host
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if !strings.Contains(w.Header().Get("Link"), "<http://"+host+"/") {
			t.Errorf("%s: %s", host, w.Header().Get("Link"))
		}
	}
}

func TestRows_ManyDimensionsAndHostileValues(t *testing.T) {
	f := newFakeStore()
	f.add(store.Metric{ID: "m", Intervals: intervals("1m"), Dimensions: []store.Dimension{{Name: "zone"}, {Name: "agent"}}})
	for _, k := range [][]string{{"a", "</script>\u2028"}, {"\xff", "<1"}, {"a,b", "say \"hi\"\n"}} {
		f.count("m", time.Minute, testNow-600, store.JoinKey(k), 2)
	}
	f.count("m", time.Minute, testNow-600, store.OtherKey, 9)
	s := newTestServer(t, Options{Store: f})
	for accept, want := range map[string]string{
		"application/json": `[{"agent":"(other)","timestamp":1699999440,"volume":9,"zone":"(other)"},` +
			`{"agent":"\u003c/script\u003e\u2028","timestamp":1699999440,"volume":2,"zone":"a"},` +
			`{"agent":"say \"hi\"\n","timestamp":1699999440,"volume":2,"zone":"a,b"},` +
			`{"agent":"\u003c1","timestamp":1699999440,"volume":2,"zone":"\ufffd"}]`,
		"text/csv": "timestamp,agent,volume,zone\n1699999440,(other),9,(other)\n1699999440,</script>\u2028,2,a\n" +
			"1699999440,\"say \"\"hi\"\"\n\",2,\"a,b\"\n1699999440,<1,2,\uFFFD\n",
	} {
		if got := get(s, http.MethodGet, "/api/m-1m", "Accept", accept).Body.String(); got != want {
			t.Errorf("%s\ngot  %q\nwant %q", accept, got, want)
		}
	}
}

func TestRoutes_NeighboursAndErrors(t *testing.T) {
	s := newTestServer(t, Options{Store: compatStore(t)})
	for _, c := range []struct {
		method, path, accept string
		status               int
		contentType          string
	}{
		{"GET", "/api/v1", "", 404, "application/problem+json"},
		{"GET", "/api/v1/nope", "", 404, "application/problem+json"},
		{"GET", "/api/v1/metrics/nope", "", 404, "application/problem+json"},
		{"GET", "/api/v1/metrics/volume", "text/csv", 406, "application/problem+json"},
		{"GET", "/api/nope", "text/html", 404, "text/html; charset=utf-8"},
		{"GET", "/api/nope", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", 404, "text/html; charset=utf-8"},
		{"GET", "/api/%3Cscript%3E", "text/html", 404, "text/html; charset=utf-8"},
		{"GET", "/api/..%2f..%2fetc", "", 404, "application/problem+json"},
		{"GET", "/api/volume-60s", "", 404, "application/problem+json"},
		{"GET", "/api/volume", "", 404, "application/problem+json"},
		{"DELETE", "/api/volume-1s", "", 405, "application/problem+json"},
		{"POST", "/", "", 405, "application/problem+json"},
		{"GET", "/start.html", "", 404, "application/problem+json"},
	} {
		w := get(s, c.method, c.path, "Accept", c.accept)
		if w.Code != c.status || w.Header().Get("Content-Type") != c.contentType {
			t.Errorf("%s %s: %d %s", c.method, c.path, w.Code, w.Header().Get("Content-Type"))
		}
		if strings.Contains(w.Body.String(), "<script>") || w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: unsafe: %v %s", c.path, w.Header(), w.Body)
		}
		if c.status == 405 && w.Header().Get("Allow") == "" {
			t.Errorf("%s %s: nothing allowed", c.method, c.path)
		}
	}
	w := get(s, http.MethodGet, "/api?x=1")
	if w.Code != http.StatusPermanentRedirect || w.Header().Get("Location") != "api/?x=1" {
		t.Errorf("%d to %q", w.Code, w.Header().Get("Location"))
	}
	w = get(s, http.MethodOptions, "/api/volume-1s", "Origin", "https://a.example", "Access-Control-Request-Method", "GET",
		"Access-Control-Request-Headers", "if-none-match")
	if w.Code != 200 || !strings.Contains(w.Header().Get("Access-Control-Allow-Headers"), "If-None-Match") {
		t.Errorf("preflight: %d %v", w.Code, w.Header())
	}
}

func TestMetrics_OfRequestsHaveBoundedNames(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := newTestServer(t, Options{Store: compatStore(t), Registry: reg})
	for _, path := range []string{"/api/volume-1s", "/api/volume-1s", "/api/nope", "/made/up", "/made/up/2", "/api/v1/metrics/volume"} {
		get(s, http.MethodGet, path)
	}
	get(s, "BREW", "/api/volume-1s")
	names, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, mf := range names {
		for _, m := range mf.Metric {
			var labels []string
			for _, l := range m.Label {
				labels = append(labels, l.GetValue())
			}
			got[mf.GetName()+" "+strings.Join(labels, " ")] = true
		}
	}
	d := "statscache_http_request_duration_seconds "
	want := map[string]bool{
		"statscache_cache_hits_total ": true, "statscache_cache_misses_total ": true,
		"statscache_stream_clients ": true, "statscache_stream_dropped_total ": true, "statscache_stream_refused_total ": true,
		d + "200 /api/{ident}": true, d + "304 /api/{ident}": true, d + "404 /api/{ident}": true, d + "404 none": true,
		d + "405 none": true, d + "200 /api/v1/metrics/{id}": true, d + "304 /api/v1/metrics/{id}": true,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if n := counted(t, s.observe.hits); n != 1 {
		t.Errorf("%v hits, want 1", n)
	}
	if _, err := New(Options{Store: newFakeStore(), Registry: reg}); err == nil {
		t.Error("two servers on one registry")
	}
}
