package api

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/statscache/statscache/store"
)

// audit looks for what keeps people from using a page: it gives a list of faults, in shadow trees too.
//
//go:embed testdata/audit.js
var audit string

// browser is Chromium with one tab. What pages write to the console is kept.
type browser struct {
	t       *testing.T
	ctx     context.Context
	mu      sync.Mutex
	console []string
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("no chromium here: apt-get install chromium, then go test ./api -run TestBrowser")
	}
	if testing.Short() {
		t.Skip("a browser takes its time: run without -short")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	ctx, closeAll := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(closeAll)
	ctx, closeBrowser := chromedp.NewContext(ctx)
	t.Cleanup(closeBrowser)
	ctx, late := context.WithTimeout(ctx, 8*time.Minute)
	t.Cleanup(late)
	b := &browser{t: t, ctx: ctx}
	messages := chromedp.Console(ctx)
	go func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			b.mu.Lock()
			b.console = append(b.console, m.String()+" "+m.URL)
			b.mu.Unlock()
		}
	}()
	return b
}

func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

// look chooses the window's width and the visitor's colours: light, dark or forced.
func (b *browser) look(width int64, scheme string) {
	b.t.Helper()
	feature := &emulation.MediaFeature{Name: "prefers-color-scheme", Value: scheme}
	if scheme == "forced" {
		feature = &emulation.MediaFeature{Name: "forced-colors", Value: "active"}
	}
	b.do(chromedp.EmulateViewport(width, 900), chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{feature}})
		return err
	}))
}

// eval runs a script that gives a value.
func eval[T any](b *browser, script string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](script))
	if err != nil {
		b.t.Fatalf("%v in %s", err, cut(script, 300))
	}
	return v
}

// until waits for a script to give true.
func (b *browser) until(what, script string) {
	b.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !eval[bool](b, script); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("%s: never; the page shows %s", what, cut(eval[string](b, pageText), 3000))
		}
	}
}

// silent fails where pages wrote to the console since it was asked last.
func (b *browser) silent(where string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.console {
		b.t.Errorf("%s: console: %s", where, m)
	}
	b.console = nil
}

const (
	widgetList = `[...document.querySelectorAll("*")].filter((e) => e.localName.startsWith("statscache-"))`
	pageText   = `document.body.innerText + ` + widgetList + `.map((w) => "\n" + w.localName + ": " + (w.shadowRoot?.textContent ?? "not defined")).join("")`
	// drawn says that every widget has come to an end, and that none complains.
	drawn = `document.readyState === "complete" && ` + widgetList + `.every((w) => w.shadowRoot && !w.shadowRoot.querySelector(".wait") && w.shadowRoot.querySelector(".body").childElementCount && w.shadowRoot.querySelector(".note").hidden)`
	// foreign lists what was loaded from elsewhere than the given origins.
	foreign = `performance.getEntriesByType("resource").map((e) => e.name).filter((n) => !n.startsWith("data:") && !%s.some((o) => n.startsWith(o)))`
)

// liveStore has a year of numbers up to now.
func liveStore(t testing.TB) *fakeStore {
	t.Helper()
	f := newFakeStore()
	dims := func(names ...string) (out []store.Dimension) {
		for _, n := range names {
			out = append(out, store.Dimension{Name: n})
		}
		return out
	}
	f.add(store.Metric{ID: "volume", Name: "Volume", Unit: "messages", View: "line", Intervals: intervals("1s", "1m", "1h", "1d")})
	f.add(store.Metric{ID: "volume-by-category", Name: "Volume, by category", View: "stacked", Dimensions: dims("category"), Intervals: intervals("1s", "1m", "1h", "1d")})
	f.add(store.Metric{ID: "volume-by-user", Name: "Volume, by user", View: "top", Dimensions: dims("user"), Intervals: intervals("1h", "1d")})
	f.add(store.Metric{ID: "volume-by-topic", Name: "Volume, by topic", View: "top", Dimensions: dims("topic"), Intervals: intervals("1h", "1d")})
	f.add(store.Metric{ID: "involvement-by-user-and-topic", Dimensions: dims("user", "topic"), Intervals: intervals("1h", "1d")})
	f.add(store.Metric{ID: "crowded", Name: "A thousand values", View: "top", Dimensions: dims("package"), Intervals: intervals("1h", "1d")})
	f.add(store.Metric{ID: "empty", Name: "Nothing yet", Intervals: intervals("1h")})
	f.add(store.Metric{ID: releng, Name: "Release engineering", Kind: store.Latest, View: "board", Dimensions: dims("category", "category_constraint"), Layout: readFile(t, "testdata/compat/layout.json")})
	now := time.Now().Unix()
	count := func(metric, key string, at, n int64) {
		for i := range f.metrics {
			if f.metrics[i].ID == metric {
				for _, iv := range f.metrics[i].Intervals {
					f.count(metric, iv, at, key, n)
				}
			}
		}
	}
	for i := range int64(1000) {
		count("crowded", fmt.Sprintf("package-%03d", i), now-i%300*3600, 1+i%7)
	}
	hostile := []string{"ralph", "<script>alert(1)</script>", "عبد الرحمن", strings.Repeat("long", 50)}
	for day := range int64(365) {
		at := now - day*86400
		count("volume", "", at, 100+day%7*10)
		for i, c := range []string{"buildsys", "git", "bodhi", "compose"} {
			count("volume-by-category", c, at, int64(40-9*i))
		}
		user := hostile[day%4]
		count("volume-by-user", user, at, 1+day%3)
		count("volume-by-topic", "org.fedoraproject.prod.git.receive", at, 3)
		count("involvement-by-user-and-topic", store.JoinKey([]string{user, "org.fedoraproject.prod.git.receive"}), at, 2)
	}
	f.latest[releng] = []store.LatestRow{{Key: store.JoinKey([]string{"compose-rawhide_primary", "rawhide"}), Time: now * 1e6, Value: json.RawMessage(`{"name":"Rawhide","status":"complete"}`)}}
	return f
}

