package zmq

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/eventually"
	"github.com/statscache/statscache/internal/testpython"
)

// publisher is a real libzmq PUB socket in a Python process. A line on its standard input is a command, answered by a
// line.
type publisher struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

const publisherScript = `
import sys, time, zmq
address, heartbeat = sys.argv[1], int(sys.argv[2])
pub = zmq.Context().socket(zmq.XPUB)  # a PUB that tells who subscribes
pub.setsockopt(zmq.SNDHWM, 0)
if heartbeat:
    pub.setsockopt(zmq.HEARTBEAT_IVL, heartbeat)
    pub.setsockopt(zmq.HEARTBEAT_TIMEOUT, heartbeat)
deadline = time.time() + 5
while True:
    try:
        pub.bind(address); break
    except zmq.ZMQError:
        if time.time() > deadline: raise
        time.sleep(0.01)
print("bound", flush=True)
for line in sys.stdin:
    what, *args = line.split()
    if what == "subscribed":
        print(pub.recv(), flush=True)
    elif what == "send":  # first, how many, per second (0: flat out)
        first, n, rate = map(int, args)
        start = time.time()
        for i in range(first, first + n):
            if rate:
                wait = start + (i - first) / rate - time.time()
                if wait > 0: time.sleep(wait)
            pub.send_multipart([b"org.fedoraproject.prod.test.%d" % (i % 10), b'{"i":%d}' % i + b" " * 380])
        print("sent", flush=True)
`

func startPublisher(t *testing.T, python, address string, heartbeat time.Duration) *publisher {
	t.Helper()
	p := attach(t, exec.Command(python, "-c", publisherScript, "tcp://"+address, fmt.Sprint(heartbeat.Milliseconds())))
	p.answer("bound")
	return p
}

// attach starts a publisher's process and ends it with the test.
func attach(t *testing.T, cmd *exec.Cmd) *publisher {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errors strings.Builder
	cmd.Stderr = &errors
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &publisher{t: t, cmd: cmd, in: in, out: bufio.NewReader(out)}
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("publisher: %s", errors.String())
		}
	})
	return p
}

func (p *publisher) kill() {
	if p.cmd.ProcessState == nil {
		p.cmd.Process.Kill()
		p.cmd.Wait()
	}
}

func (p *publisher) answer(want string) {
	p.t.Helper()
	line, err := p.out.ReadString('\n')
	if err != nil || strings.TrimSpace(line) != want {
		p.t.Fatalf("publisher said %q (%v), want %q", line, err, want)
	}
}

