package zmq

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/statscache/statscache/internal/eventually"
	"github.com/statscache/statscache/internal/zmqpub"
)

// counter is a sink that counts messages.
type counter struct{ n atomic.Int64 }

func (c *counter) Deliver(_ context.Context, _ Peer, batch [][][]byte) error {
	c.n.Add(int64(len(batch)))
	return nil
}

func listen(t testing.TB) *zmqpub.Publisher {
	t.Helper()
	p, err := zmqpub.Listen(zmqpub.Options{Queue: 100_000})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func TestSource_OverTCP(t *testing.T) {
	pubs := []*zmqpub.Publisher{listen(t), listen(t)}
	sink := &collector{}
	s := New(Options{Endpoints: []Endpoint{{"a", pubs[0].Address()}, {"b", pubs[1].Address()}}, Topics: []string{"org."}, Sink: sink})
	stop := start(s)
	defer stop()
	for _, p := range pubs {
		eventually.True(t, 5*time.Second, "subscribed", func() bool { return p.Connected() == 1 })
	}
	for i := range 1000 {
		pubs[i%2].Publish("org.x", fmt.Appendf(nil, "%d", i))
		pubs[i%2].Publish("com.x", nil)
	}
	eventually.True(t, 5*time.Second, "all received", func() bool { return len(sink.texts()) == 1000 })
	for _, h := range s.Health() {
		if h.State != Up || h.Received != 500 || h.WrongTopic != 0 {
			t.Errorf("%+v", h)
		}
	}
}

func TestSource_FiftyOpenedAndClosedUnderLoadLeaveNothing(t *testing.T) {
	before := goleak.IgnoreCurrent()
	p, err := zmqpub.Listen(zmqpub.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	loaded := make(chan struct{})
	go func() {
		defer close(loaded)
		for body := make([]byte, 400); ctx.Err() == nil; time.Sleep(50 * time.Microsecond) {
			p.Publish("org.x", body)
		}
	}()
	for range 50 {
		sink := &counter{}
		stop := start(New(Options{Endpoints: []Endpoint{{"a", p.Address()}, {"b", p.Address()}}, Sink: sink}))
		eventually.True(t, 5*time.Second, "received", func() bool { return sink.n.Load() > 20 })
		stop()
	}
	eventually.True(t, 5*time.Second, "the publisher noticed", func() bool { return p.Connected() == 0 })
	cancel()
	<-loaded
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
}

func TestSource_ManyEndpointsHalfOfThemDead(t *testing.T) {
	p := listen(t)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close() // nobody listens there now
	var endpoints []Endpoint
	for i := range 100 {
		endpoints = append(endpoints, Endpoint{fmt.Sprint("live", i), p.Address()}, Endpoint{fmt.Sprint("dead", i), dead.Addr().String()})
	}
	sink := &counter{}
	s := New(Options{Endpoints: endpoints, Sink: sink})
	stop := start(s)
	eventually.True(t, 10*time.Second, "live ones are up", func() bool { return p.Connected() == 100 })
	p.Publish("t", nil)
	eventually.True(t, 5*time.Second, "all got it", func() bool { return sink.n.Load() == 100 })
	began := time.Now()
	stop()
	if d := time.Since(began); d > 2*time.Second {
		t.Errorf("stopping took %s", d)
	}
}

// BenchmarkSource receives a prepared stream of 400-byte messages from a socket: what the session costs, without a
// publisher's part but writing.
func BenchmarkSource(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	one := message("org.fedoraproject.prod.bodhi.update.comment", string(make([]byte, 357)))
	block := make([]byte, 0, 1<<20)
	per := 0
	for ; len(block)+len(one) <= cap(block); per++ {
		block = append(block, one...)
	}
	begin := make(chan struct{})
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		p := peer{Conn: c}
		p.shake(0, 1)
		<-begin
		for left := b.N; left > 0; left -= per {
			if _, err := c.Write(block[:len(one)*min(left, per)]); err != nil {
				return
			}
		}
		io.Copy(io.Discard, c)
	}()
	sink := &counter{}
	s := New(Options{Endpoints: []Endpoint{{"e", l.Addr().String()}}, Sink: sink})
	stop := start(s)
	defer stop()
	eventually.True(b, 10*time.Second, "up", func() bool { return s.Health()[0].State == Up })
	b.SetBytes(int64(len(one)))
	b.ReportAllocs()
	b.ResetTimer()
	close(begin)
	for sink.n.Load() < int64(b.N) {
		time.Sleep(100 * time.Microsecond)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
}
