package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/statscache/statscache/api"
	"github.com/statscache/statscache/consumer"
	"github.com/statscache/statscache/consumer/config"
)

func newConsume(g *globals) *cobra.Command {
	return newRole(g, "consume", consumer.Roles{Consume: true}, "Receive and archive only, on a shared CrateDB",
		"consume receives events and archives them in a CrateDB that `statscache compute` and `statscache serve` share. Two or more\nof it on the same endpoints make for availability: an event counts once, whoever archives it first. What a process leaves\nbehind that dies is finished by the others.")
}

func newCompute(g *globals) *cobra.Command {
	return newRole(g, "compute", consumer.Roles{Compute: true}, "Run the plugins only, on a shared CrateDB",
		"compute feeds archived events to the plugins and commits what they answer. Any number of it share the plugins and streams\namong them; whoever comes takes a share, and what a process had that goes or dies is taken over by the others.")
}

func newRole(g *globals, name string, roles consumer.Roles, short, long string) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: short, Args: noArgs,
		Long: long + " It ends at\nSIGINT or SIGTERM; SIGHUP makes it read its configuration again. Readiness, metrics and /status are at\nstatscache.app.admin_listen.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			hangup := make(chan os.Signal, 1)
			signal.Notify(hangup, syscall.SIGHUP)
			c, log, err := roleConfig(g, name)
			if err != nil {
				return err
			}
			return runRole(cmd.Context(), c, log, name, roles, func(d *consumer.Daemon) {
				if again, err := g.load(nil); err != nil {
					log.Error("configuration refused; the old one goes on", "error", err)
				} else if done, err := d.Reload(again); err != nil {
					log.Error("configuration refused; the old one goes on", "error", err)
				} else {
					g.follow(again)
					log.Info("configuration reloaded", "changed", done.Changed, "needs_restart", done.Restart)
				}
			}, hangup)
		},
	}
}

// roleConfig loads the configuration of a role and refuses stores that it can't work on.
func roleConfig(g *globals, name string) (*config.Config, *slog.Logger, error) {
	c, err := g.load(nil)
	if err != nil {
		return nil, nil, err
	}
	if err := consumer.CheckRole(c.Store.Kind, name); err != nil {
		return nil, nil, usageError{err}
	}
	g.follow(c)
	log := g.logger()
	for _, w := range c.Warnings {
		log.Warn(w)
	}
	return c, log, nil
}

// runRole runs a role that has no API of its own until ctx ends or a part gives up.
func runRole(ctx context.Context, c *config.Config, log *slog.Logger, name string, roles consumer.Roles, reload func(*consumer.Daemon), hangup <-chan os.Signal) (err error) {
	f, err := newFront(c, log, false)
	if err != nil {
		return err
	}
	o, err := pipeline(c, log)
	if err != nil {
		return errors.Join(err, f.close())
	}
	o.Registry, o.Roles, o.Waiting = f.registry, roles, f.wait
	d, err := consumer.Open(ctx, o)
	if err != nil {
		return unopened(ctx, log, errors.Join(err, f.close()))
	}
	defer func() { err = errors.Join(err, d.Stop()) }()
	if err := d.Start(ctx, true); err != nil {
		return errors.Join(err, f.close())
	}
	if !f.waits {
		f.operators(d)
	}
	log.Info("statscache "+name+" is running", "admin", "http://"+f.admin.Addr().String()+"/", "data_dir", c.DataDir)
	for running := true; running; {
		select {
		case <-hangup:
			reload(d)
			continue
		case <-ctx.Done():
			log.Info("stopping")
		case err = <-f.failed:
		case err = <-d.Failed():
		}
		running = false
	}
	return errors.Join(err, f.close())
}

func newServe(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "serve", Short: "Answer the API only", Args: noArgs,
		Long: "serve answers the API and the web pages from the store and writes nothing. On a CrateDB any number of it work beside the\nother roles; on SQLite it works beside `statscache run` or alone, with listeners of its own (statscache.app.listen and\n.admin_listen). It ends at SIGINT or SIGTERM.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			hangup := make(chan os.Signal, 1)
			signal.Notify(hangup, syscall.SIGHUP)
			c, log, err := roleConfig(g, "serve")
			if err != nil {
				return err
			}
			return runServe(cmd.Context(), c, log, func(face *api.Server) {
				again, err := g.load(nil)
				if err != nil {
					log.Error("configuration refused; the old one goes on", "error", err)
					return
				}
				g.follow(again)
				face.SetRows(again.DefaultRowsPerPage, again.MaximumRowsPerPage)
				log.Info("configuration reloaded: rows per page and log level are in force; anything else needs a restart")
			}, hangup)
		},
	}
}

func runServe(ctx context.Context, c *config.Config, log *slog.Logger, reload func(*api.Server), hangup <-chan os.Signal) (err error) {
	f, err := newFront(c, log, true)
	if err != nil {
		return err
	}
	s, err := consumer.OpenServer(ctx, consumer.Options{Config: c, Bundled: bundled(), Version: versionText(), Logger: log, Waiting: f.wait})
	if err != nil {
		return unopened(ctx, log, errors.Join(err, f.close()))
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	face, err := f.show(s, c)
	if err != nil {
		return errors.Join(err, f.close())
	}
	log.Info("statscache serve is running", "api", "http://"+f.public.Addr().String()+"/", "admin", "http://"+f.admin.Addr().String()+"/", "store", c.Store.String())
	for running := true; running; {
		select {
		case <-hangup:
			reload(face)
			continue
		case <-ctx.Done():
			log.Info("stopping")
		case err = <-f.failed:
		}
		running = false
	}
	return errors.Join(err, f.close())
}
