package zmqpub

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/go-zeromq/zmq4"
	"github.com/go-zeromq/zmq4/security/null"

	"github.com/statscache/statscache/consumer/source/zmq/zmtp"
)

// subscriber is one connection after its handshake. Its reader follows the subscriptions, its writer sends; only the
// writer writes, so that frames never interleave.
type subscriber struct {
	raw   net.Conn
	queue chan []byte // frames as they go over the wire
	ended bool        // queue is closed; guarded by Publisher.mu

	mu     sync.RWMutex
	topics map[string]int // prefix: how often it was subscribed to
}

func (s *subscriber) wants(topic string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return prefixed(topic, s.topics)
}

func (s *subscriber) subscribed() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.topics) > 0
}

// endQueue is called with Publisher.mu held, as are all sends into the queue but PONGs'.
func (s *subscriber) endQueue() {
	if !s.ended {
		s.ended = true
		close(s.queue)
	}
}

// linger lets the writer send what is queued, until the deadline.
func (s *subscriber) linger(deadline time.Time) {
	s.endQueue()
	_ = s.raw.SetWriteDeadline(deadline) // only fails on a closed connection
}

// serve runs one connection to its end.
func (p *Publisher) serve(raw net.Conn) (err error) {
	defer func() {
		if r := recover(); r != nil { // zmq4.Open panics on some handshakes
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	guard := zmtp.Guard(raw, zmtp.Limits{Handshake: 4 << 10, Frame: 4 << 10, Message: 4 << 10, Frames: 1})
	if err := raw.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return err
	}
	if _, err := zmq4.Open(guard, null.Security(), zmq4.Pub, nil, true, nil); err != nil {
		return err
	}
	if err := raw.SetDeadline(time.Time{}); err != nil {
		return err
	}
	s := &subscriber{raw: raw, queue: make(chan []byte, p.queue), topics: map[string]int{}}
	if !p.join(s) {
		return nil
	}
	var writer sync.WaitGroup
	writer.Go(func() {
		defer raw.Close() // wakes the reader
		s.write()
	})
	err = p.follow(s, guard)
	p.leave(s)
	raw.Close()
	writer.Wait()
	return err
}

// write sends what is queued until the queue is closed or the connection fails.
func (s *subscriber) write() {
	w := bufio.NewWriterSize(s.raw, 64<<10)
	for wire := range s.queue {
		if _, err := w.Write(wire); err != nil {
			return
		}
		if len(s.queue) == 0 {
			if err := w.Flush(); err != nil {
				return
			}
		}
	}
	_ = w.Flush() // the connection is closed next, whatever comes of it
}

// follow reads subscriptions and PINGs until the connection ends.
func (p *Publisher) follow(s *subscriber, guard *zmtp.Conn) error {
	r := bufio.NewReader(guard)
	for {
		flags, body, err := readFrame(r)
		switch {
		case err != nil:
			return err
		case flags&flagCommand != 0:
			p.command(s, body)
		case len(body) > 0:
			if err := s.subscribe(body[0], string(body[1:])); err != nil {
				return err
			}
		}
	}
}

// readFrame reads one frame; the guard below has bounded its size.
func readFrame(r *bufio.Reader) (flags byte, body []byte, err error) {
	if flags, err = r.ReadByte(); err != nil {
		return 0, nil, err
	}
	var size [8]byte
	head := size[7:]
	if flags&flagLong != 0 {
		head = size[:]
	}
	if _, err := io.ReadFull(r, head); err != nil {
		return 0, nil, err
	}
	body = make([]byte, binary.BigEndian.Uint64(size[:]))
	_, err = io.ReadFull(r, body)
	return flags, body, err
}

// command answers PING with PONG and its context; other commands mean nothing to a publisher of ZMTP 3.0.
func (p *Publisher) command(s *subscriber, body []byte) {
	const ping = "\x04PING"
	if len(body) < len(ping)+2 || string(body[:len(ping)]) != ping {
		return
	}
	pong := appendFrame(nil, flagCommand, append([]byte("\x04PONG"), body[len(ping)+2:]...))
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.ended {
		return
	}
	select {
	case s.queue <- pong:
	default: // a full queue is sign of life enough
	}
}

// subscribe follows one subscription message: 1 and a prefix, or 0 and a prefix to take it back.
func (s *subscriber) subscribe(what byte, prefix string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch what {
	case 1:
		if s.topics[prefix] == 0 && len(s.topics) >= maxTopics {
			return errors.New("too many subscriptions")
		}
		s.topics[prefix]++
	case 0:
		if s.topics[prefix]--; s.topics[prefix] <= 0 {
			delete(s.topics, prefix)
		}
	}
	return nil
}
