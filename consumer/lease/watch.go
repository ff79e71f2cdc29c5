// Package lease shares out work among processes that know of each other only what stands in the rows of a store.
//
// A lease is a row whose holder raises its beat again and again. Others take it when the beat has stood still for the
// time to live on their own monotonic clock: nobody's wall clock is compared with anybody's. A holder that was stopped
// for a while may go on without knowing that it lost: what it writes then is fenced by the store.
package lease

import (
	"strings"
	"time"

	"github.com/statscache/statscache/store"
)

// seen is a row as this process has observed it.
type seen struct {
	store.Lease
	absent bool
	still  time.Duration // for how long it has not changed
	free   time.Duration // for how long it could have been taken
}

// watch is what a process has observed of all rows.
type watch struct {
	ttl   time.Duration
	every time.Duration // between two looks
	last  time.Time     // of the last look, zero before the first
	rows  map[string]*seen
	asked map[string]bool // names that are watched though there is no row
}

func newWatch(ttl, every time.Duration) *watch {
	return &watch{ttl: ttl, every: every, rows: map[string]*seen{}, asked: map[string]bool{}}
}

// look takes in all rows as they are at a moment. Time counts only where it was watched: after a pause (the store was
// away, this process was stopped) owners that are well had no more chance to be seen than we had to look.
func (w *watch) look(rows []store.Lease, now time.Time) {
	gap := time.Duration(0)
	if !w.last.IsZero() {
		gap = min(now.Sub(w.last), 2*w.every)
	}
	w.last = now
	there := map[string]bool{}
	for _, l := range rows {
		there[l.Name] = true
		w.take(l, false, gap)
	}
	for name := range w.asked {
		if !there[name] {
			w.take(store.Lease{Name: name}, true, gap)
		}
	}
	for name := range w.rows {
		if !there[name] && !w.asked[name] {
			delete(w.rows, name)
		}
	}
}

func (w *watch) take(l store.Lease, absent bool, gap time.Duration) {
	s := w.rows[l.Name]
	if s == nil || s.absent != absent || s.Owner != l.Owner || s.Beat != l.Beat {
		before := s
		s = &seen{Lease: l, absent: absent}
		if before != nil && before.absent && absent {
			s.still = before.still
		}
		w.rows[l.Name] = s
	} else {
		s.still += gap
		s.Info = l.Info
	}
	if w.expired(s) {
		s.free += gap
	} else {
		s.free = 0
	}
}

// expired says whether a row may be taken.
func (w *watch) expired(s *seen) bool { return s.absent || s.Owner == "" || s.still >= w.ttl }

// of gives what is known of a name; a name without a row is watched from now on.
func (w *watch) of(name string) *seen {
	s := w.rows[name]
	if s == nil {
		s = &seen{Lease: store.Lease{Name: name}, absent: true}
		w.rows[name] = s
	}
	if s.absent {
		w.asked[name] = true
	}
	return s
}

// forget ends the watch for a name without a row.
func (w *watch) forget(name string) { delete(w.asked, name) }

// each calls f for the rows whose names begin with a prefix.
func (w *watch) each(prefix string, f func(rest string, s *seen)) {
	for name, s := range w.rows {
		if rest, ok := strings.CutPrefix(name, prefix); ok && !s.absent {
			f(rest, s)
		}
	}
}
