package store

import (
	"context"

	"github.com/statscache/statscache/internal/block"
)

// Names is a condition on the names of one kind that an event has. The zero value always holds.
type Names struct {
	In    []string // the event has at least one of these; none for any
	NotIn []string // the event has none of these
}

// EventFilter chooses archived events. All conditions must hold.
type EventFilter struct {
	From, To int64 // µs since 1970: events in [From, To)

	Users, Packages, Categories, Topics, Agents Names
	TopicPrefixes                               []string // the topic begins with one of these; none for any

	// Contains and NotContains are pieces of text in the body as it was received, case kept: one of the first, none of
	// the second. They are looked for in what the other conditions leave, body by body.
	Contains, NotContains []string
}

// EventCursor is a place in the order of events: by time, those of one moment by id in code-point order.
type EventCursor struct {
	Time int64 // µs since 1970
	ID   string
}

// FindRequest asks for a page of archived events.
type FindRequest struct {
	EventFilter
	Desc   bool         // newest first
	After  *EventCursor // the events behind this place in that order; nil from the beginning
	Limit  int          // at most so many, at least 1
	Bodies bool
	// MaxScan bounds the events that are looked at for one page; 0 is no bound. A page that it ends may be short, or
	// empty, and says where to go on.
	MaxScan int
	// MaxBytes bounds the bodies of a page together; 0 is no bound. The first event is given in any case.
	MaxBytes int
}

// Event is an archived event.
type Event struct {
	Stream   string
	Seq      uint64
	ID       string
	Topic    string
	Category string
	Time     int64 // µs since 1970
	Received int64 // µs since 1970
	Source   string
	Users    []string
	Packages []string
	Agent    string // empty where unknown
	Signed   block.Signature
	Body     []byte // as received; nil without Bodies
}

// Page is a part of the events that a request chooses.
type Page struct {
	Events []Event
	Next   *EventCursor // what to give as After for the next page; nil where there is no more
}

// Finder answers questions about archived events. Events behind the archive's horizon are not there.
type Finder interface {
	// Find gives a page. What was archived before the call is in it.
	Find(ctx context.Context, r FindRequest) (Page, error)
	// Event gives one event with its body. ErrUnknown: there is none of that id.
	Event(ctx context.Context, id string) (Event, error)
	// CountEvents counts the events that a filter chooses. ErrTooCostly: more than maxScan events would have to be
	// looked at (0 is no bound); names and whole spans of time cost little or nothing.
	CountEvents(ctx context.Context, f EventFilter, maxScan int) (int64, error)
}
