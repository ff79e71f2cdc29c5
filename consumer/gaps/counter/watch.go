package counter

import (
	"cmp"
	"slices"
	"sync"
)

// Address is where messages come from, and what the configuration calls it.
type Address struct{ Name, Address string }

// Report is what has become known of an address since the last look.
type Report struct {
	Address
	Lost    []Loss
	Arrived []Loss // of what was told before: it came late
	// Withdrawn says that several publishers were found behind the address: what was told of it since a time, in seconds
	// since 1970, says nothing.
	Withdrawn bool
	Since     int64
}

// Watch holds a lane for each address. A nil one watches nothing.
type Watch struct {
	mu    sync.Mutex
	lanes map[Address]*Lane
	blind bool
}

// NewWatch makes one without any lanes.
func NewWatch() *Watch { return &Watch{lanes: map[Address]*Lane{}} }

// Judge says whether all messages of the addresses are received. Where only some topics are, the numbers of the others
// are missing for good: nothing is found then.
func (w *Watch) Judge(all bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.blind = !all; w.blind {
		w.lanes = map[Address]*Lane{}
	}
}

// Lane gives the lane of an address, nil where nothing is to be found.
func (w *Watch) Lane(a Address) *Lane {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.blind {
		return nil
	}
	l := w.lanes[a]
	if l == nil {
		l = &Lane{}
		w.lanes[a] = l
	}
	return l
}

// Trusted says whether the numbers from an address tell of losses.
func (w *Watch) Trusted(a Address) bool {
	w.mu.Lock()
	l := w.lanes[a]
	w.mu.Unlock()
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.trusted
}

// Look gives what has become known since the last look. A hole is told of at the second one: it may be filled until then,
// but where it is the last look. Addresses that are not current are forgotten afterwards.
func (w *Watch) Look(current []Address, last bool) (out []Report) {
	w.mu.Lock()
	lanes := make(map[Address]*Lane, len(w.lanes))
	for a, l := range w.lanes {
		lanes[a] = l
		if !slices.Contains(current, a) {
			delete(w.lanes, a)
		}
	}
	w.mu.Unlock()
	for a, l := range lanes {
		r := l.look(last || !slices.Contains(current, a))
		if r.Address = a; r.Lost != nil || r.Arrived != nil || r.Withdrawn {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b Report) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Address.Address, b.Address.Address))
	})
	return out
}

func (l *Lane) look(last bool) (r Report) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.withdrawn {
		l.withdrawn = false
		return Report{Withdrawn: true, Since: l.since}
	}
	if l.rest.Missing > 0 {
		r.Lost, l.rest = append(r.Lost, l.rest), Loss{}
	}
	for i := range l.holes {
		h := &l.holes[i]
		if h.told() {
			continue
		}
		if h.looks++; last {
			h.looks = 2
		}
		if h.told() {
			r.Lost = append(r.Lost, h.loss(h.last-h.first+1))
		}
	}
	r.Arrived, l.gone = l.gone, nil
	return r
}
