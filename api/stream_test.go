package api

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// listener is a client of a live stream.
type listener struct {
	t     *testing.T
	lines chan string
	stop  context.CancelFunc
}

// listen opens a stream and gives it once the server has answered; nil where it refuses.
func listen(t *testing.T, url string, headers ...string) (*listener, *http.Response) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	l := &listener{t, make(chan string, 1000), cancel}
	t.Cleanup(cancel)
	go func() {
		defer close(l.lines)
		defer func() { _ = w.Body.Close() }()
		for sc := bufio.NewScanner(w.Body); sc.Scan(); {
			l.lines <- sc.Text()
		}
	}()
	return l, w
}

// next gives the next line that begins with a prefix.
func (l *listener) next(prefix string) string {
	l.t.Helper()
	late := time.After(10 * time.Second)
	for {
		select {
		case line, ok := <-l.lines:
			if !ok {
				l.t.Fatalf("the stream ended before a line with %q", prefix)
			}
			if after, ok := strings.CutPrefix(line, prefix); ok {
				return after
			}
		case <-late:
			l.t.Fatalf("no line with %q", prefix)
		}
	}
}

// ends waits for the end of the stream.
func (l *listener) ends() {
	l.t.Helper()
	late := time.After(10 * time.Second)
	for {
		select {
		case _, ok := <-l.lines:
			if !ok {
				return
			}
		case <-late:
			l.t.Fatal("the stream goes on")
		}
	}
}

func streamServer(t *testing.T, o Options) (*fakeStore, *Server, *httptest.Server) {
	t.Helper()
	f := compatStore(t)
	o.Store = f
	s := newTestServer(t, o)
	srv := httptest.NewUnstartedServer(s)
	srv.Config = s.HTTPServer()
	srv.Start()
	t.Cleanup(func() { s.streams.end(); srv.Close() })
	return f, s, srv
}

func TestStream_SaysWhatChangedAndNothingElse(t *testing.T) {
	f, _, srv := streamServer(t, Options{})
	l, w := listen(t, srv.URL+"/api/v1/stream?metrics=volume,"+releng)
	if w.StatusCode != http.StatusOK || w.Header.Get("Content-Type") != "text/event-stream" || w.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Fatalf("%d %v", w.StatusCode, w.Header)
	}
	volume := f.Version("volume")
	for _, want := range []string{`"metric":"volume"`, `"metric":"` + releng + `"`} { // what there is at first
		if got := l.next("data: "); !strings.Contains(got, want) {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	f.change("volume-by-category", func() {}) // not asked for
	f.change("volume", func() {})
	if got := l.next("data: "); !strings.Contains(got, `"metric":"volume","version":`) {
		t.Errorf("got %s", got)
	}
	id := l.next("id: ")
	if got := parseEventID(id, 2); got[0] != volume+1 || got[1] != 1 {
		t.Errorf("id %s stands for %v", id, got)
	}
}

func TestStream_LastEventIDBringsWhatWasMissed(t *testing.T) {
	f, _, srv := streamServer(t, Options{})
	url := srv.URL + "/api/v1/stream?metrics=volume,volume-by-category"
	l, _ := listen(t, url)
	id := l.next("id: ")
	l.stop()
	f.change("volume-by-category", func() {})
	again, _ := listen(t, url, "Last-Event-ID", id)
	if got := again.next("data: "); !strings.Contains(got, `"volume-by-category"`) {
		t.Errorf("after a break: %s", got)
	}
	if other := parseEventID("x.y.z", 2); other[0] != unsent || other[1] != unsent {
		t.Errorf("an id of another stream stands for %v", other)
	}
}

func TestStream_RefusesWhatItCannotDo(t *testing.T) {
	s := newTestServer(t, Options{Store: compatStore(t)})
	for url, want := range map[string]int{
		"/api/v1/stream?metrics=volume,nothing": http.StatusNotFound,
		"/api/v1/stream?metric=volume":          http.StatusBadRequest,
	} {
		if w := get(s, http.MethodGet, url); w.Code != want {
			t.Errorf("%s: %d, want %d", url, w.Code, want)
		}
	}
	if w := get(s, http.MethodHead, "/api/v1/stream"); w.Code != http.StatusOK {
		t.Errorf("HEAD: %d", w.Code)
	}
}

func TestStream_IsBounded(t *testing.T) {
	_, s, srv := streamServer(t, Options{Streams: 2, Registry: prometheus.NewRegistry()})
	var open []*listener
	for range 2 {
		l, _ := listen(t, srv.URL+"/api/v1/stream?metrics=volume")
		l.next("data: ")
		open = append(open, l)
	}
	if _, w := listen(t, srv.URL+"/api/v1/stream?metrics=volume"); w.StatusCode != http.StatusServiceUnavailable || w.Header.Get("Retry-After") == "" {
		t.Errorf("one too many: %d %v", w.StatusCode, w.Header)
	}
	if n := counted(t, s.streams.refused); n != 1 {
		t.Errorf("%v refused, want 1", n)
	}
	open[0].stop()
	for deadline := time.Now().Add(10 * time.Second); ; {
		if _, w := listen(t, srv.URL+"/api/v1/stream?metrics=volume"); w.StatusCode == http.StatusOK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a place never became free")
		}
	}
}

// TestStream_EndsWithTheServer: a stream that went on would hold up the shutdown.
func TestStream_EndsWithTheServer(t *testing.T) {
	_, s, srv := streamServer(t, Options{})
	l, _ := listen(t, srv.URL+"/api/v1/stream?metrics=volume")
	l.next("data: ")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := srv.Config.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	l.ends()
	for deadline := time.Now().Add(10 * time.Second); ; {
		s.streams.mu.Lock()
		looking := s.streams.looking
		s.streams.mu.Unlock()
		if !looking {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("somebody still looks for new versions")
		}
	}
}

// stuck is a client's connection that takes nothing.
type stuck struct {
	http.ResponseWriter
	taken int
}

func (s *stuck) Write(p []byte) (int, error) {
	if s.taken--; s.taken < 0 {
		return 0, &net.OpError{Op: "write", Err: io.ErrShortWrite}
	}
	return s.ResponseWriter.Write(p)
}

func (s *stuck) Unwrap() http.ResponseWriter { return s.ResponseWriter }

func TestStream_DropsAndCountsWhoTakesNothing(t *testing.T) {
	s := newTestServer(t, Options{Store: compatStore(t), Registry: prometheus.NewRegistry()})
	defer s.streams.end()
	s.ServeHTTP(&stuck{httptest.NewRecorder(), 1}, httptest.NewRequest(http.MethodGet, "/api/v1/stream?metrics=volume", nil))
	if n := counted(t, s.streams.dropped); n != 1 {
		t.Errorf("%v dropped, want 1", n)
	}
	if n := s.streams.clients.Load(); n != 0 {
		t.Errorf("%d clients are left", n)
	}
}
