package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/statscache/statscache/consumer"
)

// windowsShown is how many windows are named that an archive did not give whole.
const windowsShown = 20

func newBackfill(g *globals) *cobra.Command {
	var from, to string
	r := consumer.BackfillRequest{}
	cmd := &cobra.Command{
		Use:   "backfill",
		Short: "Fetch history from a datagrepper-compatible archive",
		Long: `backfill fetches what an archive that speaks datagrepper's protocol has and this one has not, the oldest first. It
may be stopped or killed at any time: run again, it goes on, and what it fetched is not asked for again. What is known
already is not counted twice. Beside a running daemon the daemon does it.

The archive is treated with care: one request at a time, at most 5 a second and as much rest as work, longer when it
fails or asks for it. --rate sets another bound; an archive on this machine has none.

--gaps fetches only of the times of which events may be missing, as far as the daemon knows (statscache gaps lists them):
when none ran, when an endpoint was down, and where a publisher's own counter shows that messages were lost. --from and --to
bound them then. A gap is forgotten when the archive has given all that it has of it.

--from and --to default to statscache.consumer.epoch and now, --url to statscache.datagrepper.endpoint. Exit status 1
also says that the archive kept back some of what it says it has; the next run asks for that again.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if r.From, err = timeFlag("--from", from); err != nil {
				return err
			}
			if r.To, err = timeFlag("--to", to); err != nil {
				return err
			}
			if r.Rate < 0 {
				return usageError{errors.New("--rate must not be negative")}
			}
			return runBackfill(cmd, g, r)
		},
	}
	f := cmd.Flags()
	f.StringVar(&from, "from", "", "the earliest time to fetch")
	f.StringVar(&to, "to", "", "fetch events before this time")
	f.StringVar(&r.URL, "url", "", "the archive, such as https://apps.fedoraproject.org/datagrepper/raw")
	f.BoolVar(&r.Gaps, "gaps", false, "fetch only of the times when no daemon listened, an endpoint was down or messages were lost")
	f.Float64Var(&r.Rate, "rate", 0, "at most so many requests a second")
	f.BoolVar(&r.NoWait, "no-wait", false, "return when everything is archived, before the plugins have caught up")
	return cmd
}

func runBackfill(cmd *cobra.Command, g *globals, r consumer.BackfillRequest) error {
	o, err := g.pipeline()
	if err != nil {
		return err
	}
	began := time.Now()
	show := newProgress(cmd.ErrOrStderr(), "events", 0)
	sum, err := consumer.Backfill(cmd.Context(), o, r, show.of)
	show.done()
	if errors.Is(err, context.Canceled) {
		return errors.New("backfill was stopped; run it again: it goes on where it is now")
	}
	if err != nil {
		return fmt.Errorf("backfill: %w", err)
	}
	if g.json {
		err = json.NewEncoder(cmd.OutOrStdout()).Encode(sum)
	} else {
		err = printBackfill(cmd.OutOrStdout(), sum, time.Since(began), r.Gaps)
	}
	if err == nil && (len(sum.Incomplete) > 0 || len(sum.Rejected) > 0) {
		err = errSaid
	}
	return err
}

func printBackfill(w io.Writer, sum consumer.BackfillSummary, took time.Duration, gaps bool) error {
	rejected := 0
	for _, n := range sum.Rejected {
		rejected += n
	}
	fmt.Fprintf(w, "backfill: %d events fetched in %s (%.0f a second): %d new, %d known, %d rejected", sum.Fetched, took.Round(10*time.Millisecond),
		float64(sum.Fetched)/max(took.Seconds(), 0.001), sum.Owned, sum.Duplicates, rejected)
	if sum.Expired > 0 {
		fmt.Fprintf(w, ", %d older than the archive keeps", sum.Expired)
	}
	fmt.Fprintf(w, "; %d requests", sum.Requests)
	if gaps {
		fmt.Fprintf(w, " for %d gaps", sum.Gaps)
	}
	if sum.Failures > 0 {
		fmt.Fprintf(w, ", %d of them failed and were repeated", sum.Failures)
	}
	for _, reason := range slices.Sorted(maps.Keys(sum.Rejected)) {
		fmt.Fprintf(w, "\n  %s: %d", reason, sum.Rejected[reason])
	}
	for i, x := range sum.Incomplete {
		if i == windowsShown {
			fmt.Fprintf(w, "\n... and %d more", len(sum.Incomplete)-i)
			break
		}
		fmt.Fprintf(w, "\n%s to %s: the archive says that it has %d events and gave %d; run it again later", x.From.Format(time.RFC3339), x.To.Format(time.RFC3339), x.Total, x.Have)
	}
	_, err := fmt.Fprintln(w)
	return err
}
