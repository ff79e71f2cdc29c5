package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/statscache/statscache/consumer"
	"github.com/statscache/statscache/consumer/rejects"
)

// followPeriod is how often new rejects are looked for.
const followPeriod = 200 * time.Millisecond

func newRejects(g *globals) *cobra.Command {
	follow := false
	cmd := &cobra.Command{
		Use:   "rejects",
		Short: "Show what was refused and why, or give it in again",
		Long: `rejects lists the messages that were refused and kept: those that a mended cause makes acceptable (signature,
policy, time) whole, of the others the last ones. --json prints them as they are kept, a line each, bodies in base64.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unknown command %q for %q (see `%s --help`)", args[0], cmd.CommandPath(), cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.load(nil)
			if err != nil {
				return err
			}
			return listRejects(cmd, filepath.Join(c.DataDir, "rejects"), follow, g.json)
		},
	}
	cmd.Flags().BoolVar(&follow, "follow", false, "go on with what is refused from now on")
	cmd.AddCommand(&cobra.Command{
		Use:   "replay",
		Short: "Give the messages that were kept whole in again",
		Long:  "replay gives the messages that were kept whole in again, in the ordinary way, and removes those that are\naccepted now. A second replay, or one after a crash, counts nothing twice.",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return replayRejects(cmd, g) },
	})
	return cmd
}

func listRejects(cmd *cobra.Command, dir string, follow, asJSON bool) error {
	out := cmd.OutOrStdout()
	var all []rejects.Entry
	damaged, err := rejects.List(dir, func(e rejects.Entry) error {
		if e.Body = nil; !asJSON {
			e.Raw = nil // what is not printed is not held
		}
		all = append(all, e)
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortStableFunc(all, func(a, b rejects.Entry) int { return a.At.Compare(b.At) })
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if !asJSON {
		fmt.Fprintln(w, "TIME\tSOURCE\tREASON\tSIZE\tKEPT\tTOPIC\tDETAIL")
	}
	for _, e := range all {
		if err := printReject(w, e, asJSON); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if damaged > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "%d lines can't be read: a crash may have cut them\n", damaged)
	}
	if !follow {
		return nil
	}
	return rejects.Follow(cmd.Context(), dir, followPeriod, func(e rejects.Entry) error {
		if err := printReject(w, e, asJSON); err != nil {
			return err
		}
		return w.Flush()
	})
}

func printReject(w io.Writer, e rejects.Entry, asJSON bool) error {
	if asJSON {
		_, err := w.Write(append(e.Raw, '\n'))
		return err
	}
	kept := "sample"
	if e.Whole {
		kept = "whole"
	}
	_, err := fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%s\n", e.At.Format("2006-01-02T15:04:05.000Z"), printable(e.Source), e.Reason, e.Size, kept,
		printable(cmp.Or(string(e.Topic), "-")), printable(e.Detail))
	return err
}

func replayRejects(cmd *cobra.Command, g *globals) error {
	c, err := g.load(nil)
	if err != nil {
		return err
	}
	sum, err := consumer.ReplayRejects(cmd.Context(), consumer.Options{Config: c, Bundled: bundled(), Version: versionText(), Logger: g.quiet()})
	if errors.Is(err, context.Canceled) {
		return errors.New("the replay was stopped; run it again: what is in already is not counted twice")
	}
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if g.json {
		return json.NewEncoder(out).Encode(sum)
	}
	fmt.Fprintf(out, "replayed %d messages: %d new events, %d duplicates, %d refused again", sum.Messages, sum.Owned, sum.Duplicates, sum.Messages-sum.Accepted)
	if sum.Expired > 0 {
		fmt.Fprintf(out, ", %d older than the archive keeps", sum.Expired)
	}
	for _, reason := range slices.Sorted(maps.Keys(sum.Rejected)) {
		fmt.Fprintf(out, "\n  %s: %d", reason, sum.Rejected[reason])
	}
	_, err = fmt.Fprintln(out)
	return err
}
