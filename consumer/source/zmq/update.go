package zmq

import (
	"bytes"
	"encoding/binary"
	"slices"
	"time"

	"github.com/statscache/statscache/consumer/source/zmq/zmtp"
)

// onTheirWay is how long messages of a topic may still come after it was unsubscribed from.
const onTheirWay = 5 * time.Second

// Update changes what a source receives while it runs. Connections to addresses that stay are not touched: an endpoint
// with another name keeps its connection, and other topics are subscribed to over it. What was read from a removed one
// is delivered still. Update doesn't wait for any peer or for the sink. What it answers has the form of its argument.
func (s *Source) Update(endpoints []Endpoint, topics []string) (added, removed []Endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.links
	take := func(match func(h Health) bool) *link {
		i := slices.IndexFunc(old, func(l *link) bool { return l != nil && match(l.snapshot()) })
		if i < 0 {
			return nil
		}
		l := old[i]
		old[i] = nil
		return l
	}
	links := make([]*link, len(endpoints))
	for i, e := range endpoints {
		links[i] = take(func(h Health) bool { return h.Name == e.Name && h.Address == e.Address })
	}
	for i, e := range endpoints { // those that have lost nothing but their name
		if links[i] != nil {
			continue
		}
		if links[i] = take(func(h Health) bool { return h.Address == e.Address }); links[i] != nil {
			links[i].update(func(h *Health) { h.Name = e.Name })
		}
	}
	s.topics = subscriptions(topics)
	for _, l := range links {
		if l != nil {
			l.wake()
		}
	}
	for _, l := range old {
		if l == nil {
			continue
		}
		h := l.snapshot()
		removed = append(removed, Endpoint{h.Name, h.Address})
		if s.launch == nil { // no session goes on
			s.refused.add(h)
			continue
		}
		s.leaving = append(s.leaving, l)
		l.cancel()
	}
	for i, e := range endpoints {
		if links[i] == nil {
			added = append(added, e)
			links[i] = newLink(e)
			if s.launch != nil {
				s.launch(links[i])
			}
		}
	}
	s.links = links
	return added, removed
}

// forget keeps of a removed link that has ended what it refused.
func (s *Source) forget(l *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.leaving, l); i >= 0 {
		s.leaving = slices.Delete(s.leaving, i, i+1)
		s.refused.add(l.snapshot())
	}
}

// Refused counts what endpoints sent and was not delivered, since New.
type Refused struct{ WrongTopic, TooLarge, TooManyFrames uint64 }

func (r *Refused) add(h Health) {
	r.WrongTopic += h.WrongTopic
	r.TooLarge += h.TooLarge
	r.TooManyFrames += h.TooManyFrames
}

// Refused adds up all endpoints, removed ones included: it never falls.
func (s *Source) Refused() Refused {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := s.refused
	for _, l := range slices.Concat(s.links, s.leaving) {
		sum.add(l.snapshot())
	}
	return sum
}

// subscriptions gives the prefixes to subscribe to.
func (s *Source) subscriptions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.topics
}

// attach makes a connection follow the subscriptions, and looks at them at its next read: they may have changed since
// the handshake.
func (l *link) attach(c *zmtp.Conn) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn = c
	return c.Wake()
}

func (l *link) detach() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn = nil
}

// wake makes the session that is up, if one is, look at the subscriptions again.
func (l *link) wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		_ = l.conn.Wake() // fails on a closed connection only: the next one subscribes to what there is then
	}
}

// subscribed is what a session is subscribed to. It belongs to the goroutine that reads the connection.
type subscribed struct {
	topics  []string
	left    []string // unsubscribed from lately
	leftFor time.Time
}

// change gives the frames that subscribe to other topics, first to new ones and then from old ones, so that what both
// cover comes all the time.
func (u *subscribed) change(topics []string, now time.Time) []byte {
	if slices.Equal(topics, u.topics) {
		return nil
	}
	var wire []byte
	for _, t := range topics {
		if !slices.Contains(u.topics, t) {
			wire = appendSubscription(wire, 1, t)
		}
	}
	for _, t := range u.topics {
		if !slices.Contains(topics, t) {
			wire = appendSubscription(wire, 0, t)
		}
	}
	u.left, u.leftFor, u.topics = u.topics, now.Add(onTheirWay), topics
	return wire
}

// appendSubscription writes a message that subscribes (1) to a prefix or takes that back (0).
func appendSubscription(wire []byte, what byte, topic string) []byte {
	if n := 1 + len(topic); n > 255 {
		wire = binary.BigEndian.AppendUint64(append(wire, 2), uint64(n))
	} else {
		wire = append(wire, 0, byte(n))
	}
	return append(append(wire, what), topic...)
}

// cover looks again at what the publisher should have filtered.
func (u *subscribed) cover(frames [][]byte) bool {
	if len(frames) == 0 {
		return false
	}
	if covers(u.topics, frames[0]) {
		return true
	}
	if u.left == nil {
		return false
	}
	if time.Now().After(u.leftFor) {
		u.left = nil
		return false
	}
	return covers(u.left, frames[0])
}

func covers(prefixes []string, topic []byte) bool {
	for _, p := range prefixes {
		if bytes.HasPrefix(topic, []byte(p)) {
			return true
		}
	}
	return false
}
