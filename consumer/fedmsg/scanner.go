// Package fedmsg speaks the bus's own language: it tells from a message's frames what event they are, or why none.
package fedmsg

import (
	"bytes"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/statscache/statscache/internal/block"
)

// Reason is why a message was refused: the `reason` of statscache_events_rejected_total.
type Reason string

// The reasons. Accepted is none of them. SignatureReason and PolicyReason are never Scan's own: they belong to whoever
// checks signatures.
const (
	Accepted        Reason = ""
	FramesReason    Reason = "frames"    // neither topic and body nor both in one frame
	EncodingReason  Reason = "encoding"  // not UTF-8
	JSONReason      Reason = "json"      // not JSON
	EnvelopeReason  Reason = "envelope"  // JSON, but not a message: no object, no topic, a field of a wrong type
	TopicReason     Reason = "topic"     // topic frame and body disagree
	SizeReason      Reason = "size"      // larger than allowed
	TimeReason      Reason = "time"      // further in the future than allowed
	SignatureReason Reason = "signature" // signature wrong or missing
	PolicyReason    Reason = "policy"    // good signature of somebody who may not publish on this topic
)

// Reasons gives all of them, for whoever counts by reason.
func Reasons() []Reason {
	return []Reason{FramesReason, EncodingReason, JSONReason, EnvelopeReason, TopicReason, SizeReason, TimeReason,
		SignatureReason, PolicyReason}
}

const (
	// MaxIDBytes is the longest msg_id.
	MaxIDBytes = 1024
	// MaxNameBytes is the longest topic, user name and package name: they are keys of tables.
	MaxNameBytes = 1024

	defaultMaxBytes = 1 << 20
	defaultFuture   = 24 * time.Hour
)

// Limits bound what a message may be.
type Limits struct {
	MaxBytes int           // of a body; 1 MiB where it is 0
	Future   time.Duration // how far ahead of its reception an event may be stamped; a day where it is 0
}

// Scanner reads messages one after the other. It is for one goroutine; its buffers are reused from message to message.
type Scanner struct {
	limits    Limits
	pass      pass
	scratch   []byte // texts whose escapes were undone
	canon     canon
	rules     *Rules // nil: only headers say who and what
	ready     programs
	agentOnly programs // for messages whose headers name users or packages
	matched   extraction
	agents    [][]byte
	id        [len(hashedIDPrefix) + hashedIDDigits]byte
	detail    string
}

// NewScanner makes a scanner.
func NewScanner(limits Limits) *Scanner {
	if limits.MaxBytes <= 0 {
		limits.MaxBytes = defaultMaxBytes
	}
	if limits.Future <= 0 {
		limits.Future = defaultFuture
	}
	return &Scanner{limits: limits}
}

// Scan reads a message as it came from the bus: the topic frame (empty where there is none, as for the lines of a
// file), the body, and when it was received (µs since 1970). Where it is accepted ev is filled but for Source; what ev
// refers to is body, frameTopic and the scanner's own memory, good until the next Scan. Where it is refused ev is not
// to be used and Detail says more.
//
// A body without a topic but with a topic frame is a message of that topic; if it has neither a msg nor a msg_id it is
// the bare payload, and what stands in it is not looked at (fedmsg wraps such a body as {topic, msg}).
func (s *Scanner) Scan(frameTopic, body []byte, received int64, ev *block.Event) Reason {
	if len(body) > s.limits.MaxBytes {
		return s.reject(SizeReason, "body has %d bytes, allowed are %d", len(body), s.limits.MaxBytes)
	}
	if reason := s.walk(body); reason != Accepted {
		return reason
	}
	ev.Body, ev.Agent, ev.Signed = body, nil, block.Unchecked
	ev.Users, ev.Packages = ev.Users[:0], ev.Packages[:0]
	s.scratch = s.scratch[:0]
	f := &s.pass.found
	bare := f.topic.missing() && f.msg.missing() && f.msgID.missing()
	if reason := s.topic(frameTopic, body, ev); reason != Accepted {
		return reason
	}
	if bare {
		whole := span{0, len(body)}
		f.reset()
		f.msg = whole
	}
	if reason := s.time(body, received, ev); reason != Accepted {
		return reason
	}
	if reason := s.about(body, ev); reason != Accepted {
		return reason
	}
	return s.identify(body, ev)
}

// Detail says in a few words why the last message that was not accepted was refused.
func (s *Scanner) Detail() string { return s.detail }