// site is a live server, and whether it is reachable.
type site struct {
	*httptest.Server
	store    *fakeStore
	server   *Server
	away     atomic.Bool // nobody is there
	noStream atomic.Bool // a proxy that knows no streams is before it
	behind   atomic.Bool // the plugin is catching up
	missing  atomic.Pointer[Gaps]
}

func newSite(t *testing.T) *site {
	t.Helper()
	st := &site{store: liveStore(t)}
	started := time.Now()
	s := newTestServer(t, Options{Store: st.store, Now: time.Now, Status: func() Status {
		return Status{Version: "1.2.3", Started: started, Roles: []string{"serve"}, Store: StoreStatus{Kind: "sqlite", Up: true},
			Endpoints: []EndpointStatus{{Name: "bus", Address: "tcp://127.0.0.1:1", State: "up"}},
			Plugins:   []PluginStatus{{ID: "volume", State: map[bool]string{true: "catching-up", false: "running"}[st.behind.Load()], Lag: 300_000}}}
	}, Gaps: func() Gaps {
		if g := st.missing.Load(); g != nil {
			return *g
		}
		return Gaps{}
	}})
	st.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if st.away.Load() {
			panic(http.ErrAbortHandler)
		}
		if st.noStream.Load() && r.URL.Path == "/api/v1/stream" {
			http.Error(w, "no streams here", http.StatusBadGateway)
			return
		}
		s.ServeHTTP(w, r)
	}))
	st.server = s
	st.Config.ErrorLog = nil
	st.Start()
	t.Cleanup(func() { s.streams.end(); st.CloseClientConnections(); st.Close() })
	return st
}

// browserPaths are all pages, full and empty, with names as a bus may bring them.
var browserPaths = []string{ // immutable
	"/web/getting-started", "/web/dashboard", "/web/dashboard?from=now-1y", "/web/dashboard/volume?at=now", "/embed/top?metric=volume-by-user&title=People", "/web/dashboard/volume", "/web/dashboard/volume-by-category?as=line&from=now-7d", "/web/dashboard/volume?as=calendar",
	"/web/dashboard/volume-by-user", "/web/dashboard/empty", "/web/dashboard/" + releng, "/web/board/" + releng, "/web/user/ralph", "/web/user/" + url.PathEscape("<script>alert(1)</script>"),
	"/web/user/" + url.PathEscape("عبد الرحمن"), "/web/reference", "/web/widgets", "/web/status", "/embed/bars?metric=volume&from=now-30d&step=1d",
}

func TestBrowser_PagesAreDrawnSilentlyAndUsable(t *testing.T) {
	b, st, axe := newBrowser(t), newSite(t), axeCore(t)
	t.Run("axe-core", func(t *testing.T) {
		if axe == "" {
			t.Skip("no axe-core here: make browser fetches it through npm, then go test ./api -run TestBrowser_Pages")
		}
	})
	everyWay := os.Getenv("STATSCACHE_LONG") == "1" // else axe-core looks at every page in one of the two ways
	for i, path := range browserPaths {
		for _, as := range []struct {
			width  int64
			scheme string
		}{{1280, "light"}, {390, "dark"}} {
			where := fmt.Sprintf("%s, %d wide, %s", path, as.width, as.scheme)
			begin := time.Now()
			b.look(as.width, as.scheme)
			b.do(chromedp.Navigate(st.URL + path))
			b.until(where, drawn)
			for _, fault := range eval[[]string](b, audit) {
				t.Errorf("%s: %s", where, fault)
			}
			if more := eval[[]string](b, fmt.Sprintf(foreign, `["`+st.URL+`/"]`)); len(more) > 0 {
				t.Errorf("%s: loaded from elsewhere: %v", where, more)
			}
			b.silent(where)
			if axe != "" && (everyWay || (as.scheme == "light") == (i%2 == 0)) {
				for _, fault := range b.violations(where, axe, as.scheme == "light") {
					t.Errorf("%s: axe-core: %s", where, fault)
				}
			}
			t.Logf("%s: %s", where, time.Since(begin).Round(time.Millisecond))
		}
	}
}

