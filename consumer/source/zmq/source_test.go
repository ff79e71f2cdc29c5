package zmq

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// inBubble runs a source against peers on a fake clock, for so long, and gives what came of it.
func inBubble(t *testing.T, o Options, peers map[string]func(peer), check func(t *testing.T, s *Source, n *network, c *collector)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n, c := newNetwork(peers), &collector{}
		if o.Sink == nil {
			o.Sink = c
		}
		o.Dial = n.dial
		if o.Endpoints == nil {
			o.Endpoints = []Endpoint{{"e", "e:1"}}
		}
		s := New(o)
		stop := start(s)
		defer n.wg.Wait()
		defer stop() // also when a check ends the test
		synctest.Wait()
		check(t, s, n, c)
		stop()
		for _, h := range s.Health() {
			if h.State != Stopped {
				t.Errorf("%s is %s after Run", h.Name, h.State)
			}
		}
	})
}

func one(f func(peer)) map[string]func(peer) { return map[string]func(peer){"e:1": f} }

func TestSource_SubscribesAndDelivers(t *testing.T) {
	for name, c := range map[string]struct {
		topics []string
		want   []string
		got    []string
		wrong  uint64
	}{
		"everything": {nil, []string{"\x01"}, []string{"e|a.b|1", "e|ab|2", "e|c.d|3", "e|a.z\x00x", "e|a.|f|g"}, 0},
		"prefixes":   {[]string{"c.", "a.", "a.b"}, []string{"\x01a.", "\x01c."}, []string{"e|a.b|1", "e|c.d|3", "e|a.z\x00x", "e|a.|f|g"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			var subscribed []string
			inBubble(t, Options{Topics: c.topics}, one(func(p peer) {
				subscribed = p.shake(1, len(c.want))
				p.Write(message("a.b", "1"))
				p.Write(append(message("ab", "2"), message("c.d", "3")...))
				p.Write(message("a.z\x00x"))
				p.Write(message("a.", "f", "g"))
				p.wait()
			}), func(t *testing.T, s *Source, n *network, got *collector) {
				if !slices.Equal(subscribed, c.want) {
					t.Errorf("subscribed to %q, want %q", subscribed, c.want)
				}
				if !slices.Equal(got.texts(), c.got) {
					t.Errorf("got %q, want %q", got.texts(), c.got)
				}
				h := s.Health()[0]
				if h.State != Up || h.Received != 5 || h.WrongTopic != c.wrong || h.LastEvent.IsZero() || h.Reconnects != 0 {
					t.Errorf("%+v", h)
				}
			})
		})
	}
}

func TestSource_PeersThatBreakTheProtocolAreLeftAndDialledAgain(t *testing.T) {
	random := make([]byte, 500)
	for i, r := 0, rand.New(rand.NewPCG(1, 1)); i < len(random); i++ {
		random[i] = byte(r.Uint32())
	}
	long := func(size uint64) []byte { return binary.BigEndian.AppendUint64([]byte{2}, size) }
	tooLarge := func(h Health) uint64 { return h.TooLarge }
	tooMany := func(h Health) uint64 { return h.TooManyFrames }
	other := func(h Health) uint64 { return h.ProtocolErrors }
	shaken := func(b []byte) func(peer) {
		return func(p peer) { p.shake(1, 1); p.Write(b); p.wait() }
	}
	for name, c := range map[string]struct {
		bad     func(peer)
		counted func(Health) uint64
	}{
		"frame of 2^31 bytes":    {shaken(long(1 << 31)), tooLarge},
		"frame of 2^62 bytes":    {shaken(long(1 << 62)), tooLarge},
		"frame of 2^64-1 bytes":  {shaken(long(1<<64 - 1)), tooLarge},
		"message of large parts": {shaken(bytes.Repeat(frame(nil, 1, make([]byte, 2<<20)), 3)), tooLarge},
		"endless frames":         {shaken(bytes.Repeat(frame(nil, 1, []byte("x")), 10_000)), tooMany},
		"nine frames":            {shaken(message(strings.Split("a,b,c,d,e,f,g,h,i", ",")...)), tooMany},
		"reserved flags":         {shaken([]byte{0x10, 1, 'x'}), other},
		"empty command":          {shaken([]byte{4, 0}), other},
		"command cut short":      {shaken([]byte{4, 1, 9}), other},
		"random bytes":           {func(p peer) { go p.Write(random); p.wait() }, other},
		"random after greeting":  {func(p peer) { go p.Write(append(greeting(1), random...)); p.wait() }, other},
		"HTTP":                   {func(p peer) { go io.WriteString(p, "HTTP/1.1 400 Bad Request\r\n\r\n"); p.wait() }, other},
		"no Socket-Type":         {handshaking(ready()), other},
		"READY of nonsense":      {handshaking(frame(nil, 4, []byte("\x05READY\xff\xff\xff"))), other},
		"another socket type":    {handshaking(ready("Socket-Type", "REP")), other},
		"ERROR for READY":        {handshaking(frame(nil, 4, []byte("\x05ERROR\x03bad"))), other},
		"large handshake":        {handshaking(long(1 << 20)), tooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, one(func(p peer) {
				if p.nth == 1 {
					c.bad(p)
					return
				}
				p.shake(1, 1)
				p.Write(message("t", "good"))
				p.wait()
			}), func(t *testing.T, s *Source, n *network, got *collector) {
				if h := s.Health()[0]; h.State != BackingOff || c.counted(h) != 1 || h.TooLarge+h.TooManyFrames+h.ProtocolErrors != 1 || h.LastError == "" {
					t.Fatalf("%+v", h)
				}
				time.Sleep(5 * time.Second)
				synctest.Wait()
				if h := s.Health()[0]; h.State != Up || !slices.Equal(got.texts(), []string{"e|t|good"}) {
					t.Errorf("%+v, got %q", h, got.texts())
				}
			})
		})
	}
}

