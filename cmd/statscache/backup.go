package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/statscache/statscache/consumer"
	"github.com/statscache/statscache/consumer/config"
)

// mib is how sizes are shown.
const mib = 1 << 20

func newBackup(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE",
		Short: "Save the whole data dir in one file, also beside a running daemon",
		Long: `backup saves the data dir in one file: the store as it is at one moment, what was accepted and is not archived yet,
rejects, plugins and what was switched off. All that was accepted before the call is in it. FILE must not exist; it has
its name once it is whole and on disk. With a CrateDB store the database is not in it: use CrateDB's snapshots.`,
		Args: oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := g.pipeline()
			if err != nil {
				return err
			}
			began := time.Now()
			show := newProgress(cmd.ErrOrStderr(), "bytes", 0)
			sum, err := consumer.Backup(cmd.Context(), o, args[0], show.of)
			show.done()
			if err != nil {
				return err
			}
			if g.json {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(sum)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "backup: %s, %d files, %.1f MiB, packed %.1f MiB, %d events of the inbox, in %s\n", sum.Path, sum.Files,
				float64(sum.Bytes)/mib, float64(sum.Packed)/mib, sum.Inbox, time.Since(began).Round(10*time.Millisecond))
			return err
		},
	}
}

func newRestore(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "restore FILE",
		Short: "Bring a backup back into an empty data dir",
		Long: `restore verifies a backup and unpacks it into the data dir, which must be empty. The inbox becomes a new stream: the
installation that the backup was made of may run on beside this one.`,
		Args: oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := g.load(nil)
			if err != nil {
				return err
			}
			show := newProgress(cmd.ErrOrStderr(), "bytes", 0)
			sum, err := consumer.Restore(cmd.Context(), c, args[0], g.quiet(), show.of)
			show.done()
			if err != nil {
				return err
			}
			if g.json {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(sum)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "restored: %s of %s into %s, %d files, %.1f MiB, %d events of the inbox as stream %s\n", sum.Path,
				sum.Created.Format(time.RFC3339), c.DataDir, sum.Files, float64(sum.Bytes)/mib, sum.Inbox, sum.New)
			return err
		},
	}
}

func oneFile(cmd *cobra.Command, args []string) error {
	if len(args) != 1 || args[0] == "" {
		return usageError{fmt.Errorf("%s needs one file (see `%s --help`)", cmd.Name(), cmd.CommandPath())}
	}
	return nil
}

func newArchive(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "archive",
		Short: "Look after the archive: stats, check, compact",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unknown command %q for %q (see `%s --help`)", args[0], cmd.CommandPath(), cmd.CommandPath())}
			}
			return usageError{errors.New("archive needs one of stats, check and compact (see `statscache archive --help`)")}
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	cmd.AddCommand(newArchiveStats(g), newArchiveCheck(g), newArchiveCompact(g))
	return cmd
}

// archiveCommand is a command that needs nothing but the configuration.
func archiveCommand(g *globals, use, short string, run func(cmd *cobra.Command, c *config.Config) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		c, err := g.load(nil)
		if err != nil {
			return err
		}
		return run(cmd, c)
	}}
}

func newArchiveStats(g *globals) *cobra.Command {
	return archiveCommand(g, "stats", "What the archive holds and occupies", func(cmd *cobra.Command, c *config.Config) error {
		s, err := consumer.MeasureArchive(cmd.Context(), c)
		if err != nil {
			return err
		}
		out := cmd.OutOrStdout()
		if g.json {
			return json.NewEncoder(out).Encode(s)
		}
		fmt.Fprintf(out, "archive: %s, %d events, %d streams\n", c.Store, s.Events, len(s.Streams))
		if s.First != nil {
			fmt.Fprintf(out, "  from %s to %s\n", s.First.Format(time.RFC3339), s.Last.Format(time.RFC3339))
		}
		if s.Horizon != nil {
			fmt.Fprintf(out, "  older than %s is not kept\n", s.Horizon.Format(time.RFC3339))
		}
		if z := s.Sizes; z != nil {
			fmt.Fprintf(out, "  %d blocks in %d segments, %d small ones, %d names\n", z.Blocks, z.Segments, z.SmallBlocks, z.Names)
			fmt.Fprintf(out, "  %.1f MiB, counters included, and %.1f MiB of log; %.1f MiB are free (`statscache archive compact` gives them back)\n",
				float64(z.FileBytes)/mib, float64(z.LogBytes)/mib, float64(z.FreeBytes)/mib)
		}
		return nil
	})
}

func newArchiveCheck(g *globals) *cobra.Command {
	return archiveCommand(g, "check", "Read every archived event and say what is wrong", func(cmd *cobra.Command, c *config.Config) error {
		show := newProgress(cmd.ErrOrStderr(), "events", 0)
		r, err := consumer.CheckArchive(cmd.Context(), c, show.set)
		show.done()
		if err != nil {
			return err
		}
		out := cmd.OutOrStdout()
		if g.json {
			err = json.NewEncoder(out).Encode(r)
		} else {
			for _, p := range r.Problems {
				fmt.Fprintln(out, p)
			}
			_, err = fmt.Fprintf(out, "archive check: %d events in %d blocks, %d problems\n", r.Events, r.Blocks, len(r.Problems))
		}
		if err == nil && len(r.Problems) > 0 {
			err = errSaid
		}
		return err
	})
}

func newArchiveCompact(g *globals) *cobra.Command {
	cmd := archiveCommand(g, "compact", "Give back the space of what is gone", func(cmd *cobra.Command, c *config.Config) error {
		o, err := pipeline(c, g.quiet())
		if err != nil {
			return err
		}
		before, err := consumer.MeasureArchive(cmd.Context(), c)
		if err != nil {
			return err
		}
		if err := consumer.Compact(cmd.Context(), o); err != nil {
			return err
		}
		after, err := consumer.MeasureArchive(cmd.Context(), c)
		if err != nil || before.Sizes == nil || after.Sizes == nil {
			return err
		}
		b, a := before.Sizes.FileBytes+before.Sizes.LogBytes, after.Sizes.FileBytes+after.Sizes.LogBytes
		if g.json {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]int64{"before_bytes": b, "after_bytes": a})
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "compacted: %.1f MiB, and %.1f MiB before\n", float64(a)/mib, float64(b)/mib)
		return err
	})
	cmd.Long = "compact writes the store's file anew without its gaps, also beside a running daemon: the inbox keeps what comes in\nmeanwhile. It needs as much free space as the file has bytes, twice."
	return cmd
}
