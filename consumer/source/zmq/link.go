package zmq

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/statscache/statscache/consumer/source/zmq/zmtp"
)

// State is what an endpoint's session is doing.
type State string

// The states of an endpoint.
const (
	Connecting State = "connecting"  // dialling or shaking hands
	Up         State = "up"          // subscribed
	BackingOff State = "backing-off" // waiting before it is dialled again
	Stopped    State = "stopped"     // Run has ended
)

// Health is how an endpoint does. Counts are since New.
type Health struct {
	Name      string
	Address   string
	State     State
	Since     time.Time // of State; zero before Run
	LastEvent time.Time // when the last message came; zero before the first
	LastError string    // why the last session or attempt ended; kept while the next one is up

	Received       uint64 // messages that came, wrong topics included
	WrongTopic     uint64 // refused: of no topic that was subscribed to (reason "topic")
	TooLarge       uint64 // sessions ended by a frame or message beyond all limits (reason "size")
	TooManyFrames  uint64 // sessions ended by a message of too many frames (reason "frames")
	ProtocolErrors uint64 // sessions ended by anything else that is no ZMTP
	Undelivered    uint64 // messages that the sink refused with an error or did not take before the end
	Connects       uint64 // sessions that came up
	Reconnects     uint64 // sessions that came up after the first
}

// link is the state of one endpoint.
type link struct {
	cancel context.CancelFunc // of its supervisor, nil before Run; guarded by Source.mu

	mu     sync.Mutex
	health Health
	conn   *zmtp.Conn // of the session that is up, else nil
}

func newLink(e Endpoint) *link {
	return &link{health: Health{Name: e.Name, Address: e.Address, State: Connecting}}
}

// name is what the endpoint is called at the moment.
func (l *link) name() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.health.Name
}

// endpoint is what is listened to, as it is called at the moment.
func (l *link) endpoint() Endpoint {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Endpoint{l.health.Name, l.health.Address}
}

func (l *link) snapshot() Health {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.health
}

func (l *link) update(f func(*Health)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(&l.health)
}

func (l *link) enter(state State, at time.Time) {
	l.update(func(h *Health) { h.State, h.Since = state, at })
}

// supervise keeps a session to an endpoint alive until ctx ends. sinkCtx bounds the delivery of what was received: it
// outlives ctx where only this endpoint is removed.
func (s *Source) supervise(ctx, sinkCtx context.Context, l *link) {
	defer func() { l.enter(Stopped, s.options.Now()) }()
	address := l.snapshot().Address
	wait := backoff{min: reconnectMin}
	said := "" // the failure that was logged last: the same one is not logged at every attempt
	for ctx.Err() == nil {
		l.enter(Connecting, s.options.Now())
		var up time.Time
		err := s.session(ctx, sinkCtx, l, func() {
			up = time.Now()
			said = ""
			s.log.Info("endpoint is up", "endpoint", l.name(), "address", address)
		})
		if ctx.Err() != nil {
			return
		}
		broken := l.blame(err)
		l.enter(BackingOff, s.options.Now())
		if text := err.Error(); text != said {
			said = text
			s.log.Warn("endpoint is down", "endpoint", l.name(), "address", address, "error", err)
		}
		if !up.IsZero() && time.Since(up) >= stableAfter {
			wait.reset()
		}
		limit := s.options.ReconnectMax
		if broken {
			limit = max(limit, brokenMax)
		}
		if !sleep(ctx, wait.next(limit)) {
			return
		}
	}
}

// blame counts why a session ended, and says whether the peer broke the protocol.
func (l *link) blame(err error) (broken bool) {
	l.update(func(h *Health) {
		h.LastError = err.Error()
		switch broken = true; {
		case errors.Is(err, zmtp.ErrSize):
			h.TooLarge++
		case errors.Is(err, zmtp.ErrFrames):
			h.TooManyFrames++
		case errors.Is(err, zmtp.ErrProtocol):
			h.ProtocolErrors++
		default: // the network's failures, and our sink's
			broken = false
		}
	})
	return broken
}

// backoff gives growing waits, each jittered so that many listeners don't come back at once.
type backoff struct{ min, current time.Duration }

func (b *backoff) reset() { b.current = 0 }

// next gives a wait between half and all of twice the last one, bounded by limit.
func (b *backoff) next(limit time.Duration) time.Duration {
	b.current = min(max(2*b.current, b.min), max(limit, b.min))
	return b.current/2 + rand.N(b.current/2+1)
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
