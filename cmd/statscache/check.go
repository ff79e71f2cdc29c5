package main

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

func newCheck(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Check the configuration and print every setting with its origin",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.load(nil)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if g.json {
				e := json.NewEncoder(out)
				e.SetIndent("", "  ")
				return e.Encode(map[string]any{"settings": c.Settings, "files": c.Files, "endpoints": c.Endpoints, "warnings": c.Warnings})
			}
			w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
			for _, s := range c.Settings {
				fmt.Fprintf(w, "%s\t%s\t%s\n", s.Key, s.Value, s.Origin)
			}
			if err := w.Flush(); err != nil {
				return err
			}
			fmt.Fprintf(out, "\n%d configuration files read", len(c.Files))
			for _, f := range c.Files {
				fmt.Fprintf(out, "\n  %s", f)
			}
			fmt.Fprintf(out, "\n%d endpoints", len(c.Endpoints))
			for _, e := range c.Endpoints {
				for _, a := range e.Addresses {
					fmt.Fprintf(out, "\n  %s  %s", e.Name, a)
				}
			}
			fmt.Fprintln(out)
			for _, warning := range c.Warnings {
				fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s\n", warning)
			}
			return nil
		},
	}
}
