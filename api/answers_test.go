package api

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/statscache/statscache/internal/eventually"
	"github.com/statscache/statscache/store"
)

// volumeStore counts one event in each of the last ten seconds before testNow.
func volumeStore() *fakeStore {
	f := newFakeStore()
	for _, m := range originalMetrics() {
		f.add(m)
	}
	for i := range int64(10) {
		f.count("volume", time.Second, testNow-1-i, "", i+1)
	}
	return f
}

func TestAnswers_KeptUntilTheNextCommit(t *testing.T) {
	f := volumeStore()
	s := newTestServer(t, Options{Store: f})
	for range 5 {
		get(s, http.MethodGet, "/api/volume-1s")
		get(s, http.MethodGet, "/api/volume-1s?order=desc&_=17") // the same question in other words
	}
	if n := f.asked.Load(); n != 1 {
		t.Errorf("the store was asked %d times, want once", n)
	}
	before := get(s, http.MethodGet, "/api/volume-1s")
	f.count("volume", time.Second, testNow-1, "", 100)
	after := get(s, http.MethodGet, "/api/volume-1s")
	if !strings.Contains(after.Body.String(), `"volume":101}`) {
		t.Errorf("the commit doesn't show: %s", after.Body)
	}
	if before.Header().Get("ETag") == after.Header().Get("ETag") {
		t.Error("another answer has the same ETag")
	}
	if n := f.asked.Load(); n != 2 {
		t.Errorf("the store was asked %d times, want twice", n)
	}
}

func TestAnswers_SameContentAfterACommitKeepsItsETag(t *testing.T) {
	f := volumeStore()
	s := newTestServer(t, Options{Store: f})
	const url = "/api/volume-1s?stop=1699999995"
	tag := get(s, http.MethodGet, url).Header().Get("ETag")
	f.count("volume", time.Second, testNow-1, "", 1)
	if w := get(s, http.MethodGet, url, "If-None-Match", tag); w.Code != http.StatusNotModified {
		t.Errorf("status %d, want 304: nothing changed in this window", w.Code)
	}
}

func TestAnswers_OpenWindowShowsWhenItCloses(t *testing.T) {
	f, clock := volumeStore(), clockAt(testNow)
	s := newTestServer(t, Options{Store: f, Now: clock.Now})
	f.count("volume", time.Second, testNow, "", 77) // the window that is open now
	for _, step := range []struct {
		after time.Duration
		shows bool
	}{{0, false}, {999 * time.Millisecond, false}, {time.Millisecond, true}} {
		clock.Advance(step.after)
		for range 2 { // the long way and the shortcut
			w := get(s, http.MethodGet, "/api/volume-1s?rows_per_page=1")
			if got := strings.Contains(w.Body.String(), `"volume":77`); got != step.shows {
				t.Errorf("at %s the window shows: %v, want %v: %s", clock.Now().UTC().Format("05.000"), got, step.shows, w.Body)
			}
		}
	}
	if w := get(s, http.MethodGet, "/api/volume-1s?rows_per_page=1&stop=1700009999"); !strings.Contains(w.Body.String(), "77") {
		t.Errorf("a later stop shows the open window: %s", w.Body)
	}
}

