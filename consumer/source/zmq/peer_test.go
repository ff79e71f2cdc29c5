package zmq

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// greeting is a peer's of ZMTP 3.minor with the NULL mechanism.
func greeting(minor byte) []byte {
	b := make([]byte, 64)
	b[0], b[9], b[10], b[11] = 0xff, 0x7f, 3, minor
	copy(b[12:], "NULL")
	return b
}

// ready is the READY command with the properties given, name and value in turn.
func ready(properties ...string) []byte {
	body := []byte("\x05READY")
	for i := 0; i < len(properties); i += 2 {
		body = append(append(body, byte(len(properties[i]))), properties[i]...)
		body = append(binary.BigEndian.AppendUint32(body, uint32(len(properties[i+1]))), properties[i+1]...)
	}
	return frame(nil, 4, body)
}

func frame(b []byte, flags byte, body []byte) []byte {
	if len(body) > 255 {
		b = append(b, flags|2)
		b = binary.BigEndian.AppendUint64(b, uint64(len(body)))
	} else {
		b = append(b, flags, byte(len(body)))
	}
	return append(b, body...)
}

func message(frames ...string) []byte {
	var b []byte
	for i, f := range frames {
		flags := byte(1)
		if i == len(frames)-1 {
			flags = 0
		}
		b = frame(b, flags, []byte(f))
	}
	return b
}

// peer is the other end of one connection, in the hands of a test.
type peer struct {
	net.Conn
	nth int // which connection it is, from 1
}

// shake does a publisher's part of the handshake and reads the subscriptions to so many topics.
func (p peer) shake(minor byte, topics int) []string {
	io.ReadFull(p, make([]byte, 64)) // first: a pipe holds nothing, and both sides begin with a greeting
	p.Write(greeting(minor))
	p.frame()
	p.Write(ready("Socket-Type", "PUB", "Identity", ""))
	var out []string
	for range topics {
		out = append(out, string(p.frame()))
	}
	return out
}

// frame reads a frame; nil when the connection has ended.
func (p peer) frame() []byte {
	head := make([]byte, 2)
	if _, err := io.ReadFull(p, head); err != nil {
		return nil
	}
	body := make([]byte, head[1])
	if _, err := io.ReadFull(p, body); err != nil {
		return nil
	}
	return body
}

// wait blocks until the other side closes.
func (p peer) wait() { io.Copy(io.Discard, p) }

// network dials peers that are goroutines of the test, over net.Pipe: for synctest's clock.
type network struct {
	mu    sync.Mutex
	peers map[string]func(peer)
	dials map[string]int
	at    map[string][]time.Time
	wg    sync.WaitGroup
}

func newNetwork(peers map[string]func(peer)) *network {
	return &network{peers: peers, dials: map[string]int{}, at: map[string][]time.Time{}}
}

var errRefused = &net.OpError{Op: "dial", Err: errors.New("connection refused")}

func (n *network) dial(_ context.Context, _, address string) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dials[address]++
	n.at[address] = append(n.at[address], time.Now())
	serve := n.peers[address]
	if serve == nil {
		return nil, errRefused
	}
	ours, theirs := net.Pipe()
	p := peer{theirs, n.dials[address]}
	n.wg.Go(func() {
		defer theirs.Close()
		serve(p)
	})
	return ours, nil
}

func (n *network) dialled(address string) []time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.at[address])
}

// collector is a sink that keeps what it gets.
type collector struct {
	mu      sync.Mutex
	got     []string // frames joined by |
	batches []int
	fail    func() error
}

func (c *collector) Deliver(ctx context.Context, from Peer, batch [][][]byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fail != nil {
		if err := c.fail(); err != nil {
			return err
		}
	}
	for _, frames := range batch {
		text := from.Name
		for _, f := range frames {
			text += "|" + string(f)
		}
		c.got = append(c.got, text)
	}
	c.batches = append(c.batches, len(batch))
	return nil
}

func (c *collector) texts() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.got)
}

// start runs a source; the function it returns stops it and waits, and may be called again.
func start(s *Source) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(ctx); err != nil {
			panic(fmt.Sprint("Run: ", err))
		}
	}()
	return func() {
		cancel()
		<-done
	}
}