func TestBrowser_WidgetsAgreeWithTheAPIAndFollowIt(t *testing.T) {
	b, st := newBrowser(t), newSite(t)
	host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; require-trusted-types-for 'script'; script-src "+st.URL+"; connect-src "+st.URL)
		_, _ = fmt.Fprintf(w, `<!doctype html><html lang="de"><title>x</title><link rel="icon" href="data:,"><script src="%s/widgets/v1/statscache.js" async></script>
			<statscache-number id="n" metric="volume" title="All"></statscache-number><statscache-line id="l" metric="volume" from="now-30d" step="1d" title="Days" lang="de"></statscache-line>
			<statscache-top id="t" metric="volume-by-user" title="People"></statscache-top><statscache-line id="u" metric="nothing"></statscache-line><statscache-line id="m"></statscache-line></html>`, st.URL)
	}))
	defer host.Close()
	b.look(1000, "light")
	b.do(chromedp.Navigate(host.URL))
	shadow := func(id, css string) string {
		return `document.getElementById("` + id + `").shadowRoot.querySelector("` + css + `")`
	}
	b.until("the number", `!!`+shadow("n", ".big"))
	number := `Number(` + shadow("n", ".big") + `.textContent.replace(/\D/g, ""))`
	before := eval[int64](b, number)
	var want struct{ Count int64 }
	if err := json.Unmarshal(get(st.Config.Handler, http.MethodGet, "/api/v1/metrics/volume/count").Body.Bytes(), &want); err != nil || want.Count != before {
		t.Errorf("the widget shows %d, the API says %d, %v", before, want.Count, err)
	}
	if text := eval[string](b, shadow("t", ".rank")+`.textContent`); !strings.Contains(text, "<script>alert(1)</script>") || !strings.Contains(text, "عبد") {
		t.Errorf("names: %s", text)
	}
	for id, want := range map[string]string{"u": "no such metric", "m": "needs a metric"} {
		b.until(id, shadow(id, ".note")+`.textContent.includes("`+want+`")`)
	}
	t.Run("zone and freshness are said", func(t *testing.T) {
		for _, id := range []string{"n", "l", "t"} {
			if foot := eval[string](b, shadow(id, "footer")+`.textContent`); !strings.Contains(foot, "UTC") || !strings.Contains(foot, "as of") {
				t.Errorf("%s: %q", id, foot)
			}
		}
	})
	t.Run("keys read the values aloud", func(t *testing.T) {
		_ = eval[bool](b, shadow("l", ".chart")+`.focus(), true`)
		b.do(chromedp.KeyEvent(kb.End))
		b.until("the value", shadow("l", "[role=status]")+`.textContent.includes(": ")`)
		last := eval[string](b, shadow("l", "[role=status]")+`.textContent`)
		b.do(chromedp.KeyEvent(kb.ArrowLeft))
		b.until("the value before", shadow("l", "[role=status]")+`.textContent !== `+fmt.Sprintf("%q", last))
		if !strings.Contains(last, "20") {
			t.Errorf("%q names no day", last)
		}
	})
	t.Run("the table has all points", func(t *testing.T) {
		_ = eval[bool](b, shadow("l", "footer button")+`.click(), true`)
		if rows := eval[int](b, shadow("l", "tbody")+`.rows.length`); rows != 31 {
			t.Errorf("%d rows of 30 days and today", rows)
		}
	})
	t.Run("a commit shows by itself", func(t *testing.T) {
		st.store.count("volume", time.Second, time.Now().Unix(), "", 7) // the finest interval is the one that is asked of an open day
		for _, iv := range intervals("1m", "1h", "1d") {
			st.store.count("volume", iv, time.Now().Unix(), "", 7)
		}
		b.until("the new number", fmt.Sprintf(`%s === %d`, number, before+7))
	})
	t.Run("an absence is said and mended", func(t *testing.T) {
		b.mu.Lock()
		b.console = nil // what was refused above is written there by the browser
		b.mu.Unlock()
		st.away.Store(true)
		st.CloseClientConnections()
		b.until("the absence", shadow("n", ".note")+`.textContent.includes("can’t be reached") && !`+shadow("n", ".note")+`.hidden`)
		if now := eval[int64](b, number); now != before+7 {
			t.Errorf("meanwhile it shows %d", now)
		}
		st.away.Store(false)
		b.until("the return", shadow("n", ".note")+`.hidden`)
		b.mu.Lock()
		b.console = nil // the browser complains about each request that failed
		b.mu.Unlock()
	})
}