func handshaking(b []byte) func(peer) {
	return func(p peer) {
		io.ReadFull(p, make([]byte, 64))
		p.Write(greeting(1))
		p.frame()
		p.Write(b)
		p.wait()
	}
}

func TestSource_AProtocolBreakerIsDialledRarely(t *testing.T) {
	inBubble(t, Options{}, one(func(p peer) {
		p.shake(1, 1)
		p.Write([]byte{0x80, 0})
		p.wait()
	}), func(t *testing.T, s *Source, n *network, _ *collector) {
		time.Sleep(time.Minute)
		if d := len(n.dialled("e:1")); d < 12 || d > 30 {
			t.Errorf("%d dials in a minute", d)
		}
	})
}

func TestSource_AcceptThenCloseIsDialledABoundedNumberOfTimes(t *testing.T) {
	inBubble(t, Options{}, one(func(p peer) {}), func(t *testing.T, s *Source, n *network, _ *collector) {
		time.Sleep(8 * time.Second)
		if d := len(n.dialled("e:1")); d < 8 || d > 20 {
			t.Errorf("%d dials in 8 s", d)
		}
		if h := s.Health()[0]; h.Connects != 0 || h.ProtocolErrors != 0 {
			t.Errorf("%+v", h)
		}
	})
}

func TestSource_RefusedEndpointsKeepBeingDialled(t *testing.T) {
	inBubble(t, Options{ReconnectMax: 300 * time.Millisecond}, nil, func(t *testing.T, s *Source, n *network, _ *collector) {
		if h := s.Health()[0]; h.State != BackingOff || !strings.Contains(h.LastError, "refused") {
			t.Errorf("%+v", h)
		}
		time.Sleep(30 * time.Second)
		if d := len(n.dialled("e:1")); d < 90 || d > 220 {
			t.Errorf("%d dials in 30 s at 150-300 ms", d)
		}
	})
}

func TestSource_ASilentPeerIsLeftAndOthersDontCare(t *testing.T) {
	inBubble(t, Options{Endpoints: []Endpoint{{"silent", "s:1"}, {"e", "e:1"}}}, map[string]func(peer){
		"s:1": peer.wait,
		"e:1": func(p peer) { p.shake(0, 1); p.Write(message("t", "x")); p.wait() },
	}, func(t *testing.T, s *Source, n *network, got *collector) {
		if h := s.Health(); h[0].State != Connecting || h[1].State != Up || len(got.texts()) != 1 {
			t.Fatalf("%+v", h)
		}
		time.Sleep(5*time.Second + time.Millisecond)
		synctest.Wait()
		if h := s.Health()[0]; h.State != BackingOff || h.ProtocolErrors != 0 {
			t.Errorf("%+v", h)
		}
		time.Sleep(55 * time.Second)
		if d := len(n.dialled("s:1")); d > 12 {
			t.Errorf("%d dials in a minute", d)
		}
		if d := len(n.dialled("e:1")); d != 1 {
			t.Errorf("the other one was dialled %d times", d)
		}
	})
}

