package main

import (
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/statscache/statscache/consumer/config"
)

// globals are the flags that every command takes.
type globals struct {
	paths     []string
	dataDir   string
	logLevel  string
	levelFlag *pflag.Flag
	level     *slog.LevelVar // of the loggers that are in use
	logFormat string
	json      bool
}

func newRoot() *cobra.Command {
	g := &globals{level: &slog.LevelVar{}}
	root := &cobra.Command{
		Use:           "statscache",
		Short:         "Running statistics of an event bus",
		Long:          "statscache listens to the publishers that fedmsg.d names, keeps rolling statistics of every event\nand serves them as JSON. Try `statscache demo` first.",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          knownCommand,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			return g.check()
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f := root.PersistentFlags()
	f.StringArrayVar(&g.paths, "config", nil, "configuration: a .py file or a folder of them (repeatable; replaces the search path)")
	root.SetGlobalNormalizationFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "config-filename" { // fedmsg's name for it
			name = "config"
		}
		return pflag.NormalizedName(name)
	})
	f.StringVar(&g.dataDir, "data-dir", "", "where everything is kept")
	f.StringVar(&g.logLevel, "log-level", "info", "debug, info, warn or error")
	g.levelFlag = f.Lookup("log-level")
	f.StringVar(&g.logFormat, "log-format", "text", "text or json")
	f.BoolVar(&g.json, "json", false, "answer in JSON where a script may read it")
	root.AddCommand(newBackfill(g), newBackup(g), newRestore(g), newArchive(g), newMigrate(g))
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w (see `%s --help`)", err, cmd.CommandPath())}
	})
	root.AddCommand(newRun(g), newConsume(g), newCompute(g), newServe(g), newImport(g), deafToHangup(newDemo(g)), newCheck(g), newVerify(g), newRecount(g), newExplain(g), newCount(g), newDump(g), newStats(g), newLatest(g), newStatus(g), newRejects(g), newGaps(g), newTail(g), newPlugin(g), newVersion(g), newServePlugin())
	return root
}

func (g *globals) check() error {
	level, err := g.parseLevel()
	if err != nil {
		return usageError{err}
	}
	g.level.Set(level)
	if g.logFormat != "text" && g.logFormat != "json" {
		return usageError{fmt.Errorf("--log-format is %q: it must be text or json", g.logFormat)}
	}
	return nil
}

func (g *globals) parseLevel() (slog.Level, error) {
	switch strings.ToLower(g.logLevel) {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("--log-level is %q: it must be debug, info, warn or error", g.logLevel)
}

// logger writes to stderr: stdout belongs to answers.
func (g *globals) logger() *slog.Logger {
	options := &slog.HandlerOptions{Level: g.level}
	if g.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, options))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, options))
}

// quiet is the logger of commands whose own words are enough unless somebody asks for more.
func (g *globals) quiet() *slog.Logger {
	if !g.levelFlag.Changed {
		g.level.Set(slog.LevelWarn)
	}
	return g.logger()
}

// follow takes the level that the configuration gives, unless the command line gives one.
func (g *globals) follow(c *config.Config) {
	if !g.levelFlag.Changed {
		g.level.Set(c.LogLevel)
	}
}

// load reads the configuration; set holds settings that the command itself gives, by key.
func (g *globals) load(set map[string]string) (*config.Config, error) {
	flags := map[string]string{}
	for k, v := range set {
		flags[k] = v
	}
	if g.dataDir != "" {
		flags["statscache.data_dir"] = g.dataDir
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = "" // then there is no ~/.fedmsg.d; a data dir must be given
	}
	wd, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("the working directory is gone: %w", err)
	}
	return config.Load(config.Options{Paths: g.paths, Flags: flags, Environ: os.Environ(), Home: home, WorkDir: wd})
}

// knownCommand refuses the name of a command that does not exist.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unknown command %q for %q (see `%s --help`)", args[0], cmd.CommandPath(), cmd.CommandPath())}
	}
	return nil
}

// noArgs refuses arguments of a command that takes none.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("%s takes no arguments: %q (see `%s --help`)", cmd.Name(), args[0], cmd.CommandPath())}
	}
	return nil
}
