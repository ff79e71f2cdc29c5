package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// The bounds that a daemon must keep: INTERFACE.md promises the second one; under the race detector everything is slow.
const (
	readyWithin = 30 * time.Second
	stopWithin  = 10 * time.Second
)

// daemon is a running process of an installation.
type daemon struct {
	*site
	cmd    *exec.Cmd
	args   []string
	stdout *output
	stderr *output
	exited chan struct{} // closed when it has ended; cmd.ProcessState is set then
}

// output collects what a process prints while others read it.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// start starts `statscache run` and waits until it is ready.
func (s *site) start() *daemon {
	s.t.Helper()
	d := s.launch("run")
	d.waitReady()
	return d
}

// launch starts a long-running command, without waiting.
func (s *site) launch(args ...string) *daemon {
	s.t.Helper()
	return s.launchExactly(append(args, s.flags()...)...)
}

func (s *site) launchExactly(args ...string) *daemon {
	s.t.Helper()
	program := binary
	if s.race {
		program = racedBinary
	}
	return s.launchProgram(program(s.t), args...)
}

// launchProgram is launchExactly for a program that runs statscache.
func (s *site) launchProgram(program string, args ...string) *daemon {
	s.t.Helper()
	d := &daemon{site: s, args: args, stdout: &output{}, stderr: &output{}, exited: make(chan struct{})}
	d.cmd = exec.Command(program, args...)
	d.cmd.Env = append(os.Environ(), s.env()...)
	d.cmd.Stdout, d.cmd.Stderr = d.stdout, d.stderr
	d.cmd.WaitDelay = 5 * time.Second
	if err := d.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		_ = d.cmd.Wait() // the state tells; a non-zero status is no error here
		close(d.exited)
	}()
	s.t.Cleanup(func() {
		_ = d.cmd.Process.Kill()
		<-d.exited
		noCrash(s.t, d.stderr.String())
		if s.t.Failed() {
			s.t.Logf("%s printed:\n%s%s", strings.Join(d.args, " "), tail(d.stdout.String()), tail(d.stderr.String()))
		}
	})
	return d
}

// tail is the end of a long text.
func tail(text string) string {
	const most = 6000
	if len(text) <= most {
		return text
	}
	return "[...]" + text[len(text)-most:]
}

func (d *daemon) pid() int { return d.cmd.Process.Pid }

func (d *daemon) running() bool {
	select {
	case <-d.exited:
		return false
	default:
		return true
	}
}

func (d *daemon) waitReady() {
	d.t.Helper()
	d.waitFor(readyWithin, "ready", func() error {
		code, body, err := get("http://" + d.admin + "/readyz")
		if err != nil {
			return err
		}
		if code != http.StatusOK {
			return fmt.Errorf("/readyz says %d: %s", code, body)
		}
		return nil
	})
}

// waitFor polls until check is content; it fails the test at the deadline and when the process ends before.
func (d *daemon) waitFor(within time.Duration, what string, check func() error) {
	d.t.Helper()
	if err := poll(within, func() error {
		if !d.running() {
			return errEnded
		}
		return check()
	}); err != nil {
		d.t.Fatalf("%s: %v; it printed\n%s%s", what, err, tail(d.stdout.String()), tail(d.stderr.String()))
	}
}

var errEnded = errors.New("the process has ended")

// poll asks until there is no error, and gives the last one when the time is over. What is polled is another process:
// there is nothing to wait on.
func poll(within time.Duration, check func() error) error {
	deadline := time.Now().Add(within)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil || errors.Is(err, errEnded) {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %s: %w", within, err)
		}
		<-tick.C
	}
}

// stop ends the daemon as an operator does and holds it to its promises: in time, status 0, nothing left behind.
func (d *daemon) stop() { d.stopBy(syscall.SIGTERM) }

func (d *daemon) stopBy(sig syscall.Signal) {
	d.t.Helper()
	below := descendants(d.pid())
	if err := d.cmd.Process.Signal(sig); err != nil {
		d.t.Fatal(err)
	}
	select {
	case <-d.exited:
	case <-time.After(stopWithin):
		d.t.Fatalf("still running %s after %s; it printed\n%s", stopWithin, sig, tail(d.stderr.String()))
	}
	if code := d.cmd.ProcessState.ExitCode(); code != 0 {
		d.t.Errorf("exit status %d after %s, want 0; it printed\n%s", code, sig, tail(d.stderr.String()))
	}
	d.nothingLeft(below)
}

func (d *daemon) processesGone(below []process) {
	d.t.Helper()
	if err := poll(5*time.Second, func() error {
		for _, p := range below {
			if p.alive() {
				return fmt.Errorf("process %d (%s) of the daemon still runs", p.pid, p.command)
			}
		}
		return nil
	}); err != nil {
		d.t.Error(err)
	}
}

// nothingLeft looks for processes, sockets and temporary files that a clean stop should have removed.
func (d *daemon) nothingLeft(below []process) {
	d.t.Helper()
	d.processesGone(below)
	for _, folder := range []string{d.data, d.temp} {
		err := filepath.WalkDir(folder, func(path string, entry os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if entry.Type()&os.ModeSocket != 0 {
				d.t.Errorf("socket left behind: %s", path)
			}
			if folder == d.temp && path != folder {
				d.t.Errorf("temporary file left behind: %s", path)
			}
			return nil
		})
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			d.t.Error(err)
		}
	}
}

// process is one below the daemon. Its start time tells it from a later one with the same number.
type process struct {
	pid, parent      int
	started, command string
}

func (p process) alive() bool {
	now, ok := readProcess(p.pid)
	return ok && now.started == p.started
}

// readProcess reads /proc; ok is false for one that has ended, a zombie included.
func readProcess(pid int) (p process, ok bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, false
	}
	// The command stands in parentheses and may hold anything; the fields are counted after it.
	open, closing := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	fields := strings.Fields(string(text[closing+1:]))
	if open < 0 || closing < 0 || len(fields) < 20 || fields[0] == "Z" {
		return process{}, false
	}
	parent, err := strconv.Atoi(fields[1])
	return process{pid, parent, fields[19], string(text[open+1 : closing])}, err == nil
}

// descendants lists the processes below one, children before theirs.
func descendants(pid int) []process {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var all, found []process
	for _, entry := range entries {
		if n, err := strconv.Atoi(entry.Name()); err == nil {
			if p, ok := readProcess(n); ok {
				all = append(all, p)
			}
		}
	}
	parents := []int{pid}
	for len(parents) > 0 {
		parent := parents[0]
		parents = parents[1:]
		for _, p := range all {
			if p.parent == parent && !slices.ContainsFunc(found, func(f process) bool { return f.pid == p.pid }) {
				found = append(found, p)
				parents = append(parents, p.pid)
			}
		}
	}
	return found
}

// rss gives the resident memory of a process in bytes, 0 when it has ended.
func rss(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

// client gives up on a request before a test does.
var client = &http.Client{Timeout: 30 * time.Second}

func get(url string, headers ...string) (int, string, error) {
	code, _, body, err := fetch(url, headers...)
	return code, body, err
}

// fetch gets a URL; headers are name, value, name, value.
func fetch(url string, headers ...string) (code int, header http.Header, body string, err error) {
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, "", err
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, nil, "", err
	}
	defer func() { _ = response.Body.Close() }() // nothing more is read from it
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, response.Header, string(text), err
}
