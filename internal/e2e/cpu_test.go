package e2e

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// pin binds this process, and what it starts, to some of its cores; the function that it gives undoes that. Where
// there is no such core nothing happens.
func pin(b *testing.B, wanted func(cpu int) bool) (undo func()) {
	b.Helper()
	var all, some unix.CPUSet
	if err := unix.SchedGetaffinity(os.Getpid(), &all); err != nil {
		b.Fatal(err)
	}
	for cpu := range len(all) * 64 {
		if all.IsSet(cpu) && wanted(cpu) {
			some.Set(cpu)
		}
	}
	if some.Count() == 0 {
		b.Log("no such core: client and server share one")
		return func() {}
	}
	bind := func(set *unix.CPUSet) {
		// Threads and processes inherit the set of the thread that makes them.
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			b.Fatal(err)
		}
		for _, thread := range threads {
			if id, err := strconv.Atoi(thread.Name()); err == nil {
				_ = unix.SchedSetaffinity(id, set) // a thread may have ended
			}
		}
	}
	bind(&some)
	return func() { bind(&all) }
}

// clockTicks is the unit of CPU time in /proc on every Linux that Go runs on.
const clockTicks = 100

// cpuSeconds is the processor time that a process has used.
func cpuSeconds(b *testing.B, pid int) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	var ticks int64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return float64(ticks) / clockTicks
}
