package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/statscache/statscache/api"
	"github.com/statscache/statscache/consumer"
	"github.com/statscache/statscache/consumer/config"
	"github.com/statscache/statscache/store"
)

func newExplain(g *globals) *cobra.Command {
	var step string
	q := api.ExplainQuery{}
	timeout := 10 * time.Minute
	cmd := &cobra.Command{
		Use:   "explain METRIC [TIME] [dim=value...]",
		Short: "List the events behind one number",
		Long: `explain has the metric's plugin count the archived events of one bucket again and lists those that add to the
number, so that every number can be traced to its messages. TIME is the bucket's start or any time inside it; with
--end it is the bucket's end, as in the rows of /api/. Without --step the finest interval is taken that still keeps
that time. Values of one dimension are alternatives; without any the whole bucket is explained.

Of a metric that keeps latest values no TIME is needed: the current value of each key is listed with its event.

Exit status 1 says that the number stored is not what the events add up to.`,
		Example: "  statscache explain volume-by-category 2018-04-26 category=git --step 1d",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 1 {
				return usageError{errors.New("explain needs a metric and, for counts, a time (see `statscache explain --help`)")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := parseExplainArgs(&q, args, step); err != nil {
				return err
			}
			c, err := g.load(nil)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			x, err := consumer.Explain(ctx, c, bundled(), g.quiet(), q)
			var bad *api.ParameterError
			if errors.As(err, &bad) {
				return usageError{err}
			}
			if errors.Is(err, store.ErrUnknown) {
				return fmt.Errorf("%s: see `/api/v1/metrics` or `statscache plugin list` for what there is", strings.TrimSuffix(err.Error(), ": "+store.ErrUnknown.Error()))
			}
			if err != nil {
				return err
			}
			if err := printExplanation(cmd.OutOrStdout(), x, g.json); err != nil {
				return err
			}
			if x.Differs {
				return errSaid
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&step, "step", "", "interval of the bucket, such as 1m or 1d")
	cmd.Flags().BoolVar(&q.End, "end", false, "TIME is the end of the bucket")
	cmd.Flags().IntVar(&q.Events, "limit", api.MaxExplained, "how many events to list at most")
	cmd.Flags().DurationVar(&timeout, "timeout", timeout, "give up after this time")
	return cmd
}

// parseExplainArgs reads METRIC TIME [dim=value...].
func parseExplainArgs(q *api.ExplainQuery, args []string, step string) (err error) {
	q.Metric, q.Filter = args[0], map[string][]string{}
	rest := args[1:]
	if len(rest) > 0 && !strings.Contains(rest[0], "=") {
		if q.Time, err = config.ParseTime(rest[0], time.Now()); err != nil {
			return usageError{err}
		}
		rest = rest[1:]
	}
	if step != "" {
		if q.Step, err = config.ParseDuration(step); err != nil {
			return usageError{fmt.Errorf("--step: %w", err)}
		}
	}
	if q.Events < 1 || q.Events > 100*api.MaxExplained {
		return usageError{fmt.Errorf("--limit is %d: it must be 1 to %d", q.Events, 100*api.MaxExplained)}
	}
	for _, a := range rest {
		name, value, ok := strings.Cut(a, "=")
		if !ok || name == "" {
			return usageError{fmt.Errorf("%q is not dimension=value", a)}
		}
		q.Filter[name] = append(q.Filter[name], value)
	}
	return nil
}

func printExplanation(out io.Writer, x api.Explanation, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(out).Encode(x)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TIME\tCOUNT\tTOPIC\tUSERS\tPACKAGES\tMSG_ID")
	for _, e := range x.Events {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", e.Time.Format("2006-01-02T15:04:05.000Z"), e.Count, printable(e.Topic), printable(strings.Join(e.Users, ",")), printable(strings.Join(e.Packages, ",")), printable(e.ID))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if x.Truncated {
		fmt.Fprintf(out, "... and more: %d events are listed\n", len(x.Events))
	}
	for _, n := range x.Notes {
		fmt.Fprintf(out, "note: %s\n", n)
	}
	for _, v := range x.Values {
		var key []string
		for _, dim := range slices.Sorted(maps.Keys(v.Key)) {
			key = append(key, fmt.Sprintf("%s=%q", dim, v.Key[dim]))
		}
		fmt.Fprintf(out, "%s: %s of %s\n", strings.Join(key, " "), printable(string(v.Value)), printable(v.ID))
	}
	if x.Step == "" {
		_, err := fmt.Fprintf(out, "explain: %s: %d latest values, %d of those listed have their event in the archive\n", x.Metric, x.Stored, x.Count)
		return err
	}
	_, err := fmt.Fprintf(out, "explain: %s [%s, %s) %s: %d counted, %d stored, %d events listed\n", x.Metric, x.From.Format(time.RFC3339), x.To.Format(time.RFC3339),
		x.Step, x.Count, x.Stored, len(x.Events))
	return err
}

// printable keeps what strangers wrote from steering the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '\uFFFD'
		}
		return r
	}, s)
}