func TestSource_ConnectionCutWithinAFrameIsDialledAgain(t *testing.T) {
	inBubble(t, Options{}, one(func(p peer) {
		p.shake(1, 1)
		if p.nth == 1 {
			p.Write(append(message("t", "first"), message("t", strings.Repeat("x", 1000))[:500]...))
			return
		}
		p.Write(message("t", "second"))
		p.wait()
	}), func(t *testing.T, s *Source, n *network, got *collector) {
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if want := []string{"e|t|first", "e|t|second"}; !slices.Equal(got.texts(), want) {
			t.Errorf("got %q, want %q", got.texts(), want)
		}
		if h := s.Health()[0]; h.State != Up || h.Reconnects != 1 || h.ProtocolErrors != 0 {
			t.Errorf("%+v", h)
		}
	})
}

func TestSource_BackOffIsResetByAStableSession(t *testing.T) {
	inBubble(t, Options{}, one(func(p peer) {
		if p.nth < 8 {
			return
		}
		p.shake(0, 1)
		if p.nth == 8 {
			for range 3 {
				time.Sleep(5 * time.Second)
				p.Write(message("t", "x"))
			}
			return
		}
		p.wait()
	}), func(t *testing.T, s *Source, n *network, _ *collector) {
		time.Sleep(40 * time.Second)
		at := n.dialled("e:1")
		if len(at) != 9 {
			t.Fatalf("%d dials", len(at))
		}
		if d := at[7].Sub(at[6]); d < 500*time.Millisecond || d > time.Second {
			t.Errorf("the wait before the eighth dial was %s", d)
		}
		if d := at[8].Sub(at[7]); d < 15*time.Second || d > 15*time.Second+100*time.Millisecond {
			t.Errorf("after 15 s up it was dialled after %s", d-15*time.Second)
		}
	})
}

func TestSource_AStalledLinkIsFoundByPing(t *testing.T) {
	for minor, wantDials := range map[byte]int{0: 1, 1: 2} { // ZMTP 3.0 knows no PING: only TCP can tell there
		t.Run(fmt.Sprintf("ZMTP 3.%d", minor), func(t *testing.T) {
			inBubble(t, Options{Heartbeat: 2 * time.Second}, one(func(p peer) { p.shake(minor, 1); p.wait() }),
				func(t *testing.T, s *Source, n *network, _ *collector) {
					time.Sleep(3900 * time.Millisecond)
					if d := len(n.dialled("e:1")); d != 1 {
						t.Errorf("%d dials before the PING had its time", d)
					}
					time.Sleep(300 * time.Millisecond)
					synctest.Wait()
					if d := len(n.dialled("e:1")); d != wantDials {
						t.Errorf("%d dials, want %d", d, wantDials)
					}
				})
		})
	}
}

func TestSource_PeersPingsAreAnsweredAndNoMessages(t *testing.T) {
	var pong []byte
	inBubble(t, Options{}, one(func(p peer) {
		p.shake(1, 1)
		p.Write(message("t", "1"))
		p.Write([]byte("\x04\x07\x04PING\x00\x1e"))
		pong = p.frame()
		p.Write(message("t", "2"))
		p.wait()
	}), func(t *testing.T, s *Source, n *network, got *collector) {
		if string(pong) != "\x04PONG" || !slices.Equal(got.texts(), []string{"e|t|1", "e|t|2"}) {
			t.Errorf("answered %q, got %q", pong, got.texts())
		}
	})
}

// gate is a sink that blocks until it is opened.
type gate struct {
	collector
	open atomic.Bool
}

func (g *gate) Deliver(ctx context.Context, from Peer, batch [][][]byte) error {
	for !g.open.Load() {
		if !sleep(ctx, 100*time.Millisecond) {
			return ctx.Err()
		}
	}
	return g.collector.Deliver(ctx, from, batch)
}

