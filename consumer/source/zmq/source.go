// Package zmq receives the bus's messages from ZeroMQ publishers, one supervised session per endpoint.
package zmq

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/statscache/statscache/consumer/source/zmq/zmtp"
)

// Endpoint is a publisher to listen to.
type Endpoint struct {
	Name    string // as the configuration calls it
	Address string // host:port; the host is looked up at each dial
}

// Peer is where messages come from.
type Peer struct {
	Endpoint
	Remote string // host:port of the other side of the connection
}

// Sink takes what was received.
type Sink interface {
	// Deliver takes messages of one endpoint in the order they came, each as its frames (one to Options.MaxFrames). The
	// sink owns all of it from then on. While it blocks, the endpoint's socket is not read, and the publisher drops
	// what its own queue can't hold. It returns early when ctx ends. An error ends the session; the batch counts as
	// lost then, and the endpoint is dialled again.
	Deliver(ctx context.Context, from Peer, batch [][][]byte) error
}

// The defaults of Options.
const (
	DefaultMaxMessageBytes = 1 << 20
	DefaultReconnectMax    = time.Second
	DefaultHeartbeat       = 10 * time.Second
	DefaultMaxFrames       = 8
)

const (
	dialTimeout      = 5 * time.Second
	handshakeTimeout = 5 * time.Second
	reconnectMin     = 100 * time.Millisecond
	brokenMax        = 5 * time.Second // back-off of a peer that breaks the protocol
	stableAfter      = 10 * time.Second
	handshakeBytes   = 4 << 10
	maxBatch         = 256
)

// Options say what to receive, and how. Zero values work but for Endpoints and Sink.
type Options struct {
	Endpoints []Endpoint
	Topics    []string // prefixes to subscribe to (fedmsg.Prefix of each filter); everything where there are none

	// MaxMessageBytes is what the sink takes; what is more than twice as large breaks the connection instead. In
	// between the sink refuses the message and the connection lives on.
	MaxMessageBytes int
	MaxFrames       int // of one message

	KeepAlive    net.KeepAliveConfig // of TCP; 30 s, 5 s, 3 times where it is the zero value
	ReconnectMax time.Duration       // longest wait before a lost publisher is dialled again
	Heartbeat    time.Duration       // silence before a PING, and wait for its answer; negative: none

	Sink   Sink
	Logger *slog.Logger
	Now    func() time.Time
	Dial   func(ctx context.Context, network, address string) (net.Conn, error) // TCP with KeepAlive where it is nil
}

// Source receives from all endpoints.
type Source struct {
	options Options // but for Endpoints and Topics, which Update changes
	limits  zmtp.Limits
	log     *slog.Logger

	mu      sync.Mutex
	topics  []string // replaced, never changed
	links   []*link
	leaving []*link        // removed, with a session that is about to end
	refused Refused        // of those that have gone
	launch  func(*link)    // supervises a link; nil while Run doesn't run
	wg      sync.WaitGroup // supervisors
}

// New makes a source; nothing is dialled before Run.
func New(options Options) *Source {
	o := &options
	setDefault(&o.MaxMessageBytes, DefaultMaxMessageBytes)
	setDefault(&o.MaxFrames, DefaultMaxFrames)
	setDefault(&o.ReconnectMax, DefaultReconnectMax)
	setDefault(&o.Heartbeat, DefaultHeartbeat)
	if o.KeepAlive == (net.KeepAliveConfig{}) {
		o.KeepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 5 * time.Second, Count: 3}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{KeepAliveConfig: o.KeepAlive}).DialContext
	}
	frame := 2 * uint64(o.MaxMessageBytes)
	s := &Source{
		options: options,
		limits:  zmtp.Limits{Handshake: handshakeBytes, Frame: frame, Message: 2 * frame, Frames: o.MaxFrames},
		log:     o.Logger.With("component", "zmq"),
		topics:  subscriptions(o.Topics),
	}
	for _, e := range o.Endpoints {
		s.links = append(s.links, newLink(e))
	}
	return s
}

func setDefault[T int | time.Duration](v *T, value T) {
	if *v == 0 {
		*v = value
	}
}

// subscriptions leaves out prefixes that another one covers.
func subscriptions(prefixes []string) []string {
	if len(prefixes) == 0 {
		return []string{""}
	}
	sorted := slices.Sorted(slices.Values(prefixes)) // a prefix sorts before what begins with it
	kept := sorted[:1]
	for _, p := range sorted[1:] {
		if last := kept[len(kept)-1]; len(p) < len(last) || p[:len(last)] != last {
			kept = append(kept, p)
		}
	}
	return kept
}

// Run receives until ctx ends. Every goroutine and socket is gone when it returns. It is to be called once.
func (s *Source) Run(ctx context.Context) error {
	s.mu.Lock()
	s.launch = func(l *link) {
		own, cancel := context.WithCancel(ctx)
		l.cancel = cancel
		s.wg.Go(func() {
			defer cancel()
			s.supervise(own, ctx, l)
			s.forget(l)
		})
	}
	for _, l := range s.links {
		s.launch(l)
	}
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	s.launch = nil // from here on the group only shrinks
	s.mu.Unlock()
	s.wg.Wait()
	return nil
}

// Health tells how each endpoint does, in the order of Options.Endpoints or of what Update was given.
func (s *Source) Health() []Health {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Health, len(s.links))
	for i, l := range s.links {
		out[i] = l.snapshot()
	}
	return out
}
