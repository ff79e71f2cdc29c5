// Command crasher is a plugin that ends at every event.
package main

import (
	"os"
	"time"

	"github.com/statscache/statscache/plugins"
)

func main() {
	plugins.Serve(plugins.Plugin{ID: "crasher", Counters: []plugins.Counter{{
		Name: "Counts of a crasher", Every: []time.Duration{time.Minute},
		On: func(_ *plugins.Event, _ func(int64, ...string)) {
			os.Exit(3)
		},
	}}})
}
