package api

import (
	"encoding/json"
	"math"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/store"
)

func TestV1_MetricsAreDescribed(t *testing.T) {
	f := newFakeStore()
	f.add(store.Metric{
		ID: "volume-by-user", Name: "Volume by user", Summary: "s", Description: "d", Unit: "events", View: "bars",
		Dimensions: []store.Dimension{{Name: "user", MultiValued: true}}, Intervals: intervals("1s", "1m30s", "1d"),
	})
	f.add(store.Metric{ID: "log", Kind: store.Latest})
	f.add(store.Metric{ID: "empty", Intervals: intervals("1m")})
	f.count("volume-by-user", time.Second, 1524700801, "a", 1)
	f.count("volume-by-user", 24*time.Hour, 1524700801, "a", 1)
	f.latest["log"] = []store.LatestRow{{Key: "", Time: 1524700801500000, Value: []byte("1")}}
	s := newTestServer(t, Options{Store: f})
	user := `{"id":"volume-by-user","plugin":"test","name":"Volume by user","summary":"s","description":"d","kind":"counter",` +
		`"unit":"events","dimensions":[{"name":"user","multi_valued":true}],"intervals":["1s","1m30s","1d"],"view":"bars",` +
		`"idents":["volume-by-user-1s","volume-by-user-1m30s","volume-by-user-1d"],"first":"2018-04-26T00:00:00Z",` +
		`"last":"2018-04-26T00:00:01Z","version":3,"series":null,"series_limit":1000000,"other":null}`
	log := `{"id":"log","plugin":"test","name":"","summary":"","description":"","kind":"latest","unit":"","dimensions":[],` +
		`"intervals":[],"view":"","idents":["log"],"first":"2018-04-26T00:00:01.5Z","last":"2018-04-26T00:00:01.5Z","version":1,"series":null,"series_limit":null,"other":null}`
	empty := `{"id":"empty","plugin":"test","name":"","summary":"","description":"","kind":"counter","unit":"","dimensions":[],` +
		`"intervals":["1m"],"view":"","idents":["empty-1m"],"first":null,"last":null,"version":1,"series":null,"series_limit":1000000,"other":null}`
	for path, want := range map[string]string{
		"/api/v1/metrics":                `{"metrics":[` + empty + `,` + log + `,` + user + `]}`,
		"/api/v1/metrics/volume-by-user": `{"metrics":[` + user + `]}`,
		"/api/v1/metrics/log":            `{"metrics":[` + log + `]}`,
	} {
		if got := strings.TrimSpace(get(s, http.MethodGet, path).Body.String()); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", path, got, want)
		}
	}
	f.count("volume-by-user", time.Second, 1524700901, "a", 1)
	for _, path := range []string{"/api/v1/metrics", "/api/v1/metrics/volume-by-user"} {
		if got := get(s, http.MethodGet, path).Body.String(); !strings.Contains(got, `"last":"2018-04-26T00:01:41Z","version":4`) {
			t.Errorf("%s after a commit: %s", path, got)
		}
	}
}

func TestV1_StatusAndPlugins(t *testing.T) {
	clock := clockAt(testNow)
	zone := time.FixedZone("elsewhere", 3*3600)
	at := time.Date(2018, 4, 26, 3, 0, 0, 0, zone)
	plugin := PluginStatus{ID: "volume", Version: "1", DataVersion: 2, State: "running", Builtin: true, Lag: 7}
	s := newTestServer(t, Options{
		Store: newFakeStore(), Now: clock.Now, Plugins: func() []PluginStatus { return []PluginStatus{plugin} },
		Status: func() Status {
			return Status{
				Version: "1.2.3", Started: at, EventsPerSecond: math.NaN(), Owned: 5, Journal: JournalStatus{1, 2},
				Store:     StoreStatus{"sqlite", true},
				Endpoints: []EndpointStatus{{Name: "a", LastEvent: &at}, {Name: "b"}},
			}
		},
	})
	pl := `{"id":"volume","version":"1","data_version":2,"state":"running","builtin":true,"metrics":[],"lag":7,"restarts":0,"dead_letters":0,"error":""}`
	ep := `","address":"","state":"","last_event":%,"received":0,"rejected":0,"reconnects":0}`
	for path, want := range map[string]string{
		"/api/v1/plugins": `{"plugins":[` + pl + `]}`,
		"/api/v1/status": `{"version":"1.2.3","started":"2018-04-26T00:00:00Z","roles":[],"events_per_second":0,"owned":5,"endpoints":[` +
			`{"name":"a` + strings.Replace(ep, "%", `"2018-04-26T00:00:00Z"`, 1) + `,{"name":"b` + strings.Replace(ep, "%", "null", 1) +
			`],"journal":{"bytes":1,"limit":2},"store":{"kind":"sqlite","up":true},"plugins":[` + pl + `]}`,
	} {
		w := get(s, http.MethodGet, path)
		if got := strings.TrimSpace(w.Body.String()); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", path, got, want)
		}
		if e := w.Header().Get("Access-Control-Expose-Headers"); !strings.Contains(e, "ETag") {
			t.Errorf("other sites can't read the ETag: %s", e)
		}
	}
	plugin.State = "quarantined"
	clock.Advance(statusLife)
	for _, path := range []string{"/api/v1/plugins", "/api/v1/status"} {
		if got := get(s, http.MethodGet, path).Body.String(); !strings.Contains(got, "quarantined") {
			t.Errorf("%s: still %s", path, got)
		}
	}
}

