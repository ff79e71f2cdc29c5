package web

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// hostile are names as a bus may bring them.
var hostile = []string{"<script>alert(1)</script>", "a\x00b\x1f\xff", "\"'&]]>", "عبد الرحمن", strings.Repeat("long", 50), "", "\uFFFE"}

// newTestWeb answers with numbers of hostile names.
func newTestWeb(t testing.TB, refuse error) *Web {
	t.Helper()
	rows := make([]map[string]any, 0, len(hostile))
	series := make([]map[string]any, 0, len(hostile))
	for i, n := range hostile {
		rows = append(rows, map[string]any{"key": map[string]string{"user": n}, "count": 100 - i, "time": "2026-01-01T00:00:00Z", "value": map[string]any{"name": n, "status": n, "link": "javascript:alert(1)"}})
		series = append(series, map[string]any{"key": map[string]string{"user": n}, "counts": []any{1, nil, 5, -3}, "total": 3})
	}
	head := map[string]any{"from": "2026-01-01T00:00:00Z", "to": "2026-01-05T00:00:00Z", "tz": "Europe/Berlin", "as_of": "2026-01-04T10:00:00Z",
		"incomplete": []any{map[string]any{"from": "2026-01-04T00:00:00Z", "to": "2026-01-05T00:00:00Z", "reason": "open"}}}
	w, err := New(Options{
		Now: func() time.Time { return time.Unix(1_767_500_000, 0) },
		Ask: func(_ context.Context, path string, _ url.Values) ([]byte, error) {
			answer := map[string]any{}
			for k, v := range head {
				answer[k] = v
			}
			switch {
			case path == "/api/v1/metrics":
				return json.Marshal(map[string]any{"metrics": []any{
					map[string]any{"id": "m", "name": hostile[0], "summary": hostile[2], "kind": "counter", "dimensions": []any{map[string]any{"name": "user", "multi_valued": true}}, "intervals": []string{"1h", "1d"}, "idents": []string{"m-1h", "m-1d"}},
					map[string]any{"id": "l", "kind": "latest", "dimensions": []any{map[string]any{"name": "user"}}, "idents": []string{"l"}},
				}})
			case refuse != nil:
				return nil, refuse
			case strings.HasSuffix(path, "/series"):
				answer["times"], answer["series"] = []int64{1767225600, 1767312000, 1767398400, 1767484800}, series
			case strings.HasSuffix(path, "/calendar"):
				answer["total"], answer["days"] = 3, []any{map[string]any{"date": "2026-01-01", "count": 3, "level": 4}, map[string]any{"date": hostile[0], "count": 0, "level": 99}}
			case strings.HasSuffix(path, "/layout"):
				return []byte(`{"groups":[]}`), nil
			default:
				answer["rows"], answer["total"], answer["count"] = rows, 700, 1234567
			}
			return json.Marshal(answer)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// answerOf asks a route.
func answerOf(w *Web, path, param string, q url.Values) (Reply, error) {
	for _, r := range w.Routes() {
		if r.Path == path {
			return r.Answer(context.Background(), Request{Param: param, Query: q, Origin: "https://stats.example", Root: "../"})
		}
	}
	return Reply{}, fmt.Errorf("no route %s", path)
}

// wellFormed fails for what isn't XML, or has elements that a picture must not have.
func wellFormed(body []byte) error {
	d := xml.NewDecoder(strings.NewReader(string(body)))
	for {
		t, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if e, ok := t.(xml.StartElement); ok {
			if !strings.Contains(" svg title desc style rect path text g clipPath ", " "+e.Name.Local+" ") {
				return fmt.Errorf("element %s", e.Name.Local)
			}
			for _, a := range e.Attr {
				if strings.HasPrefix(a.Name.Local, "on") || a.Name.Local == "href" || strings.Contains(a.Value, "NaN") || strings.Contains(a.Value, "Inf") {
					return fmt.Errorf("attribute %s=%q", a.Name.Local, a.Value)
				}
			}
		}
	}
}

func TestPictures_OfHostileNamesAreWellFormed(t *testing.T) {
	w := newTestWeb(t, nil)
	for _, name := range widgetNames {
		for _, metric := range []string{"m", "l", "nothing", ""} {
			for _, title := range hostile {
				r, err := answerOf(w, "/img/:picture", name+".svg", url.Values{"metric": {metric}, "title": {cut(title, 100)}, "theme": {title[:min(3, len(title))]}})
				if err != nil {
					t.Errorf("%s of %q: %v", name, metric, err)
				} else if err := wellFormed(r.Body); err != nil {
					t.Errorf("%s of %q with title %q: %v", name, metric, title, err)
				}
			}
		}
	}
	for _, title := range hostile {
		r, err := answerOf(w, "/badge/:badge", "m.svg", url.Values{"title": {cut(title, 150)}})
		if err != nil || wellFormed(r.Body) != nil {
			t.Errorf("badge %q: %v, %v", title, err, wellFormed(r.Body))
		}
	}
}

func TestPictures_PolicyNamesTheirStyle(t *testing.T) {
	r, err := answerOf(newTestWeb(t, nil), "/img/:picture", "line.svg", url.Values{"metric": {"m"}})
	if err != nil || !strings.Contains(string(r.Body), "<style>"+svgStyle+"</style>") || !strings.Contains(r.Policy, "sha256-") || strings.Contains(r.Policy, "unsafe") {
		t.Errorf("%v, policy %s", err, r.Policy)
	}
	if strings.ContainsAny(svgStyle, "<&") {
		t.Error("the style has to be escaped, and then its hash is another one")
	}
}

// TestPictures_OutagesAreNotKept: caches and proxies of READMEs should go on showing the last picture.
func TestPictures_OutagesAreNotKept(t *testing.T) {
	w := newTestWeb(t, &Refusal{http.StatusServiceUnavailable, "away"})
	if r, err := answerOf(w, "/img/:picture", "line.svg", url.Values{"metric": {"m"}}); err == nil {
		t.Errorf("a picture of an outage: %s", r.Body)
	}
	r, err := answerOf(w, "/badge/:badge", "m.json", nil)
	if err != nil || !strings.Contains(string(r.Body), `"isError":true`) || r.CacheControl != asks {
		t.Errorf("badge %s, %v, %s", r.Body, err, r.CacheControl)
	}
}

func TestBadge_IsWhatShieldsWants(t *testing.T) {
	r, err := answerOf(newTestWeb(t, nil), "/badge/:badge", "m.json", url.Values{"title": {"seen"}})
	var b shield
	if err != nil || json.Unmarshal(r.Body, &b) != nil || b != (shield{SchemaVersion: 1, Label: "seen (7 days)", Message: "1.2M", Color: "#2a5db0"}) {
		t.Errorf("%s, %v", r.Body, err)
	}
}

func TestBadge_SaysOfWhenItIs(t *testing.T) {
	r, err := answerOf(newTestWeb(t, nil), "/badge/:badge", "m.svg", nil)
	if err != nil || !strings.Contains(string(r.Body), "<title>&lt;script&gt;alert(1)&lt;/script&gt; (7 days): 1.2M, 1 Jan 2026 01:00 – 5 Jan 2026 01:00 · Europe/Berlin · as of 4 Jan 11:00:00") {
		t.Errorf("%v: %s", err, r.Body)
	}
}

func TestOembed_GivesAFrameOfTheWidget(t *testing.T) {
	w := newTestWeb(t, nil)
	for address, want := range map[string]string{
		"https://stats.example/embed/calendar?metric=m&title=A%22B": `src="https://stats.example/embed/calendar?metric=m&amp;title=A%22B"`,
		"https://stats.example/web/dashboard/m":                     `src="https://stats.example/embed/line?metric=m"`,
		"https://elsewhere.example/embed/line?metric=m":             `src="https://stats.example/embed/line?metric=m"`, // only ever of this server
	} {
		r, err := answerOf(w, "/oembed", "", url.Values{"url": {address}, "maxwidth": {"400"}})
		var o struct {
			Version, Type, HTML string
			Width               int
		}
		if err != nil || json.Unmarshal(r.Body, &o) != nil || o.Version != "1.0" || o.Type != "rich" || o.Width != 400 || !strings.Contains(o.HTML, want) {
			t.Errorf("%s: %+v, %v", address, o, err)
		}
	}
	for address, want := range map[string]int{"": 400, "https://stats.example/": 404, "https://stats.example/embed/pie": 404, "https://stats.example/embed/line?colour=x": 400} {
		_, err := answerOf(w, "/oembed", "", url.Values{"url": {address}})
		if no, ok := refused(err); !ok || no.Status != want {
			t.Errorf("%q: %v, want %d", address, err, want)
		}
	}
}

func TestBoard_LinksOnlyToTheWeb(t *testing.T) {
	r, err := answerOf(newTestWeb(t, nil), "/web/board/:ident", "l", nil)
	if err != nil || strings.Contains(string(r.Body), "javascript:") || !strings.Contains(string(r.Body), "&lt;script&gt;") {
		t.Errorf("%v: %s", err, r.Body)
	}
}

func TestTicks_AreRoundAndSpanTheNumbers(t *testing.T) {
	for _, most := range []float64{0, 1, 3, 7, 10, 99, 1234, 1e12} {
		ticks := roundTicks(most, 4)
		if len(ticks) < 2 || len(ticks) > 7 || ticks[0] != 0 || ticks[len(ticks)-1] < most {
			t.Errorf("up to %v: %v", most, ticks)
		}
	}
	for n, want := range map[float64]string{0: "0", 999: "999", 9999: "9,999", 12_345: "12.3K", 2_000_000: "2M", 3.25e9: "3.2B"} {
		if got := compact(n); got != want {
			t.Errorf("%v: %s, want %s", n, got, want)
		}
	}
}

// FuzzPicture: whatever a URL says, the answer is a well-formed picture or a refusal.
func FuzzPicture(f *testing.F) {
	for _, s := range hostile {
		f.Add("line", "metric=m&title="+url.QueryEscape(s))
	}
	f.Add("top", "metric=m&filter=a:b,c&theme=dark")
	w := newTestWeb(f, nil)
	f.Fuzz(func(t *testing.T, name, query string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		r, err := answerOf(w, "/img/:picture", name+".svg", q)
		if _, ok := refused(err); err != nil && !ok {
			t.Fatal(err)
		}
		if err == nil {
			if err := wellFormed(r.Body); err != nil {
				t.Fatalf("%v in %s", err, r.Body)
			}
		}
	})
}
