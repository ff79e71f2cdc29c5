package host

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestRunner_MemoryGrowth_IsKilledAndTheEventBecomesADeadLetter(t *testing.T) {
	t.Parallel()
	positions := []uint64{2, 40, 41}
	words := map[uint64]string{}
	for _, p := range positions {
		words[p] = "grow"
	}
	blocks := withTopics(3, 6, 16, words)
	m := newMemory()
	m.add("s", blocks...)
	limits := quick()
	limits.Memory = 160 << 20
	h, stop := runHost(t, Options{Programs: []Program{program(t, "moody")}, Store: m, Feed: feedOf{m}, Limits: limits})
	waitCaughtUp(t, h, m.ends())
	stop()
	want := present(blocks, positions...)
	sameRows(t, m.counters, brute("moody", 1, blocks, want))
	got := map[uint64]bool{}
	for _, d := range m.dead {
		got[d.Seq] = true
		if !strings.Contains(d.Error, "more than the 160 MiB") {
			t.Errorf("event %d: %s", d.Seq, d.Error)
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("dead letters at %v, want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}

func TestProcess_WatchMemory_KillsAboveTheLimitOnly(t *testing.T) {
	for name, used := range map[string][]int64{"at once": {101}, "after a while": {1, 100, 50, 101}, "never": {1, 100, 100, 0}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &process{pid: 1 << 30, done: make(chan struct{})} // nobody's: the kernel gives no such pid
			asked := 0
			stopped := make(chan struct{})
			go func() {
				defer close(stopped)
				p.watchMemory(100, time.Millisecond, func(pid int) int64 {
					if pid != 1<<30 {
						t.Errorf("asked for process %d", pid)
					}
					asked++
					if asked == len(used) && name == "never" {
						close(p.done)
					}
					return used[min(asked, len(used))-1]
				})
			}()
			<-stopped
			if tooLarge := p.tooLarge != nil; tooLarge != (name != "never") || p.killed != tooLarge || asked < len(used) {
				t.Errorf("killed %v with %v after %d looks", p.killed, p.tooLarge, asked)
			}
		})
	}
}
