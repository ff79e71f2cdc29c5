//go:build failpoints

package main

import (
	"fmt"
	"os"

	"github.com/statscache/statscache/internal/failpoint"
	"github.com/statscache/statscache/internal/failpoint/arm"
)

// failpoints makes a hook of STATSCACHE_FAILPOINTS, with the syntax of arm.Hook; hits are recorded at the end of the
// file that STATSCACHE_FAILPOINTS_RECORD names.
func failpoints() (failpoint.Hook, error) {
	text := os.Getenv("STATSCACHE_FAILPOINTS")
	if text == "" {
		return nil, nil
	}
	// It stays open for the life of the process.
	record, err := os.OpenFile(os.Getenv("STATSCACHE_FAILPOINTS_RECORD"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("STATSCACHE_FAILPOINTS_RECORD: %w", err)
	}
	hook, err := arm.Hook(text, record)
	if err != nil {
		return nil, fmt.Errorf("STATSCACHE_FAILPOINTS: %w", err)
	}
	return hook, nil
}
