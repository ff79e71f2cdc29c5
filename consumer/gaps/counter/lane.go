// Package counter finds by publishers' own counters which of their messages did not arrive.
//
// A publisher numbers its messages from 1 (`i` in the envelope), and begins anew when it is restarted. That says something
// only where one publisher stands behind an address: behind a relay or a gateway the numbers of many come mixed. So an
// address is judged by what comes from it. It is trusted after a number of messages in a row of which each follows the one
// before; from then on a jump forward is a loss, and a lower number that goes on is a restart. A number that follows the end
// of an earlier run is either a message that came late, or shows that several publishers count there: when that has
// happened a few times, the address is not judged any more, and what was said of it is taken back.
package counter

import (
	"math"
	"slices"
	"sync"
)

const (
	// trustAfter is how many messages in a row make an address trusted.
	trustAfter = 32
	// restartAfter is how many messages in a row make a lower number a restart rather than one that came late or twice.
	restartAfter = 3
	// mixedAfter is how often a former run has to go on for an address to be taken for that of several publishers.
	mixedAfter = 3
	// lateRun is how many late messages in a row are a run of somebody else's.
	lateRun = 8
	// mostEnds bounds how many ends of former runs are remembered.
	mostEnds = 16
	// mostHoles bounds how many holes are remembered by their numbers: only those can be filled by late messages.
	mostHoles = 64
)

// Loss is a stretch of time, [From, To), in seconds since 1970, and how many messages of it are missing.
type Loss struct {
	From, To int64
	Missing  uint64
}

// hole is a range of numbers that did not come.
type hole struct {
	first, last int64
	from, to    int64 // when they must have been published: seconds since 1970
	looks       int   // how often it was looked at since: it is told of at the second look
}

func (h *hole) told() bool { return h.looks > 1 }

func (h *hole) loss(n int64) Loss { return Loss{h.from, h.to, uint64(n)} }

// end is the end of a former run.
type end struct {
	last int64
	seen int64 // what the current run had come to when it last went on
	late int   // messages in a row that went on with it
}

// Lane is what is known of the messages from one address.
type Lane struct {
	mu      sync.Mutex
	last    int64 // the newest number of the run that goes on
	at      int64 // when it was published, µs since 1970
	run     int   // how many came in a row
	refused int64 // messages without a readable number since
	remote  string

	trusted, mixed bool
	since          int64 // it was trusted: seconds since 1970
	lates, returns int
	low            end // a lower number that may be a restart; late is how many came in a row
	ends           []end
	holes          []hole
	rest           Loss   // of holes that were too many to remember
	gone           []Loss // to be told of at the next look: what has arrived after all
	withdrawn      bool
}

// Number is what a message says: its number, or Refused where that can't be read, and when it was published, in µs since
// 1970.
type Number struct{ N, At int64 }

// Refused stands for the number of a message that came and can't be read.
const Refused = -1

// Take takes in the numbers of messages in the order they came over a connection.
func (l *Lane) Take(remote string, numbers []Number) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.from(remote)
	for _, x := range numbers {
		l.see(x.N, x.At)
	}
}

// from says over which connection the next messages come. Another peer at the same address is another publisher: of what
// was between the two nothing is known.
func (l *Lane) from(remote string) {
	if l.remote == remote {
		return
	}
	if l.remote != "" {
		l.forget()
	}
	l.remote = remote
}

// forget begins anew; what was found stays.
func (l *Lane) forget() {
	l.settle()
	l.trusted, l.mixed, l.run, l.last, l.refused, l.lates, l.returns = false, false, 0, 0, 0, 0, 0
	l.low, l.ends = end{}, l.ends[:0]
}

// see takes in a number.
func (l *Lane) see(n, at int64) {
	if n == l.last+1 {
		l.last, l.at, l.refused = n, at, 0
		if l.run++; l.run&(trustAfter-1) == 0 {
			l.calm()
		}
		return
	}
	l.odd(n, at)
}

// calm is called now and then in a long run.
func (l *Lane) calm() {
	l.lates = 0
	if !l.trusted && !l.mixed {
		l.trusted, l.since = true, l.at/1e6
	}
}

