package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// part is something that runs until it is cancelled.
type part struct {
	cancel context.CancelFunc
	done   chan struct{} // closed at its end
}

// launch has a part run. What it returns before it is cancelled is why the daemon ends.
func (d *Daemon) launch(name string, run func(context.Context) error) part {
	ctx, cancel := context.WithCancel(context.Background())
	p := part{cancel, make(chan struct{})}
	go func() {
		defer close(p.done)
		if err := run(ctx); err != nil && ctx.Err() == nil {
			d.fail(fmt.Errorf("%s: %w", name, err))
		}
	}()
	return p
}

// stopWith has Stop end a part at this place of its order.
func (d *Daemon) stopWith(name string, p part) {
	d.onStop(name, func() error {
		p.cancel()
		select {
		case <-p.done:
			return nil
		case <-time.After(time.Until(d.stopBy)):
			return errors.New("did not stop in time")
		}
	})
}

// background runs a part until Stop.
func (d *Daemon) background(name string, run func(context.Context) error) {
	d.stopWith(name, d.launch(name, run))
}

// fail ends the daemon's life. The first error is the one that is told.
func (d *Daemon) fail(err error) {
	select {
	case d.failed <- err:
	default:
	}
	d.die(err)
}

// alive gives a context that ends when ctx does or when a part of the daemon gives up; its cause says why.
func (d *Daemon) alive(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(d.life, func() { cancel(context.Cause(d.life)) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// Failed gives the error of a part that gave up, which is why the daemon should be stopped.
func (d *Daemon) Failed() <-chan error { return d.failed }
