package datagrepper

import (
	"context"
	"sync"
	"time"
)

// recorder notes steps once what they say is archived. It works beside the fetching; what comes meanwhile is noted
// together.
type recorder struct {
	state  *State
	key    string
	sink   Sink
	gather time.Duration
	ctx    context.Context
	fail   context.CancelCauseFunc

	mu     sync.Mutex
	queue  []step
	ending bool
	wake   chan struct{}
	hurry  chan struct{} // closed at the end
	done   chan struct{}
	err    error
}

func startRecorder(ctx context.Context, fail context.CancelCauseFunc, o *Options, key string) *recorder {
	r := &recorder{state: o.State, key: key, sink: o.Sink, gather: o.gather, ctx: ctx, fail: fail, wake: make(chan struct{}, 1), hurry: make(chan struct{}), done: make(chan struct{})}
	go r.run()
	return r
}

func (r *recorder) add(s step) {
	r.mu.Lock()
	// Of a window under way only the last step matters.
	if n := len(r.queue); n > 0 && !r.queue[n-1].whole {
		r.queue[n-1] = s
	} else {
		r.queue = append(r.queue, s)
	}
	r.mu.Unlock()
	r.signal()
}

func (r *recorder) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// forget drops what is noted of a window under way: other ones take its place.
func (r *recorder) forget(w Span) error {
	r.add(step{window: w, whole: true})
	return r.ctx.Err()
}

// end notes what is left and gives the first error.
func (r *recorder) end() error {
	r.mu.Lock()
	r.ending = true
	r.mu.Unlock()
	close(r.hurry)
	r.signal()
	<-r.done
	return r.err
}

func (r *recorder) run() {
	defer close(r.done)
	pause := time.NewTicker(r.gather)
	defer pause.Stop()
	for {
		select {
		case <-r.wake:
		case <-r.ctx.Done():
			r.err = context.Cause(r.ctx)
			return
		}
		r.mu.Lock()
		steps, ending := r.queue, r.ending
		r.queue = nil
		r.mu.Unlock()
		if len(steps) > 0 {
			err := r.sink.Archived(r.ctx)
			if err == nil {
				err = r.state.apply(r.key, steps)
			}
			if err != nil {
				r.err = err
				r.fail(err)
				return
			}
		}
		if ending {
			return
		}
		select { // further steps gather meanwhile
		case <-pause.C:
		case <-r.hurry:
		case <-r.ctx.Done():
		}
	}
}
