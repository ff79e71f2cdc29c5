package zmq

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"time"

	"github.com/go-zeromq/zmq4"
	"github.com/go-zeromq/zmq4/security/null"

	"github.com/statscache/statscache/consumer/source/zmq/zmtp"
)

// sinkError is a failure of the sink rather than of the endpoint.
type sinkError struct{ err error }

func (e *sinkError) Error() string { return "deliver: " + e.err.Error() }
func (e *sinkError) Unwrap() error { return e.err }

// session dials an endpoint once and receives until the connection ends, which is always an error, or ctx does.
// connected is called when it is subscribed.
//
// zmq4.Open and zmq4.Conn are used rather than zmq4.NewSub, which loses endpoints, has no limits and no deadlines.
// Open neither closes the connection on an error nor is free of panics on what a peer may send: both are dealt with
// here.
func (s *Source) session(ctx, sinkCtx context.Context, l *link, connected func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("session panicked", "endpoint", l.name(), "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("%w: panic: %v", zmtp.ErrProtocol, p)
		}
	}()
	dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	raw, err := s.options.Dial(dialCtx, "tcp", l.snapshot().Address)
	cancel()
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	defer closeWith(ctx, raw)()

	guard := zmtp.Guard(raw, s.limits)
	subs := &subscribed{topics: s.subscriptions()}
	conn, err := s.handshake(raw, guard, subs.topics)
	if err != nil {
		return err
	}
	guard.OnWake(func() []byte { return subs.change(s.subscriptions(), time.Now()) })
	if err := l.attach(guard); err != nil {
		return fmt.Errorf("follow the subscriptions: %w", err)
	}
	defer l.detach()
	l.update(func(h *Health) {
		h.State, h.Since = Up, s.options.Now()
		if h.Connects++; h.Connects > 1 {
			h.Reconnects++
		}
	})
	connected()
	return s.receive(sinkCtx, l, conn, guard, subs, remoteOf(raw))
}

// remoteOf names the other side of a connection.
func remoteOf(c net.Conn) string {
	if a := c.RemoteAddr(); a != nil {
		return a.String()
	}
	return ""
}

// closeWith closes c when ctx ends. The function it returns closes c too, and returns when nothing of it runs any more.
func closeWith(ctx context.Context, c net.Conn) func() {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		c.Close() // nothing was written that could be lost
	})
	return func() {
		c.Close()
		if !stop() {
			<-done
		}
	}
}

// handshake opens the ZMTP connection and subscribes, all of it within handshakeTimeout.
func (s *Source) handshake(raw net.Conn, guard *zmtp.Conn, topics []string) (*zmq4.Conn, error) {
	if err := raw.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return nil, fmt.Errorf("handshake: %w", err)
	}
	conn, err := zmq4.Open(guard, null.Security(), zmq4.Sub, nil, false, nil)
	if err != nil {
		return nil, fmt.Errorf("handshake: %w", broken(err, guard))
	}
	for _, topic := range topics {
		if err := conn.SendMsg(zmq4.NewMsg(append([]byte{1}, topic...))); err != nil {
			return nil, fmt.Errorf("subscribe to %q: %w", topic, err)
		}
	}
	if err := raw.SetDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("handshake: %w", err)
	}
	if major, minor := guard.Version(); s.options.Heartbeat > 0 && (major > 3 || major == 3 && minor >= 1) {
		guard.Heartbeat(s.options.Heartbeat)
	}
	return conn, nil
}

// broken marks an error that the library found in what the peer said: it calls some of them io.ErrUnexpectedEOF, as if
// the connection had ended.
func broken(err error, guard *zmtp.Conn) error {
	var network net.Error
	if guard.Ended() || errors.As(err, &network) || errors.Is(err, io.ErrClosedPipe) {
		return err // a connection that is gone may be noticed by the first write, too
	}
	return fmt.Errorf("%w: %w", zmtp.ErrProtocol, err)
}

// receive reads messages and hands them to the sink: as many at once as have come whole already, so that a burst costs
// one call per batch, and a single message doesn't wait for company.
func (s *Source) receive(ctx context.Context, l *link, conn *zmq4.Conn, guard *zmtp.Conn, subs *subscribed, remote string) error {
	size := 1 // of the last batch, as a guess at the next one's
	for {
		batch := make([][][]byte, 0, size)
		received, wrong := 0, 0
		var failed error
		for range maxBatch { // commands count too, or a flood of them could hold back what was received
			msg, err := conn.RecvMsg()
			if err != nil {
				failed = fmt.Errorf("receive: %w", broken(err, guard))
				break
			}
			if msg.Type != zmq4.CmdMsg {
				if received++; subs.cover(msg.Frames) {
					batch = append(batch, msg.Frames)
				} else {
					wrong++
				}
			}
			if !guard.Buffered() {
				break
			}
		}
		if received > 0 {
			l.update(func(h *Health) {
				h.Received += uint64(received)
				h.WrongTopic += uint64(wrong)
				h.LastEvent = s.options.Now()
			})
		}
		if len(batch) > 0 {
			size = len(batch)
			if err := s.options.Sink.Deliver(ctx, Peer{l.endpoint(), remote}, batch); err != nil {
				l.update(func(h *Health) { h.Undelivered += uint64(len(batch)) })
				return &sinkError{err}
			}
		}
		if failed != nil {
			return failed
		}
	}
}
