package zmq

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/statscache/statscache/internal/eventually"
	"github.com/statscache/statscache/internal/testpython"
	"github.com/statscache/statscache/internal/zmqpub"
)

// TestUpdate_UnchangedConnectionsLoseNothing adds, renames and removes endpoints around one that publishes all the time.
func TestUpdate_UnchangedConnectionsLoseNothing(t *testing.T) {
	var pubs [4]*zmqpub.Publisher
	for i := range pubs {
		pubs[i] = listen(t)
	}
	a, b, c, d := pubs[0].Address(), pubs[1].Address(), pubs[2].Address(), pubs[3].Address()
	sink := &collector{}
	s := New(Options{Endpoints: []Endpoint{{"a", a}, {"b", b}, {"c", c}}, Sink: sink})
	stop := start(s)
	defer stop()
	connected := func(want ...int) {
		t.Helper()
		eventually.True(t, 5*time.Second, fmt.Sprint("subscribers are ", want), func() bool {
			for i, p := range pubs {
				if p.Connected() != want[i] {
					return false
				}
			}
			return true
		})
	}
	connected(1, 1, 1, 0)
	var sent atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	publishing := make(chan struct{})
	go func() {
		defer close(publishing)
		for ctx.Err() == nil {
			pubs[0].Publish("t", fmt.Append(nil, sent.Add(1)))
			time.Sleep(100 * time.Microsecond)
		}
	}()
	count := func(text string) int {
		return len(slices.DeleteFunc(sink.texts(), func(s string) bool { return s != text }))
	}
	for round := range 20 {
		added, removed := s.Update([]Endpoint{{"d", d}, {"a", a}, {"other", c}}, nil)
		if !slices.Equal(added, []Endpoint{{"d", d}}) || !slices.Equal(removed, []Endpoint{{"b", b}}) {
			t.Errorf("added %v, removed %v", added, removed)
		}
		connected(1, 0, 1, 1)
		pubs[3].Publish("t", []byte("new"))
		pubs[2].Publish("t", []byte("renamed"))
		eventually.True(t, 5*time.Second, "received from the added and the renamed one", func() bool {
			return count("d|t|new") > round && count("other|t|renamed") > round
		})
		s.Update([]Endpoint{{"a", a}, {"b", b}, {"c", c}}, nil)
		connected(1, 1, 1, 0)
	}
	cancel()
	<-publishing
	var got []string
	eventually.True(t, 5*time.Second, "all received", func() bool {
		got = slices.DeleteFunc(sink.texts(), func(s string) bool { return !strings.HasPrefix(s, "a|") })
		return len(got) == int(sent.Load())
	})
	for i, text := range got {
		if want := fmt.Sprintf("a|t|%d", i+1); text != want {
			t.Fatalf("message %d is %s, want %s", i, text, want)
		}
	}
	for _, h := range s.Health() {
		if want := uint64(1); h.State != Up || h.Connects != want {
			t.Errorf("%+v, want one connection", h)
		}
	}
}

func TestUpdate_TopicsChangeOnTheConnection(t *testing.T) {
	for _, minor := range []byte{0, 1} { // without and with heartbeat
		t.Run(fmt.Sprint("ZMTP 3.", minor), func(t *testing.T) {
			var said []string
			inBubble(t, Options{Topics: []string{"a.", "b."}, Heartbeat: time.Minute}, one(func(p peer) {
				p.shake(minor, 2)
				p.Write(message("a.1"))
				p.Write([]byte("\x04\x07\x04PING\x00\x00")) // its answer must not mix with what follows
				p.frame()
				for range 2 {
					said = append(said, string(p.frame()))
				}
				p.Write(slices.Concat(message("a.2"), message("c.1"), message("b.2"), message("d.1")))
				time.Sleep(2 * onTheirWay)
				p.Write(slices.Concat(message("a.3"), message("b.3"), message("c.2")))
				p.wait()
			}), func(t *testing.T, s *Source, n *network, got *collector) {
				s.Update([]Endpoint{{"e", "e:1"}}, []string{"c.", "b.", "b.x"})
				synctest.Wait()
				if want := []string{"\x01c.", "\x00a."}; !slices.Equal(said, want) {
					t.Errorf("the publisher was told %q, want %q", said, want)
				}
				time.Sleep(3 * onTheirWay)
				if want := []string{"e|a.1", "e|a.2", "e|c.1", "e|b.2", "e|b.3", "e|c.2"}; !slices.Equal(got.texts(), want) {
					t.Errorf("got %q, want %q", got.texts(), want)
				}
				if h := s.Health()[0]; h.WrongTopic != 2 || h.Connects != 1 || h.State != Up {
					t.Errorf("%+v", h)
				}
				if r := s.Refused(); r.WrongTopic != 2 {
					t.Errorf("refused %+v", r)
				}
			})
		})
	}
}

