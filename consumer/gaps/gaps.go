// Package gaps remembers when nobody listened to the bus, or to some of it: of those times events may be missing.
package gaps

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/statscache/statscache/consumer/gaps/counter"
	"github.com/statscache/statscache/internal/durable"
)

const (
	// mostGaps bounds what is remembered: beyond it the oldest two of them become one.
	mostGaps = 10_000
	// maxFile bounds the file, in bytes.
	maxFile = 16 << 20
	// near is how far apart, in seconds, two gaps of one reason may be to be one.
	near = 15
)

// Stopped is why there is a gap while no daemon listened at all.
const Stopped = "no statscache listened"

// Gap is a stretch of time, [From, To), in seconds since 1970, and why events of it may be missing.
type Gap struct {
	From int64  `json:"from"`
	To   int64  `json:"to"`
	Why  string `json:"why"`
	// Lost says that numbers of a publisher's counter are missing.
	Lost    bool   `json:"lost,omitempty"`
	Missing uint64 `json:"missing,omitempty"` // how many of them; 0 where nobody knows
	Ongoing bool   `json:"-"`                 // it has no end yet
}

// wasDown is the reason of the gap of an endpoint, and endpoint the name in it.
func wasDown(name string) string { return "endpoint " + name + " was down" }

func (g *Gap) endpoint() string {
	name, _ := strings.CutPrefix(g.Why, "endpoint ")
	name, _ = strings.CutSuffix(name, " was down")
	return name
}

// lostBy is the gap of messages from an address that are missing.
func lostBy(a counter.Address) Gap {
	return Gap{Why: "messages of endpoint " + a.Name + " at " + a.Address + " were lost", Lost: true}
}

// Span is a stretch of time, [From, To), in seconds since 1970.
type Span struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// Ledger is the gaps of one data dir, in a file.
type Ledger struct {
	path string
	mu   sync.Mutex
	kept kept
	down map[string]int64 // endpoints that are down, and until when that is noted
	live bool             // somebody listens through this ledger
}

// kept is the file.
type kept struct {
	Listened int64    `json:"listened"`           // somebody listened until then; 0 where nobody ever has
	Gaps     []Gap    `json:"gaps"`               // by their begin
	Heard    []string `json:"heard,omitempty"`    // endpoints that have been up
	Fetching *Span    `json:"fetching,omitempty"` // what is being fetched; of a process that was killed it may be left
}

// Open reads the file; where there is none, nobody has listened yet.
func Open(path string) (*Ledger, error) {
	l := &Ledger{path: path, down: map[string]int64{}}
	text, err := durable.ReadFile(path, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &l.kept)
	}
	if err != nil {
		return nil, fmt.Errorf("gaps: %s: %w; remove the file, and with it what is known of them", path, err)
	}
	l.kept.Gaps = slices.DeleteFunc(l.kept.Gaps, func(g Gap) bool { return g.From >= g.To })
	return l, nil
}

// Begin notes that somebody listens from now on; nobody did since the last Note.
func (l *Ledger) Begin(now int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept.Gaps = l.all(now)
	for i := range l.kept.Gaps {
		l.kept.Gaps[i].Ongoing = false
	}
	l.bound()
	l.kept.Listened, l.kept.Fetching, l.live = now, nil, true
	return l.save()
}

// Missed gives those of the endpoints that are down that have been up before, in this life (ever) or in an earlier one: of
// an endpoint that never was, nothing says that anybody publishes there. It remembers those two lists only.
func (l *Ledger) Missed(ever, down []string) (missed []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	heard := slices.Clone(ever)
	for _, name := range down {
		if slices.Contains(ever, name) {
			missed = append(missed, name)
		} else if slices.Contains(l.kept.Heard, name) {
			missed, heard = append(missed, name), append(heard, name)
		}
	}
	l.kept.Heard = heard // is saved with the next Note
	return missed
}

// Note says that somebody has listened up to now, but for endpoints that are down.
func (l *Ledger) Note(now int64, down []string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := max(l.kept.Listened, 0)
	for name := range l.down {
		if !slices.Contains(down, name) {
			delete(l.down, name)
		}
	}
	for _, name := range down {
		from, known := l.down[name]
		if !known {
			from = min(before, now) // it may have gone right after the last look
		}
		l.add(Gap{From: from, To: now, Why: wasDown(name)})
		l.down[name] = now
	}
	l.kept.Listened = max(l.kept.Listened, now)
	return l.save()
}

