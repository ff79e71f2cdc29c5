// Package config reads fedmsg's configuration files as fedmsg does and takes
// every setting of statscache out of them, the environment and the flags.
package config

import (
	"encoding/json"
	"log/slog"
	"time"

	"github.com/statscache/statscache/consumer/fedmsg"
)

// Options says where a configuration comes from.
type Options struct {
	// Paths are files, or folders of *.py files, merged in order. When there
	// are none, fedmsg's own search path is used.
	Paths []string
	// Flags holds the settings given as flags, by key: {"statscache.data_dir": "/srv"}.
	Flags map[string]string
	// Environ is the environment as os.Environ returns it.
	Environ []string
	// Home and WorkDir are the user's home and the working directory. An empty
	// Home leaves the home out of the search path.
	Home, WorkDir string
	// SystemDir replaces /etc in the search path.
	SystemDir string
}

// Config is a configuration with every default filled in.
type Config struct {
	DataDir string
	Store   StoreURL

	ConsumerEnabled bool
	// Epoch is how far back catch-up goes; zero if it isn't limited.
	Epoch   time.Time
	CatchUp bool
	// Topics are prefixes with every * deleted; a single "" means all.
	Topics []string
	// Endpoints are the ones to consume, in byte order of their names.
	Endpoints []Endpoint
	// NoEndpoints is one sentence that says why there is nothing to consume, or
	// "" if there is something. Whether that is fatal is up to the command.
	NoEndpoints     string
	MaxMessageBytes int
	JournalMaxBytes int64
	CommitInterval  time.Duration

	PluginsPath     []string
	PluginsDisabled []string
	PluginsConfig   map[string]json.RawMessage
	// Rules are known to be right; they go before the shipped ones.
	Rules []fedmsg.Rule

	// ArchiveRetention is 0 if events are kept for ever.
	ArchiveRetention time.Duration
	// Retention says how long the counters of an interval are kept, 0 for ever;
	// an interval that isn't listed is kept for ever too.
	Retention map[time.Duration]time.Duration
	// RetentionGiven marks the intervals that the configuration itself set.
	RetentionGiven map[time.Duration]bool

	Listen, AdminListen, BaseURL           string
	DefaultRowsPerPage, MaximumRowsPerPage int
	DatagrepperEndpoint                    string
	DatagrepperProfile                     bool

	// What follows are fedmsg's own settings.

	TopicPrefix, Environment, Name string
	// LogLevel is that of the logger "statscache" in fedmsg's logging, info where there is none.
	LogLevel           slog.Level
	ValidateSignatures bool
	KeepAlive          KeepAlive
	// ReconnectMax bounds the pause between two attempts to connect.
	ReconnectMax time.Duration

	// Raw is the merged dict of all files, with values as pyfile.Result has
	// them. It must not be changed.
	Raw map[string]any
	// Files are the files that were read, in order.
	Files []string
	// Settings lists every statscache.* key in the order of the manual.
	Settings []Setting
	// Warnings are sentences an operator should read; none stops anything.
	Warnings []string
}

// Endpoint is one named publisher: every address of it is connected to.
type Endpoint struct {
	Name      string
	Addresses []string // tcp://host:port
}

// KeepAlive is the TCP keepalive of connections to endpoints.
type KeepAlive struct {
	Enabled        bool
	Idle, Interval time.Duration
	Count          int
}

// Setting is one statscache.* key as it is in force.
type Setting struct {
	Key string
	// Value is printable: JSON, with durations as 7d and passwords masked.
	Value string
	// Origin is "default", "flag", "env STATSCACHE_X" or "/path/file.py:12".
	Origin string
}