func TestAnswers_LatestValueOfTheFutureShowsWhenItsTimeComes(t *testing.T) {
	f, clock := newFakeStore(), clockAt(testNow)
	f.add(store.Metric{ID: "log", Kind: store.Latest, Dimensions: []store.Dimension{{Name: "what"}}})
	f.latest["log"] = []store.LatestRow{
		{Key: "a", Time: (testNow - 5) * 1e6, Value: []byte(`{"x":1}`)},
		{Key: "b", Time: (testNow+3)*1e6 + 5, Value: []byte(`{"x":2}`)},
	}
	s := newTestServer(t, Options{Store: f, Now: clock.Now})
	for i, want := range []string{
		`[{"message":"{\"x\":1}","timestamp":1699999995,"what":"a"}]`,
		`[{"message":"{\"x\":2}","timestamp":1700000003,"what":"b"},{"message":"{\"x\":1}","timestamp":1699999995,"what":"a"}]`,
	} {
		clock.Advance(time.Duration(i) * 3 * time.Second)
		if got := get(s, http.MethodGet, "/api/log").Body.String(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestRows_LatestValuesOfOneSecondAreByKeyInBothDirections(t *testing.T) {
	f := newFakeStore()
	f.add(store.Metric{ID: "log", Kind: store.Latest, Dimensions: []store.Dimension{{Name: "k"}}})
	for i, k := range []string{"a", "b", "c"} {
		f.latest["log"] = append(f.latest["log"], store.LatestRow{Key: k, Time: 5e6 + int64(i*i%4), Value: []byte("1")})
	}
	s := newTestServer(t, Options{Store: f})
	for _, order := range []string{"asc", "desc"} {
		if got := get(s, http.MethodGet, "/api/log?order="+order, "Accept", "text/csv").Body.String(); got != "timestamp,k,message\n5,a,1\n5,b,1\n5,c,1\n" {
			t.Errorf("%s: %q", order, got)
		}
	}
}

func TestAnswers_CommitElsewhereEndsNothing(t *testing.T) {
	f, clock := volumeStore(), clockAt(testNow)
	s := newTestServer(t, Options{Store: f, Now: clock.Now})
	const url = "/api/volume-1s?stop=1699999999"
	get(s, http.MethodGet, url)
	f.count("volume-by-category", time.Second, testNow, "git", 1)
	clock.Advance(directoryLife) // the list of metrics is read again
	get(s, http.MethodGet, url)
	if n := f.asked.Load(); n != 1 {
		t.Errorf("the store was asked %d times, want once", n)
	}
}

func TestAnswers_LinksFollowTheNumberOfPages(t *testing.T) {
	f := volumeStore()
	s := newTestServer(t, Options{Store: f})
	const one, other = "/api/volume-1s?order=asc&rows_per_page=10", "/api/volume-1s?rows_per_page=10&order=asc"
	if l := get(s, http.MethodGet, one).Header().Get("Link"); l != "" {
		t.Fatalf("one page, and a link: %s", l)
	}
	f.count("volume", time.Second, testNow-50, "", 1)
	get(s, http.MethodGet, other) // brings the kept answer up to date
	if w := get(s, http.MethodGet, one); !strings.Contains(w.Header().Get("Link"), `rel="next"`) || w.Header().Get("X-Link-Count") != "2" {
		t.Errorf("two pages: %v", w.Header())
	}
}

func TestAnswers_CompressedFormsCount(t *testing.T) {
	f := volumeStore()
	s := newTestServer(t, Options{Store: f})
	get(s, http.MethodGet, "/api/volume-1s")
	s.cache.byKey.CleanUp()
	before := s.cache.byKey.WeightedSize()
	w := get(s, http.MethodGet, "/api/volume-1s", "Accept-Encoding", "br")
	s.cache.byKey.CleanUp()
	if got, want := s.cache.byKey.WeightedSize()-before, uint64(w.Body.Len()); got != want {
		t.Errorf("%d bytes heavier, want %d", got, want)
	}
}

func TestAnswers_NewGenerationWithTheOldVersionIsSeen(t *testing.T) {
	f, clock := volumeStore(), clockAt(testNow)
	s := newTestServer(t, Options{Store: f, Now: clock.Now})
	const url = "/api/volume-1s?stop=1699999999"
	before := get(s, http.MethodGet, url).Body.String()
	f.mu.Lock()
	f.metrics[5].Generation++ // volume, and no version is raised
	f.rows["volume-1s"][3].N = 4711
	f.mu.Unlock()
	clock.Advance(directoryLife)
	if after := get(s, http.MethodGet, url).Body.String(); after == before || !strings.Contains(after, "4711") {
		t.Errorf("still the old generation: %s", after)
	}
}

func TestAnswers_ConcurrentMissesAskOnce(t *testing.T) {
	f := volumeStore()
	f.gate = make(chan struct{})
	s := newTestServer(t, Options{Store: f, Registry: prometheus.NewRegistry()})
	var wg sync.WaitGroup
	bodies := make([]string, 64)
	for i := range bodies {
		wg.Go(func() { bodies[i] = get(s, http.MethodGet, "/api/volume-1s").Body.String() })
	}
	waitFor(t, "all requests to be under way", func() bool { return counted(t, s.observe.misses) == float64(len(bodies)) })
	close(f.gate)
	wg.Wait()
	if n := f.asked.Load(); n != 1 {
		t.Errorf("the store was asked %d times, want once", n)
	}
	for _, b := range bodies {
		if b != bodies[0] || !strings.HasPrefix(b, "[{") {
			t.Fatalf("answers differ: %q and %q", b, bodies[0])
		}
	}
	get(s, http.MethodGet, "/api/volume-1s")
	if n := counted(t, s.observe.hits); n != 1 {
		t.Errorf("%v hits, want 1", n)
	}
}

// TestCounts_ConcurrentQuestionsRunOnce asks the same for counts all at once, its parameters in two orders.
func TestCounts_ConcurrentQuestionsRunOnce(t *testing.T) {
	f := volumeStore()
	f.gate = make(chan struct{})
	s := newTestServer(t, Options{Store: f, Registry: prometheus.NewRegistry()})
	window := fmt.Sprintf("from=%d&to=%d", testNow-1000, testNow-10)
	urls := []string{"count?" + window, fmt.Sprintf("count?to=%d&from=%d", testNow-10, testNow-1000)}
	var wg sync.WaitGroup
	bodies := make([]string, 60)
	for i := range bodies {
		wg.Go(func() { bodies[i] = get(s, http.MethodGet, "/api/v1/metrics/volume/"+urls[i%len(urls)]).Body.String() })
	}
	waitFor(t, "all requests to be under way", func() bool { return counted(t, s.observe.misses) == float64(len(bodies)) })
	close(f.gate)
	wg.Wait()
	for _, b := range bodies {
		if b != bodies[0] || !strings.Contains(b, `"count":`) {
			t.Fatalf("answers differ: %q and %q", b, bodies[0])
		}
	}
	together := f.asked.Swap(0)
	alone := newTestServer(t, Options{Store: f, Registry: prometheus.NewRegistry()})
	if b := get(alone, http.MethodGet, "/api/v1/metrics/volume/"+urls[0]).Body.String(); b != bodies[0] {
		t.Errorf("asked alone: %q, want %q", b, bodies[0])
	}
	if once := f.asked.Load(); together != once || once == 0 {
		t.Errorf("the store was asked %d times, want %d as for one", together, once)
	}
}

// waitFor polls for something that other goroutines do.
func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	eventually.True(t, 10*time.Second, what, done)
}

func TestAnswers_TooManyQuestionsAreTurnedAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := volumeStore()
		f.gate = make(chan struct{})
		s := newTestServer(t, Options{Store: f, Queries: 1, Now: time.Now})
		var wg sync.WaitGroup
		var first int
		wg.Go(func() { first = get(s, http.MethodGet, "/api/volume-1s").Code })
		synctest.Wait()
		begin := time.Now()
		w := get(s, http.MethodGet, "/api/volume-5s")
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
			t.Errorf("status %d, Retry-After %q, want 503 and some", w.Code, w.Header().Get("Retry-After"))
		}
		if waited := time.Since(begin); waited != queryWait {
			t.Errorf("turned away after %s, want %s", waited, queryWait)
		}
		close(f.gate)
		wg.Wait()
		if first != http.StatusOK {
			t.Errorf("the first request got %d", first)
		}
		if w := get(s, http.MethodGet, "/api/volume-5s"); w.Code != http.StatusOK {
			t.Errorf("with the way free again: %d", w.Code)
		}
	})
}

