package api

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/statscache/statscache/api/web"
)

func newGatherer(t *testing.T) prometheus.Gatherer {
	t.Helper()
	reg := prometheus.NewRegistry()
	if _, err := newObserver(reg); err != nil {
		t.Fatal(err)
	}
	return reg
}

// pageURLs are all pages, with something to show.
var pageURLs = []string{
	"/web/getting-started", "/web/dashboard", "/web/dashboard/volume", "/web/dashboard/volume-by-category-1d?group-by=category&at=now", "/web/dashboard/" + releng,
	"/web/board/" + releng, "/web/user/ralph", "/web/reference", "/web/widgets", "/web/status", "/embed/line?metric=volume",
}

func TestPages_HoldTheirOwnPolicy(t *testing.T) {
	s := contractServer(t)
	for _, url := range append([]string{"/web/nothing"}, pageURLs...) {
		w := get(s, http.MethodGet, url, "Accept", "text/html")
		policy := w.Header().Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "http") || !strings.Contains(policy, "require-trusted-types-for") {
			t.Errorf("%s: policy %q", url, policy)
		}
		if framed := strings.HasPrefix(url, "/embed/"); framed != strings.Contains(policy, "frame-ancestors *") || framed == strings.Contains(policy, "frame-ancestors 'none'") {
			t.Errorf("%s: frames: %q", url, policy)
		}
		h := w.Header()
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "no-referrer" || h.Get("Content-Type") != "text/html; charset=utf-8" {
			t.Errorf("%s: %v", url, h)
		}
		body := regexp.MustCompile(`(?s)<(textarea|pre)[ >].*?</(textarea|pre)>`).ReplaceAllString(w.Body.String(), "") // snippets are text
		for _, inline := range []string{`<script[^>]*>[^<]`, `<style`, ` style=`, ` on[a-z]+=`, `javascript:`, `<(script|link|img|iframe)[^>]+(src|href)="(https?:)?//`} {
			if m := regexp.MustCompile(inline).FindString(body); m != "" {
				t.Errorf("%s has %q", url, m)
			}
		}
	}
}

func TestPages_RootLeadsToTheStart(t *testing.T) {
	s := contractServer(t)
	for url, want := range map[string]string{"/": "web/getting-started", "/web": "web/getting-started", "/web/": "getting-started"} {
		if w := get(s, http.MethodGet, url); w.Code != http.StatusFound || w.Header().Get("Location") != want {
			t.Errorf("%s: %d %s", url, w.Code, w.Header().Get("Location"))
		}
	}
}

// TestPages_EveryLinkLeadsSomewhere follows the links of all pages.
func TestPages_EveryLinkLeadsSomewhere(t *testing.T) {
	s := contractServer(t)
	links := regexp.MustCompile(`(?:href|src)="((?:\.\./)+[^"#]*)"`)
	seen := map[string]bool{}
	for _, url := range pageURLs {
		path, _, _ := strings.Cut(url, "?")
		root := web.RootOf(path)
		for _, m := range links.FindAllStringSubmatch(get(s, http.MethodGet, url).Body.String(), -1) {
			to := "/" + strings.ReplaceAll(strings.TrimPrefix(m[1], root), "&amp;", "&")
			if !strings.HasPrefix(m[1], root) {
				t.Errorf("%s: %s doesn't start at the root", url, m[1])
			} else if !seen[to] {
				seen[to] = true
				if w := get(s, http.MethodGet, to); w.Code >= 400 {
					t.Errorf("%s links to %s: %d", url, to, w.Code)
				}
			}
		}
	}
	if len(seen) < 20 {
		t.Errorf("only %d links", len(seen))
	}
}

func TestPages_SayWhatIsWrong(t *testing.T) {
	s := contractServer(t)
	long := strings.Repeat("ن", 200)
	for url, want := range map[string]struct {
		code int
		text string
	}{
		"/web/dashboard/nothing":                            {404, "There is no metric"},
		"/web/dashboard/volume?form=now-1d":                 {400, "form is no attribute"},
		"/web/dashboard/volume?from=yesterdayish":           {200, `from="yesterdayish"`}, // the widget says it, and the form mends it
		"/web/board/volume":                                 {404, "it has no board"},
		"/web/user/%3Cscript%3Ealert(1)%3C%2Fscript%3E":     {200, "&lt;script&gt;alert(1)"},
		"/web/user/" + long:                                 {200, long[:100]},
		"/web/nothing":                                      {404, "There is no page"},
		"/nothing":                                          {404, "nothing is served"},
		"/embed/pie":                                        {404, "There is no widget"},
		"/img/line.svg":                                     {200, "Name a metric"},
		"/img/line.svg?metric=nothing":                      {200, "There is no metric"},
		"/img/line.svg?metric=volume&tz=Mars":               {200, "tz: "},
		"/img/line.svg?metric=volume&title=%3Cscript%3E%00": {200, "&lt;script&gt;"},
		"/badge/nothing.svg":                                {200, "no such metric"},
		"/badge/volume.svg?from=x":                          {200, "bad request"},
		"/widgets/v1/statscache-0.js":                       {404, "no such script"},
	} {
		w := get(s, http.MethodGet, url, "Accept", "text/html,*/*;q=0.1")
		if w.Code != want.code || !strings.Contains(w.Body.String(), want.text) || strings.Contains(w.Body.String(), "<script>") {
			t.Errorf("%s: %d, want %d with %q: %s", url, w.Code, want.code, want.text, cut(w.Body.String(), 2000))
		}
	}
}

