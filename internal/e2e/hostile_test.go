package e2e

import (
	"crypto/rand"
	be "encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// hostile is a TCP server whose every connection is in the hands of a function, which may take its time: the connection
// is closed under it at the end.
type hostile struct {
	listener net.Listener
	serve    func(net.Conn)
	accepted atomic.Int64

	mu     sync.Mutex
	open   map[net.Conn]bool // nil when all is over
	served sync.WaitGroup
}

func newHostile(t testing.TB, serve func(net.Conn)) *hostile {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &hostile{listener: listener, serve: serve, open: map[net.Conn]bool{}}
	h.served.Go(h.accept)
	t.Cleanup(h.vanish)
	return h
}

func (h *hostile) port() int { return h.listener.Addr().(*net.TCPAddr).Port }

func (h *hostile) accept() {
	for {
		c, err := h.listener.Accept()
		if err != nil {
			return
		}
		h.accepted.Add(1)
		h.mu.Lock()
		over := h.open == nil
		if !over {
			h.open[c] = true
			h.served.Go(func() {
				h.serve(c)
				_ = c.Close() // may be closed
				h.mu.Lock()
				delete(h.open, c)
				h.mu.Unlock()
			})
		}
		h.mu.Unlock()
		if over {
			_ = c.Close() // it was never served
		}
	}
}

// vanish closes everything; what dials it from now on is refused.
func (h *hostile) vanish() {
	_ = h.listener.Close() // may be closed
	h.mu.Lock()
	for c := range h.open {
		_ = c.Close() // ends what serves it
	}
	h.open = nil
	h.mu.Unlock()
	h.served.Wait()
}

// frame encodes a ZMTP 3 frame.
func frame(flags byte, body []byte) []byte {
	if len(body) > 255 {
		return append(be.BigEndian.AppendUint64([]byte{flags | 2}, uint64(len(body))), body...)
	}
	return append([]byte{flags, byte(len(body))}, body...)
}

func zmtpMessage(topic, body string) []byte {
	return append(frame(1, []byte(topic)), frame(0, []byte(body))...)
}

// greeting is that of a ZMTP 3.1 peer without security.
func greeting() []byte {
	b := make([]byte, 64)
	b[0], b[9], b[10], b[11] = 0xff, 0x7f, 3, 1
	copy(b[12:], "NULL")
	return b
}

// shake does a publisher's part of the handshake; what the subscriber says is read and dropped.
func shake(c net.Conn) bool {
	go func() { _, _ = io.Copy(io.Discard, c) }() // ends with the connection
	_, err := c.Write(append(greeting(), frame(4, []byte("\x05READY\x0bSocket-Type\x00\x00\x00\x03PUB"))...))
	return err == nil
}

// over writes until the connection ends, pausing between writes.
func over(c net.Conn, pause time.Duration, next func() []byte) {
	for {
		if _, err := c.Write(next()); err != nil {
			return
		}
		time.Sleep(pause) // a peer's pace, nothing waits for it
	}
}

func untilClosed(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// hostiles are ten ways to harm a subscriber.
func hostiles() map[string]func(net.Conn) {
	const ours, other = "org.fedoraproject.dev.e2e.hostile", "com.example.nobody.asked"
	after := func(b []byte) func(net.Conn) {
		return func(c net.Conn) {
			if shake(c) {
				_, _ = c.Write(b) // the answer is that the connection is closed
				select {
				case <-time.After(time.Minute):
				case <-closed(c):
				}
			}
		}
	}
	return map[string]func(net.Conn){
		"accept-then-close": func(net.Conn) {},
		"silent":            untilClosed,
		"random-bytes": func(c net.Conn) {
			b := make([]byte, 4096)
			_, _ = rand.Read(b) // never fails
			go untilClosed(c)
			over(c, time.Millisecond, func() []byte { return b })
		},
		"huge-frame": after(be.BigEndian.AppendUint64([]byte{2}, 1<<62)),
		"endless-more": func(c net.Conn) {
			if shake(c) {
				over(c, 0, func() []byte { return frame(1, []byte("more and more")) })
			}
		},
		"slowloris": func(c net.Conn) { // a byte now and then: never a whole message
			all, i := append(greeting(), make([]byte, 1<<10)...), -1
			go untilClosed(c)
			over(c, 200*time.Millisecond, func() []byte { i = (i + 1) % len(all); return all[i : i+1] })
		},
		"oversized": func(c net.Conn) { // what the decoder refuses: above 1 MiB, below what breaks the connection
			if shake(c) {
				body := strings.Repeat("x", 3<<19)
				over(c, 100*time.Millisecond, func() []byte { return zmtpMessage(ours, body) })
			}
		},
		"flapping": func(c net.Conn) {
			if shake(c) {
				time.Sleep(50 * time.Millisecond) // a peer's pace, nothing waits for it
				_, _ = c.Write(zmtpMessage(ours, "{")[:20])
			}
		},
		"garbage-json": func(c net.Conn) {
			if shake(c) {
				over(c, 5*time.Millisecond, func() []byte { return zmtpMessage(ours, `{"topic":["\ud800`+strings.Repeat("[", 5000)) })
			}
		},
		"wrong-topics": func(c net.Conn) {
			if shake(c) {
				over(c, 5*time.Millisecond, func() []byte {
					return zmtpMessage(other, `{"topic":"com.example.nobody.asked","timestamp":1,"msg_id":"1","msg":{}}`)
				})
			}
		},
	}
}

// closed tells when the other side has closed a connection that another goroutine reads from: writing shows it.
func closed(c net.Conn) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		over(c, 100*time.Millisecond, func() []byte { return []byte{0} })
	}()
	return done
}

