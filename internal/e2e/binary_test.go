package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/cratetest"
)

// buildTimeout bounds one build of the binary, from nothing and with the race detector.
const buildTimeout = 9 * time.Minute

// builds are the binaries of a run, each made when the first test asks.
var builds struct {
	mu   sync.Mutex
	dir  string
	made map[string]*build
}

// build is a binary, or why there is none.
type build struct {
	once sync.Once
	path string
	err  error
}

func TestMain(m *testing.M) {
	code := cratetest.Run(m)
	if builds.dir != "" {
		if err := os.RemoveAll(builds.dir); err != nil {
			fmt.Fprintln(os.Stderr, "remove the built binaries:", err)
		}
	}
	if err := page.publish(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// binary gives the path of the built statscache.
func binary(t testing.TB) string { return builtBinary(t, "statscache") }

// racedBinary is binary with the race detector where these tests have it, but not in SQLite, as `make test` has it.
func racedBinary(t testing.TB) string {
	if !raced {
		return binary(t)
	}
	return builtBinary(t, "statscache-raced", "-race", "-gcflags=modernc.org/...=-race=false")
}

// builtBinary gives the path of a binary of this name, built with these flags of go build.
func builtBinary(t testing.TB, name string, flags ...string) string {
	t.Helper()
	builds.mu.Lock()
	if builds.dir == "" {
		var err error
		if builds.dir, err = os.MkdirTemp("", "statscache-e2e-"); err != nil {
			builds.mu.Unlock()
			t.Fatal(err)
		}
		builds.made = map[string]*build{}
	}
	b := builds.made[name]
	if b == nil {
		b = &build{path: filepath.Join(builds.dir, name)}
		builds.made[name] = b
	}
	builds.mu.Unlock()
	b.once.Do(func() { b.err = buildBinary(b.path, flags...) })
	if b.err != nil {
		t.Fatal(b.err)
	}
	return b.path
}

func buildBinary(path string, flags ...string) error {
	args := append(append([]string{"build", "-o", path}, flags...), "github.com/statscache/statscache/cmd/statscache")
	ctx, cancel := context.WithTimeout(context.Background(), buildTimeout)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// result is what a command left.
type result struct {
	code           int
	stdout, stderr string
}

// command runs the binary to its end. Traces of a crash in what it prints fail the test.
func command(t testing.TB, env []string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary(t), args...)
	cmd.Env = append(os.Environ(), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("statscache %s: %v", strings.Join(args, " "), err)
	}
	if ctx.Err() != nil {
		t.Fatalf("statscache %s didn't end; it printed\n%s%s", strings.Join(args, " "), &stdout, &stderr)
	}
	noCrash(t, stderr.String())
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// noCrash fails the test when a process printed a panic or a data race.
func noCrash(t testing.TB, stderr string) {
	t.Helper()
	for _, trace := range []string{"WARNING: DATA RACE", "panic: ", "fatal error: ", "\ngoroutine "} {
		if at := strings.Index(stderr, trace); at >= 0 {
			t.Errorf("the process crashed or raced:\n%s", stderr[at:min(len(stderr), at+8000)])
			return
		}
	}
}
