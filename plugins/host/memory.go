package host

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

const (
	// defaultMemory is what a plugin's process may keep in memory where Limits says nothing. The bundled plugins need
	// some 40 MB at full speed.
	defaultMemory = 512 << 20
	// memoryInterval is the time between two looks: short, because a process that only allocates takes gigabytes in a
	// second. A look costs some 10 µs.
	memoryInterval = 50 * time.Millisecond
)

// memoryError is how a process ended that was killed for the memory it took.
type memoryError struct{ used, limit int64 }

func (e *memoryError) Error() string {
	return fmt.Sprintf("it took %d MiB of memory, more than the %d MiB that a plugin may, and was killed", e.used>>20, e.limit>>20)
}

// watchMemory kills the process when it takes more memory than it may; it returns when the process has ended. To all
// others it is a crash: the batch under way is blamed for it.
//
// Resident memory is watched, rather than the address space limited: a limit of that kind hits programs that reserve
// much and use little, and what they print then says nothing of its cause.
func (p *process) watchMemory(limit int64, interval time.Duration, resident func(pid int) int64) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-p.done:
			return
		case <-tick.C:
		}
		if used := p.resident(resident); used > limit {
			p.mu.Lock()
			p.tooLarge = &memoryError{used, limit}
			p.mu.Unlock()
			_ = p.Kill(context.Background()) // it may have ended just now
			return
		}
	}
}

// resident asks for the memory of the process, 0 when it has ended: only under the lock is the pid still its own.
func (p *process) resident(of func(pid int) int64) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return 0
	}
	return of(p.pid)
}

// verdict is how the process ended: what it was killed for tells more than the signal.
func (p *process) verdict(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tooLarge != nil && err != nil {
		return p.tooLarge
	}
	return err
}

// treeEvery is at which looks the children of a process are added: a look at them costs up to a millisecond.
const treeEvery = 8

// ownOrTree gives the memory of a process itself, every now and then together with that of all below it.
func ownOrTree() func(pid int) int64 {
	looks := 0
	return func(pid int) int64 {
		if looks++; looks%treeEvery == 0 {
			return treeBytes(pid)
		}
		return residentBytes(pid)
	}
}

// maxTree bounds the processes below a plugin that a look adds up.
const maxTree = 256

// treeBytes adds up the resident memory of a process and of all that it started, as far as they are still below it.
// Pages that they share count for each.
func treeBytes(pid int) (sum int64) {
	todo := []int{pid}
	for seen := 0; len(todo) > 0 && seen < maxTree; seen++ {
		next := todo[len(todo)-1]
		todo = append(todo[:len(todo)-1], childrenOf(next)...)
		sum += residentBytes(next)
	}
	return sum
}

// childrenOf lists what the threads of a process started, as Linux tells; nothing where that can't be told.
func childrenOf(pid int) (out []int) {
	lists, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/[0-9]*/children") // the pattern is a good one
	for _, path := range lists {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has ended
		}
		for _, field := range bytes.Fields(text) {
			if child, err := strconv.Atoi(string(field)); err == nil {
				out = append(out, child)
			}
		}
	}
	return out
}

// residentBytes reads the resident memory of a process from Linux's /proc; 0 where that can't be told.
func residentBytes(pid int) int64 {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(text)
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
