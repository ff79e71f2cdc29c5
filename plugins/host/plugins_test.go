package host

import (
	"fmt"
	"os"

	"github.com/statscache/statscache/plugins"
	"github.com/statscache/statscache/plugins/volume"
)

// servePlugin is the test binary's life as a plugin.
func servePlugin(name string) {
	switch name {
	case "volume":
		plugins.Serve(volume.Plugin())
	default:
		fmt.Fprintln(os.Stderr, "no such test plugin:", name)
		os.Exit(1)
	}
}