// resources are what a process holds.
type resources struct {
	rss, goroutines, descriptors int64
}

func (d *daemon) resources() (r resources, err error) {
	goroutines, err := d.metric("go_goroutines")
	if err != nil {
		return r, err
	}
	descriptors, err := d.metric("process_open_fds")
	return resources{rss(d.pid()), int64(goroutines), int64(descriptors)}, err
}

func (r resources) String() string {
	return fmt.Sprintf("%d MB, %d goroutines, %d descriptors", r.rss>>20, r.goroutines, r.descriptors)
}

// TestHostile_TenEndpointsBesideAGoodOne holds a daemon between ten hostile publishers and a good one: ten seconds, a
// minute in the long suite.
func TestHostile_TenEndpointsBesideAGoodOne(t *testing.T) {
	t.Parallel()
	during, rate := 10*time.Second, 500
	if long() {
		during = time.Minute
	}
	good := newBus(t, 100_000, 400)
	ports := map[string][]int{"good": {good.port}}
	refused := map[string]int{}
	for name := range hostiles() { // first nobody is there
		refused[name] = port(t)
	}
	all := map[string]*hostile{}
	for name, serve := range hostiles() {
		all[name] = newHostile(t, serve)
		ports[name] = []int{all[name].port()}
	}
	// The measure is the same daemon with the good endpoint and ten that refuse.
	calm := map[string][]int{"good": {good.port}}
	for name, p := range refused {
		calm[name] = []int{p}
	}
	s := newSite(t, map[string]string{"endpoints": endpoints(calm), "statscache.consumer.topics": `["org.fedoraproject.*"]`})
	d := s.start()
	good.waitSubscribed()
	good.publishFor(rate, 3*time.Second)
	d.waitCounted(good.sent, 20*time.Second)
	before := steady(t, d)
	baseline := before.rss
	d.stop()

	s.configure(map[string]string{"endpoints": endpoints(ports), "statscache.consumer.topics": `["org.fedoraproject.*"]`})
	d = s.start()
	good.waitSubscribed()
	began := time.Now()
	largest := int64(0)
	looked := time.Now()
	good.publish(rate, func() bool {
		if time.Since(looked) > 200*time.Millisecond {
			looked = time.Now()
			largest = max(largest, rss(d.pid()))
		}
		return time.Since(began) > during
	})
	took := time.Since(began)
	d.waitFor(20*time.Second, "every good event counted", func() error {
		if n := d.total("volume-1m", ""); n != good.sent {
			return fmt.Errorf("%d events counted, want %d", n, good.sent)
		}
		return nil
	})
	good.check(d)
	rejected := map[string]float64{}
	for _, reason := range []string{"size", "frames", "json", "topic"} {
		n, err := d.metric("statscache_events_rejected_total", `reason="`+reason+`"`)
		if err != nil || n == 0 {
			t.Errorf("nothing rejected for %s (%v)", reason, err)
		}
		rejected[reason] = n
	}
	t.Logf("10 hostile endpoints for %s beside %d good events: all counted; %d MB at most, %d MB among refusing ones; rejected %v",
		took.Round(time.Second), good.sent, largest>>20, baseline>>20, rejected)
	for name, h := range all {
		// The shortest waits are for lost connections: between half a second and one.
		most := int64(took.Seconds()*2.2) + 8
		noteFault(t, "hostile connection: "+name, int(h.accepted.Load()))
		t.Logf("  %-17s %d connections (at most %d)", name, h.accepted.Load(), most)
		if n := h.accepted.Load(); n == 0 || n > most {
			t.Errorf("%s was dialled %d times in %s, want 1 to %d", name, n, took, most)
		}
	}
	if growth := largest - baseline; growth > 50<<20 && !raced { // the race detector's own memory is not the daemon's
		t.Errorf("the daemon grew by %d MB, at most 50 are allowed", growth>>20)
	}
	for _, h := range all {
		h.vanish()
	}
	var after resources
	d.waitFor(20*time.Second, "goroutines and descriptors back to the start", func() (err error) {
		if after, err = d.resources(); err == nil && (after.goroutines > before.goroutines+3 || after.descriptors > before.descriptors+3) {
			err = fmt.Errorf("%s, want as with endpoints that refuse: %s", after, before)
		}
		return err
	})
	noteResult(t, "beside 10 hostile endpoints for "+took.Round(time.Second).String(), fmt.Sprintf("all %d good events counted; grew by %d MB; afterwards %s, before %s",
		good.sent, (largest-baseline)>>20, after, before))
	t.Logf("  after they vanished: %s; among refusing ones: %s", after, before)
	d.stop()
	s.verifyClean()
}

// steady gives the resources of a daemon that has come to rest: the most memory, and the fewest goroutines and
// descriptors, of a few looks.
func steady(t testing.TB, d *daemon) resources {
	t.Helper()
	var at resources
	for i := range 5 {
		r, err := d.resources()
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			at = r
		}
		at = resources{max(at.rss, r.rss), min(at.goroutines, r.goroutines), min(at.descriptors, r.descriptors)}
		time.Sleep(100 * time.Millisecond) // another process: there is nothing to wait on
	}
	return at
}