func TestPages_WithoutAStoreSayIt(t *testing.T) {
	f := compatStore(t)
	f.setFail(errTest)
	s := newTestServer(t, Options{Store: f})
	for _, url := range []string{"/web/dashboard", "/web/dashboard/volume", "/img/line.svg?metric=volume"} {
		if w := get(s, http.MethodGet, url, "Accept", "text/html"); w.Code < 500 || strings.Contains(w.Body.String(), "secret") || !strings.Contains(w.Body.String(), "<html") {
			t.Errorf("%s: %d %s", url, w.Code, cut(w.Body.String(), 500))
		}
	}
	for _, url := range []string{"/web/getting-started", "/web/status", "/web/reference", "/web/widgets"} {
		if w := get(s, http.MethodGet, url); w.Code != http.StatusOK {
			t.Errorf("%s: %d", url, w.Code)
		}
	}
	if w := get(s, http.MethodGet, "/badge/volume.svg"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "unavailable") {
		t.Errorf("the badge: %d %s", w.Code, w.Body)
	}
}

func TestScript_IsSmallAndItsOtherNameNeverChanges(t *testing.T) {
	s := contractServer(t)
	w := get(s, http.MethodGet, "/widgets/v1/statscache.js", "Accept-Encoding", "br")
	if n := w.Body.Len(); n > 12_000 || w.Header().Get("Content-Encoding") != "br" {
		t.Errorf("%d bytes as %q, want 12 KB at most", n, w.Header().Get("Content-Encoding"))
	}
	if w.Header().Get("Cross-Origin-Resource-Policy") != "cross-origin" || w.Header().Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("other sites can't use it: %v", w.Header())
	}
	page := get(s, http.MethodGet, "/web/widgets").Body.String()
	name := regexp.MustCompile(`statscache-[0-9a-f]{16}\.js`).FindString(page)
	fixed := get(s, http.MethodGet, "/widgets/v1/"+name)
	if fixed.Code != http.StatusOK || !strings.Contains(fixed.Header().Get("Cache-Control"), "immutable") {
		t.Errorf("%s: %d %v", name, fixed.Code, fixed.Header())
	}
	if !strings.Contains(page, "sha384-") {
		t.Error("the page names no integrity")
	}
}

// TestPages_AreDrawnOnceForACrowd: what many load at the same moment costs one drawing.
func TestPages_AreDrawnOnceForACrowd(t *testing.T) {
	f := compatStore(t)
	clock := clockAt(testNow)
	s := newTestServer(t, Options{Store: f, Now: clock.Now})
	url := "/img/line.svg?metric=volume-by-category&group-by=category&from=2018-04-26&to=2018-04-27"
	first := get(s, http.MethodGet, url)
	asked := f.asked.Load()
	for range 10 {
		if w := get(s, http.MethodGet, url); w.Body.String() != first.Body.String() {
			t.Fatalf("another picture\n%s\n%s", w.Body, first.Body)
		}
	}
	if n := f.asked.Load(); n != asked {
		t.Errorf("%d more questions to the store", n-asked)
	}
	f.count("volume-by-category", time.Hour, 1524700800, "new", 5)
	clock.Advance(2 * time.Second)
	if w := get(s, http.MethodGet, url); w.Body.String() == first.Body.String() {
		t.Error("the picture is still the old one")
	}
}

func TestPaths_EscapedSlashesArePartsOfNames(t *testing.T) {
	s := contractServer(t)
	for url, want := range map[string]string{
		"/api/v1/users/a%2Fb":   `"name":"a/b"`,
		"/api/v1/users/50%25":   `"name":"50%"`,
		"/api/v1/users/%252F":   `"name":"%2F"`,
		"/web/user/a%2Fb%3Fc":   "<bdi>a/b?c</bdi>",
		"/web/user/a%2F..%2F..": `href="../../web/dashboard"`,
	} {
		if w := get(s, http.MethodGet, url); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d without %s: %s", url, w.Code, want, cut(w.Body.String(), 1500))
		}
	}
}

func TestPages_StatusShowsNumbersInTheMaking(t *testing.T) {
	st := Status{Store: StoreStatus{Kind: "sqlite", Up: true}, Plugins: []PluginStatus{
		{ID: "volume", State: "catching-up", Building: &BuildingStatus{Generation: 2, Done: 250, Total: 1000}}, {ID: "releng", State: "running"}}}
	s := newTestServer(t, Options{Store: compatStore(t), Status: func() Status { return st }})
	if page := get(s, http.MethodGet, "/web/status").Body.String(); !strings.Contains(page, `value="25"`) || strings.Count(page, "<progress") != 1 || !strings.Contains(page, "catching-up") {
		t.Error(page)
	}
	if body := get(s, http.MethodGet, "/api/v1/status").Body.String(); !strings.Contains(body, `"building":{"generation":2,"done":250,"total":1000}`) || strings.Count(body, "building") != 1 {
		t.Error(body)
	}
}
