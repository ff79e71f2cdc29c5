package zmqpub

import (
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/statscache/statscache/consumer/source/zmq"
	"github.com/statscache/statscache/internal/eventually"
	"github.com/statscache/statscache/internal/testpython"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func listen(t *testing.T, o Options) *Publisher {
	t.Helper()
	p, err := Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// sink counts messages by topic; while it is held it takes nothing.
type sink struct {
	mu   sync.Mutex
	got  map[string]int
	hold chan struct{}
}

func (s *sink) Deliver(ctx context.Context, _ zmq.Peer, batch [][][]byte) error {
	if s.hold != nil {
		select {
		case <-s.hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, frames := range batch {
		s.got[string(frames[0])]++
	}
	return nil
}

func (s *sink) count(topic string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got[topic]
}

func subscribe(t *testing.T, p *Publisher, s *sink, topics ...string) (stop func()) {
	t.Helper()
	s.got = map[string]int{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	source := zmq.New(zmq.Options{Endpoints: []zmq.Endpoint{{Name: "p", Address: p.Address()}}, Topics: topics, Sink: s})
	go func() { done <- source.Run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestPublisher_SendsToWhoeverSubscribed(t *testing.T) {
	p := listen(t, Options{Queue: 10_000})
	var all, some sink
	defer subscribe(t, p, &all)()
	stop := subscribe(t, p, &some, "a.")
	eventually.True(t, 10*time.Second, "two subscribers", func() bool { return p.Connected() == 2 })
	body := make([]byte, 300)
	for i := range 1000 {
		p.Publish([]string{"a.x", "b.x"}[i%2], body)
	}
	eventually.True(t, 10*time.Second, "all sent", func() bool { return all.count("a.x") == 500 && all.count("b.x") == 500 && some.count("a.x") == 500 })
	if n := some.count("b.x"); n != 0 || p.Dropped() != 0 {
		t.Errorf("%d of another topic, %d dropped", n, p.Dropped())
	}
	stop()
	eventually.True(t, 10*time.Second, "one is gone", func() bool { return p.Connected() == 1 })
}

func TestPublisher_DropsForASlowSubscriberAndCounts(t *testing.T) {
	p := listen(t, Options{Queue: 10})
	s := sink{hold: make(chan struct{})}
	defer subscribe(t, p, &s)()
	eventually.True(t, 10*time.Second, "subscribed", func() bool { return p.Connected() == 1 })
	const n = 3000
	for body := make([]byte, 20_000); p.Dropped() < n; { // more than sockets can hold
		p.Publish("t", body)
	}
	close(s.hold)
	eventually.True(t, 10*time.Second, "received again", func() bool { p.Publish("u", nil); return s.count("u") > 0 })
}

func TestPublisher_CloseSendsWhatIsQueued(t *testing.T) {
	p := listen(t, Options{Queue: 10_000})
	var s sink
	defer subscribe(t, p, &s)()
	eventually.True(t, 10*time.Second, "subscribed", func() bool { return p.Connected() == 1 })
	for range 5000 {
		p.Publish("t", make([]byte, 500))
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	p.Publish("t", nil) // nobody there, and no harm
	eventually.True(t, 10*time.Second, "all received", func() bool { return s.count("t") == 5000 })
}

func TestPublisher_CloseDoesNotWaitForWhoDoesNotRead(t *testing.T) {
	p := listen(t, Options{})
	s := sink{hold: make(chan struct{})}
	defer subscribe(t, p, &s)()
	silent, err := net.Dial("tcp", p.Address()) // never shakes hands
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	eventually.True(t, 10*time.Second, "subscribed", func() bool { return p.Connected() == 1 })
	for body := make([]byte, 20_000); p.Dropped() == 0; {
		p.Publish("t", body)
	}
	began := time.Now()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("Close took %s", d)
	}
}

func TestPublisher_SurvivesHostilePeers(t *testing.T) {
	p := listen(t, Options{})
	greeting := make([]byte, 64)
	greeting[0], greeting[9], greeting[10] = 0xff, 0x7f, 3
	copy(greeting[12:], "NULL")
	ready := "\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03SUB"
	for name, send := range map[string]string{
		"HTTP":               "GET / HTTP/1.1\r\n\r\n" + strings.Repeat("x", 100),
		"no Socket-Type":     string(greeting) + "\x04\x06\x05READY",
		"2^62 bytes":         string(greeting) + ready + "\x02\x40\x00\x00\x00\x00\x00\x00\x00",
		"many frames":        string(greeting) + ready + "\x01\x01a\x00\x01b",
		"many subscriptions": string(greeting) + ready + many(2000),
	} {
		c, err := net.Dial("tcp", p.Address())
		if err != nil {
			t.Fatal(err)
		}
		if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		go io.WriteString(c, send)
		if _, err := io.Copy(io.Discard, c); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%s: not hung up on: %v", name, err)
		}
		c.Close()
	}
	var s sink
	defer subscribe(t, p, &s)()
	eventually.True(t, 10*time.Second, "subscribed", func() bool { return p.Connected() == 1 })
	p.Publish("t", nil)
	eventually.True(t, 10*time.Second, "received", func() bool { return s.count("t") == 1 })
}

func many(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "\x00\x05\x01%04d", i)
	}
	return b.String()
}

func TestPublisher_ServesLibzmq(t *testing.T) {
	python := testpython.Find(t)
	p := listen(t, Options{Queue: 10_000})
	const script = `
import sys, zmq
sub = zmq.Context().socket(zmq.SUB)
sub.setsockopt(zmq.HEARTBEAT_IVL, 100)
sub.setsockopt(zmq.HEARTBEAT_TIMEOUT, 1000)
sub.setsockopt(zmq.RCVTIMEO, 10000)
sub.setsockopt(zmq.RCVHWM, 0)
sub.setsockopt(zmq.SUBSCRIBE, b"org.")
sub.setsockopt(zmq.SUBSCRIBE, b"net.")
sub.setsockopt(zmq.UNSUBSCRIBE, b"net.")
sub.connect("tcp://" + sys.argv[1])
for i in range(2000):
    topic, body = sub.recv_multipart()
    assert topic == b"org.x" and body == b"%d" % i + b" " * 300, (i, topic, body)
print("ok")`
	cmd := exec.CommandContext(t.Context(), python, "-c", script, p.Address())
	out := make(chan string, 1)
	go func() {
		b, err := cmd.CombinedOutput()
		out <- fmt.Sprint(string(b), err)
	}()
	eventually.True(t, 10*time.Second, "subscribed", func() bool { return p.Connected() == 1 })
	for i := range 2000 {
		if i%500 == 499 {
			time.Sleep(300 * time.Millisecond) // PINGs of an idle subscriber come in between
		}
		p.Publish("net.x", nil)
		p.Publish("org.x", fmt.Appendf(nil, "%d%300s", i, ""))
	}
	if got := <-out; got != "ok\n<nil>" {
		t.Error(got)
	}
}

func BenchmarkPublish(b *testing.B) {
	p, err := Listen(Options{Queue: b.N + 1})
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	s := &sink{got: map[string]int{}}
	source := zmq.New(zmq.Options{Endpoints: []zmq.Endpoint{{Name: "p", Address: p.Address()}}, Sink: s})
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error)
	go func() { done <- source.Run(ctx) }()
	eventually.True(b, 10*time.Second, "connected", func() bool { return p.Connected() > 0 })
	body := make([]byte, 400)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		p.Publish("org.fedoraproject.prod.test", body)
	}
	for s.count("org.fedoraproject.prod.test") < b.N {
		time.Sleep(100 * time.Microsecond)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
	cancel()
	<-done
}

func TestPublisher_AnswersPingsWithTheirContext(t *testing.T) {
	p := listen(t, Options{})
	c, err := net.Dial("tcp", p.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	greeting := make([]byte, 64)
	greeting[0], greeting[9], greeting[10], greeting[11] = 0xff, 0x7f, 3, 1
	copy(greeting[12:], "NULL")
	io.WriteString(c, string(greeting)+"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03SUB"+"\x04\x09\x04PING\x00\x1eab")
	var got strings.Builder
	for one := make([]byte, 1); !strings.HasSuffix(got.String(), "\x04\x07\x04PONGab"); {
		if _, err := io.ReadFull(c, one); err != nil {
			t.Fatalf("after %q: %v", got.String(), err)
		}
		got.Write(one)
	}
}
