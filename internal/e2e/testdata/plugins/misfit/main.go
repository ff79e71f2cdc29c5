// Command misfit is a plugin that misbehaves in the way that its file is called by.
package main

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/statscache/statscache/plugins"
)

func main() {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	mode := filepath.Base(self)
	switch {
	case strings.HasPrefix(mode, "wrong-"), mode == "large-batches":
		lie(mode)
		return
	case mode == "exits":
		fmt.Fprintln(os.Stderr, "my database is gone")
		os.Exit(7)
	}
	name := "Counts of " + mode
	seen := filepath.Join(filepath.Dir(self), "."+mode)
	if _, err := os.Stat(seen); mode == "changes" && err == nil {
		name += " after its change"
	}
	plugins.Serve(plugins.Plugin{ID: mode, Body: true, Deadline: time.Second, Counters: []plugins.Counter{{
		Name: name, Every: []time.Duration{time.Minute},
		On: func(e *plugins.Event, add func(int64, ...string)) {
			switch mode {
			case "crashes":
				os.Exit(3)
			case "hangs": // its health stays good: another goroutine answers for that
				select {}
			case "hoards":
				for all := [][]byte(nil); ; {
					all = append(all, bytes.Repeat([]byte("x"), 1<<20))
					runtime.KeepAlive(all)
				}
			case "poison":
				if crc32.ChecksumIEEE([]byte(e.ID))%100 == 0 {
					os.Exit(4)
				}
			case "floods":
				fmt.Println(strings.Repeat("out", 25_000))
				fmt.Fprintln(os.Stderr, strings.Repeat("err", 25_000))
			case "changes":
				if !strings.HasSuffix(name, "change") {
					_ = os.WriteFile(seen, nil, 0o600)
					os.Exit(5)
				}
			}
			add(1)
		},
	}}})
}