// add lengthens the last gap of the same reason, or adds one. Under mu.
func (l *Ledger) add(g Gap) {
	if g.From >= g.To {
		return
	}
	for i := len(l.kept.Gaps) - 1; i >= 0; i-- {
		if x := &l.kept.Gaps[i]; x.Why == g.Why && x.To+near >= g.From && x.From <= g.To {
			x.join(g)
			return
		}
	}
	l.kept.Gaps = append(l.kept.Gaps, g)
	l.sort()
	l.bound()
}

// sort puts the gaps in the order of their begins.
func (l *Ledger) sort() {
	slices.SortStableFunc(l.kept.Gaps, func(a, b Gap) int { return cmp.Compare(a.From, b.From) })
}

// join makes one of two: how many are missing is known of both or of none.
func (g *Gap) join(x Gap) {
	if g.Lost && !x.Lost {
		g.Why, g.Lost = x.Why, false
	}
	if g.Missing > 0 && x.Missing > 0 {
		g.Missing += x.Missing
	} else {
		g.Missing = 0
	}
	g.From, g.To = min(g.From, x.From), max(g.To, x.To)
}

// Count takes in what publishers' counters tell.
func (l *Ledger) Count(reports []counter.Report) error {
	if len(reports) == 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range reports {
		g := lostBy(r.Address)
		if r.Withdrawn {
			l.kept.Gaps = slices.DeleteFunc(l.kept.Gaps, func(x Gap) bool { return x.Why == g.Why && x.From >= r.Since })
			continue
		}
		for _, x := range r.Lost {
			g.From, g.To, g.Missing = x.From, x.To, x.Missing
			l.add(g)
		}
		for _, x := range r.Arrived {
			l.arrived(g.Why, x)
		}
	}
	return l.save()
}

// arrived takes back what was told to be lost. Under mu.
func (l *Ledger) arrived(why string, x counter.Loss) {
	i := slices.IndexFunc(l.kept.Gaps, func(g Gap) bool {
		return g.Why == why && g.Missing > 0 && g.From < x.To && x.From < g.To
	})
	switch {
	case i < 0: // it is closed, or nobody knows how many are missing
	case l.kept.Gaps[i].Missing > x.Missing:
		l.kept.Gaps[i].Missing -= x.Missing
	default:
		l.kept.Gaps = slices.Delete(l.kept.Gaps, i, i+1)
	}
}

// bound makes one of the oldest two while there are too many.
func (l *Ledger) bound() {
	for len(l.kept.Gaps) > mostGaps {
		first := l.kept.Gaps[0]
		first.join(l.kept.Gaps[1])
		l.kept.Gaps = slices.Delete(l.kept.Gaps, 0, 1)
		l.kept.Gaps[0] = first
	}
}

// Known gives all gaps up to now: where nobody listens, the time since somebody did is one.
func (l *Ledger) Known(now int64) []Gap {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all(now)
}

// all is Known; under mu.
func (l *Ledger) all(now int64) []Gap {
	out := slices.Clone(l.kept.Gaps)
	if !l.live && l.kept.Listened > 0 {
		out = append(out, Gap{From: l.kept.Listened, To: max(now, l.kept.Listened+1), Why: Stopped, Ongoing: true}) // a second is long enough to miss some
	}
	for i := range out {
		if at, isDown := l.down[out[i].endpoint()]; isDown && out[i].To >= at { // noted now and then only
			out[i].To, out[i].Ongoing = max(out[i].To, now), true
		}
	}
	return out
}

// Fetch notes what is being fetched from now on, nil for nothing.
func (l *Ledger) Fetch(what *Span) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept.Fetching = what
	return l.save()
}

// Fetching gives what is being fetched.
func (l *Ledger) Fetching() (Span, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kept.Fetching == nil {
		return Span{}, false
	}
	return *l.kept.Fetching, true
}

// Close forgets the gaps of a stretch of time: its events are here.
func (l *Ledger) Close(from, to int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var left []Gap
	changed := false
	for _, g := range l.kept.Gaps {
		if g.To <= from || g.From >= to {
			left = append(left, g)
			continue
		}
		changed = true
		begin, end := g, g
		if begin.To, begin.Missing = from, 0; begin.From < from { // how many of them were there nobody knows
			left = append(left, begin)
		}
		if end.From, end.Missing = to, 0; end.To > to {
			left = append(left, end)
		}
	}
	l.kept.Gaps = left
	l.sort()
	if !l.live && l.kept.Listened >= from && l.kept.Listened < to {
		l.kept.Listened, changed = to, true
	}
	if !changed {
		return nil
	}
	return l.save()
}

// save writes the file; under mu.
func (l *Ledger) save() error {
	text, err := json.Marshal(l.kept)
	if err == nil {
		err = durable.ReplaceFile(l.path, append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("note gaps in %s: %w", l.path, err)
	}
	return nil
}
