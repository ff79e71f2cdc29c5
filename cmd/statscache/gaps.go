package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/statscache/statscache/api"
	"github.com/statscache/statscache/consumer"
)

// lookAtStore bounds what a look at a shared store may take.
const lookAtStore = 30 * time.Second

func newGaps(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "gaps",
		Short: "Show of what times events may be missing",
		Long: `gaps lists the times of which events may be missing, beside a running daemon or without one: when no daemon listened
(stopped), when the connection to an endpoint was down (down), and where numbers of a publisher's own counter are missing
(lost, with how many). On a shared CrateDB it lists what each process that consumes has missed.

backfill --gaps fetches what an archive has of them; a gap is forgotten when that was all.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.load(nil)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), lookAtStore)
			defer cancel()
			known, err := consumer.KnownGaps(ctx, c, g.quiet())
			if err != nil {
				return err
			}
			if known = known.Marked(); g.json {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(known)
			}
			return printGaps(cmd.OutOrStdout(), known)
		},
	}
}

func printGaps(out io.Writer, g api.Gaps) error {
	if len(g.Gaps) == 0 {
		fmt.Fprintln(out, "no gaps are known")
	} else {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "FROM\tTO\tKIND\tMISSING\tREASON")
		for _, x := range g.Gaps {
			missing, fetched := "", ""
			if x.Missing > 0 {
				missing = fmt.Sprint(x.Missing)
			}
			if x.Backfilling {
				fetched = " (being fetched)"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s%s\n", x.From.Format(time.RFC3339), x.To.Format(time.RFC3339), x.Kind, missing, printable(x.Reason), fetched)
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	for _, x := range g.Backfilling {
		fmt.Fprintf(out, "%s to %s is being fetched\n", x.From.Format(time.RFC3339), x.To.Format(time.RFC3339))
	}
	return nil
}
