package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/statscache/statscache/api"
	"github.com/statscache/statscache/consumer"
	"github.com/statscache/statscache/consumer/config"
	"github.com/statscache/statscache/store"
)

// shutdownTimeout bounds how long requests under way may keep the listeners open.
const shutdownTimeout = time.Second

// front is what a process shows to others. Its ports are taken first: what can fail should fail before the data dir is
// touched.
type front struct {
	log      *slog.Logger
	registry *prometheus.Registry
	public   net.Listener // nil in a role without an API
	admin    net.Listener
	failed   chan error // of a listener that gave up
	door     door       // what answers at public where that began without a store
	waits    bool

	closePublic, closeAdmin func() error
}

// door hands requests to whoever answers now.
type door struct{ inside atomic.Pointer[http.Handler] }

func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) { (*d.inside.Load()).ServeHTTP(w, r) }

// newFront takes the ports that a process listens at.
func newFront(c *config.Config, log *slog.Logger, public bool) (*front, error) {
	f := &front{log: log, registry: prometheus.NewRegistry(), failed: make(chan error, 2), closePublic: func() error { return nil }}
	var err error
	if public {
		if f.public, err = net.Listen("tcp", c.Listen); err != nil {
			return nil, fmt.Errorf("statscache.app.listen %s: %w", c.Listen, bare(err))
		}
		f.closePublic = f.public.Close
	}
	if f.admin, err = net.Listen("tcp", c.AdminListen); err != nil {
		return nil, errors.Join(fmt.Errorf("statscache.app.admin_listen %s: %w", c.AdminListen, bare(err)), f.closePublic())
	}
	f.closeAdmin = f.admin.Close
	return f, nil
}

// wait shows operators a process whose store does not answer yet, and everybody else that it doesn't.
func (f *front) wait(p consumer.Answering) {
	f.waits = true
	f.operators(p)
	if f.public != nil {
		h := api.Waiting(p.Status)
		f.door.inside.Store(&h)
		f.closePublic = serve(api.NewHTTPServer(&f.door, api.WriteTimeout, f.log), f.public, f.failed)
	}
}

// operators shows them a process without an API, or beside it.
func (f *front) operators(p consumer.Answering) {
	h := api.NewAdmin(api.AdminOptions{Ready: p.Ready, Status: p.Status, Gatherer: f.registry, Logger: f.log})
	f.closeAdmin = serve(api.NewHTTPServer(h, 3*time.Minute, f.log), f.admin, f.failed)
}

// answering is a process whose numbers and state are shown.
type answering interface {
	consumer.Answering
	Store() api.Store
	Plugins() []api.PluginStatus
	Gaps() api.Gaps
	Explain(ctx context.Context, q api.ExplainQuery) (api.Explanation, error)
}

// show has the API answer, and operators see the process where they don't yet.
func (f *front) show(p answering, c *config.Config) (face *api.Server, err error) {
	face, err = api.New(api.Options{Store: p.Store(), Plugins: p.Plugins, Status: p.Status, Gaps: p.Gaps, Explain: p.Explain, BaseURL: c.BaseURL,
		DefaultRows: c.DefaultRowsPerPage, MaximumRows: c.MaximumRowsPerPage, Logger: f.log, Registry: f.registry})
	if err != nil {
		return nil, err
	}
	srv := face.HTTPServer()
	if !f.waits {
		f.operators(p)
		f.closePublic = serve(srv, f.public, f.failed)
		return face, nil
	}
	f.door.inside.Store(&srv.Handler)
	closePublic := f.closePublic
	f.closePublic = func() error {
		_ = srv.Shutdown(context.Background()) // ends live streams; it has no connections of its own
		return closePublic()
	}
	return face, nil
}

// close ends both listeners.
func (f *front) close() error { return errors.Join(f.closePublic(), f.closeAdmin()) }

// unopened is what to say of a process that could not be opened: nothing where it was told to stop while it waited for its
// store.
func unopened(ctx context.Context, log *slog.Logger, err error) error {
	if ctx.Err() != nil && (errors.Is(err, store.ErrUnavailable) || errors.Is(err, context.Canceled)) {
		log.Info("stopping")
		return nil
	}
	return err
}

// bare leaves out of a network error what our own sentence says already.
func bare(err error) error {
	var oe *net.OpError
	if errors.As(err, &oe) {
		return oe.Err
	}
	return err
}

// serve serves until the function it gives is called.
func serve(s *http.Server, l net.Listener, failed chan<- error) (stop func() error) {
	go func() {
		if err := s.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("listener %s: %w", l.Addr(), err)
		}
	}()
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
		defer cancel()
		if s.Shutdown(ctx) != nil {
			return s.Close() // whoever still reads is cut off
		}
		return nil
	}
}
