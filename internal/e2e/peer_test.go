package e2e

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/testpython"
)

// peer is a process that a test talks to: it prints what it has done and ends when its standard input ends.
type peer struct {
	t      testing.TB
	name   string
	cmd    *exec.Cmd
	stdin  io.Closer
	lines  chan string // closed at the end of its standard output
	exited chan struct{}
	stderr *output
}

// script starts a program of testdata/py in a working folder ("" for this one).
func script(t testing.TB, dir, name string, args ...string) *peer {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata/py", name))
	if err != nil {
		t.Fatal(err)
	}
	return python(t, dir, append([]string{path}, args...)...)
}

func python(t testing.TB, dir string, args ...string) *peer {
	t.Helper()
	p := startPeer(t, dir, testpython.Find(t), append([]string{"-W", "ignore"}, args...)...)
	p.name = filepath.Base(args[0])
	return p
}

func startPeer(t testing.TB, dir, program string, args ...string) *peer {
	t.Helper()
	p := &peer{t: t, name: filepath.Base(program), lines: make(chan string, 100), exited: make(chan struct{}), stderr: &output{}}
	p.cmd = exec.Command(program, args...)
	p.cmd.Dir = dir
	p.cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1")
	p.cmd.Stderr = p.stderr
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdin = stdin
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for scanner := bufio.NewScanner(stdout); scanner.Scan(); {
			select {
			case p.lines <- scanner.Text():
			default: // nobody listens any more
			}
		}
		close(p.lines)
		_ = p.cmd.Wait() // killed ones end with an error
		close(p.exited)
	}()
	t.Cleanup(p.kill)
	return p
}

// expect waits for the next line that begins so and gives the rest of it.
func (p *peer) expect(prefix string, within time.Duration) string {
	p.t.Helper()
	deadline := time.After(within)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				p.t.Fatalf("%s ended before it printed %q:\n%s", p.name, prefix, tail(p.stderr.String()))
			}
			if rest, ok := strings.CutPrefix(line, prefix); ok {
				return strings.TrimSpace(rest)
			}
		case <-deadline:
			p.t.Fatalf("%s did not print %q within %s:\n%s", p.name, prefix, within, tail(p.stderr.String()))
		}
	}
}

// expectNumber is expect for a line whose rest begins with a number.
func (p *peer) expectNumber(prefix string, within time.Duration) int64 {
	p.t.Helper()
	var n int64
	rest := p.expect(prefix, within)
	if _, err := fmt.Sscan(rest, &n); err != nil {
		p.t.Fatalf("%s printed %q %q: %v", p.name, prefix, rest, err)
	}
	return n
}

// kill ends the process without a chance to say goodbye to its subscribers.
func (p *peer) kill() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.exited
}
