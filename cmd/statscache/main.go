// Command statscache keeps running statistics of an event bus.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// Exit statuses, as INTERFACE promises.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-ctx.Done()
		stop() // from here on a second signal ends the process at once
	}()
	os.Exit(execute(ctx, os.Args[1:]))
}

// execute runs a command line and gives the exit status.
func execute(ctx context.Context, args []string) int {
	tuneMemory()
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	var usage usageError
	if !errors.Is(err, errSaid) {
		for _, line := range sentences(err) {
			fmt.Fprintln(os.Stderr, "statscache: "+line)
		}
	}
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

// usageError is a command line that can't be understood.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// errSaid ends a command with status 1 whose output has said what is wrong already.
var errSaid = errors.New("said")

// sentences splits joined errors: each is one line.
func sentences(err error) []string {
	return strings.Split(strings.TrimSpace(err.Error()), "\n")
}
