// Command testrun runs `go test` so that a reader sees what matters: failures in full, a line per package, and at the
// end every skipped test with its reason.
//
//	testrun [-require REGEXP] -- ARGUMENTS OF GO TEST
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

// allowSkip is the environment variable with which a run may do without what -require asks for.
const allowSkip = "STATSCACHE_ALLOW_SKIP"

// waitDelay is what go test gets after an interrupt to end its own children.
const waitDelay = 30 * time.Second

func main() {
	require := flag.String("require", "", "fail when a test was skipped for a reason that matches this `regexp`, unless "+allowSkip+"=1")
	flag.Parse()
	pattern, err := regexp.Compile(*require)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testrun: -require:", err)
		os.Exit(2)
	}
	if *require == "" {
		pattern = nil
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, flag.Args(), pattern)
	stop()
	os.Exit(code)
}

// run gives the exit status: 0 when everything passed and nothing required was skipped.
func run(ctx context.Context, args []string, require *regexp.Regexp) int {
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-json"}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = waitDelay
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		fmt.Fprintln(os.Stderr, "testrun:", err)
		return 2
	}
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "testrun:", err)
		return 2
	}
	report := newReport(os.Stdout)
	readErr := report.read(stdout)
	waitErr := cmd.Wait()
	missing := report.finish(require)
	if readErr != nil || waitErr != nil {
		if readErr != nil || report.failed == 0 {
			fmt.Fprintln(os.Stderr, "testrun: go test:", errors.Join(readErr, waitErr))
		}
		return 1
	}
	if report.failed > 0 {
		return 1
	}
	if missing > 0 && os.Getenv(allowSkip) != "1" {
		fmt.Fprintf(os.Stderr, "testrun: %d skipped tests are needed here (their reasons match %q); mend what they miss or set %s=1\n",
			missing, require, allowSkip)
		return 1
	}
	return 0
}
