package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
)

// The bounds of live streams.
const (
	DefaultStreams = 5000 // clients at once
	maxStreamed    = 64   // metrics of one client

	streamLook      = 50 * time.Millisecond // how often versions are looked at while somebody listens
	streamHeartbeat = 15 * time.Second      // proxies give up on connections that say nothing
	streamWrite     = 5 * time.Second       // who doesn't take what is sent within this is dropped
	streamRetry     = 2 * time.Second       // how long a client is asked to wait before it comes again
)

// streams tells clients which versions changed. One look at all versions serves every client; a client that was slow
// finds the newest versions only, so that nothing queues up for it.
type streams struct {
	most     int64
	clients  atomic.Int64
	stop     chan struct{} // closed when the server goes down: streams don't end by themselves
	stopOnce sync.Once

	mu      sync.Mutex
	looking bool
	changed chan struct{} // closed by the next change

	open             prometheus.Gauge
	dropped, refused prometheus.Counter
}

func newStreams(most int, reg *prometheus.Registry) (*streams, error) {
	if most <= 0 {
		most = DefaultStreams
	}
	st := &streams{
		most: int64(most), stop: make(chan struct{}), changed: make(chan struct{}),
		open: prometheus.NewGauge(prometheus.GaugeOpts{Name: "statscache_stream_clients", Help: "Live streams that are open."}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "statscache_stream_dropped_total", Help: "Live streams ended because the client did not take what was sent.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "statscache_stream_refused_total", Help: "Live streams refused because too many were open.",
		}),
	}
	if reg == nil {
		return st, nil
	}
	for _, c := range []prometheus.Collector{st.open, st.dropped, st.refused} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("api: register metrics: %w", err)
		}
	}
	return st, nil
}

// end ends all streams; their clients come again elsewhere or later.
func (st *streams) end() { st.stopOnce.Do(func() { close(st.stop) }) }

// streamHandler is GET /api/v1/stream: an event for every new version of the metrics asked for.
func (s *Server) streamHandler(c echo.Context) error {
	ids, err := s.streamed(c.Request())
	if err != nil {
		return err
	}
	st := s.streams
	if st.clients.Add(1) > st.most {
		st.clients.Add(-1)
		st.refused.Inc()
		return unavailable("Too many streams are open. Ask for the numbers themselves meanwhile.", 30)
	}
	st.open.Inc()
	defer func() { st.clients.Add(-1); st.open.Dec() }()

	h := c.Response().Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would collect what should arrive at once
	if c.Request().Method == http.MethodHead {
		c.Response().WriteHeader(http.StatusOK)
		return nil
	}
	if err := s.stream(c, ids); errors.Is(err, errSlow) {
		st.dropped.Inc()
	}
	return nil // the answer has begun: who is gone is gone
}

