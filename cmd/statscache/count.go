package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/statscache/statscache/api"
	"github.com/statscache/statscache/consumer"
)

// countFlags are what count is asked with, beside the metric and its dimensions.
type countFlags struct {
	from, to, tz, step string
	by, not            []string
	limit              int
}

func newCount(g *globals) *cobra.Command {
	f := countFlags{}
	timeout := time.Minute
	cmd := &cobra.Command{
		Use:   "count METRIC [dim=value...]",
		Short: "Print counts",
		Long: `count adds up what was counted, as /api/v1 does, beside a running daemon or without one. Values of one dimension are
alternatives. Without --from it is all there is; without --to, up to now. --by gives the largest groups of a dimension,
--step a line for each span of time, both together a line for each span and group.`,
		Example: `  statscache count volume-by-topic topic=org.fedoraproject.prod.git.receive --from -30d
  statscache count volume-by-user --by user --from 2018-04-01 --to 2018-05-01
  statscache count volume-by-category category=git --step 1d --from -7d --tz Europe/Berlin`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 1 {
				return usageError{errors.New("count needs a metric (see `statscache count --help`)")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			path, query, err := f.question(args)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			body, err := ask(ctx, g, path, query)
			if err != nil {
				return err
			}
			if g.json {
				_, err = cmd.OutOrStdout().Write(body)
				return err
			}
			return printCounts(cmd.OutOrStdout(), body)
		},
	}
	cmd.Flags().StringVar(&f.from, "from", "", "start of the window, such as 2018-04-26, -7d or now/d")
	cmd.Flags().StringVar(&f.to, "to", "", "end of the window, which does not belong to it")
	cmd.Flags().StringVar(&f.step, "step", "", "a line for each span, such as 1h, 1d, 1mo")
	cmd.Flags().StringSliceVar(&f.by, "by", nil, "dimensions to keep apart")
	cmd.Flags().StringArrayVar(&f.not, "not", nil, "dim=value that does not count (repeatable)")
	cmd.Flags().StringVar(&f.tz, "tz", "", "the zone that days and dates are meant in, such as Europe/Berlin (default UTC)")
	cmd.Flags().IntVar(&f.limit, "limit", 20, "how many groups, the largest first")
	cmd.Flags().DurationVar(&timeout, "timeout", timeout, "give up after this time")
	return cmd
}

// question is what the API is asked.
func (f countFlags) question(args []string) (path string, query url.Values, err error) {
	query = url.Values{}
	for name, value := range map[string]string{"from": f.from, "to": f.to, "tz": f.tz, "step": f.step} {
		if value != "" {
			query.Set(name, value)
		}
	}
	for parameter, list := range map[string][]string{"filter": args[1:], "not": f.not} {
		for _, a := range list {
			name, value, ok := strings.Cut(a, "=")
			if !ok || name == "" {
				return "", nil, usageError{fmt.Errorf("%q is not dimension=value", a)}
			}
			query.Add(parameter, name+":"+value)
		}
	}
	route, by, limit := "count", "", ""
	switch {
	case f.step != "":
		route, by, limit = "series", "group_by", "top"
		query.Set("shape", "rows")
	case len(f.by) > 0:
		route, by, limit = "top", "by", "limit"
	}
	if len(f.by) > 0 {
		query.Set(by, strings.Join(f.by, ","))
		query.Set(limit, strconv.Itoa(f.limit))
	}
	return "/api/v1/metrics/" + url.PathEscape(args[0]) + "/" + route, query, nil
}

// ask answers a question of /api/v1 from the store.
func ask(ctx context.Context, g *globals, path string, query url.Values) (body []byte, err error) {
	c, err := g.load(nil)
	if err != nil {
		return nil, err
	}
	s, err := consumer.OpenReader(ctx, c, g.quiet())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	plugins, err := consumer.StoredPlugins(ctx, s)
	if err != nil {
		return nil, err
	}
	missing, err := consumer.StoredGaps(ctx, s, c)
	if err != nil {
		return nil, err
	}
	face, err := api.New(api.Options{Store: s, Logger: g.quiet(), CacheBytes: 1 << 20, Plugins: func() []api.PluginStatus { return plugins }, Gaps: func() api.Gaps { return missing }})
	if err != nil {
		return nil, err
	}
	body, err = face.Answer(ctx, path, query)
	var refused *api.RefusedError
	if errors.As(err, &refused) && refused.Status == http.StatusBadRequest {
		return nil, usageError{err}
	}
	return body, err
}

// counted is what the three kinds of answers have, together.
type counted struct {
	Metric, TZ string
	From, To   time.Time
	Step       string
	Count      *int64
	Total      int64
	Rows       []map[string]any
	Incomplete []struct {
		From, To time.Time
		Reason   string
	}
	Coarse []struct {
		From, To time.Time
		Interval string
	}
}

func printCounts(out io.Writer, body []byte) error {
	var c counted
	if err := json.Unmarshal(body, &c); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	total := c.Total
	if c.Count != nil {
		total = *c.Count
	} else if err := printRows(out, &c, &total); err != nil {
		return err
	}
	for _, i := range c.Incomplete {
		fmt.Fprintf(out, "note: %s to %s is not all there is: %s\n", i.From.Format(time.RFC3339), i.To.Format(time.RFC3339), i.Reason)
	}
	for _, i := range c.Coarse {
		fmt.Fprintf(out, "note: between %s and %s only whole buckets of %s are kept\n", i.From.Format(time.RFC3339), i.To.Format(time.RFC3339), i.Interval)
	}
	step := ""
	if c.Step != "" {
		step = " by " + c.Step
	}
	_, err := fmt.Fprintf(out, "count: %s [%s, %s)%s %s: %d\n", c.Metric, c.From.Format(time.RFC3339), c.To.Format(time.RFC3339), step, c.TZ, total)
	return err
}

// printRows prints a line each row: the times in the zone, the dimensions by name, the count.
func printRows(out io.Writer, c *counted, total *int64) error {
	zone, err := time.LoadLocation(c.TZ)
	if err != nil {
		return err
	}
	var dims []string
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for i, row := range c.Rows {
		values := row
		if key, ok := row["key"].(map[string]any); ok {
			values = key
		}
		if i == 0 {
			for _, name := range slices.Sorted(maps.Keys(values)) {
				if name != "time" && name != "time_end" && name != "count" {
					dims = append(dims, name)
				}
			}
			if c.Step != "" {
				fmt.Fprint(w, "TIME\t")
			}
			for _, d := range dims {
				fmt.Fprint(w, strings.ToUpper(printable(d)), "\t")
			}
			fmt.Fprintln(w, "COUNT")
		}
		if text, ok := row["time"].(string); ok {
			at, err := time.Parse(time.RFC3339, text)
			if err != nil {
				return fmt.Errorf("read the answer: %w", err)
			}
			fmt.Fprint(w, at.In(zone).Format(time.RFC3339), "\t")
		}
		for _, d := range dims {
			fmt.Fprint(w, printable(fmt.Sprint(values[d])), "\t")
		}
		n, _ := row["count"].(float64) // always there
		fmt.Fprintln(w, int64(n))
		if c.Step != "" {
			*total += int64(n)
		}
	}
	return w.Flush()
}
