// Package plugins is what the author of a statscache plugin imports: say what to count, call Serve.
//
//	func main() {
//		plugins.Serve(plugins.Plugin{Counters: []plugins.Counter{{
//			Name:  "Volume, by category",
//			Dims:  []string{"category"},
//			Every: []time.Duration{time.Minute, 24 * time.Hour},
//			On: func(e *plugins.Event, add func(n int64, dims ...string)) {
//				add(1, e.Category())
//			},
//		}}})
//	}
package plugins

import (
	"encoding/json"
	"time"
)

// Plugin is a whole plugin: one process, any number of metrics.
type Plugin struct {
	// ID names the plugin for good: lower case letters, digits, "-", "_" and "."; that of the first metric by default.
	ID string
	// Version of the program, informative.
	Version string
	// DataVersion is to be raised when numbers are no longer comparable with those counted before: statscache then
	// counts everything again from the archive. 1 by default.
	DataVersion uint32
	// Topics are the prefixes of the topics that the plugin wants ("*" is ignored); none for all.
	Topics []string
	// Body asks for the messages themselves. Without it Event.Body, JSON and ID are empty and everything is faster.
	Body bool
	// Deadline for one batch of up to 1,024 events; 0 for the host's (10 seconds).
	Deadline time.Duration
	// Backlog is how far back a new plugin wants to be fed; 0 for everything in the archive.
	Backlog time.Duration
	// Configure, where given, gets what the operator configured for this plugin (a JSON object, "{}" for nothing)
	// before any event. An error keeps the plugin from starting.
	Configure func(config json.RawMessage) error

	Counters []Counter
	Latest   []Latest
}

// Counter is a metric that counts per time and dimensions.
type Counter struct {
	// Name is shown to people, and the metric's id is made of it: see Ident.
	Name, Summary, Description string
	// Dims are the dimensions; each call of add gives a value for each of them.
	Dims []string
	// Multi are those of Dims of which one event may have several values: counts can add up to more than the events.
	Multi []string
	// Every are the widths of the buckets, in whole seconds.
	Every []time.Duration
	// Keep is how long counts are kept; 0 for as configured.
	Keep time.Duration
	// Unit, View and Layout (JSON) are hints for those who show the numbers.
	Unit, View string
	Layout     json.RawMessage
	// MaxSeries bounds the different combinations of dimension values; 0 for the host's limit.
	MaxSeries int
	// On is called for every event and calls add for each thing to count. A panic makes the event a dead letter, and
	// nothing of it is counted in any metric.
	On func(e *Event, add func(n int64, dims ...string))
}

// Latest is a metric that keeps the newest value per key.
type Latest struct {
	Name, Summary, Description string
	// Key names the parts of the key; each call of put gives a value for each of them.
	Key        []string
	Keep       time.Duration
	Unit, View string
	Layout     json.RawMessage
	MaxSeries  int
	// On is called for every event and calls put for each value to keep; it is stored as JSON. The newest event wins,
	// in whatever order they come.
	On func(e *Event, put func(value any, key ...string))
}