func TestAnswers_EndlessQuestionIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := volumeStore()
		f.gate = make(chan struct{})
		s := newTestServer(t, Options{Store: f, Now: time.Now})
		begin := time.Now()
		if w := get(s, http.MethodGet, "/api/volume-1s"); w.Code != http.StatusServiceUnavailable {
			t.Errorf("status %d, want 503", w.Code)
		}
		if took := time.Since(begin); took != queryTime {
			t.Errorf("cut off after %s, want %s", took, queryTime)
		}
	})
}

func TestAnswers_StoreAway(t *testing.T) {
	var log strings.Builder
	f, clock := volumeStore(), clockAt(testNow)
	s := newTestServer(t, Options{Store: f, Now: clock.Now, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	const kept = "/api/volume-1s?stop=1699999999"
	get(s, http.MethodGet, kept)
	for _, c := range []struct {
		err    error
		status int
		retry  bool
	}{
		{fmt.Errorf("open /secret/path: %w", store.ErrUnavailable), http.StatusServiceUnavailable, true},
		{errTest, http.StatusInternalServerError, false},
		{fmt.Errorf("rows: %w", store.ErrUnknown), http.StatusNotFound, false},
	} {
		t.Run(c.err.Error(), func(t *testing.T) {
			f.setFail(c.err)
			clock.Advance(2 * directoryLife)
			if w := get(s, http.MethodGet, kept); w.Code != http.StatusOK {
				t.Errorf("a kept answer that still holds: %d", w.Code)
			}
			w := get(s, http.MethodGet, "/api/volume-5s")
			if w.Code != c.status || (w.Header().Get("Retry-After") != "") != c.retry {
				t.Errorf("status %d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
			}
			if w.Header().Get("Content-Type") != "application/problem+json" || strings.Contains(w.Body.String(), "secret") {
				t.Errorf("%s: %s", w.Header().Get("Content-Type"), w.Body)
			}
			if w.Header().Get("Access-Control-Allow-Origin") != "*" {
				t.Error("an error without CORS")
			}
		})
	}
	if !strings.Contains(log.String(), "secret") {
		t.Error("the operator learns nothing")
	}
	f.setFail(nil)
	if w := get(s, http.MethodGet, "/api/volume-5s"); w.Code != http.StatusOK {
		t.Errorf("once the store is back: %d", w.Code)
	}
}

func TestAnswers_StoreAwayFromTheStart(t *testing.T) {
	f := volumeStore()
	f.setFail(store.ErrUnavailable)
	s := newTestServer(t, Options{Store: f, Status: func() Status { return Status{Version: "1.2.3"} }})
	for path, want := range map[string]int{
		"/api/": 503, "/api/volume-1s": 503, "/api/v1/metrics": 503, "/api/v1/status": 200, "/api/v1/plugins": 200, "/web/getting-started": 200, "/web/status": 200,
	} {
		if w := get(s, http.MethodGet, path); w.Code != want {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
	}
}

func TestAnswers_FailuresAreLoggedOnceASecond(t *testing.T) {
	var log strings.Builder
	f, clock := volumeStore(), clockAt(testNow)
	s := newTestServer(t, Options{Store: f, Now: clock.Now, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	f.setFail(errors.Join(store.ErrUnavailable))
	for range 50 {
		get(s, http.MethodGet, "/api/volume-5s")
	}
	clock.Advance(complainEvery)
	get(s, http.MethodGet, "/api/volume-5s")
	if n := strings.Count(log.String(), "\n"); n != 2 || !strings.Contains(log.String(), "not_logged=49") {
		t.Errorf("%d lines: %s", n, log.String())
	}
}

func TestAnswers_PanicIsOneFailedRequest(t *testing.T) {
	f := volumeStore()
	s := newTestServer(t, Options{Store: f, Plugins: func() []PluginStatus { panic("secret") }})
	w := get(s, http.MethodGet, "/api/v1/plugins")
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
	if w := get(s, http.MethodGet, "/api/volume-1s"); w.Code != http.StatusOK {
		t.Errorf("the next request: %d", w.Code)
	}
}

func TestAnswers_CacheStaysWithinItsBytes(t *testing.T) {
	const limit = 256 << 10
	f := volumeStore()
	for i := range int64(400) {
		f.count("volume", time.Second, testNow-1000-i, "", i)
	}
	s := newTestServer(t, Options{Store: f, CacheBytes: limit})
	for i := range 500 {
		path := fmt.Sprintf("/api/volume-1s?stop=%d", testNow-i)
		get(s, http.MethodGet, path, "Accept-Encoding", "gzip")
		get(s, http.MethodGet, path, "Accept-Encoding", "br")
	}
	s.cache.byKey.CleanUp()
	s.cache.byRequest.CleanUp()
	if n := s.cache.byKey.WeightedSize() + s.cache.byRequest.WeightedSize(); n > limit || n == 0 {
		t.Errorf("%d bytes are kept, want some, at most %d", n, limit)
	}
	var bytes, kept int
	for a := range s.cache.byKey.Values() {
		bytes += int(a.weight())
		kept++
	}
	if bytes > limit || kept < 10 {
		t.Errorf("%d answers of %d bytes", kept, bytes)
	}
}
