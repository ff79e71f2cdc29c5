package host

import (
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
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

func TestTreeBytes_CountsChildrenToo(t *testing.T) {
	if _, err := os.Stat("/proc/self/task/self/children"); err != nil {
		if _, err := os.Stat("/proc/thread-self/children"); err != nil {
			t.Skip("this system does not list children in /proc")
		}
	}
	cmd := exec.Command("/bin/sh", "-c", "/bin/sh -c 'sleep 100; :' & wait")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, child := range childrenOf(cmd.Process.Pid) {
			for _, grandchild := range childrenOf(child) {
				_ = syscall.Kill(grandchild, syscall.SIGKILL)
			}
			_ = syscall.Kill(child, syscall.SIGKILL)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	until(t, func() bool {
		children := childrenOf(cmd.Process.Pid)
		if len(children) != 1 || len(childrenOf(children[0])) != 1 {
			return false
		}
		below := residentBytes(children[0]) + residentBytes(childrenOf(children[0])[0])
		own := residentBytes(cmd.Process.Pid)
		return below > 0 && own > 0 && treeBytes(cmd.Process.Pid) == own+below
	})
}

func BenchmarkTreeBytes(b *testing.B) {
	for b.Loop() {
		treeBytes(os.Getpid())
	}
}
