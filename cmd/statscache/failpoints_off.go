//go:build !failpoints

package main

import "github.com/statscache/statscache/internal/failpoint"

// failpoints gives the nil hook: only binaries that are built with -tags failpoints can be made to fail.
func failpoints() (failpoint.Hook, error) { return nil, nil }
