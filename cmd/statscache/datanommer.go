package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/spf13/cobra"

	"github.com/statscache/statscache/api"
	"github.com/statscache/statscache/consumer"
	"github.com/statscache/statscache/consumer/config"
	"github.com/statscache/statscache/store"
)

// dumpPage is how many events dump holds in memory.
const dumpPage = 1000

// withArchive opens the store for reading and gives its archive.
func withArchive(ctx context.Context, g *globals, f func(store.Store, store.Finder) error) (err error) {
	c, err := g.load(nil)
	if err != nil {
		return err
	}
	s, err := consumer.OpenReader(ctx, c, g.quiet())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	whole, ok := s.(store.Store)
	events, finds := s.(store.Finder)
	if !ok || !finds {
		return errors.New("this store does not find archived messages")
	}
	return f(whole, events)
}

func newDump(g *globals) *cobra.Command {
	var since, before string
	cmd := &cobra.Command{
		Use:   "dump",
		Short: "Write archived messages as JSON",
		Long: `dump writes all archived messages, oldest first, as one JSON array of the objects that datanommer-dump writes:
body, headers, id, priority, queue, topic. --since and --before belong to the span that they bound.`,
		Example: "  statscache dump --before 2013-02-15 --since 2013-02-11T08:00:00 > datanommer-dump.json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f := store.EventFilter{From: math.MinInt64, To: math.MaxInt64}
			if since != "" {
				t, err := config.ParseTime(since, time.Now())
				if err != nil {
					return usageError{fmt.Errorf("--since: %w", err)}
				}
				f.From = t.UnixMicro()
			}
			if before != "" {
				t, err := config.ParseTime(before, time.Now())
				if err != nil {
					return usageError{fmt.Errorf("--before: %w", err)}
				}
				f.To = t.UnixMicro() + 1
			}
			return withArchive(cmd.Context(), g, func(_ store.Store, events store.Finder) error {
				return dump(cmd.Context(), cmd.OutOrStdout(), events, f)
			})
		},
	}
	cmd.Flags().StringVar(&since, "since", "", "only after this time, such as 2013-02-14T08:05:59.87 or -7d")
	cmd.Flags().StringVar(&before, "before", "", "only before this time")
	return cmd
}

func dump(ctx context.Context, out io.Writer, events store.Finder, f store.EventFilter) error {
	w := bufio.NewWriterSize(out, 64<<10)
	r := store.FindRequest{EventFilter: f, Limit: dumpPage, Bodies: true, MaxBytes: 16 << 20}
	separator := "["
	for {
		page, err := events.Find(ctx, r)
		if err != nil {
			return err
		}
		for i := range page.Events {
			m, err := api.FedoraMessage(&page.Events[i])
			if err != nil {
				return fmt.Errorf("message %s: %w", page.Events[i].ID, err)
			}
			if _, err := fmt.Fprintf(w, "%s%s", separator, m); err != nil {
				return fmt.Errorf("write: %w", err)
			}
			separator = ","
		}
		if r.After = page.Next; r.After == nil {
			break
		}
	}
	if separator == "[" {
		separator = "[]"
	} else {
		separator = "]"
	}
	_, _ = fmt.Fprintln(w, separator) // Flush answers with its error
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

func newStats(g *globals) *cobra.Command {
	var topic bool
	var category string
	cmd := &cobra.Command{
		Use:   "stats",
		Short: "Count messages by category or topic",
		Long: `stats prints how many messages there are of each category, or with --topic of each topic; with --category only what
belongs to that one. The numbers are those of the metrics volume-by-category and volume-by-topic where these are
counted, else the archive's.`,
		Example: "  statscache stats --topic --category fas",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withArchive(cmd.Context(), g, func(s store.Store, _ store.Finder) error {
				by, err := countNames(cmd.Context(), s, topic)
				if err != nil {
					return err
				}
				return printStats(cmd.OutOrStdout(), by, topic, category, g.json)
			})
		},
	}
	cmd.Flags().BoolVar(&topic, "topic", false, "by topic")
	cmd.Flags().StringVar(&category, "category", "", "only of this category")
	return cmd
}

