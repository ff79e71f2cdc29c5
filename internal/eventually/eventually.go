// Package eventually lets a test wait for what goes through sockets, disks and other processes, where there is nothing to
// wait on but the state itself.
package eventually

import (
	"testing"
	"time"
)

// pause lies between two looks: short beside what a test waits for, and long enough not to starve it.
const pause = 2 * time.Millisecond

// True looks until ok says so and fails the test at once when it does not within that time. What names the state in the
// failure.
func True(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !ok(); time.Sleep(pause) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", within, what)
		}
	}
}
