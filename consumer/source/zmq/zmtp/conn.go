// Package zmtp guards a connection that speaks ZMTP, so that no peer can make the library on top of it allocate, wait
// or panic without bounds.
package zmtp

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// ErrSilent is why a connection ends whose peer answered no PING.
var ErrSilent = errors.New("peer is silent")

const (
	bufferBytes  = 64 << 10
	writeTimeout = 5 * time.Second
)

// Conn is a net.Conn that buffers what it receives and vets its framing before it hands it on: whoever reads from it
// never sees the header of a frame that breaks the limits, but an error in its place. It is for one goroutine, as
// reads may write PINGs; only Wake may be called from others.
type Conn struct {
	net.Conn
	framing framing
	buf     []byte
	r, w    int    // buf[r:w] is vetted and not yet handed out
	out     uint64 // bytes handed out
	err     error  // what follows buf[r:w]

	unwritable bool

	every time.Duration // heartbeat; 0: none
	armed time.Time     // when the read deadline was last set

	onWake func() []byte
	mu     sync.Mutex // orders Wake's deadline and ours
	woken  bool
}

// Guard wraps a connection on which nothing was read yet.
func Guard(c net.Conn, limits Limits) *Conn {
	return &Conn{Conn: c, framing: framing{limits: limits, left: greetingBytes}, buf: make([]byte, bufferBytes)}
}

// Read hands on vetted bytes.
func (c *Conn) Read(p []byte) (int, error) {
	if c.r == c.w {
		if c.err != nil {
			return 0, c.err
		}
		if len(p) >= len(c.buf) { // the rest of a large body: straight to its place
			n := c.receive(p)
			c.out += uint64(n)
			if n == 0 {
				return 0, c.err
			}
			return n, nil
		}
		c.r, c.w = 0, c.receive(c.buf)
		if c.w == 0 {
			return 0, c.err
		}
	}
	n := copy(p, c.buf[c.r:c.w])
	c.r += n
	c.out += uint64(n)
	return n, nil
}

// receive reads into p, vets it, and gives how much of it is good; c.err says what follows.
func (c *Conn) receive(p []byte) int {
	n, err := c.await(p)
	good, bad := c.framing.vet(p[:n])
	if c.err = err; bad != nil {
		c.err = bad
	}
	return good
}

// Buffered says whether a whole message or command waits in the buffer. It is to be asked between messages: reading
// the next one doesn't wait then.
func (c *Conn) Buffered() bool { return c.framing.whole > c.out }

// Write bounds the time a peer may take to accept what is written.
func (c *Conn) Write(p []byte) (int, error) {
	if err := c.Conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(p)
	c.unwritable = c.unwritable || err != nil
	return n, err
}

// Ended says whether reading has met the end of the connection, an error or a broken frame, or writing has failed.
func (c *Conn) Ended() bool { return c.err != nil || c.unwritable }

// Version is the ZMTP version that the peer announced; zeros before its greeting has come.
func (c *Conn) Version() (major, minor byte) { return c.framing.major, c.framing.minor }

// Heartbeat makes reads send a PING after so much silence and fail with ErrSilent after as much again. The peer must
// speak ZMTP 3.1 at least: older ones don't know PING. It replaces the connection's read deadline.
func (c *Conn) Heartbeat(every time.Duration) { c.every, c.armed = every, time.Time{} }

// OnWake sets what gives the frames to send when a read is woken. It is called by the goroutine that reads.
func (c *Conn) OnWake(f func() []byte) { c.onWake = f }

// Wake makes the read under way, or the next one, send what the function of OnWake gives. It doesn't wait for that.
// Nobody but the connection may set a read deadline any more.
func (c *Conn) Wake() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.woken = true
	return c.Conn.SetReadDeadline(time.Unix(1, 0))
}

// await reads from the peer, with the heartbeat where it is armed.
func (c *Conn) await(p []byte) (int, error) {
	for pinged := false; ; {
		woken, err := c.arm(pinged)
		if err != nil {
			return 0, err
		}
		// All writes are made whole by the goroutine that also writes the library's PONGs: frames never interleave.
		if woken && c.onWake != nil {
			if out := c.onWake(); len(out) > 0 {
				if _, err := c.Write(out); err != nil {
					return 0, fmt.Errorf("send when woken: %w", err)
				}
			}
		}
		n, err := c.Conn.Read(p)
		var timeout net.Error
		if n > 0 || !errors.As(err, &timeout) || !timeout.Timeout() {
			return n, err
		}
		switch {
		case c.wanted(): // it was no silence
		case c.every <= 0:
			return n, err
		case pinged:
			return 0, fmt.Errorf("%w: no answer to a PING within %s", ErrSilent, c.every)
		default:
			if _, err := c.Write([]byte("\x04\x07\x04PING\x00\x00")); err != nil {
				return 0, fmt.Errorf("send PING: %w", err)
			}
			pinged = true
		}
	}
}

// arm sets the read deadline, and says whether the read was woken meanwhile. The deadline is set anew only when an
// eighth of it has passed: on a busy connection that saves a timer per read.
func (c *Conn) arm(pinged bool) (woken bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	woken, c.woken = c.woken, false
	if c.every <= 0 {
		if woken && c.onWake != nil {
			err = c.Conn.SetReadDeadline(time.Time{})
		}
		return woken, err
	}
	if now := time.Now(); pinged || woken || now.Sub(c.armed) > c.every/8 {
		c.armed = now
		err = c.Conn.SetReadDeadline(now.Add(c.every))
	}
	return woken, err
}

func (c *Conn) wanted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.woken
}
