package consumer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/statscache/statscache/api"
	"github.com/statscache/statscache/consumer/config"
	"github.com/statscache/statscache/consumer/control"
	"github.com/statscache/statscache/plugins/host"
	"github.com/statscache/statscache/store"
	"github.com/statscache/statscache/store/sqlite"
)

// askStore bounds a question to the store or to a daemon beside for the status.
const askStore = 3 * time.Second

// Server is the role serve by itself: it reads what other processes write, and needs none of them.
type Server struct {
	config  *config.Config
	bundled []host.Program
	version string
	started time.Time
	log     *slog.Logger
	store   store.Store
	host    *host.Host // for explanations
	cluster *cluster   // nil on SQLite

	gapsFault fault

	waiting atomic.Pointer[waiting] // for the store at the start

	stop func()
	wait sync.WaitGroup
	done func() error
}

// OpenServer opens the store, read-only where that is a file.
func OpenServer(ctx context.Context, o Options) (*Server, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c := o.Config
	if _, err := os.Stat(c.Store.Path); c.Store.Kind == "sqlite" && errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("there is nothing to serve yet: %s does not exist; `statscache run` makes it", c.Store.Path)
	}
	v := &Server{config: c, bundled: o.Bundled, version: o.Version, started: time.Now().UTC(), log: o.Logger}
	p := patience{within: storeWithin}
	if o.Waiting != nil {
		p = patience{away: v.noStore(o)}
	}
	s, err := openEngine(ctx, c, p, sqlite.Options{ReadOnly: true, Logger: o.Logger, Now: time.Now})
	if err != nil {
		return nil, err
	}
	h, done, err := recountOn(s, c, o.Logger)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	v.store, v.host, v.done = s, h, done
	if v.cluster, err = joinCluster(ctx, s, false, v.about, o.Logger); err != nil {
		return nil, errors.Join(err, done())
	}
	ctx, v.stop = context.WithCancel(context.WithoutCancel(ctx))
	if v.cluster != nil {
		for _, run := range []func(context.Context) error{v.cluster.Run, v.cluster.follow.run, v.cluster.watchHealth} {
			v.wait.Go(func() { _ = run(ctx) }) // they end with ctx alone
		}
	}
	v.waiting.Store(nil)
	return v, nil
}

// noStore is called with the reason each time that the store has not answered at the start.
func (v *Server) noStore(o Options) func(error) {
	return func(err error) {
		w := v.waiting.Load()
		if w != nil {
			w.say(err)
			return
		}
		w = &waiting{}
		w.say(err)
		v.waiting.Store(w)
		o.Waiting(v)
	}
}

// Stop ends everything. It is called once.
func (v *Server) Stop() error {
	v.stop()
	v.wait.Wait()
	if v.cluster != nil {
		_ = v.cluster.leave() // says by itself what fails
	}
	return v.done()
}

func (v *Server) about() json.RawMessage {
	return newAbout(v.version, Roles{Serve: true}, v.started, v.config).encode()
}

// Store is the open store, for the API to read from.
func (v *Server) Store() api.Store { return v.store }

// Explain tells which archived events a number is made of.
func (v *Server) Explain(ctx context.Context, q api.ExplainQuery) (api.Explanation, error) {
	x := explainer{store: v.store, host: v.host, programs: func() []host.Program { return allPrograms(v.bundled, v.config, v.log) }}
	return x.explain(ctx, q)
}

// Plugins says how the plugins do: in the other processes, or in the daemon beside; without any, what the store knows.
func (v *Server) Plugins() []api.PluginStatus {
	ctx, cancel := context.WithTimeout(context.Background(), askStore)
	defer cancel()
	if v.cluster != nil {
		if list := v.cluster.plugins(); len(list) > 0 {
			return list
		}
	} else if list, err := control.NewClient(control.Path(v.config.DataDir)).Plugins(ctx); err == nil {
		return list
	}
	list, err := storedPlugins(ctx, v.store, nil)
	if err != nil {
		v.log.Warn("the plugins can't be listed", "error", err)
		return nil
	}
	return list
}

// Status says how this process does and what it knows of others.
func (v *Server) Status() api.Status {
	s := api.Status{Version: v.version, Started: v.started, Roles: Roles{Serve: true}.names(), Endpoints: []api.EndpointStatus{},
		Store: api.StoreStatus{Kind: v.config.Store.Kind}, Plugins: []api.PluginStatus{}}
	if v.waiting.Load() != nil {
		return s
	}
	s.Store.Up, s.Plugins = v.reach() == nil, v.Plugins()
	var streams []store.Stream
	if v.cluster != nil {
		s.Cluster, streams = v.cluster.status(), v.cluster.follow.known()
		for _, n := range s.Cluster.Nodes {
			if n.Alive {
				s.EventsPerSecond += n.EventsPerSecond
			}
		}
	} else {
		ctx, cancel := context.WithTimeout(context.Background(), askStore)
		defer cancel()
		streams, _ = v.store.Streams(ctx) // an unreachable store is said above
	}
	for _, x := range streams {
		s.Owned += x.Owned
	}
	return s
}

func (v *Server) reach() error {
	ctx, cancel := context.WithTimeout(context.Background(), askStore)
	defer cancel()
	return v.store.Ping(ctx)
}

// Ready answers the readiness check of the role.
func (v *Server) Ready() []api.Check {
	if w := v.waiting.Load(); w != nil {
		return w.ready(Roles{Serve: true}, nil)
	}
	why := ""
	if err := v.reach(); err != nil {
		why = err.Error()
	}
	return []api.Check{storeCheck("serve", "store", "the store does not answer: ", why)}
}
