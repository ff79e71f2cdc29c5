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

// badLinesShown is how many refused lines are named one by one.
const badLinesShown = 20

func newImport(g *globals) *cobra.Command {
	noWait := false
	cmd := &cobra.Command{
		Use:   "import FILE...",
		Short: "Bring in what people have: JSON lines, datagrepper's and datanommer's forms (- for stdin; .gz and .zst too)",
		Long: `import brings history in through the ordinary path: what is known already is not counted twice. Beside a running daemon
the daemon takes it in. What a file holds is told by its content: JSON lines of envelopes or of fedora-messaging's
messages, answers of datagrepper, what datanommer-dump writes, or datanommer's table of messages as CSV, as PostgreSQL's
COPY writes it, or in a dump by pg_dump (docs/import.md has the commands). Files may be compressed by gzip or zstd;
several are read side by side.

What is no message is passed over, named with file and line, and counted; exit status 1 says that there was some.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{errors.New("import needs a file to read, or - for stdin (see `statscache import --help`)")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return runImport(cmd, g, args, noWait)
		},
	}
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "return when everything is archived, before the plugins have caught up")
	return cmd
}

func runImport(cmd *cobra.Command, g *globals, files []string, noWait bool) error {
	o, err := g.pipeline()
	if err != nil {
		return err
	}
	began := time.Now()
	errOut := cmd.ErrOrStderr()
	show := newProgress(errOut, "lines", 0)
	sum, err := consumer.Import(cmd.Context(), o, files,
		consumer.ImportOptions{Stdin: cmd.InOrStdin(), NoWait: noWait, Progress: show.set, Bad: tellBadLines(errOut)})
	show.done()
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("import was stopped after %d lines; run it again: what is in already is not counted twice", sum.Lines)
	}
	if err != nil {
		return err
	}
	if err := printImport(cmd.OutOrStdout(), sum, time.Since(began), g.json); err != nil {
		return err
	}
	if len(sum.Rejected) > 0 {
		return errSaid
	}
	return nil
}

func tellBadLines(w io.Writer) func(file string, line int, reason, detail string) {
	n := 0
	return func(file string, line int, reason, detail string) {
		switch n++; {
		case n <= badLinesShown:
			fmt.Fprintf(w, "%s:%d: refused (%s): %s\n", file, line, reason, detail)
		case n == badLinesShown+1:
			fmt.Fprintln(w, "further refused lines are only counted")
		}
	}
}

func printImport(w io.Writer, sum consumer.ImportSummary, took time.Duration, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(sum)
	}
	rejected := 0
	for _, n := range sum.Rejected {
		rejected += n
	}
	fmt.Fprintf(w, "imported %d lines in %s: %d new events, %d duplicates, %d rejected", sum.Lines, took.Round(10*time.Millisecond), sum.Owned, sum.Duplicates, rejected)
	if sum.Expired > 0 {
		fmt.Fprintf(w, ", %d older than the archive keeps", sum.Expired)
	}
	for _, reason := range slices.Sorted(maps.Keys(sum.Rejected)) {
		fmt.Fprintf(w, "\n  %s: %d", reason, sum.Rejected[reason])
	}
	_, err := fmt.Fprintln(w)
	return err
}
