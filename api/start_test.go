package api

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func newGatherer(t *testing.T) prometheus.Gatherer {
	t.Helper()
	reg := prometheus.NewRegistry()
	if _, err := newObserver(reg); err != nil {
		t.Fatal(err)
	}
	return reg
}

func TestStartPage_IsWholeWithoutScript(t *testing.T) {
	last := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := newTestServer(t, Options{Store: compatStore(t), BaseURL: "https://stats.example/below", Status: func() Status {
		return Status{
			Version: "1.2.3", Started: time.Unix(testNow-60, 0), EventsPerSecond: 12.34, Owned: 77,
			Endpoints: []EndpointStatus{{Name: "<b>bus", Address: "tcp://x:1", State: "connected", LastEvent: &last}},
			Plugins:   []PluginStatus{{ID: "volume", State: "catching-up", Lag: 4711, Error: "<script>alert(1)</script>"}},
		}
	}})
	w := get(s, http.MethodGet, "/")
	body := w.Body.String()
	for _, want := range []string{
		"12.3", ">77<", "volume", "catching-up", "4711", "&lt;script&gt;alert", "&lt;b&gt;bus", "2026-01-02 03:04:05",
		`href="api/volume-by-category-1m"`, `href="api/v1/metrics"`, "https://stats.example/below/api/", "<noscript>", "1.2.3",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("%d %s", w.Code, w.Header().Get("Content-Type"))
	}
}

func TestStartPage_HoldsItsOwnPolicy(t *testing.T) {
	s := newTestServer(t, Options{Store: compatStore(t)})
	w := get(s, http.MethodGet, "/")
	policy := w.Header().Get("Content-Security-Policy")
	if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "http") {
		t.Errorf("policy: %s", policy)
	}
	for _, inline := range []string{`<script[^>]*>[^<]`, `<style`, ` style=`, ` on[a-z]+=`, `javascript:`, `(src|href)="(https?:)?//`} {
		if m := regexp.MustCompile(inline).FindString(w.Body.String()); m != "" {
			t.Errorf("the page has %q", m)
		}
	}
	for _, m := range regexp.MustCompile(`(?:src|href)="(start\.[a-z]+)"`).FindAllStringSubmatch(w.Body.String(), -1) {
		f := get(s, http.MethodGet, "/"+m[1])
		if f.Code != http.StatusOK || f.Body.Len() == 0 || f.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d, %d bytes, %v", m[1], f.Code, f.Body.Len(), f.Header())
		}
		for _, other := range []string{"http://", "https://", "//cdn"} {
			if strings.Contains(strings.ReplaceAll(f.Body.String(), "http://www.w3.org/2000/svg", ""), other) {
				t.Errorf("%s mentions another host", m[1])
			}
		}
	}
	for name, want := range map[string]string{
		"start.css": "text/css; charset=utf-8", "start.js": "text/javascript; charset=utf-8", "start.svg": "image/svg+xml",
	} {
		if got := get(s, http.MethodGet, "/"+name).Header().Get("Content-Type"); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}
