// Command weigher is a plugin that counts every event as often as it was built to.
package main

import (
	"time"

	"github.com/statscache/statscache/plugins"
)

// weight is set by the linker: one digit.
var weight = "1"

func main() {
	plugins.Serve(plugins.Plugin{ID: "weigher", Counters: []plugins.Counter{{
		Name: "Weight", Every: []time.Duration{time.Second, time.Minute, 24 * time.Hour},
		On: func(_ *plugins.Event, add func(int64, ...string)) { add(int64(weight[0] - '0')) },
	}}})
}
