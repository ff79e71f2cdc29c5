package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/statscache/statscache/consumer/config"
	"github.com/statscache/statscache/consumer/control"
)

const (
	// answerWithin is how long a daemon that holds the data dir may take to answer: it may be starting.
	answerWithin = 15 * time.Second
	// answerPause is the time between two attempts.
	answerPause = 100 * time.Millisecond
)

// orBeside does a piece of work in a data dir where no daemon runs, under its lock, or has the daemon do it that runs.
func orBeside[T any](ctx context.Context, c *config.Config, here func() (T, error), beside func(*control.Client) (T, error)) (T, error) {
	return besideOr(ctx, c, func() (out T, err error) {
		lock, err := lockDir(c.DataDir)
		if err != nil {
			return out, err
		}
		out, err = here()
		return out, errors.Join(err, lock.release())
	}, beside)
}

// besideOr calls here and, where another process has the data dir, beside once that answers. It may be starting, or be
// a command that will soon be done: then here is called again.
func besideOr[T any](ctx context.Context, c *config.Config, here func() (T, error), beside func(*control.Client) (T, error)) (T, error) {
	deadline := time.Now().Add(answerWithin)
	for {
		out, err := here()
		if !errors.Is(err, ErrLocked) {
			return out, err
		}
		client := control.NewClient(control.Path(c.DataDir))
		_, asked := client.Plugins(ctx)
		if asked == nil {
			return beside(client)
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return out, fmt.Errorf("%w (%w)", err, asked)
		}
		select {
		case <-time.After(answerPause):
		case <-ctx.Done():
		}
	}
}

// Work does a piece of work in a data dir: with a daemon of its own in this process where none runs, else through the
// control socket of the one that runs. One of the two functions is called, once.
func Work(ctx context.Context, o Options, here func(context.Context, *Daemon) error, beside func(context.Context, *control.Client) error) error {
	_, err := besideOr(ctx, o.Config, func() (struct{}, error) {
		d, err := Open(ctx, o)
		if err != nil {
			return struct{}{}, err
		}
		if err = d.Start(ctx, false); err == nil {
			err = here(ctx, d)
		}
		return struct{}{}, errors.Join(err, d.Stop())
	}, func(c *control.Client) (struct{}, error) { return struct{}{}, beside(ctx, c) })
	return err
}

// Import feeds files, in any of the forms that consumer/source/file knows, through the ordinary path, beside a running daemon or without one, with the same
// result. See Daemon.Import.
func Import(ctx context.Context, o Options, files []string, io ImportOptions) (sum ImportSummary, err error) {
	err = Work(ctx, o, func(ctx context.Context, d *Daemon) (err error) {
		sum, err = d.Import(ctx, files, io)
		return err
	}, func(ctx context.Context, c *control.Client) (err error) {
		sum, err = importSideBySide(ctx, files, io, c.Import)
		return err
	})
	return sum, err
}