func TestSource_AFullSinkStopsTheReading(t *testing.T) {
	sink := &gate{}
	const messages = 10_000
	written := 0
	inBubble(t, Options{Sink: sink}, one(func(p peer) {
		p.shake(1, 1)
		for i := range messages {
			p.Write(message("t", fmt.Sprintf("%0100d", i)))
			written++
		}
		p.wait()
	}), func(t *testing.T, s *Source, n *network, _ *collector) {
		time.Sleep(time.Minute) // far beyond the heartbeat: a session that isn't reading is not a silent peer
		synctest.Wait()
		if bytes := written * 106; bytes > 3*64<<10 {
			t.Errorf("%d bytes were read while the sink was full", bytes)
		}
		if h := s.Health()[0]; h.State != Up || h.Reconnects != 0 {
			t.Errorf("%+v", h)
		}
		sink.open.Store(true)
		time.Sleep(time.Second)
		synctest.Wait()
		got := sink.texts()
		if len(got) != messages {
			t.Fatalf("%d of %d messages", len(got), messages)
		}
		for i, text := range got {
			if want := fmt.Sprintf("e|t|%0100d", i); text != want {
				t.Fatalf("message %d is %q", i, text)
			}
		}
	})
}

func TestSource_StopsWhileTheSinkIsFull(t *testing.T) {
	sink := &gate{}
	var source *Source
	inBubble(t, Options{Sink: sink}, one(func(p peer) { p.shake(1, 1); p.Write(message("t", "x")); p.wait() }),
		func(_ *testing.T, s *Source, _ *network, _ *collector) { source = s })
	if h := source.Health()[0]; h.Undelivered != 1 {
		t.Errorf("%+v", h)
	}
}

func TestSource_ASinkThatFailsEndsTheSessionAndTheLossIsCounted(t *testing.T) {
	failures := 2
	sink := &collector{fail: func() error {
		if failures--; failures >= 0 {
			return errors.New("disk full")
		}
		return nil
	}}
	inBubble(t, Options{Sink: sink}, one(func(p peer) { p.shake(1, 1); p.Write(message("t", "x")); p.wait() }),
		func(t *testing.T, s *Source, n *network, _ *collector) {
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if h := s.Health()[0]; h.State != Up || h.Undelivered != 2 || h.Reconnects != 2 || h.ProtocolErrors != 0 ||
				!strings.Contains(h.LastError, "disk full") || len(sink.texts()) != 1 {
				t.Errorf("%+v", h)
			}
		})
}

func TestSource_ASinkThatPanicsDoesNotEndTheProcess(t *testing.T) {
	first := true
	sink := &collector{}
	sink.fail = func() error {
		if first {
			first = false
			panic("a bug")
		}
		return nil
	}
	inBubble(t, Options{Sink: sink}, one(func(p peer) { p.shake(1, 1); p.Write(message("t", "x")); p.wait() }),
		func(t *testing.T, s *Source, n *network, _ *collector) {
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if h := s.Health()[0]; h.State != Up || len(sink.texts()) != 1 {
				t.Errorf("%+v", h)
			}
		})
}

func TestSource_BurstsComeInBatchesAndSingleMessagesAtOnce(t *testing.T) {
	burst := bytes.Repeat(message("t", "x"), 1000)
	inBubble(t, Options{}, one(func(p peer) {
		p.shake(1, 1)
		p.Write(burst)
		p.Write(message("t", "a"))
		time.Sleep(time.Second)
		p.Write(message("t", "b")[:4]) // a piece doesn't hold back what is whole
		p.wait()
	}), func(t *testing.T, s *Source, n *network, got *collector) {
		if want := []int{256, 256, 256, 232, 1}; !slices.Equal(got.batches, want) {
			t.Errorf("batches of %v, want %v", got.batches, want)
		}
	})
}

func TestSource_SlightlyTooLargeMessagesReachTheSink(t *testing.T) {
	inBubble(t, Options{MaxMessageBytes: 1000}, one(func(p peer) {
		p.shake(1, 1)
		p.Write(message("t", strings.Repeat("x", 2000)))
		p.Write(message("t", strings.Repeat("x", 2001)))
		p.wait()
	}), func(t *testing.T, s *Source, n *network, got *collector) {
		if h := s.Health()[0]; len(got.texts()) != 1 || h.TooLarge != 1 {
			t.Errorf("%d messages, %+v", len(got.texts()), h)
		}
	})
}

func TestSubscriptions(t *testing.T) {
	for _, c := range []struct{ in, want []string }{
		{nil, []string{""}}, {[]string{"a", ""}, []string{""}}, {[]string{"b", "a", "a"}, []string{"a", "b"}},
		{[]string{"org.", "org.f", "orh"}, []string{"org.", "orh"}},
	} {
		if got := subscriptions(c.in); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, want %q", c.in, got, c.want)
		}
	}
}