func (p *publisher) ask(answer, command string, args ...any) {
	p.t.Helper()
	if _, err := fmt.Fprintf(p.in, command+"\n", args...); err != nil {
		p.t.Fatal(err)
	}
	p.answer(answer)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// numbers are the i of the messages that a collector got, in order.
func (c *collector) numbers(t *testing.T) []int {
	t.Helper()
	var out []int
	for _, text := range c.texts() {
		var i int
		if _, err := fmt.Sscanf(text[strings.LastIndexByte(text, '|'):], `|{"i":%d}`, &i); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		out = append(out, i)
	}
	return out
}

func upTo(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

func TestLibzmq_EveryMessageAtAGivenRate(t *testing.T) {
	python := testpython.Find(t)
	for _, c := range []struct{ n, rate int }{{3000, 3000}, {50_000, 0}} {
		t.Run(fmt.Sprintf("%d messages at %d per second", c.n, c.rate), func(t *testing.T) {
			address := freeAddress(t)
			p := startPublisher(t, python, address, 0)
			sink := &collector{}
			s := New(Options{Endpoints: []Endpoint{{"e", address}}, Topics: []string{"org.fedoraproject."}, Sink: sink})
			defer start(s)()
			p.ask(`b'\x01org.fedoraproject.'`, "subscribed")
			p.ask("sent", "send 0 %d %d", c.n, c.rate)
			eventually.True(t, 20*time.Second, "all received", func() bool { return s.Health()[0].Received >= uint64(c.n) })
			eventually.True(t, time.Second, "all delivered", func() bool { return len(sink.texts()) >= c.n })
			if !slices.Equal(sink.numbers(t), upTo(c.n)) {
				t.Error("messages were lost, doubled or put in another order")
			}
			if h := s.Health()[0]; h.Reconnects != 0 {
				t.Errorf("%+v", h)
			}
		})
	}
}

func TestLibzmq_KilledAndRestartedPublisherIsPickedUpWithinTwoSeconds(t *testing.T) {
	t.Parallel() // it waits for most of its time
	python := testpython.Find(t)
	address := freeAddress(t)
	p := startPublisher(t, python, address, 0)
	sink := &collector{}
	s := New(Options{Endpoints: []Endpoint{{"e", address}}, Sink: sink})
	defer start(s)()
	p.ask(`b'\x01'`, "subscribed")
	fmt.Fprintln(p.in, "send 0 1000000 0") // killed busy, perhaps within a frame
	eventually.True(t, 10*time.Second, "received", func() bool { return s.Health()[0].Received > 1000 })
	p.kill()
	eventually.True(t, 5*time.Second, "noticed", func() bool { return s.Health()[0].State == BackingOff })
	time.Sleep(3 * time.Second) // the back-off has grown to its maximum
	p = startPublisher(t, python, address, 0)
	began := time.Now()
	p.ask(`b'\x01'`, "subscribed")
	if d := time.Since(began); d > 2*time.Second {
		t.Errorf("picked up after %s", d)
	}
	before := s.Health()[0].Received
	p.ask("sent", "send 0 10 0")
	eventually.True(t, 2*time.Second, "received again", func() bool { return s.Health()[0].Received == before+10 })
	if h := s.Health()[0]; h.Reconnects != 1 || h.ProtocolErrors != 0 {
		t.Errorf("%+v", h)
	}
}

func TestLibzmq_HeartbeatsOfBothSidesLoseNothing(t *testing.T) {
	t.Parallel() // it waits for most of its time
	python := testpython.Find(t)
	address := freeAddress(t)
	p := startPublisher(t, python, address, 300*time.Millisecond)
	sink := &collector{}
	s := New(Options{Endpoints: []Endpoint{{"e", address}}, Sink: sink, Heartbeat: 200 * time.Millisecond})
	defer start(s)()
	p.ask(`b'\x01'`, "subscribed")
	for i := range 4 { // silence and messages in turn
		time.Sleep(700 * time.Millisecond)
		p.ask("sent", "send %d 500 1000", i*500)
	}
	eventually.True(t, 5*time.Second, "all received", func() bool { return len(sink.texts()) >= 2000 })
	if !slices.Equal(sink.numbers(t), upTo(2000)) {
		t.Error("messages were lost")
	}
	if h := s.Health()[0]; h.Reconnects != 0 || h.Received != 2000 {
		t.Errorf("%+v", h)
	}
}

func TestLibzmq_OurPingsAreAnswered(t *testing.T) {
	t.Parallel() // it waits for most of its time
	python := testpython.Find(t)
	address := freeAddress(t)
	p := startPublisher(t, python, address, 0)
	s := New(Options{Endpoints: []Endpoint{{"e", address}}, Sink: &collector{}, Heartbeat: 100 * time.Millisecond})
	defer start(s)()
	p.ask(`b'\x01'`, "subscribed")
	time.Sleep(1500 * time.Millisecond) // seven silences and more
	if h := s.Health()[0]; h.State != Up || h.Reconnects != 0 || h.LastError != "" {
		t.Errorf("an idle publisher was taken for a dead one: %+v", h)
	}
	p.ask("sent", "send 0 1 0")
	eventually.True(t, time.Second, "received", func() bool { return s.Health()[0].Received == 1 })
}
