package zmq

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/eventually"
	"github.com/statscache/statscache/internal/testpython"
	"github.com/statscache/statscache/internal/zmqpub"
)

// again listens at an address that was listened at before.
func again(t *testing.T, address string) *zmqpub.Publisher {
	t.Helper()
	var p *zmqpub.Publisher
	eventually.True(t, 5*time.Second, "listening again", func() (ok bool) {
		var err error
		p, err = zmqpub.Listen(zmqpub.Options{Address: address, Queue: 1000})
		return err == nil
	})
	t.Cleanup(func() { p.Close() })
	return p
}

func TestLibzmq_ALatePublisherIsPickedUpWithinTwoSeconds(t *testing.T) {
	t.Parallel() // it waits for most of its time
	python := testpython.Find(t)
	address := freeAddress(t)
	sink := &collector{}
	s := New(Options{Endpoints: []Endpoint{{"e", address}}, Sink: sink})
	defer start(s)()
	time.Sleep(4 * time.Second) // the back-off has grown to its maximum
	p := startPublisher(t, python, address, 0)
	began := time.Now()
	p.ask(`b'\x01'`, "subscribed")
	if d := time.Since(began); d > 2*time.Second {
		t.Errorf("picked up after %s", d)
	}
	p.ask("sent", "send 0 100 0")
	eventually.True(t, 2*time.Second, "received", func() bool { return len(sink.texts()) >= 100 })
	if !slices.Equal(sink.numbers(t), upTo(100)) {
		t.Error("messages were lost")
	}
}

func TestSource_TheFirstOfTwoEndpointsDies_TheOtherGoesOnAndItComesBack(t *testing.T) {
	first, second := listen(t), listen(t)
	sink := &collector{}
	s := New(Options{Endpoints: []Endpoint{{"a", first.Address()}, {"b", second.Address()}}, Sink: sink})
	defer start(s)()
	for _, p := range []*zmqpub.Publisher{first, second} {
		eventually.True(t, 5*time.Second, "subscribed", func() bool { return p.Connected() == 1 })
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	eventually.True(t, 5*time.Second, "noticed", func() bool { return s.Health()[0].State != Up })
	second.Publish("t", []byte("meanwhile"))
	eventually.True(t, 2*time.Second, "received", func() bool { return slices.Equal(sink.texts(), []string{"b|t|meanwhile"}) })
	first = again(t, first.Address())
	began := time.Now()
	eventually.True(t, 5*time.Second, "subscribed again", func() bool { return first.Connected() == 1 })
	if d := time.Since(began); d > 2*time.Second {
		t.Errorf("picked up after %s", d)
	}
	first.Publish("t", []byte("back"))
	eventually.True(t, 2*time.Second, "received", func() bool { return slices.Equal(sink.texts(), []string{"b|t|meanwhile", "a|t|back"}) })
	if h := s.Health()[1]; h.Reconnects != 0 || h.Connects != 1 {
		t.Errorf("the other endpoint was touched: %+v", h)
	}
}

func TestSource_FourEndpointsFlapEightTimes_AllComeBackAndNothingIsDoubled(t *testing.T) {
	const endpoints, times = 4, 8
	var publishers [endpoints]*zmqpub.Publisher
	sink := &collector{}
	o := Options{Sink: sink}
	for i := range publishers {
		publishers[i] = listen(t)
		o.Endpoints = append(o.Endpoints, Endpoint{fmt.Sprint(i), publishers[i].Address()})
	}
	s := New(o)
	defer start(s)()
	var want []string
	for round := range times + 1 {
		for i, p := range publishers {
			// Each is let in only in every other round: the rest of them flap within handshakes and back-offs.
			if (round+i)%2 == 0 || round == times {
				eventually.True(t, 5*time.Second, "subscribed", func() bool { return p.Connected() == 1 })
				p.Publish("t", fmt.Appendf(nil, "%d", round))
				want = append(want, fmt.Sprintf("%d|t|%d", i, round))
				eventually.True(t, 2*time.Second, "received", func() bool { return slices.Contains(sink.texts(), want[len(want)-1]) })
			}
			if round < times {
				if err := p.Close(); err != nil {
					t.Fatal(err)
				}
				publishers[i] = again(t, o.Endpoints[i].Address)
			}
		}
	}
	if got := slices.Sorted(slices.Values(sink.texts())); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, h := range s.Health() {
		if h.State != Up || h.ProtocolErrors != 0 {
			t.Errorf("%+v", h)
		}
	}
}
