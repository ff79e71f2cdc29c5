package api

import (
	"cmp"
	"context"
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zeebo/xxh3"
)

// The kinds of gaps.
const (
	GapStopped = "stopped" // nobody listened
	GapDown    = "down"    // the connection to an endpoint was down
	GapLost    = "lost"    // numbers of a publisher's counter are missing
)

// Gap is a stretch of time, [From, To), of which events may be missing.
type Gap struct {
	From        time.Time `json:"from"`
	To          time.Time `json:"to"`
	Kind        string    `json:"kind"` // GapStopped, GapDown or GapLost
	Reason      string    `json:"reason"`
	Missing     uint64    `json:"missing,omitempty"` // how many events, of GapLost; 0 where nobody knows
	Ongoing     bool      `json:"ongoing,omitempty"` // it has no end yet: To is now
	Backfilling bool      `json:"backfilling"`       // it is being fetched, at least in part
}

// Span is a stretch of time, [From, To).
type Span struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// Gaps is what is known to be missing and what of it, or of any history, is being fetched.
type Gaps struct {
	Gaps        []Gap  `json:"gaps"`        // by their begin
	Backfilling []Span `json:"backfilling"` // what a backfill fetches right now, gap or not
}

// mostSpans bounds how many gaps an answer names: beyond it those that are nearest to each other become one.
const mostSpans = 1000

// span is a stretch of time, [from, to), in seconds since 1970.
type span struct{ from, to int64 }

// missing is Gaps as answers about numbers need it: merged, and with a number that changes when it does.
type missing struct {
	read           time.Time
	gaps, fetching []span
	version        uint64
}

// gapWatch keeps the last look at what is missing: it may be a file that has to be read.
type gapWatch struct {
	last    atomic.Pointer[missing]
	looking sync.Mutex
}

// missingNow gives what is missing, at most statusLife old.
func (s *Server) missingNow() *missing {
	now := s.now()
	fresh := func(m *missing) bool { return m != nil && now.Sub(m.read) < statusLife && !now.Before(m.read) }
	m := s.missed.last.Load()
	if fresh(m) {
		return m
	}
	s.missed.looking.Lock()
	defer s.missed.looking.Unlock()
	if m := s.missed.last.Load(); fresh(m) {
		return m
	}
	m = newMissing(s.gaps(), now)
	s.missed.last.Store(m)
	return m
}

func newMissing(g Gaps, now time.Time) *missing {
	m := &missing{read: now, fetching: make([]span, 0, len(g.Backfilling))}
	var told []span // as the version knows them: that one goes on changes nothing in answers about the past, all others end by themselves
	for _, x := range g.Gaps {
		m.gaps = append(m.gaps, spanOf(x.From, x.To))
		if told = append(told, spanOf(x.From, x.To)); x.Ongoing {
			told[len(told)-1].to = maxTime
		}
	}
	for _, x := range g.Backfilling {
		m.fetching = append(m.fetching, spanOf(x.From, x.To))
	}
	m.gaps, m.fetching = merged(m.gaps), merged(m.fetching)
	var state []byte
	for _, list := range [][]span{merged(told), m.fetching} {
		state = binary.LittleEndian.AppendUint64(state, uint64(len(list)))
		for _, x := range list {
			state = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(state, uint64(x.from)), uint64(x.to))
		}
	}
	m.version = xxh3.Hash(state)
	return m
}

// spanOf takes whole seconds that hold all of it.
func spanOf(from, to time.Time) span { return span{from.Unix(), to.Add(time.Second - 1).Unix()} }

// merged sorts spans and joins those that touch.
func merged(list []span) (out []span) {
	slices.SortFunc(list, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	for _, x := range list {
		if x.from >= x.to {
			continue
		}
		if n := len(out); n > 0 && x.from <= out[n-1].to {
			out[n-1].to = max(out[n-1].to, x.to)
			continue
		}
		out = append(out, x)
	}
	return out
}

// within cuts merged spans to a window.
func within(list []span, from, to int64) (out []span) {
	for _, x := range list {
		if x = (span{max(x.from, from), min(x.to, to)}); x.from < x.to {
			out = append(out, x)
		}
	}
	return out
}

// without takes merged spans out of merged spans.
func without(list, off []span) (out []span) {
	for _, x := range list {
		for _, o := range off {
			if o.to <= x.from || o.from >= x.to {
				continue
			}
			if x.from < o.from {
				out = append(out, span{x.from, o.from})
			}
			x.from = min(o.to, x.to)
		}
		if x.from < x.to {
			out = append(out, x)
		}
	}
	return out
}

// fewer joins the spans that are nearest to each other until there are at most so many.
func fewer(list []span, most int) []span {
	if len(list) <= most {
		return list
	}
	between := make([]int64, 0, len(list)-1)
	for i := range list[1:] {
		between = append(between, list[i+1].from-list[i].to)
	}
	slices.Sort(between)
	near := between[len(list)-most-1]
	out := []span{list[0]}
	for _, x := range list[1:] {
		if last := &out[len(out)-1]; x.from-last.to <= near {
			last.to = x.to
			continue
		}
		out = append(out, x)
	}
	return out
}

// lacks says what of a window is missing or being fetched.
func (m *missing) lacks(from, to int64) (out []incomplete) {
	fetching := within(m.fetching, from, to)
	for _, x := range fewer(without(within(m.gaps, from, to), fetching), mostSpans) {
		out = append(out, incomplete{utc(x.from), utc(x.to), "gap"})
	}
	for _, x := range fewer(fetching, mostSpans) {
		out = append(out, incomplete{utc(x.from), utc(x.to), "backfilling"})
	}
	return out
}

// gapsQuestion is GET /api/v1/gaps.
func (s *Server) gapsQuestion() question {
	return question{key: "gaps", dir: &directory{}, until: s.now().Add(statusLife), build: func(context.Context) (*answer, error) {
		return jsonAnswer(s.gaps().Marked())
	}}
}

// Marked gives the same in UTC, without nil lists, and with those gaps marked that are being fetched.
func (g Gaps) Marked() Gaps {
	out := Gaps{append([]Gap{}, g.Gaps...), append([]Span{}, g.Backfilling...)}
	for i := range out.Backfilling {
		x := &out.Backfilling[i]
		x.From, x.To = x.From.UTC(), x.To.UTC()
	}
	for i := range out.Gaps {
		x := &out.Gaps[i]
		x.From, x.To = x.From.UTC(), x.To.UTC()
		x.Backfilling = slices.ContainsFunc(out.Backfilling, func(b Span) bool { return b.From.Before(x.To) && x.From.Before(b.To) })
	}
	return out
}
