package e2e

import (
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"
)

// wire is a TCP proxy in front of a server, whose connections can be cut as a broken network does.
type wire struct {
	listener net.Listener
	to       string
	wg       sync.WaitGroup

	mu    sync.Mutex
	ended bool
	ends  map[net.Conn]bool // both of every connection
}

func newWire(t testing.TB, to string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{listener: l, to: to, ends: map[net.Conn]bool{}}
	w.wg.Go(w.accept)
	t.Cleanup(func() {
		_ = l.Close() // accept ends with it
		w.mu.Lock()
		w.ended = true
		w.mu.Unlock()
		w.cut()
		w.wg.Wait()
	})
	return w
}

func (w *wire) address() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(w.listener.Addr().(*net.TCPAddr).Port))
}

func (w *wire) accept() {
	for {
		c, err := w.listener.Accept()
		if err != nil {
			return
		}
		w.wg.Go(func() { w.carry(c) })
	}
}

// carry moves bytes both ways until either end is gone.
func (w *wire) carry(near net.Conn) {
	far, err := net.DialTimeout("tcp", w.to, 2*time.Second)
	if err != nil {
		reset(near)
		return
	}
	if !w.keep(near, far) {
		return
	}
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		both.Go(func() {
			_, _ = io.Copy(way[0], way[1]) // however it ends, the other way ends, too
			_ = near.Close()
			_ = far.Close()
		})
	}
	both.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.ends, near)
	delete(w.ends, far)
}

func (w *wire) keep(near, far net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		reset(near)
		reset(far)
		return false
	}
	w.ends[near], w.ends[far] = true, true
	return true
}

// cut resets all connections at once, whatever is on its way, and gives their number.
func (w *wire) cut() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.ends {
		reset(c)
	}
	return len(w.ends) / 2
}

func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // a reset instead of an orderly end
	}
	_ = c.Close()
}