// TestBrowser_DashboardIsLight: what a first visit transfers is bounded; when something is seen is told.
func TestBrowser_DashboardIsLight(t *testing.T) {
	b, st := newBrowser(t), newSite(t)
	b.look(1280, "light")
	b.do(chromedp.Navigate(st.URL + "/web/dashboard"))
	b.until("the page", drawn+` && performance.getEntriesByName("first-contentful-paint").length > 0`)
	size := eval[int](b, `["navigation", "resource"].flatMap((k) => performance.getEntriesByType(k)).reduce((n, e) => n + e.transferSize, 0)`)
	if size < 5_000 || size > 150_000 {
		t.Errorf("%d bytes, want 150 KB at most", size)
	}
	t.Logf("first paint after %d ms, %d bytes", eval[int](b, `Math.round(performance.getEntriesByName("first-contentful-paint")[0].startTime)`), size)
}

// TestBrowser_PagesStayFresh: what a page shows without widgets follows too, and nobody loses the place.
func TestBrowser_PagesStayFresh(t *testing.T) {
	b, st := newBrowser(t), newSite(t)
	b.look(1000, "light")
	b.do(chromedp.Navigate(st.URL + "/web/dashboard"))
	b.until("the page", drawn)
	count := `document.querySelector('.card[href*="dashboard/volume?"] strong').textContent`
	before := eval[string](b, `document.querySelector('.card[href*="dashboard/volume-by-user"]').focus(), `+count)
	for _, iv := range intervals("1s", "1m", "1h", "1d") {
		st.store.count("volume", iv, time.Now().Unix(), "", 7)
	}
	b.until("the new number", fmt.Sprintf(`%s !== %q`, count, before))
	if place := eval[string](b, `document.activeElement.getAttribute("href") ?? ""`); !strings.Contains(place, "volume-by-user") {
		t.Errorf("the focus is at %q now", place)
	}
	b.do(chromedp.Navigate(st.URL + "/web/board/" + releng))
	b.until("the board", `document.readyState === "complete" && document.body.innerText.includes("completed")`)
	st.store.change(releng, func() {
		st.store.latest[releng] = []store.LatestRow{{Key: store.JoinKey([]string{"compose-rawhide_primary", "rawhide"}), Time: time.Now().UnixMicro(), Value: json.RawMessage(`{"name":"Rawhide","status":"start"}`)}}
	})
	b.until("the new state", `document.body.innerText.includes("started")`)
	b.silent("pages")
}

// TestBrowser_Examples opens the examples as sites of their own, under the policies that they carry.
func TestBrowser_Examples(t *testing.T) {
	b, st := newBrowser(t), newSite(t)
	examples := os.DirFS("../examples")
	host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/")
		if strings.HasSuffix(name, "/") {
			name += "index.html"
		}
		body, err := fs.ReadFile(examples, name)
		if err != nil {
			http.NotFound(w, r)
			return
		}
		kinds := map[string]string{"html": "text/html; charset=utf-8", "css": "text/css", "js": "text/javascript"}
		w.Header().Set("Content-Type", kinds[name[strings.LastIndexByte(name, '.')+1:]])
		_, _ = w.Write([]byte(strings.ReplaceAll(string(body), "http://127.0.0.1:8840", st.URL)))
	}))
	defer host.Close()
	b.look(1100, "light")
	for name, ready := range map[string]string{
		"hub-profile":      drawn + ` && ` + widgetList + `.length === 4`,
		"releng-dashboard": drawn + ` && document.querySelector("#board").textContent.includes("Rawhide completed")`,
		"static-page":      `document.readyState === "complete" && document.images.length === 5 && [...document.images].every((i) => i.complete && i.naturalWidth > 50)`,
	} {
		b.do(chromedp.Navigate(host.URL + "/" + name + "/"))
		b.until(name, ready)
		for _, fault := range eval[[]string](b, audit) {
			t.Errorf("%s: %s", name, fault)
		}
		if more := eval[[]string](b, fmt.Sprintf(foreign, `["`+st.URL+`/", "`+host.URL+`/"]`)); len(more) > 0 {
			t.Errorf("%s: loaded from elsewhere: %v", name, more)
		}
		b.silent(name)
	}
}