func TestIndex_FollowsTheListOfMetrics(t *testing.T) {
	f, clock := newFakeStore(), clockAt(testNow)
	s := newTestServer(t, Options{Store: f, Now: clock.Now})
	if got := get(s, http.MethodGet, "/api/").Body.String(); got != "[]" {
		t.Errorf("nothing yet: %s", got)
	}
	f.add(store.Metric{ID: "b", Intervals: intervals("1m", "1m30s")})
	f.add(store.Metric{ID: "a", Kind: store.Latest})
	f.add(store.Metric{ID: "c", Kind: "histogram", Intervals: intervals("1m")}) // a kind of the future isn't served here
	clock.Advance(directoryMiss)
	if w := get(s, http.MethodGet, "/api/b-1m"); w.Code != http.StatusOK {
		t.Errorf("a new metric is found after %d", w.Code)
	}
	clock.Advance(directoryLife)
	for accept, want := range map[string]string{"": `["a","b-1m","b-1m30s"]`, "text/csv": "a\nb-1m\nb-1m30s\n"} {
		if got := get(s, http.MethodGet, "/api/", "Accept", accept).Body.String(); got != want {
			t.Errorf("%s: %q, want %q", accept, got, want)
		}
	}
	before := f.lists.Load()
	for range 100 {
		get(s, http.MethodGet, "/api/nope")
	}
	if n := f.lists.Load() - before; n > 1 {
		t.Errorf("100 unknown idents asked the store %d times", n)
	}
}

func TestIntervalName(t *testing.T) {
	for d, want := range map[time.Duration]string{
		time.Second: "1s", 15 * time.Second: "15s", time.Minute: "1m", 90 * time.Second: "1m30s", time.Hour: "1h",
		24 * time.Hour: "1d", 36*time.Hour + time.Second: "1d12h1s", 7 * 24 * time.Hour: "7d", 0: "0s",
	} {
		if got := IntervalName(d); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
}

func TestAdmin(t *testing.T) {
	checks := []Check{{Role: "consume", Name: "journal", OK: true}, {Role: "serve", Name: "store", Reason: "store unavailable"}}
	reg := newGatherer(t)
	h := NewAdmin(AdminOptions{Ready: func() []Check { return checks }, Gatherer: reg})
	for path, want := range map[string]int{
		"/healthz": 200, "/readyz": 503, "/readyz/consume": 200, "/readyz/serve": 503, "/readyz/compute": 503, "/readyz/x": 404,
		"/metrics": 200, "/debug/pprof/": 200, "/debug/pprof/goroutine?debug=1": 200, "/": 404,
	} {
		if w := get(h, http.MethodGet, path); w.Code != want {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
	}
	var got readiness
	if err := json.Unmarshal(get(h, http.MethodGet, "/readyz").Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, readiness{false, checks}) {
		t.Errorf("got %+v", got)
	}
	if w := get(h, http.MethodGet, "/metrics"); !strings.Contains(w.Body.String(), "statscache_cache_hits_total 0") {
		t.Errorf("metrics: %s", w.Body)
	}
	checks = checks[:1]
	if w := get(h, http.MethodGet, "/readyz"); w.Code != 200 {
		t.Errorf("all is well: %d", w.Code)
	}
	if w := get(NewAdmin(AdminOptions{}), http.MethodGet, "/readyz"); w.Code != 503 {
		t.Errorf("nothing to check: %d", w.Code)
	}
}

func TestNew_RefusesWhatCannotBeMeant(t *testing.T) {
	for name, o := range map[string]Options{
		"no store":     {},
		"no URL":       {Store: newFakeStore(), BaseURL: "stats.example"},
		"other scheme": {Store: newFakeStore(), BaseURL: "javascript://x"},
		"a query":      {Store: newFakeStore(), BaseURL: "https://stats.example/?a"},
		"no host":      {Store: newFakeStore(), BaseURL: "https:///x"},
		"odd host":     {Store: newFakeStore(), BaseURL: "https://stats.exa>mple/"},
		"a password":   {Store: newFakeStore(), BaseURL: "https://me:secret@stats.example/"},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	srv := newTestServer(t, Options{Store: newFakeStore()}).HTTPServer()
	if srv.ReadHeaderTimeout == 0 || srv.ReadTimeout == 0 || srv.WriteTimeout == 0 || srv.IdleTimeout == 0 || srv.MaxHeaderBytes > 32<<10 {
		t.Errorf("a listener without bounds: %+v", srv)
	}
}
