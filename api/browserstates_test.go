package api

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// inside is a script that finds what is in the shadow tree of the first element of a name.
func inside(element, css string) string {
	return `document.querySelector("` + element + `").shadowRoot.querySelector("` + css + `")`
}

// commit counts in every interval of volume.
func (st *site) commit(n int64) {
	for _, iv := range intervals("1s", "1m", "1h", "1d") {
		st.store.count("volume", iv, time.Now().Unix(), "", n)
	}
}

// TestBrowser_ForcedColours: who forces colours sees lines, bars and the calendar's levels all the same.
func TestBrowser_ForcedColours(t *testing.T) {
	b, st := newBrowser(t), newSite(t)
	b.look(1000, "forced")
	text := `(() => { const e = document.body.appendChild(document.createElement("i")); e.style.color = "CanvasText"; const c = getComputedStyle(e).color; e.remove(); return c; })()`
	for path, drawing := range map[string]string{
		"/web/dashboard/volume?as=line": `getComputedStyle(` + inside("statscache-line", "path.s") + `).stroke`,
		"/web/dashboard/volume?as=bars": `getComputedStyle(` + inside("statscache-bars", "rect.bar") + `).fill`,
	} {
		b.do(chromedp.Navigate(st.URL + path))
		b.until(path, drawn)
		if got, want := eval[string](b, drawing), eval[string](b, text); got != want {
			t.Errorf("%s is drawn in %s, want %s", path, got, want)
		}
	}
	b.do(chromedp.Navigate(st.URL + "/web/dashboard/volume?as=calendar"))
	b.until("the calendar", drawn)
	if n := eval[int](b, `new Set([...`+inside("statscache-calendar", "svg")+`.querySelectorAll("rect")].map((r) => getComputedStyle(r).fill)).size`); n < 2 {
		t.Errorf("%d colours in the calendar", n)
	}
	b.silent("forced colours")
}

// TestBrowser_WithoutStreams: behind a proxy that lets no stream through, widgets ask for themselves.
func TestBrowser_WithoutStreams(t *testing.T) {
	b, st := newBrowser(t), newSite(t)
	st.noStream.Store(true)
	b.look(1000, "light")
	b.do(chromedp.Navigate(st.URL + "/embed/number?metric=volume"))
	b.until("the number", drawn)
	number := `Number(` + inside("statscache-number", ".big") + `.textContent.replace(/\D/g, ""))`
	before := eval[int64](b, number)
	st.commit(7)
	b.until("the new number", fmt.Sprintf(`%s === %d`, number, before+7))
	if !eval[bool](b, inside("statscache-number", ".note")+`.hidden`) {
		t.Error("it complains all the same")
	}
}

// TestBrowser_SavingData: who saves data has no connection kept open, and the numbers once.
func TestBrowser_SavingData(t *testing.T) {
	b, st := newBrowser(t), newSite(t)
	b.look(1000, "light")
	b.do(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		on := true
		_, err := chromedp.Call(ctx, emulation.SetDataSaverOverride, emulation.SetDataSaverOverrideParams{DataSaverEnabled: &on})
		return err
	}), chromedp.Navigate(st.URL+"/embed/number?metric=volume"))
	b.until("the number", drawn+` && navigator.connection.saveData`)
	begin := eval[float64](b, `performance.now()`)
	b.until("a second", fmt.Sprintf(`performance.now() > %f`, begin+1000)) // a connection would be open long ago
	if n := st.server.streams.clients.Load(); n != 0 {
		t.Errorf("%d streams are open", n)
	}
	b.silent("saving data")
}

