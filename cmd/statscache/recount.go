package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/statscache/statscache/consumer"
)

func newRecount(g *globals) *cobra.Command {
	r := consumer.RecountOptions{}
	cmd := &cobra.Command{
		Use:   "recount METRIC...",
		Short: "Count metrics anew from the archive",
		Long: `recount counts metrics anew from the archive, after a plugin was mended or when numbers are in doubt. The old
numbers stay until the new ones are complete. All metrics of one plugin are counted together. Beside a running daemon
the daemon does it, and goes on counting what comes in.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{errors.New("recount needs a metric (see `statscache recount --help`)")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := g.pipeline()
			if err != nil {
				return err
			}
			show := newProgress(cmd.ErrOrStderr(), "events", 0)
			r.Metrics, r.Progress = args, func(done, _ int) { show.set(done) }
			list, err := consumer.Recount(cmd.Context(), o, r)
			show.done()
			switch {
			case errors.Is(err, context.Canceled):
				return errors.New("recount was stopped: the old numbers are served, and the daemon that runs goes on with it, or the next one does")
			case err != nil:
				return err
			}
			out := cmd.OutOrStdout()
			if g.json {
				return json.NewEncoder(out).Encode(map[string]any{"recounted": list})
			}
			for _, x := range list {
				fmt.Fprintf(out, "recounted: %s (plugin %s, generation %d)\n", strings.Join(x.Metrics, ", "), x.Plugin, x.Generation)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&r.LoseExpired, "lose-expired", false, "also where events are not kept any more: what they counted goes")
	return cmd
}
