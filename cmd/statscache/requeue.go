package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/statscache/statscache/consumer"
)

func newPluginRequeue(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "requeue ID",
		Short: "Give a plugin's dead letters to it again, after it was mended",
		Long: `requeue gives the events that a plugin could not take to it again and starts its process anew; it lifts a quarantine.
Each is counted once; those that fail again are dead letters with the new error. It can be broken off and run again.`,
		Args: onePlugin,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := g.load(nil)
			if err != nil {
				return err
			}
			show := newProgress(cmd.ErrOrStderr(), "dead letters", 0)
			sum, err := consumer.RequeuePlugin(cmd.Context(), consumer.Options{Config: c, Bundled: bundled(), Version: versionText(), Logger: g.quiet()}, args[0],
				func(done, _ int) { show.set(done) })
			show.done()
			if errors.Is(err, context.Canceled) {
				err = errors.New("requeue was stopped; run it again: what was taken is not counted twice")
			}
			if err != nil && sum == (consumer.RequeueSummary{}) {
				return err
			}
			return errors.Join(err, printRequeue(cmd.OutOrStdout(), args[0], sum, g.json))
		},
	}
}

func printRequeue(w io.Writer, id string, sum consumer.RequeueSummary, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(sum)
	}
	total := sum.Taken + sum.Dead + sum.Expired + sum.Left
	if total == 0 {
		_, err := fmt.Fprintf(w, "plugin %s has no dead letters\n", id)
		return err
	}
	fmt.Fprintf(w, "plugin %s: of %d dead letters %d were taken and are counted now, %d are dead again", id, total, sum.Taken, sum.Dead)
	if sum.Expired > 0 {
		fmt.Fprintf(w, ", %d are of events that are not archived any more", sum.Expired)
	}
	if sum.Left > 0 {
		fmt.Fprintf(w, ", %d were not tried", sum.Left)
	}
	_, err := fmt.Fprintln(w)
	return err
}

// onePlugin wants the id of one plugin.
func onePlugin(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usageError{fmt.Errorf("%s needs the id of one plugin (see `%s --help`)", cmd.CommandPath(), cmd.CommandPath())}
	}
	return nil
}
