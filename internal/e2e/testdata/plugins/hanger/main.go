// Command hanger is a plugin that never answers.
package main

import (
	"time"

	"github.com/statscache/statscache/plugins"
)

func main() {
	plugins.Serve(plugins.Plugin{ID: "hanger", Deadline: time.Second, Counters: []plugins.Counter{{
		Name: "Counts of a hanger", Every: []time.Duration{time.Minute},
		On: func(_ *plugins.Event, _ func(int64, ...string)) {
			select {}
		},
	}}})
}
