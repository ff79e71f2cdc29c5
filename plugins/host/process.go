package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pipeGrace is how long a process that has ended may still be read from. Whoever holds its pipes longer is a child
// that left its process group.
const pipeGrace = 500 * time.Millisecond

// process is one plugin process, as go-plugin's runner.Runner. It has a process group of its own, gets SIGKILL from
// the kernel when the host dies, and takes its group with it when it ends.
type process struct {
	argv, env []string
	dir       string // its own folder: sockets and temporary files
	out       *output
	memory    int64 // bytes it may keep in memory; 0 for no limit

	hello  *io.PipeReader // the handshake line, all that go-plugin gets to see of stdout
	helloW *io.PipeWriter

	mu     sync.Mutex
	pid    int  // 0 before the start
	killed bool // maybe before the start
	ended  bool // reaped: the pid may be somebody else's
	// tooLarge is set where it was killed for the memory it took.
	tooLarge *memoryError
	done     chan struct{}
	err      error // how it ended; to be read after done
}

func newProcess(argv, env []string, dir string, out *output) *process {
	p := &process{argv: argv, env: env, dir: dir, out: out, done: make(chan struct{})}
	p.hello, p.helloW = io.Pipe()
	return p
}

// Start starts it and the goroutines that read and await it.
func (p *process) Start(context.Context) error {
	outR, outW, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start %s: %w", p.argv[0], err)
	}
	errR, errW, err := os.Pipe()
	if err != nil {
		return errors.Join(fmt.Errorf("start %s: %w", p.argv[0], err), outR.Close(), outW.Close())
	}
	cmd := exec.Command(p.argv[0], p.argv[1:]...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = p.env, p.dir, outW, errW
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go p.own(cmd, started, outR, errR)
	err = <-started
	_, _ = outW.Close(), errW.Close()
	if err != nil {
		_, _ = outR.Close(), errR.Close()
		return fmt.Errorf("start: %w", err)
	}
	return nil
}

// own starts the process and stays with it to its end on one thread: the kernel sends the death signal when the
// thread that started a process ends, not only when the whole host does.
func (p *process) own(cmd *exec.Cmd, started chan<- error, outR, errR *os.File) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		_ = p.helloW.CloseWithError(err)
		p.err = err
		close(p.done)
		started <- err
		return
	}
	p.mu.Lock()
	p.pid = cmd.Process.Pid
	if p.killed {
		_ = syscall.Kill(-p.pid, syscall.SIGKILL)
	}
	p.mu.Unlock()
	var readers sync.WaitGroup
	readers.Go(func() { p.readStdout(outR) })
	readers.Go(func() { readLines(errR, func(l []byte) { p.out.line("stderr", l) }) })
	if p.memory > 0 {
		go p.watchMemory(p.memory, memoryInterval, ownOrTree())
	}
	started <- nil

	// Wait without reaping first: while the zombie holds the pid, the group's number cannot be anyone else's.
	for {
		err := unix.Waitid(unix.P_PID, p.pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	p.mu.Lock()
	_ = syscall.Kill(-p.pid, syscall.SIGKILL)
	p.ended = true
	p.mu.Unlock()
	p.err = p.verdict(cmd.Wait())
	grace := time.AfterFunc(pipeGrace, func() { _, _ = outR.Close(), errR.Close() })
	readers.Wait()
	grace.Stop()
	_, _ = outR.Close(), errR.Close()
	_ = p.helloW.Close()
	p.out.flush()
	close(p.done)
}

// readStdout passes the handshake on and logs all else: go-plugin reads lines of at most 64 KB and dies of others.
func (p *process) readStdout(r io.Reader) {
	greeted := false
	readLines(r, func(line []byte) {
		if greeted || !isHandshake(line) {
			p.out.line("stdout", line)
			return
		}
		greeted = true
		_, _ = p.helloW.Write(append(bytes.Clone(line), '\n'))
		_ = p.helloW.Close()
	})
	_ = p.helloW.Close()
}

// isHandshake tells go-plugin's greeting (1|1|unix|/path|grpc) from what a program may print before it.
func isHandshake(line []byte) bool {
	parts := bytes.Split(line, []byte("|"))
	if len(parts) < 5 {
		return false
	}
	_, err1 := strconv.Atoi(string(parts[0]))
	_, err2 := strconv.Atoi(string(parts[1]))
	return err1 == nil && err2 == nil
}

// Kill ends the whole process group. It may be called at any time by anyone.
func (p *process) Kill(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.killed = true
	if p.pid == 0 || p.ended {
		return nil
	}
	return syscall.Kill(-p.pid, syscall.SIGKILL)
}

// Wait waits for the end of the process and of what is read from it.
func (p *process) Wait(context.Context) error {
	<-p.done
	return p.err
}

// Diagnose tells what the process last printed.
func (p *process) Diagnose(context.Context) string { return p.out.last() }

// Stdout gives the handshake line and nothing else.
func (p *process) Stdout() io.ReadCloser { return p.hello }

// Stderr gives nothing: it is read and logged here.
func (p *process) Stderr() io.ReadCloser { return io.NopCloser(bytes.NewReader(nil)) }

// Name is the program's path.
func (p *process) Name() string { return p.argv[0] }

// ID is the process id, empty before the start.
func (p *process) ID() string {
	if pid := p.Pid(); pid != 0 {
		return strconv.Itoa(pid)
	}
	return ""
}

// Pid is the process id, 0 before the start.
func (p *process) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pid
}

// PluginToHost accepts a socket in the process's own folder only: a plugin can't make the host connect elsewhere.
func (p *process) PluginToHost(network, address string) (string, string, error) {
	rel, err := filepath.Rel(p.dir, filepath.Clean(address))
	if network != "unix" || err != nil || !filepath.IsLocal(rel) {
		return "", "", fmt.Errorf("plugin listens at %s %q, not on a unix socket in PLUGIN_UNIX_SOCKET_DIR", network, address)
	}
	return network, address, nil
}

// HostToPlugin leaves addresses as they are.
func (p *process) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}