// odd takes in a number that doesn't follow the last one.
func (l *Lane) odd(n, at int64) {
	if n == Refused {
		l.refused++
		return
	}
	refused := l.refused
	l.refused = 0
	switch {
	case n <= 0 || n == math.MaxInt64 || l.mixed:
		return
	case n > l.last && n-l.last-1 <= refused && l.run > 0: // what was refused has come
		l.last, l.at = n, at
		l.run++
	case !l.trusted:
		l.last, l.at, l.run = n, at, 1
	case l.goesOn(n, at):
	case n > l.last:
		l.lost(n, at, refused)
	case l.fill(n):
	default:
		l.lower(n, at)
	}
	if l.lates >= mixedAfter || l.returns >= mixedAfter {
		l.mix()
	}
}

// goesOn says whether a number follows the end of a former run. Within a hole it is late, or another publisher's.
func (l *Lane) goesOn(n, at int64) bool {
	i := slices.IndexFunc(l.ends, func(e end) bool { return e.last+1 == n })
	if i < 0 {
		return false
	}
	e := &l.ends[i]
	e.last = n
	if l.fill(n) {
		if e.late++; e.seen != l.last { // both go on
			e.late, e.seen = 1, l.last
			l.lates++
		} else if e.late >= lateRun {
			l.returns = mixedAfter
		}
		return true
	}
	l.returns++
	e.last, l.last, l.at, l.run, l.low = l.last, n, at, 1, end{}
	return true
}

// lost takes in a jump forward.
func (l *Lane) lost(n, at, refused int64) {
	l.ended()
	h := hole{first: l.last + 1, last: n - 1 - refused, from: min(l.at, at) / 1e6, to: max(l.at, at)/1e6 + 1}
	if len(l.holes) == mostHoles {
		l.drop()
	}
	l.holes = append(l.holes, h)
	l.last, l.at, l.run, l.low = n, at, 1, end{}
}

// drop forgets the numbers of the oldest hole, but not that they are missing.
func (l *Lane) drop() {
	if h := l.holes[0]; !h.told() {
		l.rest.add(h.loss(h.last - h.first + 1))
	}
	l.holes = slices.Delete(l.holes, 0, 1)
}

// add joins two losses.
func (x *Loss) add(y Loss) {
	if x.Missing == 0 {
		*x = y
		return
	}
	x.From, x.To = min(x.From, y.From), max(x.To, y.To)
	x.Missing += y.Missing
}

// fill takes a number out of the holes: it has come late.
func (l *Lane) fill(n int64) bool {
	i := slices.IndexFunc(l.holes, func(h hole) bool { return h.first <= n && n <= h.last })
	if i < 0 {
		return false
	}
	h := &l.holes[i]
	if h.told() {
		l.back(h.loss(1))
	}
	switch {
	case h.first == h.last:
		l.holes = slices.Delete(l.holes, i, i+1)
	case n == h.first:
		h.first++
	case n == h.last:
		h.last--
	default:
		upper := *h
		h.last, upper.first = n-1, n+1
		l.holes = slices.Insert(l.holes, i+1, upper)
		if len(l.holes) > mostHoles {
			l.drop()
		}
	}
	return true
}

// back notes that what was told of has arrived after all.
func (l *Lane) back(x Loss) {
	if n := len(l.gone); n > 0 && l.gone[n-1].From == x.From && l.gone[n-1].To == x.To {
		l.gone[n-1].Missing += x.Missing
		return
	}
	l.gone = append(l.gone, x) // at most one for each hole
}

// lower takes in a number that is neither new nor missing: it came twice, or the publisher began anew.
func (l *Lane) lower(n, at int64) {
	switch {
	case n != l.low.last+1 || l.low.late == 0:
		l.low = end{last: n, seen: l.last, late: 1}
	case l.low.seen != l.last: // both go on
		l.returns++
		l.low = end{last: n, seen: l.last, late: 1}
	default:
		l.low.last = n
		l.low.late++
	}
	if l.low.late < restartAfter {
		return
	}
	l.ends = l.ends[:0] // those before are of another life: its numbers may come again by chance
	l.ended()
	l.settle()
	l.last, l.at, l.run, l.low = n, at, l.low.late, end{}
}

// ended remembers the end of the run that is left.
func (l *Lane) ended() {
	if len(l.ends) == mostEnds {
		l.ends = slices.Delete(l.ends, 0, 1)
	}
	l.ends = append(l.ends, end{last: l.last})
}

// settle forgets the numbers of all holes, but not that they are missing.
func (l *Lane) settle() {
	for len(l.holes) > 0 {
		l.drop()
	}
}

// mix gives an address up: several publishers count there.
func (l *Lane) mix() {
	l.mixed, l.trusted, l.withdrawn = true, false, true
	l.holes, l.ends, l.gone, l.rest = nil, nil, nil, Loss{}
}
