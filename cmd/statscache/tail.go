package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/statscache/statscache/consumer"
)

// tailFlags are fedmsg-tail's.
type tailFlags struct {
	topic, query, users, packages string
	include, exclude              string
	terse, pretty, reallyPretty   bool
	validate                      bool
}

func newTail(g *globals) *cobra.Command {
	f := tailFlags{}
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Print the messages of the bus as they come",
		Long: `tail listens to the configured endpoints itself, beside a daemon or without one, and prints every message: the
JSON of a message a line, or as --terse, --pretty, --really-pretty or --query say. Messages that the daemon would
refuse are told of on stderr. Signatures are not checked.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.validate {
				return errors.New("--validate: signatures are not checked yet; without it messages are shown unchecked")
			}
			p, err := newTailPrinter(cmd.OutOrStdout(), f)
			if err != nil {
				return err
			}
			c, err := g.load(nil)
			if err != nil {
				return err
			}
			return consumer.Tail(cmd.Context(), c, consumer.TailOptions{Topic: f.topic, Logger: g.logger(), Event: p.event,
				Bad: func(source, reason, detail string) {
					fmt.Fprintf(cmd.ErrOrStderr(), "%s: refused (%s): %s\n", printable(source), reason, printable(detail))
				}})
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&f.topic, "topic", "", "the topic pattern to listen for; everything by default")
	fs.StringVar(&f.query, "query", "", "show only these parts of messages: dotted paths, separated by commas")
	fs.BoolVar(&f.pretty, "pretty", false, "indented, without credentials")
	fs.BoolVar(&f.reallyPretty, "really-pretty", false, "indented, without credentials, in colours on a terminal")
	fs.BoolVar(&f.terse, "terse", false, "a short line a message")
	fs.StringVar(&f.users, "users", "", "only messages about one of these users (separated by commas)")
	fs.StringVar(&f.packages, "packages", "", "only messages about one of these packages (separated by commas)")
	fs.StringVar(&f.include, "include", "", "only topics that match this regular expression")
	fs.StringVar(&f.exclude, "exclude", "_heartbeat", "no topics that match this regular expression")
	fs.BoolVar(&f.validate, "validate", false, "check signatures (not possible yet: it is refused)")
	return cmd
}

// names splits a comma-separated list.
func names(list string) []string {
	var out []string
	for n := range strings.SplitSeq(list, ",") {
		if n = strings.TrimSpace(n); n != "" {
			out = append(out, n)
		}
	}
	return out
}

// wanted decides which messages are shown.
type wanted struct {
	include, exclude *regexp.Regexp
	users, packages  []string
}

func newWanted(f tailFlags) (w wanted, err error) {
	w = wanted{users: names(f.users), packages: names(f.packages)}
	if w.include, err = regexp.Compile(f.include); err != nil {
		return w, usageError{fmt.Errorf("--include: %w", err)}
	}
	if f.exclude != "" {
		if w.exclude, err = regexp.Compile(f.exclude); err != nil {
			return w, usageError{fmt.Errorf("--exclude: %w", err)}
		}
	}
	return w, nil
}

func (w wanted) shows(e consumer.TailEvent) bool {
	return w.include.MatchString(e.Topic) && (w.exclude == nil || !w.exclude.MatchString(e.Topic)) &&
		(len(w.users) == 0 || meet(w.users, e.Users)) && (len(w.packages) == 0 || meet(w.packages, e.Packages))
}

func meet(a, b []string) bool {
	return slices.ContainsFunc(a, func(x string) bool { return slices.Contains(b, x) })
}