func TestUpdate_SubscriptionsAreFramedByLength(t *testing.T) {
	for _, n := range []int{0, 1, 254, 255, 4000} {
		topic := strings.Repeat("t", n)
		if got, want := appendSubscription(nil, 1, topic), frame(nil, 0, append([]byte{1}, topic...)); !slices.Equal(got, want) {
			t.Errorf("%d bytes: framed as %x..., want %x...", n, got[:min(len(got), 12)], want[:min(len(want), 12)])
		}
	}
}

// TestUpdate_ARemovedEndpointDeliversWhatWasRead removes it while the sink is behind.
func TestUpdate_ARemovedEndpointDeliversWhatWasRead(t *testing.T) {
	var got collector
	var taken chan struct{} // made in the bubble
	sink := deliverFunc(func(ctx context.Context, from Peer, batch [][][]byte) error {
		select {
		case <-taken:
		case <-ctx.Done():
			return ctx.Err()
		}
		return got.Deliver(ctx, from, batch)
	})
	inBubble(t, Options{Sink: sink, Topics: []string{"t"}}, one(func(p peer) {
		if p.nth == 1 {
			taken = make(chan struct{})
		}
		p.shake(0, 1)
		p.Write(slices.Concat(message("t", "1"), message("wrong")))
		p.Write(message("t", "2")) // not taken from the socket before the end
		p.wait()
	}), func(t *testing.T, s *Source, n *network, _ *collector) {
		if _, removed := s.Update(nil, []string{"t"}); len(removed) != 1 || len(s.Health()) != 0 {
			t.Errorf("removed %v, left %v", removed, s.Health())
		}
		synctest.Wait()
		before := s.Refused()
		close(taken)
		synctest.Wait()
		if !slices.Equal(got.texts(), []string{"e|t|1"}) {
			t.Errorf("got %q", got.texts())
		}
		if after := s.Refused(); before.WrongTopic != 1 || after != before || len(s.leaving) > 0 {
			t.Errorf("refused %+v, then %+v; %d still leave", before, after, len(s.leaving))
		}
		if added, _ := s.Update([]Endpoint{{"e", "e:1"}, {"e", "e:1"}}, nil); len(added) != 2 {
			t.Errorf("added %v", added)
		}
		synctest.Wait()
		if d := len(n.dialled("e:1")); d != 3 { // the first one and the two
			t.Errorf("%d dials, want 3: listed twice it is dialled twice", d)
		}
	})
}

type deliverFunc func(ctx context.Context, from Peer, batch [][][]byte) error

func (f deliverFunc) Deliver(ctx context.Context, from Peer, batch [][][]byte) error {
	return f(ctx, from, batch)
}

func TestUpdate_BeforeRunAndAfterIt(t *testing.T) {
	p := listen(t)
	s := New(Options{Endpoints: []Endpoint{{"a", "127.0.0.1:1"}}, Sink: &counter{}})
	s.Update([]Endpoint{{"b", p.Address()}}, []string{"x"})
	stop := start(s)
	defer stop()
	eventually.True(t, 5*time.Second, "subscribed", func() bool { return p.Connected() == 1 })
	stop()
	added, removed := s.Update([]Endpoint{{"c", p.Address()}, {"d", p.Address()}}, nil)
	if len(added) != 1 || len(removed) != 0 || len(s.Health()) != 2 {
		t.Errorf("added %v, removed %v", added, removed)
	}
	eventually.True(t, 5*time.Second, "nobody connects any more", func() bool { return p.Connected() == 0 })
}

// TestUpdate_LibzmqFollowsChangedTopics lets a real publisher say what it was told over one connection.
func TestUpdate_LibzmqFollowsChangedTopics(t *testing.T) {
	python := testpython.Find(t)
	address := freeAddress(t)
	p := startPublisher(t, python, address, 0)
	sink := &collector{}
	s := New(Options{Endpoints: []Endpoint{{"e", address}}, Topics: []string{"org.fedoraproject.prod.test.1"}, Sink: sink})
	stop := start(s)
	defer stop()
	p.ask(`b'\x01org.fedoraproject.prod.test.1'`, "subscribed")
	for round := range 20 {
		from, to := 1+round%2, 2-round%2
		s.Update([]Endpoint{{"e", address}}, []string{fmt.Sprintf("org.fedoraproject.prod.test.%d", to)})
		p.ask(fmt.Sprintf(`b'\x01org.fedoraproject.prod.test.%d'`, to), "subscribed")
		p.ask(fmt.Sprintf(`b'\x00org.fedoraproject.prod.test.%d'`, from), "subscribed")
		p.ask("sent", "send %d 10 0", 10*round)
	}
	eventually.True(t, 5*time.Second, "a message of each round", func() bool { return len(sink.texts()) == 20 })
	for round, text := range sink.texts() {
		if want := fmt.Sprintf("e|org.fedoraproject.prod.test.%d|", 2-round%2); !strings.HasPrefix(text, want) {
			t.Errorf("round %d: got %q, want %s", round, text, want)
		}
	}
	if h := s.Health()[0]; h.Connects != 1 || h.WrongTopic != 0 {
		t.Errorf("%+v", h)
	}
}
