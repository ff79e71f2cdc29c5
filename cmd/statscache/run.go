package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/statscache/statscache/api"
	"github.com/statscache/statscache/consumer"
	"github.com/statscache/statscache/consumer/config"
)

// shutdownTimeout bounds how long requests under way may keep the listeners open.
const shutdownTimeout = time.Second

func newRun(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Receive, count and serve, in one process",
		Long:  "run receives, counts and serves until SIGINT or SIGTERM. SIGHUP makes it read its configuration again: other\nendpoints, topics, rules, retention, disabled plugins, rows per page and log level are in force at once, without a message lost;\nwhat can't change while it runs is said. A broken configuration is refused, and the old one goes on.",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			again := onHangup(func() (*config.Config, error) { return g.load(nil) }, g.follow)
			c, err := g.load(nil)
			if err != nil {
				return err
			}
			g.follow(c)
			log := g.logger()
			for _, w := range c.Warnings {
				log.Warn(w)
			}
			warnNoEndpoints(c, log)
			return runReloading(cmd.Context(), c, log, again, nil)
		},
	}
}

// runDaemon is runReloading for a configuration that stays as it is.
func runDaemon(ctx context.Context, c *config.Config, log *slog.Logger, started func(d *consumer.Daemon, address string)) error {
	return runReloading(ctx, c, log, reloads{}, started)
}

// runReloading runs the pipeline and its listeners until ctx ends or a part gives up. started, where set, is called once
// everything runs, with the address that the API listens at.
func runReloading(ctx context.Context, c *config.Config, log *slog.Logger, again reloads, started func(d *consumer.Daemon, address string)) (err error) {
	// Ports are taken first: what can fail should fail before the data dir is touched.
	public, admin, err := listen(c)
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	o, err := pipeline(c, log)
	if err != nil {
		return errors.Join(err, public.Close(), admin.Close())
	}
	o.Registry = registry
	d, err := consumer.Open(ctx, o)
	if err != nil {
		return errors.Join(err, public.Close(), admin.Close())
	}
	defer func() { err = errors.Join(err, d.Stop()) }()
	if err := d.Start(ctx, true); err != nil {
		return errors.Join(err, public.Close(), admin.Close())
	}
	face, failed, stop, err := show(d, c, log, registry, public, admin)
	if err != nil {
		return err
	}
	log.Info("statscache is running", "api", "http://"+public.Addr().String()+"/", "admin", "http://"+admin.Addr().String()+"/", "data_dir", c.DataDir, "endpoints", len(c.Endpoints))
	if started != nil {
		started(d, public.Addr().String())
	}
	for running := true; running; {
		select {
		case <-again.signals:
			again.reload(d, face, log)
			continue
		case <-ctx.Done():
			log.Info("stopping")
		case err = <-failed:
		case err = <-d.Failed():
		}
		running = false
	}
	return errors.Join(err, stop())
}

// answering is a process whose numbers and state are shown.
type answering interface {
	Store() api.Store
	Plugins() []api.PluginStatus
	Status() api.Status
	Gaps() api.Gaps
	Explain(ctx context.Context, q api.ExplainQuery) (api.Explanation, error)
	Ready() []api.Check
}

// show serves the API and what operators ask for until stop is called; failed tells of a listener that gave up. The
// listeners are closed where that can't begin.
func show(p answering, c *config.Config, log *slog.Logger, registry *prometheus.Registry, public, admin net.Listener) (face *api.Server, failed <-chan error, stop func() error, err error) {
	face, err = api.New(api.Options{Store: p.Store(), Plugins: p.Plugins, Status: p.Status, Gaps: p.Gaps, Explain: p.Explain, BaseURL: c.BaseURL,
		DefaultRows: c.DefaultRowsPerPage, MaximumRows: c.MaximumRowsPerPage, Logger: log, Registry: registry})
	if err != nil {
		return nil, nil, nil, errors.Join(err, public.Close(), admin.Close())
	}
	operators := api.NewAdmin(api.AdminOptions{Ready: p.Ready, Status: p.Status, Gatherer: registry, Logger: log})
	ended := make(chan error, 2)
	stopPublic := serve(face.HTTPServer(), public, ended)
	stopAdmin := serve(api.NewHTTPServer(operators, 3*time.Minute, log), admin, ended)
	return face, ended, func() error { return errors.Join(stopPublic(), stopAdmin()) }, nil
}

// pipeline gives the options of every short command that works in a data dir.
func (g *globals) pipeline() (consumer.Options, error) {
	c, err := g.load(nil)
	if err != nil {
		return consumer.Options{}, err
	}
	return pipeline(c, g.quiet())
}

// pipeline gives the options of whatever works in a data dir.
func pipeline(c *config.Config, log *slog.Logger) (consumer.Options, error) {
	points, err := failpoints()
	return consumer.Options{Config: c, Bundled: bundled(), Version: versionText(), Logger: log, Failpoint: points}, err
}

func listen(c *config.Config) (public, admin net.Listener, err error) {
	if public, err = net.Listen("tcp", c.Listen); err != nil {
		return nil, nil, fmt.Errorf("statscache.app.listen %s: %w", c.Listen, bare(err))
	}
	if admin, err = net.Listen("tcp", c.AdminListen); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("statscache.app.admin_listen %s: %w", c.AdminListen, bare(err)), public.Close())
	}
	return public, admin, nil
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