func newLatest(g *globals) *cobra.Command {
	o := latestOptions{}
	cmd := &cobra.Command{
		Use:   "latest",
		Short: "Print the newest messages",
		Long: `latest prints the newest message of each category, of one category or topic, or of all, as a JSON array of
{category: message}. --timestamp prints when it was instead, --timesince how many seconds ago, both with --human in
words.`,
		Example: "  statscache latest --category bodhi --timesince --human",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withArchive(cmd.Context(), g, func(s store.Store, events store.Finder) error {
				return o.print(cmd.Context(), cmd.OutOrStdout(), s, events, time.Now())
			})
		},
	}
	cmd.Flags().StringVar(&o.topic, "topic", "", "of this topic")
	cmd.Flags().StringVar(&o.category, "category", "", "of this category")
	cmd.Flags().BoolVar(&o.overall, "overall", false, "of all messages")
	cmd.Flags().BoolVar(&o.timestamp, "timestamp", false, "only when it was, in seconds since 1970")
	cmd.Flags().BoolVar(&o.timesince, "timesince", false, "only how many seconds ago it was")
	cmd.Flags().BoolVar(&o.human, "human", false, "with --timestamp or --timesince: for people")
	return cmd
}

// latestOptions say of what the newest message is printed, and how.
type latestOptions struct {
	topic, category                      string
	overall, timestamp, timesince, human bool
}

func (o latestOptions) print(ctx context.Context, out io.Writer, s store.Store, events store.Finder, now time.Time) error {
	filters, err := o.filters(ctx, s)
	if err != nil {
		return err
	}
	list := []json.RawMessage{}
	for _, f := range filters {
		f.From, f.To = math.MinInt64, math.MaxInt64
		page, err := events.Find(ctx, store.FindRequest{EventFilter: f, Desc: true, Limit: 1, Bodies: true})
		if err != nil {
			return err
		}
		for i := range page.Events {
			text, err := o.format(&page.Events[i], now)
			if err != nil {
				return fmt.Errorf("message %s: %w", page.Events[i].ID, err)
			}
			list = append(list, text)
		}
	}
	body, err := json.Marshal(list)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	_, err = fmt.Fprintf(out, "%s\n", body)
	return err
}

// filters choose what the newest is asked of.
func (o latestOptions) filters(ctx context.Context, s store.Store) ([]store.EventFilter, error) {
	switch {
	case o.topic != "":
		return []store.EventFilter{{Topics: store.Names{In: []string{o.topic}}}}, nil
	case o.category != "":
		return []store.EventFilter{{Categories: store.Names{In: []string{o.category}}}}, nil
	case o.overall:
		return []store.EventFilter{{}}, nil
	}
	by, err := countNames(ctx, s, false)
	if err != nil {
		return nil, err
	}
	out := []store.EventFilter{}
	for _, c := range by {
		out = append(out, store.EventFilter{Categories: store.Names{In: []string{c.name}}})
	}
	return out, nil
}

func (o latestOptions) format(e *store.Event, now time.Time) (json.RawMessage, error) {
	at := time.UnixMicro(e.Time).UTC()
	since := now.UTC().Truncate(time.Microsecond).Sub(at)
	switch {
	case o.timestamp && o.human:
		return json.Marshal(pythonTime(at))
	case o.timestamp:
		return fmt.Appendf(nil, "%d.0", at.Unix()), nil
	case o.timesince && o.human:
		return json.Marshal(pythonSpan(since))
	case o.timesince:
		return json.Marshal(fmt.Sprint(int64(math.Floor(since.Seconds()))))
	}
	m, err := api.FedoraMessage(e)
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]json.RawMessage{e.Category: m})
}

// pythonTime is a time as Python prints it.
func pythonTime(t time.Time) string {
	if t.Nanosecond() == 0 {
		return t.Format(time.DateTime)
	}
	return t.Format("2006-01-02 15:04:05.000000")
}

// pythonSpan is a span of time as Python prints it: 1 day, 2:03:04.500000.
func pythonSpan(d time.Duration) string {
	days := int64(math.Floor(d.Hours() / 24))
	rest := d - time.Duration(days)*24*time.Hour
	text := fmt.Sprintf("%d:%02d:%02d", int(rest.Hours()), int(rest.Minutes())%60, int(rest.Seconds())%60)
	if micros := rest.Microseconds() % 1e6; micros != 0 {
		text += fmt.Sprintf(".%06d", micros)
	}
	switch {
	case days == 1 || days == -1:
		return fmt.Sprintf("%d day, %s", days, text)
	case days != 0:
		return fmt.Sprintf("%d days, %s", days, text)
	}
	return text
}
