// Command hoarder is a plugin that allocates without end.
package main

import (
	"bytes"
	"runtime"
	"time"

	"github.com/statscache/statscache/plugins"
)

func main() {
	plugins.Serve(plugins.Plugin{ID: "hoarder", Counters: []plugins.Counter{{
		Name: "Counts of a hoarder", Every: []time.Duration{time.Minute},
		On: func(_ *plugins.Event, _ func(int64, ...string)) {
			for all := [][]byte(nil); ; {
				all = append(all, bytes.Repeat([]byte("x"), 1<<20))
				runtime.KeepAlive(all)
			}
		},
	}}})
}
