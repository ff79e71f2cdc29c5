package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/statscache/statscache/api"
	"github.com/statscache/statscache/consumer"
	"github.com/statscache/statscache/consumer/config"
	"github.com/statscache/statscache/consumer/control"
	"github.com/statscache/statscache/plugins"
	"github.com/statscache/statscache/plugins/activity"
	"github.com/statscache/statscache/plugins/host"
	"github.com/statscache/statscache/plugins/pagure"
	"github.com/statscache/statscache/plugins/releng"
	"github.com/statscache/statscache/plugins/volume"
)

// servePluginCommand is the hidden command by which the program becomes one of its own plugins.
const servePluginCommand = "serve-bundled-plugin"

// bundledPlugins are the plugins that come with the program, by id.
func bundledPlugins() map[string]func() plugins.Plugin {
	return map[string]func() plugins.Plugin{
		activity.ID: activity.Plugin,
		pagure.ID:   pagure.Plugin,
		releng.ID:   releng.Plugin,
		volume.ID:   volume.Plugin,
	}
}

// bundled tells the host how to start them: out of process like all plugins, as this same program.
func bundled() []host.Program {
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0] // no /proc: what the shell was told is the best there is
	}
	var out []host.Program
	for id := range bundledPlugins() {
		out = append(out, host.Program{ID: id, Argv: []string{self, servePluginCommand, id}, Builtin: true,
			Env: []string{"GOMAXPROCS=1", "GOGC=200"}}) // one core a plugin: more only makes the host wait for its turn
	}
	return out
}

func newServePlugin() *cobra.Command {
	return &cobra.Command{
		Use:    servePluginCommand + " ID",
		Hidden: true,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || bundledPlugins()[args[0]] == nil {
				return usageError{fmt.Errorf("no bundled plugin %q", args)}
			}
			plugins.Serve(bundledPlugins()[args[0]]())
			return nil
		},
	}
}

func newPlugin(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "plugin",
		Short: "Look after the plugins",
		Args:  knownCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newPluginVerb(g, control.Enable, "Start a disabled plugin again: it goes on where it stopped"),
		newPluginVerb(g, control.Disable, "Stop a plugin, for later starts too; its numbers stay"),
		newPluginVerb(g, control.Restart, "Start a plugin's process anew; lifts a quarantine"),
		newPluginRequeue(g))
	cmd.AddCommand(&cobra.Command{
		Use:   "list",
		Short: "List the plugins and how they are doing",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.load(nil)
			if err != nil {
				return err
			}
			list, running, err := pluginStates(cmd.Context(), c)
			if err != nil {
				return err
			}
			if g.json {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{"running": running, "plugins": list})
			}
			return printPlugins(cmd.OutOrStdout(), list, running)
		},
	})
	return cmd
}

// pluginStates asks the running daemon, or looks at what the store knows where none runs.
func pluginStates(ctx context.Context, c *config.Config) (list []api.PluginStatus, running bool, err error) {
	running, err = consumer.Running(c.DataDir)
	if err != nil {
		return nil, false, err
	}
	if running {
		list, err = control.NewClient(control.Path(c.DataDir)).Plugins(ctx)
		if !errors.Is(err, control.ErrNoAnswer) {
			return list, true, err
		}
	}
	// Nobody listens: a daemon that is only starting, or a command at work. The store can be read beside either.
	list, err = consumer.KnownPlugins(ctx, c, bundled())
	return list, false, err
}

// newPluginVerb makes a command that does something to one plugin.
func newPluginVerb(g *globals, verb, short string) *cobra.Command {
	return &cobra.Command{
		Use:   verb + " ID",
		Short: short,
		Args:  onePlugin,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := g.load(nil)
			if err != nil {
				return err
			}
			r, err := consumer.CommandPlugin(cmd.Context(), c, bundled(), verb, args[0])
			if err != nil {
				return err
			}
			if g.json {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(r)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), r.Said)
			return err
		},
	}
}

func printPlugins(out io.Writer, list []api.PluginStatus, running bool) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PLUGIN\tVERSION\tSTATE\tLAG\tRESTARTS\tDEAD\tMETRICS\tERROR")
	for _, p := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\n", p.ID, p.Version, p.State, p.Lag, p.Restarts, p.DeadLetters, strings.Join(p.Metrics, ","), p.Error)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if !running {
		_, err := fmt.Fprintln(out, "\nno daemon answers on this data dir: these are the plugins that one would start, and how far they have come")
		return err
	}
	return nil
}