// streamed reads which metrics are asked for: all where none is named.
func (s *Server) streamed(r *http.Request) ([]string, error) {
	pairs, err := parsePairs(r.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, kv := range pairs {
		if kv.name != "metrics" {
			return nil, badParameter(cut(kv.name, maxTimeFilter), "is no parameter here; there is metrics")
		}
		for id := range strings.SplitSeq(kv.value, ",") {
			if id = strings.TrimSpace(id); id != "" && !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	known := func(d *directory) bool {
		return !slices.ContainsFunc(ids, func(id string) bool { return d.byID[id] == nil })
	}
	d, err := s.directoryWith(r.Context(), known)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if d.byID[id] == nil {
			return nil, notFound("no such metric: " + cut(id, maxValue) + "; " + nearest(id, d.ids()))
		}
	}
	if len(ids) == 0 {
		ids = d.ids()
	}
	if len(ids) > maxStreamed {
		return nil, badParameter("metrics", fmt.Sprintf("%d metrics; a stream has at most %d", len(ids), maxStreamed))
	}
	return ids, nil
}

var errSlow = errors.New("client too slow")

// stream writes until the client or the server goes.
func (s *Server) stream(c echo.Context, ids []string) error {
	w := http.NewResponseController(c.Response())
	// The server's own deadlines are for whole requests. A connection that can't have deadlines is a test's.
	_ = w.SetReadDeadline(time.Time{})
	c.Response().WriteHeader(http.StatusOK)
	send := func(text []byte) error {
		_ = w.SetWriteDeadline(time.Now().Add(streamWrite))
		if _, err := c.Response().Write(text); err != nil {
			return errSlow
		}
		if err := w.Flush(); err != nil {
			return errSlow
		}
		return nil
	}
	if err := send(fmt.Appendf(nil, "retry: %d\n\n", streamRetry.Milliseconds())); err != nil {
		return err
	}
	sent := parseEventID(c.Request().Header.Get("Last-Event-ID"), len(ids))
	heartbeat := time.NewTicker(streamHeartbeat)
	defer heartbeat.Stop()
	for {
		changed := s.watch() // before the look: a change in between is seen by the next one
		if text := s.news(ids, sent); text != nil {
			if err := send(text); err != nil {
				return err
			}
		}
		select {
		case <-changed:
			continue
		case <-heartbeat.C:
			if err := send([]byte(":\n\n")); err != nil {
				return err
			}
		case <-s.streams.stop:
			return nil
		case <-c.Request().Context().Done():
			return nil
		}
	}
}

// unsent is no version: the metric's was never sent.
const unsent = ^uint64(0)

// news writes an event for each version that wasn't sent yet, and remembers it as sent; nil where there is none. The
// id of the events is all versions that the client has then: any node can tell from it what it missed.
func (s *Server) news(ids []string, sent []uint64) []byte {
	var changed []int
	for i, id := range ids {
		if v := s.store.Version(id); v != sent[i] {
			sent[i] = v
			changed = append(changed, i)
		}
	}
	var text []byte
	for n, i := range changed {
		name, _ := json.Marshal(ids[i]) // a string always can be
		text = fmt.Appendf(text, "event: version\ndata: {\"metric\":%s,\"version\":%d}\n", name, sent[i])
		if n == len(changed)-1 { // earlier the id would claim what is not sent yet
			text = append(text, "id: "+eventID(sent)+"\n"...)
		}
		text = append(text, '\n')
	}
	return text
}

func eventID(versions []uint64) string {
	parts := make([]string, len(versions))
	for i, v := range versions {
		parts[i] = strconv.FormatUint(v, 36)
	}
	return strings.Join(parts, ".")
}

// parseEventID gives the versions that a client has; of one that names other metrics nothing is known.
func parseEventID(id string, n int) []uint64 {
	sent := make([]uint64, n)
	parts := strings.Split(id, ".")
	for i := range sent {
		sent[i] = unsent
		if len(parts) != n {
			continue
		}
		if v, err := strconv.ParseUint(parts[i], 36, 64); err == nil {
			sent[i] = v
		}
	}
	return sent
}

// watch gives a channel that is closed when any version changes. While somebody watches, one goroutine looks.
func (s *Server) watch() <-chan struct{} {
	st := s.streams
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.looking {
		st.looking = true
		go s.look()
	}
	return st.changed
}

// look compares the versions of all metrics until nobody listens any more.
func (s *Server) look() {
	st := s.streams
	tick := time.NewTicker(streamLook)
	defer tick.Stop()
	last := map[string]uint64{}
	for first := true; ; first = false {
		changed := s.changes(last) || first
		st.mu.Lock()
		if changed {
			close(st.changed)
			st.changed = make(chan struct{})
		}
		if st.clients.Load() == 0 {
			st.looking = false
			st.mu.Unlock()
			return
		}
		st.mu.Unlock()
		<-tick.C
	}
}

// changes brings the known versions up to date.
func (s *Server) changes(known map[string]uint64) (any bool) {
	d, err := s.directory(context.Background(), directoryLife)
	if err != nil {
		return false // the store is away: nothing is new
	}
	for i := range d.metrics {
		id := d.metrics[i].ID
		if v, ok := known[id]; !ok || v != s.store.Version(id) {
			known[id], any = s.store.Version(id), true
		}
	}
	return any
}
