package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/statscache/statscache/consumer"
	"github.com/statscache/statscache/consumer/config"
)

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
	f, err := newFront(c, log, true)
	if err != nil {
		return err
	}
	o, err := pipeline(c, log)
	if err != nil {
		return errors.Join(err, f.close())
	}
	o.Registry, o.Waiting = f.registry, f.wait
	d, err := consumer.Open(ctx, o)
	if err != nil {
		return unopened(ctx, log, errors.Join(err, f.close()))
	}
	defer func() { err = errors.Join(err, d.Stop()) }()
	if err := d.Start(ctx, true); err != nil {
		return errors.Join(err, f.close())
	}
	face, err := f.show(d, c)
	if err != nil {
		return errors.Join(err, f.close())
	}
	log.Info("statscache is running", "api", "http://"+f.public.Addr().String()+"/", "admin", "http://"+f.admin.Addr().String()+"/", "data_dir", c.DataDir, "endpoints", len(c.Endpoints))
	if started != nil {
		started(d, f.public.Addr().String())
	}
	for running := true; running; {
		select {
		case <-again.signals:
			again.reload(d, face, log)
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