// TestBrowser_KeysLeadToTheEvents: a day is found, chosen and explained without a mouse.
func TestBrowser_KeysLeadToTheEvents(t *testing.T) {
	b, st := newBrowser(t), newSite(t)
	b.look(1000, "light")
	b.do(chromedp.Navigate(st.URL + "/web/dashboard/volume?as=calendar"))
	b.until("the calendar", drawn)
	spoken := inside("statscache-calendar", "[role=status]") + `.textContent`
	_ = eval[bool](b, inside("statscache-calendar", ".chart")+`.focus(), true`)
	b.do(chromedp.KeyEvent(kb.End))
	b.until("today", spoken+`.includes(": ")`)
	today := eval[string](b, spoken)
	b.do(chromedp.KeyEvent(kb.ArrowLeft), chromedp.KeyEvent(kb.ArrowDown)) // a week back, a day on
	b.until("six days ago", fmt.Sprintf(`%s !== %q && %[1]s.includes(": ")`, spoken, today))
	want := time.Now().UTC().AddDate(0, 0, -6).Format("Jan 2")
	if got := eval[string](b, spoken); !strings.Contains(got, want) {
		t.Errorf("%q is read, want %s", got, want)
	}
	b.do(chromedp.KeyEvent(kb.Enter))
	b.until("the explanation", `location.search.includes("at=") && document.querySelector("#explained, .notice") !== null`)
}

// TestBrowser_OddNumbersOfThings: a thousand values, a plugin that is behind, a metric without numbers.
func TestBrowser_OddNumbersOfThings(t *testing.T) {
	b, st := newBrowser(t), newSite(t)
	b.look(390, "light")
	for _, as := range []string{"line&group-by=package", "bars&group-by=package", "top", "table"} {
		path := "/web/dashboard/crowded?from=now-7d&as=" + as
		b.do(chromedp.Navigate(st.URL + path))
		b.until(path, drawn)
		for _, fault := range eval[[]string](b, audit) {
			t.Errorf("%s: %s", path, fault)
		}
	}
	b.do(chromedp.Navigate(st.URL + "/web/dashboard/empty"))
	b.until("the empty metric", drawn+` && `+inside("statscache-line", ".empty")+`.textContent.includes("Nothing was counted")`)
	st.behind.Store(true)
	b.do(chromedp.Navigate(st.URL + "/web/dashboard"))
	b.until("the plugin that is behind", drawn+` && `+inside("statscache-status", ".dot")+`.textContent.includes("volume is catching-up") && document.querySelector("[data-state=catching-up]") !== null`)
	b.silent("odd numbers")
}

// TestBrowser_MessagesAreMissing: charts shade the buckets of a gap, however short it is, and widgets and pictures say why
// numbers aren't complete.
func TestBrowser_MessagesAreMissing(t *testing.T) {
	b, st := newBrowser(t), newSite(t)
	b.look(1000, "light")
	now := time.Now()
	gap := now.Add(-50 * time.Hour).Truncate(time.Hour).Add(10 * time.Minute)
	fetching := now.Add(-100 * time.Hour)
	st.missing.Store(&Gaps{Gaps: []Gap{{From: gap, To: gap.Add(5 * time.Second), Kind: GapLost}}, Backfilling: []Span{{fetching, fetching.Add(time.Hour)}}})
	const window = "?metric=volume&from=now-7d&step=1d"
	for _, kind := range []string{"line", "bars"} {
		b.do(chromedp.Navigate(st.URL + "/embed/" + kind + window))
		b.until(kind, drawn)
		shades := `[...` + inside("statscache-"+kind, ".chart") + `.querySelectorAll("rect.shade")].map((r) => r.textContent + (r.getAttribute("width") > 2 ? "" : ", of no width"))`
		if got := fmt.Sprint(eval[[]string](b, shades)); got != "[messages are missing history is being fetched]" {
			t.Errorf("%s: shaded are %s", kind, got)
		}
	}
	for _, kind := range []string{"line", "number", "calendar", "top"} {
		metric := map[bool]string{true: "volume-by-category", false: "volume"}[kind == "top"]
		b.do(chromedp.Navigate(st.URL + "/embed/" + kind + "?from=now-7d&metric=" + metric))
		b.until(kind, drawn)
		if got, want := eval[string](b, inside("statscache-"+kind, ".flag")+`.textContent`), "not complete: messages are missing, history is being fetched"; got != want {
			t.Errorf("%s says %q, want %q", kind, got, want)
		}
	}
	w := get(st.server, http.MethodGet, "/img/line.svg"+window)
	if body := w.Body.String(); w.Code != http.StatusOK || strings.Count(body, "not complete: messages are missing") == 0 || !strings.Contains(body, "not complete: history is being fetched") {
		t.Errorf("the picture: %d %s", w.Code, w.Body)
	}
	b.silent("gaps")
}
