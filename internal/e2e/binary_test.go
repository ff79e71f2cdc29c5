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

// build makes the binary once for all tests of a run, when the first one asks.
var build = struct {
	sync.Once
	dir, path string
	err       error
}{}

func TestMain(m *testing.M) {
	code := cratetest.Run(m)
	if build.dir != "" {
		if err := os.RemoveAll(build.dir); err != nil {
			fmt.Fprintln(os.Stderr, "remove the built binary:", err)
		}
	}
	if err := page.publish(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// binary gives the path of the built statscache.
func binary(t testing.TB) string {
	t.Helper()
	build.Do(func() {
		if build.dir, build.err = os.MkdirTemp("", "statscache-e2e-"); build.err != nil {
			return
		}
		build.path = filepath.Join(build.dir, "statscache")
		build.err = buildBinary(build.path)
	})
	if build.err != nil {
		t.Fatal(build.err)
	}
	return build.path
}

// buildBinary builds statscache with further flags of go build.
func buildBinary(path string, flags ...string) error {
	args := append([]string{"build", "-o", path}, flags...)
	if raced {
		args = append(args, "-race")
	}
	args = append(args, "github.com/statscache/statscache/cmd/statscache")
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
