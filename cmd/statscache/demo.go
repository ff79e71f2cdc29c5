package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/statscache/statscache/consumer"
	"github.com/statscache/statscache/consumer/config"
	"github.com/statscache/statscache/internal/demo"
)

// demoFlags are what a demo may be asked for.
type demoFlags struct {
	rate    float64
	history string
	seed    uint64
}

func newDemo(g *globals) *cobra.Command {
	f := demoFlags{}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Watch it at work on a made-up bus with a year of history",
		Long:  "demo publishes a realistic stream of events over ZeroMQ on this machine, brings in a year of history and\nserves the statistics of both. It needs no network and no configuration and leaves nothing behind.",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.rate <= 0 || f.rate > 100_000 {
				return usageError{fmt.Errorf("--rate is %v: it must be above 0 and at most 100000 events a second", f.rate)}
			}
			history, err := config.ParseDuration(f.history)
			if err != nil {
				return usageError{fmt.Errorf("--history: %w", err)}
			}
			return runDemo(cmd, g, f, history)
		},
	}
	cmd.Flags().Float64Var(&f.rate, "rate", 20, "events a second")
	cmd.Flags().StringVar(&f.history, "history", "365d", "how much history to make up")
	cmd.Flags().Uint64Var(&f.seed, "seed", 1, "the same seed makes up the same people and packages")
	return cmd
}

func runDemo(cmd *cobra.Command, g *globals, f demoFlags, history time.Duration) (err error) {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	dir, err := os.MkdirTemp("", "statscache-demo-")
	if err != nil {
		return fmt.Errorf("make a folder for the demo: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if g.dataDir == "" {
		fmt.Fprintf(out, "Everything is kept in %s and removed at the end.\n", dir)
	}
	generator := demo.New(f.seed)
	bus, err := demo.NewBus(generator, f.rate)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bus.Close()) }()
	c, err := demoConfig(g, dir, bus.Endpoints())
	if err != nil {
		return err
	}
	log := g.quiet()
	if err := demoHistory(ctx, c, log, cmd.ErrOrStderr(), out, generator, f.rate, history); err != nil {
		if errors.Is(err, context.Canceled) {
			return nil // stopped by the user: nothing to complain of
		}
		return err
	}
	return runDaemon(ctx, c, log, func(_ *consumer.Daemon, address string) {
		printDemo(out, address, f.rate, c.DataDir, strings.HasPrefix(c.DataDir, dir))
		go bus.Run(ctx)
	})
}

// demoConfig writes the fedmsg.d that describes the bus, and loads it like any other.
func demoConfig(g *globals, dir string, endpoints map[string]string) (*config.Config, error) {
	var b strings.Builder
	b.WriteString("config = {\n    \"endpoints\": {\n")
	for _, name := range demo.Services() {
		fmt.Fprintf(&b, "        %q: [%q],\n", name, endpoints[name])
	}
	b.WriteString("    },\n    \"topic_prefix\": \"org.fedoraproject\",\n    \"environment\": \"prod\",\n    \"validate_signatures\": False,\n}\n")
	folder := filepath.Join(dir, "fedmsg.d")
	if err := os.Mkdir(folder, 0o700); err != nil {
		return nil, fmt.Errorf("write the demo's configuration: %w", err)
	}
	if err := os.WriteFile(filepath.Join(folder, "demo.py"), []byte(b.String()), 0o600); err != nil {
		return nil, fmt.Errorf("write the demo's configuration: %w", err)
	}
	own := *g
	own.paths = append([]string{folder}, g.paths...)
	set := map[string]string{"statscache.store.url": "sqlite:"} // whatever store is configured: made-up events don't belong there
	if g.dataDir == "" {
		set["statscache.data_dir"] = filepath.Join(dir, "data")
	}
	c, err := own.load(set)
	if err != nil {
		return nil, err
	}
	if err := markDemo(c.DataDir); err != nil {
		return nil, err
	}
	c.Listen, c.AdminListen = freeIfTaken(c.Listen), freeIfTaken(c.AdminListen)
	return c, nil
}

// markDemo makes a data dir for demos. One that holds anything else is refused: made-up events can't be told from real
// ones later.
func markDemo(dir string) error {
	mark := filepath.Join(dir, "demo")
	if _, err := os.Stat(mark); err == nil {
		return nil
	}
	if held, err := os.ReadDir(dir); err == nil && len(held) > 0 {
		return usageError{fmt.Errorf("--data-dir %s holds something that no demo made; choose an empty folder", dir)}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the demo's data dir: %w", err)
	}
	if err := os.WriteFile(mark, []byte("made-up events\n"), 0o600); err != nil {
		return fmt.Errorf("make the demo's data dir: %w", err)
	}
	return nil
}

// freeIfTaken gives the address, or one with any free port where somebody listens there: a demo beside a daemon
// should just work.
func freeIfTaken(address string) string {
	l, err := net.Listen("tcp", address)
	if err == nil {
		_ = l.Close() // it was only a question
		return address
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address // the listener will say what is wrong with it
	}
	return net.JoinHostPort(host, "0")
}

// demoHistory brings the made-up past in the way that any import comes in. A data dir that has events already is left
// as it is.
func demoHistory(ctx context.Context, c *config.Config, log *slog.Logger, errOut, out io.Writer, g *demo.Generator, rate float64, length time.Duration) (err error) {
	d, err := consumer.Open(ctx, consumer.Options{Config: c, Bundled: bundled(), Version: versionText(), Logger: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Stop()) }()
	if d.Status().Owned > 0 || length == 0 {
		return nil
	}
	if err := d.Start(ctx, false); err != nil {
		return err
	}
	begin := time.Now()
	past := demo.NewHistory(g, length, time.Now, rate)
	fmt.Fprintf(out, "Making up %s of history (about %d events) ...\n", days(length), past.Events())
	show := newProgress(errOut, "events", past.Events())
	sum, err := d.Import(ctx, []string{"-"}, consumer.ImportOptions{Stdin: past, Progress: show.set})
	show.done()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d events archived and counted in %.1f s.\n", sum.Owned, time.Since(begin).Seconds())
	return nil
}

func days(d time.Duration) string {
	if n := int(d.Hours() / 24); n != 1 {
		return fmt.Sprintf("%d days", n)
	}
	return "a day"
}

func printDemo(out io.Writer, address string, rate float64, dataDir string, temporary bool) {
	url := "http://" + address
	fmt.Fprintf(out, `
statscache is running on a made-up bus: %d services publish about %g events a second over ZeroMQ.

  Watch it live:   %s/

Three things to try:

  the busiest days, by service
    curl '%[3]s/api/volume-by-category-1d?rows_per_page=10'
  the last minutes as a table
    curl -H 'Accept: text/csv' '%[3]s/api/volume-1m?rows_per_page=10'
  how the plugins are doing
    curl '%[3]s/api/v1/plugins'

`, len(demo.Services()), rate, url)
	if temporary {
		fmt.Fprintln(out, "Ctrl-C ends it and removes everything it made.")
		return
	}
	fmt.Fprintf(out, "Ctrl-C ends it; the data stays in %s.\n", dataDir)
}
