package datagrepper

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/statscache/statscache/internal/durable"
)

// Span is a range of time, [From, To), in seconds since 1970.
type Span struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

func (s Span) len() int64 { return s.To - s.From }

// State is what the data dir knows of the archives that were read: which spans are in our own archive whole, and how far
// the one under way is. A span stands in it only when all of its events are durable.
type State struct {
	path string
	mu   sync.Mutex
	of   map[string]*archiveState
}

// archiveState is a part of the file.
type archiveState struct {
	Done   []Span      `json:"done"`             // ascending, apart from each other
	Open   *openWindow `json:"open,omitempty"`   // the window under way
	Wanted []Span      `json:"wanted,omitempty"` // what a start found missing, until it is done
}

// openWindow is a window of which some pages are archived.
type openWindow struct {
	Span
	Pages int    `json:"pages"` // the first pages, which are archived
	Seen  string `json:"seen"`  // the identities of their messages, 8 bytes each in base64
}

// maxState bounds the file, in bytes.
const maxState = 64 << 20

// OpenState reads the file; where there is none, nothing is known.
func OpenState(path string) (*State, error) {
	s := &State{path: path, of: map[string]*archiveState{}}
	text, err := durable.ReadFile(path, maxState)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("progress of backfills: %w", err)
	}
	if err := json.Unmarshal(text, &s.of); err != nil {
		return nil, fmt.Errorf("progress of backfills: %s: %w; remove the file: what is fetched again is not counted twice", path, err)
	}
	for name, a := range s.of {
		if a == nil {
			delete(s.of, name)
			continue
		}
		a.Done, a.Wanted = Merged(a.Done), Merged(a.Wanted)
	}
	return s, nil
}

// Key names an archive in the state: its URL without user and password.
func Key(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	u.User, u.Fragment = nil, ""
	u.Path = strings.TrimRight(u.Path, "/")
	return u.String()
}

// at gives the part of an archive; under mu.
func (s *State) at(archive string) *archiveState {
	a := s.of[archive]
	if a == nil {
		a = &archiveState{}
		s.of[archive] = a
	}
	return a
}

// Missing gives what of a span is not done yet.
func (s *State) Missing(archive string, in Span) []Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	return without(in, s.at(archive).Done)
}

// Want notes a span as missing until it is done. What was wanted before stays.
func (s *State) Want(archive string, w Span) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.at(archive)
	a.Wanted = Merged(append(a.Wanted, w))
	return s.save()
}

// Wanted gives what is wanted.
func (s *State) Wanted(archive string) []Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.at(archive).Wanted)
}

// Satisfied forgets that a span is wanted.
func (s *State) Satisfied(archive string, w Span) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.at(archive)
	var left []Span
	for _, x := range a.Wanted {
		left = append(left, without(x, []Span{w})...)
	}
	a.Wanted = left
	return s.save()
}

// step is what became durable: pages of a window, or all of it.
type step struct {
	window Span
	pages  int
	seen   []uint64
	done   Span // not empty: the window is done, and this much of it will not change any more
	whole  bool
}

// apply notes steps, in their order, and writes the file.
func (s *State) apply(archive string, steps []step) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.at(archive)
	for _, x := range steps {
		if !x.whole {
			a.Open = &openWindow{Span: x.window, Pages: x.pages, Seen: packSeen(x.seen)}
			continue
		}
		a.Open = nil
		if x.done.len() > 0 {
			a.Done = Merged(append(a.Done, x.done))
		}
	}
	return s.save()
}

// open gives the window under way if it begins at a time and ends by another one.
func (s *State) open(archive string, in Span) (w Span, pages int, seen map[uint64]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.at(archive).Open
	if o == nil || o.From != in.From || o.To > in.To || o.len() <= 0 || o.Pages < 1 {
		return Span{}, 0, nil
	}
	raw, err := base64.StdEncoding.DecodeString(o.Seen)
	if err != nil || len(raw)%8 != 0 {
		return Span{}, 0, nil
	}
	seen = make(map[uint64]bool, len(raw)/8)
	for ; len(raw) > 0; raw = raw[8:] {
		seen[binary.BigEndian.Uint64(raw)] = true
	}
	return o.Span, o.Pages, seen
}

func packSeen(seen []uint64) string {
	raw := make([]byte, 0, 8*len(seen))
	for _, x := range seen {
		raw = binary.BigEndian.AppendUint64(raw, x)
	}
	return base64.StdEncoding.EncodeToString(raw)
}

// save replaces the file: its contents are durable before its name points to them. Under mu.
func (s *State) save() error {
	text, err := json.Marshal(s.of)
	if err == nil {
		err = durable.ReplaceFile(s.path, text)
	}
	if err != nil {
		return fmt.Errorf("note the progress of a backfill: %w", err)
	}
	return nil
}

// Merged gives spans in order, those that meet as one.
func Merged(list []Span) []Span {
	list = slices.DeleteFunc(slices.Clone(list), func(s Span) bool { return s.len() <= 0 })
	slices.SortFunc(list, func(a, b Span) int {
		switch {
		case a.From < b.From:
			return -1
		case a.From > b.From:
			return 1
		}
		return 0
	})
	out := list[:0]
	for _, s := range list {
		if n := len(out); n > 0 && s.From <= out[n-1].To {
			out[n-1].To = max(out[n-1].To, s.To)
			continue
		}
		out = append(out, s)
	}
	return out
}

// without gives what of a span others, in order, leave.
func without(s Span, others []Span) []Span {
	var out []Span
	for _, o := range others {
		if o.To <= s.From || o.From >= s.To {
			continue
		}
		if o.From > s.From {
			out = append(out, Span{s.From, o.From})
		}
		s.From = o.To
	}
	if s.len() > 0 {
		out = append(out, s)
	}
	return out
}
