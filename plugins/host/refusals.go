package host

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/statscache/statscache/store"
)

const (
	// refusalSlice is half of the time over which refused events are compared with all.
	refusalSlice = 2 * time.Minute
	// refusalLeast is how many events say something about a plugin.
	refusalLeast = 100
	// refusalShare, in percent, is how many of them a plugin refuses that is wrong, rather than they.
	refusalShare = 90
	// saidErrorBytes bounds what is shown of one error beside others.
	saidErrorBytes = 200
)

// refusals counts the events that a plugin was asked about and those that it refused: in the last slice of time and in
// the current one.
type refusals struct {
	began          time.Time // of the current slice
	asked, refused [2]int    // before, now
	last           string    // error
}

// at gives the counts as of a time.
func (f refusals) at(now time.Time) refusals {
	switch past := now.Sub(f.began); {
	case past >= 2*refusalSlice:
		return refusals{began: now}
	case past >= refusalSlice:
		return refusals{began: f.began.Add(refusalSlice), asked: [2]int{f.asked[1]}, refused: [2]int{f.refused[1]}, last: f.last}
	}
	return f
}

// said complains about a plugin that refuses nearly everything; "" where it doesn't.
func (f refusals) said(now time.Time) string {
	f = f.at(now)
	n, of := f.refused[0]+f.refused[1], f.asked[0]+f.asked[1]
	if of < refusalLeast || n*100 < of*refusalShare {
		return ""
	}
	return fmt.Sprintf("%d of the last %d events were refused: %s", n, of, f.last)
}

// refused takes note of an answer. Where it makes the dead letters too many, they are no longer the events' fault.
func (r *Runner) refused(asked, n int, last string) error {
	now := r.host.now()
	r.mu.Lock()
	loud := r.refusals.said(now) != ""
	f := r.refusals.at(now)
	f.asked[1] += asked
	f.refused[1] += n
	if n > 0 {
		f.last = clip(strings.TrimSpace(strings.SplitN(last, "\n", 2)[0]), saidErrorBytes)
	}
	r.refusals = f
	said, id, kept, most := f.said(now), r.shown.ID, r.shown.DeadLetters, r.host.Limits.Letters
	r.mu.Unlock()
	if said != "" && !loud {
		r.host.Logger.Error("plugin refuses nearly all events: they are dead letters, and its numbers lack them", "plugin", id, "error", said)
	}
	if n > 0 && kept > most {
		return &refusal{fmt.Errorf("it has %d dead letters, and %d are the most that are kept for a plugin (the last one: %s); its position is kept: "+
			"once it is mended, `statscache plugin requeue %s` gives them to it again and has it go on", kept, most, f.last, id)}
	}
	return nil
}

// Unburied notes that dead letters were removed from the store because their events are archived no more.
func (h *Host) Unburied(gone map[store.LettersOf]int) {
	h.mu.Lock()
	runners := append([]*Runner(nil), h.runners...)
	h.mu.Unlock()
	for _, r := range runners {
		r.mu.Lock()
		n := gone[store.LettersOf{Plugin: r.shown.ID, Generation: r.lettersOf}]
		r.mu.Unlock()
		r.unburied(n)
	}
}

// clip cuts a text to at most n bytes, between runes.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
