package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/statscache/statscache/consumer/control"
)

const (
	// answerWithin is how long a daemon that holds the data dir may take to answer: it may be starting.
	answerWithin = 15 * time.Second
	// answerPause is the time between two attempts.
	answerPause = 100 * time.Millisecond
)

// Work does a piece of work in a data dir: with a daemon of its own in this process where none runs, else through the
// control socket of the one that runs. One of the two functions is called, once.
func Work(ctx context.Context, o Options, here func(context.Context, *Daemon) error, beside func(context.Context, *control.Client) error) error {
	deadline := time.Now().Add(answerWithin)
	for {
		d, err := Open(ctx, o)
		if err == nil {
			if err = d.Start(ctx, false); err == nil {
				err = here(ctx, d)
			}
			return errors.Join(err, d.Stop())
		}
		if !errors.Is(err, ErrLocked) {
			return err
		}
		client := control.NewClient(control.Path(o.Config.DataDir))
		_, asked := client.Plugins(ctx)
		if asked == nil {
			return beside(ctx, client)
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return fmt.Errorf("%w (%w)", err, asked)
		}
		select { // it is about to listen, or it is a command that will soon be done
		case <-time.After(answerPause):
		case <-ctx.Done():
		}
	}
}

// Import feeds files of JSON lines through the ordinary path, beside a running daemon or without one, with the same
// result. See Daemon.Import.
func Import(ctx context.Context, o Options, files []string, io ImportOptions) (sum ImportSummary, err error) {
	err = Work(ctx, o, func(ctx context.Context, d *Daemon) (err error) {
		sum, err = d.Import(ctx, files, io)
		return err
	}, func(ctx context.Context, c *control.Client) (err error) {
		next, _ := openFiles(files, io.Stdin) // after an error the last file may be being read still: the process closes it
		sum, err = c.Import(ctx, next, io.control())
		return err
	})
	return sum, err
}
