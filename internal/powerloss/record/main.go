//go:build linux && (amd64 || arm64)

// Command record runs a program under ptrace and records what it does to the files of a folder:
//
//	record FOLDER RECORDING PROGRAM [ARGUMENT...]
//
// It ends with the program's status, or with 77 where tracing isn't allowed. Processes that the program starts are let go.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "record FOLDER RECORDING PROGRAM [ARGUMENT...]")
		os.Exit(2)
	}
	code, err := trace(os.Args[1], os.Args[2], os.Args[3:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "record:", err)
		code = max(code, 1)
		if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSYS) {
			code = 77
		}
	}
	os.Exit(code)
}

func trace(folder, recording string, command []string) (code int, err error) {
	out, err := os.OpenFile(recording, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return 1, err
	}
	runtime.LockOSThread() // only the thread that began may go on
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	t := &tracer{pid: cmd.Process.Pid, threads: map[int]*thread{}, files: newFiles(folder, cmd.Process.Pid, out)}
	code, err = t.run()
	return code, errors.Join(err, out.Close())
}

// tracer follows the threads of one process.
type tracer struct {
	pid     int
	threads map[int]*thread
	files   *files
}

// thread is one that may be in a system call.
type thread struct{ call *call }

// info is struct ptrace_syscall_info.
type info struct {
	op      uint8
	_       [3]uint8
	_       uint32
	_, _    uint64
	nr      uint64 // at the entry; at the exit the answer
	args    [6]uint64
	padding [16]byte
}

const (
	syscallInfo   = 0x420e // PTRACE_GET_SYSCALL_INFO
	entry, leave  = 1, 2
	syscallStop   = syscall.SIGTRAP | 0x80
	traceExitKill = 0x100000
)

func (t *tracer) run() (int, error) {
	var status unix.WaitStatus
	if _, err := unix.Wait4(t.pid, &status, 0, nil); err != nil { // stopped at its first instruction
		return 1, err
	}
	t.threads[t.pid] = &thread{}
	options := unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK | traceExitKill
	if err := unix.PtraceSetOptions(t.pid, options); err != nil {
		return 1, err
	}
	for tid, sig := t.pid, 0; ; {
		if err := unix.PtraceSyscall(tid, sig); err != nil && !errors.Is(err, unix.ESRCH) { // killed meanwhile
			return 1, fmt.Errorf("continue: %w", err)
		}
		for next := true; next; {
			var err error
			if tid, err = unix.Wait4(-1, &status, unix.WALL, nil); errors.Is(err, unix.EINTR) {
				continue
			} else if err != nil {
				return 1, fmt.Errorf("wait: %w", err)
			}
			if !status.Stopped() {
				delete(t.threads, tid)
				if tid == t.pid {
					return max(status.ExitStatus(), 0), nil
				}
				continue
			}
			next = t.foreign(tid)
		}
		var err error
		if sig, err = t.stopped(tid, status); err != nil {
			return 1, err
		}
	}
}

// foreign lets go of a process that the program has started.
func (t *tracer) foreign(tid int) bool {
	if t.threads[tid] != nil {
		return false
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d/task/%d", t.pid, tid)); err == nil {
		t.threads[tid] = nil
		return false
	}
	_ = unix.PtraceDetach(tid) // it may have been killed
	return true
}

// stopped deals with a thread that stands still and says which signal it gets when it goes on.
func (t *tracer) stopped(tid int, status unix.WaitStatus) (signal int, err error) {
	sig := status.StopSignal()
	if t.threads[tid] == nil {
		t.threads[tid] = &thread{}
		return 0, nil // a new one, stopped for us
	}
	switch {
	case sig == syscallStop:
		var i info
		_, _, errno := unix.Syscall6(unix.SYS_PTRACE, syscallInfo, uintptr(tid), unsafe.Sizeof(i), uintptr(unsafe.Pointer(&i)), 0, 0)
		if errno == unix.ESRCH {
			return 0, nil
		}
		if errno != 0 {
			return 0, fmt.Errorf("ask for a system call: %w", errno)
		}
		th := t.threads[tid]
		switch {
		case i.op == entry:
			th.call, err = t.files.enter(tid, i.nr, i.args)
		case i.op == leave && th.call != nil:
			err = t.files.leave(tid, th.call, int64(i.nr))
			th.call = nil
		}
		return 0, err
	case sig == syscall.SIGTRAP && status.TrapCause() > 0:
		return 0, nil
	}
	return int(sig), nil
}
