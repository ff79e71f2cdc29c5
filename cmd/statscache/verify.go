package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/statscache/statscache/consumer"
	"github.com/statscache/statscache/consumer/config"
)

// differencesShown is how many differences are printed one by one.
const differencesShown = 50

func newVerify(g *globals) *cobra.Command {
	var from, to string
	repair := false
	cmd := &cobra.Command{
		Use:   "verify [METRIC...]",
		Short: "Recompute numbers from the archive and compare",
		RunE: func(cmd *cobra.Command, args []string) error {
			o := consumer.VerifyOptions{Metrics: args, Repair: repair, Bundled: bundled(), Logger: g.quiet()}
			var err error
			if o.From, err = timeFlag("--from", from); err != nil {
				return err
			}
			if o.To, err = timeFlag("--to", to); err != nil {
				return err
			}
			c, err := g.load(nil)
			if err != nil {
				return err
			}
			show := newProgress(cmd.ErrOrStderr(), "rows", 0)
			o.Progress = show.set
			report, err := consumer.Verify(cmd.Context(), c, o)
			show.done()
			if err != nil {
				return err
			}
			if err := printReport(cmd.OutOrStdout(), report, g.json); err != nil {
				return err
			}
			if report.Differences > 0 {
				return errSaid
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "buckets that start at or after this time only")
	cmd.Flags().BoolVar(&repair, "repair", false, "mend what differs, say what was changed, and verify again")
	cmd.Flags().StringVar(&to, "to", "", "buckets that start before this time only")
	return cmd
}

// timeFlag reads a time; the zero time for none.
func timeFlag(name, value string) (time.Time, error) {
	if value == "" {
		return time.Time{}, nil
	}
	t, err := config.ParseTime(value, time.Now())
	if err != nil {
		return t, usageError{fmt.Errorf("%s: %w", name, err)}
	}
	return t, nil
}

func printReport(out io.Writer, r consumer.VerifyReport, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(out).Encode(r)
	}
	for i, d := range r.Changed {
		if i == differencesShown {
			fmt.Fprintf(out, "... and %d more\n", r.Mended-i)
			break
		}
		fmt.Fprintln(out, "mended:", d)
	}
	if r.Mended > 0 {
		fmt.Fprintf(out, "repair: %d numbers mended\n", r.Mended)
	}
	for i, d := range r.Found {
		if i == differencesShown {
			fmt.Fprintf(out, "... and %d more\n", r.Differences-i)
			break
		}
		fmt.Fprintln(out, d)
	}
	fmt.Fprintf(out, "verify: %d metrics, %d rows, %d differences", r.Metrics, r.Rows, r.Differences)
	if r.NotVerifiable > 0 {
		fmt.Fprintf(out, ", %d rows not verifiable", r.NotVerifiable)
	}
	_, err := fmt.Fprintln(out)
	return err
}
