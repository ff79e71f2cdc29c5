package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/statscache/statscache/internal/failpoint"
	pb "github.com/statscache/statscache/plugins/proto"
)

// errDeadline is what a plugin has done that did not answer in time.
var errDeadline = errors.New("no answer in time")

// maxIdle bounds how many batches without events may wait behind unanswered ones.
const maxIdle = 64

// pump feeds a session with batches, several under way at once, and hands on checked answers in the order of the
// batches. Batches without events pass in their order, too, but are not sent.
type pump struct {
	session  *Session
	def      *definition
	deadline time.Duration
	most     int        // batches under way at once
	window   func() int // the same as of now, never more
	source   <-chan *batch
	points   failpoint.Hook // whose errors are no fault of the plugin
	// answered takes an answer (nil for a batch without events). Its errors end the pump and are no fault of the plugin.
	answered func(*batch, *pb.Result) error
}

// fault is a failure of the plugin: a crash, a missed deadline or a wrong answer.
type fault struct {
	blamed *batch // the oldest one without an answer; nil where none was under way
	err    error
	broken bool // the connection failed: how the process ended may tell why
}

func (f *fault) Error() string { return f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

type answer struct {
	result *pb.Result
	err    error
}

// run works until the source is closed and everything is answered, ctx ends (nil), answered fails, or the plugin does
// (a *fault). After anything but nil, and after the end of ctx, the session must be closed.
func (p *pump) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan answer)
	go receive(ctx, p.session, answers)
	send := make(chan frame, p.most) // never blocks: no more are under way
	defer close(send)
	unsent := make(chan error, 1)
	go p.transmit(send, unsent)

	late := time.NewTimer(time.Hour)
	defer late.Stop()
	source := p.source
	var waiting []*batch // in order; those with a frame are under way
	sent := 0
	take := func(a answer) error {
		if a.err != nil || len(waiting) == 0 {
			return p.failed(waiting, a.err, a.err != nil)
		}
		if err := p.def.checkAnswer(waiting[0], a.result); err != nil {
			return p.failed(waiting, err, false)
		}
		if err := p.points.Around(failpoint.PluginResult, func() error { return p.answered(waiting[0], a.result) }); err != nil {
			return err
		}
		waiting = waiting[1:]
		if sent--; sent > 0 {
			late.Reset(p.deadline) // of the next oldest: it could not be worked on before
		} else {
			late.Stop()
		}
		return nil
	}
	for source != nil || len(waiting) > 0 {
		more := source
		if sent >= p.window() || len(waiting) >= p.most+maxIdle {
			more = nil
		}
		var err error
		select {
		case b, ok := <-more:
			if !ok {
				source = nil
				continue
			}
			waiting = append(waiting, b)
			if b.frame != nil {
				if sent++; sent == 1 {
					late.Reset(p.deadline)
				}
				send <- b.frame
			}
		case a := <-answers:
			err = take(a)
		case err = <-unsent:
		case <-late.C:
			select {
			case a := <-answers: // it was here that time was lost, not there
				err = take(a)
			default:
				err = p.failed(waiting, fmt.Errorf("%w (%v)", errDeadline, p.deadline), false)
			}
		case <-ctx.Done():
			return nil
		}
		for err == nil && len(waiting) > 0 && waiting[0].frame == nil {
			err = p.answered(waiting[0], nil)
			waiting = waiting[1:]
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *pump) failed(waiting []*batch, err error, broken bool) error {
	f := &fault{err: err, broken: broken}
	switch {
	case len(waiting) > 0:
		f.blamed = waiting[0]
	case err == nil:
		f.err = errors.New("wrong answer: there was no question")
	}
	if errors.Is(err, io.EOF) {
		f.err = errors.New("the plugin closed the stream")
	}
	return f
}

// receive passes answers on, and the error that ends them.
func receive(ctx context.Context, s *Session, to chan<- answer) {
	for {
		r, err := s.Recv()
		select {
		case to <- answer{r, err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// transmit sends what comes until there is no more. That a send failed is seen by receive, with the reason; unsent is
// told of an error of a failpoint.
func (p *pump) transmit(frames <-chan frame, unsent chan<- error) {
	ok := true
	for f := range frames {
		if !ok {
			continue
		}
		err := p.points.Before(failpoint.PluginSend)
		if err == nil {
			ok = p.session.Send(f) == nil
			err = p.points.After(failpoint.PluginSend)
		}
		if err != nil {
			ok = false
			unsent <- err // the first one, as ok stays false
		}
	}
}
