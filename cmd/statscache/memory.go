package main

import (
	"os"
	"runtime/debug"
)

const (
	// gcPercent keeps the heap near what is in use: blocks come and go fast, and at full speed the usual 100 doubles
	// the memory for a few per cent of speed.
	gcPercent = 50
	// softLimit makes the collector work harder before the heap grows beyond it.
	softLimit = 384 << 20
)

// tuneMemory bounds what a command takes, unless the environment says otherwise.
func tuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(softLimit)
	}
}
