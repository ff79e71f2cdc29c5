package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/statscache/statscache/consumer"
)

func newMigrate(g *globals) *cobra.Command {
	to := ""
	cmd := &cobra.Command{
		Use:   "migrate --to URL",
		Short: "Bring everything into another store, from SQLite to CrateDB or back",
		Long: `migrate copies archive, counts, latest values, dead letters, positions and retention from the store that the
configuration names into another one, which must be empty, and compares both. A daemon that runs goes on receiving: its
inbox keeps what comes in, and once it is started on the new store (statscache.store.url) it goes on there with the first
event that is not archived. Broken off, it goes on where it was when it is run again.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if to == "" {
				return usageError{errors.New("migrate needs --to URL (see `statscache migrate --help`)")}
			}
			o, err := g.pipeline()
			if err != nil {
				return err
			}
			show := newProgress(cmd.ErrOrStderr(), "rows", 0)
			sum, err := consumer.Migrate(cmd.Context(), o, to, show.set)
			show.done()
			if errors.Is(err, context.Canceled) {
				err = errors.New("migrate was stopped: the old store is in use still; run it again to go on where it was")
			}
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if g.json {
				return json.NewEncoder(out).Encode(sum)
			}
			fmt.Fprintf(out, "migrated: %d events in %d streams, %d counts, %d latest values, %d dead letters of %d plugins from %s to %s, all compared\n",
				sum.Events, sum.Streams, sum.Counts, sum.Latest, sum.DeadLetters, sum.Plugins, sum.From, sum.To)
			then := "start statscache"
			if sum.Paused {
				then = "restart the daemon, which keeps what it receives in its inbox until then"
			}
			_, err = fmt.Fprintf(out, "set statscache.store.url to %s and %s\n", sum.To, then)
			return err
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "URL of the other store, as in statscache.store.url: crate://user:password@host:5432/schema or sqlite:///absolute/path")
	return cmd
}
