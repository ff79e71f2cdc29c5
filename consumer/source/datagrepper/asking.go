package datagrepper

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// page asks for a page until it comes, within patience.
func (f *fetcher) page(ctx context.Context, s Span, number int) (*page, error) {
	for failures := 0; ; {
		if err := f.rest(ctx); err != nil {
			return nil, err
		}
		p, err := f.ask(ctx, s, number)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err == nil {
			f.inARow = 0
			return p, nil
		}
		f.result.Failures++
		f.inARow++
		pause := pauseAfter(f.inARow)
		var t throttled
		switch {
		case errors.Is(err, errRefused):
			return nil, err
		case errors.As(err, &t) && t.wait > longestWait:
			return nil, fmt.Errorf("the archive asks to be left alone for %s: run it again then, it goes on where it is now", t.wait)
		case errors.As(err, &t):
			pause = max(pause, t.wait)
		default:
			failures++
		}
		if f.inARow >= patience {
			return nil, fmt.Errorf("%d attempts failed, the last one: %w; run it again later, it goes on where it is now", f.inARow, err)
		}
		f.o.Logger.Debug("the archive failed; it is asked again", "error", err, "after", pause)
		if err := f.o.Sleep(ctx, pause); err != nil {
			return nil, err
		}
		if failures >= halveAfter && s.len() > 1 {
			return nil, errHalve
		}
	}
}

// ask sends a request, or takes the answer to the one that was sent ahead.
func (f *fetcher) ask(ctx context.Context, s Span, number int) (*page, error) {
	a := f.ahead
	f.ahead = nil
	if a != nil {
		got := <-a.answer // a client sends one request at a time, also where this one is not wanted any more
		a.cancel()
		if a.span == s && a.number == number {
			return got.page, got.err
		}
	}
	began := f.o.Now()
	p, err := f.client.page(ctx, s, number)
	f.last = f.o.Now()
	f.took = f.last.Sub(began)
	f.result.Requests++
	return p, err
}

// askAhead sends the request for the page that comes next, to an archive that needs no rest.
func (f *fetcher) askAhead(ctx context.Context, s Span, number int) {
	if f.rate != 0 {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	a := &ahead{span: s, number: number, answer: make(chan answer, 1), cancel: cancel}
	f.ahead = a
	f.result.Requests++
	go func() {
		p, err := f.client.page(ctx, s, number)
		a.answer <- answer{p, err}
	}()
}

// pauseAfter doubles with every failure; chance keeps several readers apart.
func pauseAfter(failures int) time.Duration {
	p := min(firstPause<<min(failures-1, 10), maxPause)
	return p - time.Duration(rand.Int64N(int64(p)/4))
}

// rest leaves the archive alone for a moment, as long as it worked on the last request.
func (f *fetcher) rest(ctx context.Context) error {
	if f.rate == 0 || f.last.IsZero() {
		return ctx.Err()
	}
	gap := time.Duration(float64(time.Second) / f.rate)
	if f.o.Rate == 0 {
		gap = max(gap, f.took+min(f.took, restMax))
	}
	if wait := gap - f.took - f.o.Now().Sub(f.last); wait > 0 {
		return f.o.Sleep(ctx, wait)
	}
	return ctx.Err()
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
