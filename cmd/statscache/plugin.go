package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/statscache/statscache/api"
	"github.com/statscache/statscache/consumer"
	"github.com/statscache/statscache/consumer/config"
	"github.com/statscache/statscache/plugins"
	"github.com/statscache/statscache/plugins/host"
	"github.com/statscache/statscache/plugins/volume"
)

// servePluginCommand is the hidden command by which the program becomes one of its own plugins.
const servePluginCommand = "serve-bundled-plugin"

// bundledPlugins are the plugins that come with the program, by id.
func bundledPlugins() map[string]func() plugins.Plugin {
	return map[string]func() plugins.Plugin{volume.ID: volume.Plugin}
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
		list, err = askDaemon(ctx, c)
		return list, true, err
	}
	list, err = consumer.KnownPlugins(ctx, c, bundled())
	return list, false, err
}

func askDaemon(ctx context.Context, c *config.Config) ([]api.PluginStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	url := "http://" + c.Listen + "/api/v1/plugins"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", url, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("a daemon has the data dir %s, but its API doesn't answer at statscache.app.listen: %w", c.DataDir, errors.Unwrap(err))
	}
	defer func() { _ = resp.Body.Close() }() // only read from
	var answer struct {
		Plugins []api.PluginStatus `json:"plugins"`
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask %s: it answers %s", url, resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 16<<20)).Decode(&answer); err != nil {
		return nil, fmt.Errorf("ask %s: %w", url, err)
	}
	return answer.Plugins, nil
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
		_, err := fmt.Fprintln(out, "\nno daemon runs on this data dir: these are the plugins that one would start, and how far they have come")
		return err
	}
	return nil
}
