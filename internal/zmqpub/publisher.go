// Package zmqpub is a small ZeroMQ publisher for the demo bus and for tests.
package zmqpub

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	defaultQueue     = 1000 // libzmq's high-water mark
	maxSubscribers   = 256
	maxTopics        = 1024 // of one subscriber
	handshakeTimeout = 5 * time.Second
	lingerTimeout    = time.Second // for what is queued at Close
)

// Options say where to listen.
type Options struct {
	Address string // host:port; a free port of the loopback interface where it is empty
	Queue   int    // messages kept for a subscriber that doesn't keep up; 1,000 where it is 0
	Logger  *slog.Logger
}

// Publisher is a PUB socket. Its methods may be called from any goroutine.
type Publisher struct {
	listener net.Listener
	queue    int
	log      *slog.Logger
	dropped  atomic.Uint64
	wg       sync.WaitGroup

	mu          sync.Mutex
	closed      bool
	connections map[net.Conn]struct{} // every open one, those that still shake hands included
	subscribers map[*subscriber]struct{}
}

// Listen opens the socket.
func Listen(options Options) (*Publisher, error) {
	if options.Address == "" {
		options.Address = "127.0.0.1:0"
	}
	if options.Queue <= 0 {
		options.Queue = defaultQueue
	}
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	listener, err := net.Listen("tcp", options.Address)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	p := &Publisher{
		listener: listener, queue: options.Queue, log: options.Logger.With("component", "zmqpub"),
		connections: map[net.Conn]struct{}{}, subscribers: map[*subscriber]struct{}{},
	}
	p.wg.Go(p.accept)
	return p, nil
}

// Address is the host:port that it listens on.
func (p *Publisher) Address() string { return p.listener.Addr().String() }

// Publish sends a message of two frames to whoever subscribed to its topic. It never blocks: for a subscriber whose
// queue is full the message is dropped, as a PUB socket does, and counted. body may be reused afterwards.
func (p *Publisher) Publish(topic string, body []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var wire []byte // encoded once for all
	for s := range p.subscribers {
		if !s.wants(topic) {
			continue
		}
		if wire == nil {
			wire = make([]byte, 0, len(topic)+len(body)+18)
			wire = appendFrame(wire, flagMore, []byte(topic))
			wire = appendFrame(wire, 0, body)
		}
		select {
		case s.queue <- wire:
		default:
			p.dropped.Add(1)
		}
	}
}

// Connected is the number of subscribers that have subscribed to something.
func (p *Publisher) Connected() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for s := range p.subscribers {
		if s.subscribed() {
			n++
		}
	}
	return n
}

// Dropped is how many messages were not sent to a subscriber whose queue was full.
func (p *Publisher) Dropped() uint64 { return p.dropped.Load() }

// Close stops listening, sends what is queued (for a second at most) and closes every connection. It may be called
// again.
func (p *Publisher) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	err := p.listener.Close()
	deadline := time.Now().Add(lingerTimeout)
	handshaken := map[net.Conn]bool{}
	for s := range p.subscribers {
		handshaken[s.raw] = true
		s.linger(deadline)
	}
	for c := range p.connections {
		if !handshaken[c] {
			c.Close()
		}
	}
	p.mu.Unlock()
	p.wg.Wait()
	if err != nil {
		return fmt.Errorf("close listener: %w", err)
	}
	return nil
}

func (p *Publisher) accept() {
	for {
		c, err := p.listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // out of file descriptors, or a peer gone again: the next one may succeed
			p.log.Warn("accept failed", "error", err)
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if !p.admit(c) {
			c.Close()
			continue
		}
		p.wg.Go(func() {
			defer p.release(c)
			if err := p.serve(c); err != nil {
				p.log.Debug("subscriber is gone", "address", c.RemoteAddr(), "reason", err)
			}
		})
	}
}

func (p *Publisher) admit(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.connections) >= maxSubscribers {
		return false
	}
	p.connections[c] = struct{}{}
	return true
}

func (p *Publisher) release(c net.Conn) {
	c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.connections, c)
}

// join makes Publish see a subscriber; false when the publisher is being closed.
func (p *Publisher) join(s *subscriber) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.subscribers[s] = struct{}{}
	return true
}

// leave takes a subscriber out and ends its queue, so that its writer stops.
func (p *Publisher) leave(s *subscriber) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.subscribers, s)
	s.endQueue()
}

const (
	flagMore    = 1
	flagLong    = 2
	flagCommand = 4
)

func appendFrame(wire []byte, flags byte, body []byte) []byte {
	if len(body) > 255 {
		wire = append(wire, flags|flagLong)
		wire = binary.BigEndian.AppendUint64(wire, uint64(len(body)))
	} else {
		wire = append(wire, flags, byte(len(body)))
	}
	return append(wire, body...)
}

// prefixed says whether any of the prefixes matches.
func prefixed(topic string, prefixes map[string]int) bool {
	for p := range prefixes {
		if strings.HasPrefix(topic, p) {
			return true
		}
	}
	return false
}
