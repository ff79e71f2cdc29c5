package main

import (
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/statscache/statscache/api"
	"github.com/statscache/statscache/consumer"
	"github.com/statscache/statscache/consumer/config"
)

// reloads are the SIGHUPs that came, and how to read the configuration again.
type reloads struct {
	signals <-chan os.Signal // one is kept: a signal before the daemon runs counts as soon as it does
	load    func() (*config.Config, error)
	follow  func(*config.Config) // what the command itself takes from one that is in force
}

// onHangup makes SIGHUP a question for another look at the configuration from now on, rather than the end.
func onHangup(load func() (*config.Config, error), follow func(*config.Config)) reloads {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	return reloads{signals, load, follow}
}

// deafToHangup lets a command go on at SIGHUP which has no configuration to read again.
func deafToHangup(cmd *cobra.Command) *cobra.Command {
	cmd.PreRun = func(*cobra.Command, []string) { onHangup(nil, nil) }
	return cmd
}

// reload reads the configuration and puts it in force. A broken one changes nothing.
func (r reloads) reload(d *consumer.Daemon, face *api.Server, log *slog.Logger) {
	c, err := r.load()
	var done consumer.Reloaded
	if err == nil {
		done, err = d.Reload(c)
	}
	if err != nil {
		for _, line := range sentences(err) {
			log.Error("configuration refused; the old one goes on", "reason", line)
		}
		return
	}
	r.follow(c)
	face.SetRows(c.DefaultRowsPerPage, c.MaximumRowsPerPage)
	for _, w := range c.Warnings {
		log.Warn(w)
	}
	warnNoEndpoints(c, log)
	changed := "nothing"
	if len(done.Changed) > 0 {
		changed = strings.Join(done.Changed, ", ")
	}
	log.Info("configuration reloaded", "changed", changed)
	if len(done.Restart) > 0 {
		log.Warn("some settings can't change while statscache runs: restart it for them", "settings", strings.Join(done.Restart, ", "))
	}
}

func warnNoEndpoints(c *config.Config, log *slog.Logger) {
	if len(c.Endpoints) == 0 && c.ConsumerEnabled {
		log.Warn("no endpoints are configured: nothing will be received")
	}
}