// Counter gives the publisher's own counter (`i`) of the message scanned last; false where it has none.
func (s *Scanner) Counter() (int64, bool) {
	f := &s.pass.found
	if f.i.missing() {
		return 0, false
	}
	raw := f.i.of(s.pass.b)
	var n int64
	for _, c := range raw {
		if !isDigit(c) || len(raw) > 18 {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// reject keeps the detail. It is the only place that allocates for a message that is refused.
func (s *Scanner) reject(reason Reason, format string, args ...any) Reason {
	s.detail = fmt.Sprintf(format, args...)
	return reason
}

// walk validates the body and finds the fields.
func (s *Scanner) walk(body []byte) Reason {
	p := &s.pass
	p.b, p.high, p.tooDeep = body, 0, false
	p.found.reset()
	object := false
	i := p.space(0)
	if object = i < len(body) && body[i] == '{'; object {
		i = p.envelope(i + 1)
	} else {
		i = p.value(i, 0)
	}
	if i >= 0 {
		if i = p.space(i); i != len(body) {
			i = ^i
		}
	}
	// The encoding is judged first where a body is neither: it says more about the sender.
	if i < 0 || p.high&0x8080808080808080 != 0 {
		if at := invalidUTF8(body); at >= 0 {
			return s.reject(EncodingReason, "invalid UTF-8 at byte %d", at)
		}
	}
	switch {
	case p.tooDeep:
		return s.reject(JSONReason, "nested deeper than %d at byte %d", maxDepth, ^i)
	case i < 0 && ^i >= len(body):
		return s.reject(JSONReason, "invalid JSON: ends after %d bytes", len(body))
	case i < 0:
		return s.reject(JSONReason, "invalid JSON at byte %d", ^i)
	case !object:
		return s.reject(EnvelopeReason, "not a JSON object: %s", excerpt(body))
	}
	return Accepted
}

// invalidUTF8 gives the index of the first byte that is not UTF-8, -1 where there is none.
func invalidUTF8(b []byte) int {
	if utf8.Valid(b) {
		return -1
	}
	for i := 0; ; {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
}

// topic sets the event's topic. The frame's and the body's must be the same: subscriptions go by the one, signatures
// and policies by the other.
func (s *Scanner) topic(frame, body []byte, ev *block.Event) Reason {
	f := &s.pass.found
	switch {
	case !f.topic.missing():
		raw := f.topic.of(body)
		if !isString(raw) {
			return s.reject(EnvelopeReason, "topic is no string: %s", excerpt(raw))
		}
		ev.Topic, s.scratch, _ = unquoted(raw, s.scratch)
	case len(frame) == 0:
		return s.reject(EnvelopeReason, "no topic")
	case !utf8.Valid(frame):
		return s.reject(EncodingReason, "topic frame is not UTF-8: %q", excerpt(frame))
	default:
		ev.Topic = frame
	}
	switch {
	case len(ev.Topic) == 0:
		return s.reject(EnvelopeReason, "empty topic")
	case len(ev.Topic) > MaxNameBytes:
		return s.reject(EnvelopeReason, "topic has %d bytes, allowed are %d", len(ev.Topic), MaxNameBytes)
	case len(frame) > 0 && !bytes.Equal(frame, ev.Topic):
		if !utf8.Valid(frame) {
			return s.reject(EncodingReason, "topic frame is not UTF-8: %q", excerpt(frame))
		}
		return s.reject(TopicReason, "topic frame %q, topic of the body %q", excerpt(frame), excerpt(ev.Topic))
	}
	return Accepted
}

// time sets when the event happened: what its envelope says, or when it was received where it says nothing.
func (s *Scanner) time(body []byte, received int64, ev *block.Event) Reason {
	f := &s.pass.found
	if ev.Untimed = f.timestamp.missing(); ev.Untimed {
		ev.Time = received
		return Accepted
	}
	raw := f.timestamp.of(body)
	us, ok := microseconds(raw)
	switch {
	case !ok:
		return s.reject(EnvelopeReason, "timestamp is no number of seconds since 1970: %s", excerpt(raw))
	case us > received+s.limits.Future.Microseconds():
		return s.reject(TimeReason, "timestamp %s is more than %s ahead", excerpt(raw), s.limits.Future)
	}
	ev.Time = us
	return Accepted
}

// identify sets the event's id: its msg_id, or the hash of its canonical form where it has none (null, as datagrepper
// writes it for the messages before 2013, and "" are none).
func (s *Scanner) identify(body []byte, ev *block.Event) Reason {
	f := &s.pass.found
	if !f.msgID.missing() {
		raw := f.msgID.of(body)
		if isString(raw) {
			var verbatim bool
			ev.ID, s.scratch, verbatim = unquoted(raw, s.scratch)
			if len(ev.ID) > MaxIDBytes {
				return s.reject(EnvelopeReason, "msg_id has %d bytes, allowed are %d", len(ev.ID), MaxIDBytes)
			}
			if len(ev.ID) > 0 {
				ev.IDAt = -1
				if verbatim {
					ev.IDAt = f.msgID.from + 1
				}
				return Accepted
			}
		} else if string(raw) != "null" {
			return s.reject(EnvelopeReason, "msg_id is no string: %s", excerpt(raw))
		}
	}
	ev.ID, ev.IDAt = s.hashedID(body, ev.Topic), -1
	return Accepted
}

// excerpt is as much of b as a log line bears.
func excerpt(b []byte) []byte {
	const most = 60
	if len(b) <= most {
		return b
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(b[cut]) {
		cut--
	}
	return append(append(make([]byte, 0, cut+3), b[:cut]...), "..."...)
}
