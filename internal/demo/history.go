package demo

import (
	"io"
	"math"
	"time"
)

// How busy the history is. A year as busy as the live bus would be hundreds of millions of events, and one as quiet as
// can be brought in quickly would be a line at zero in every chart that reaches to now. So the bus grows to the live
// rate within the last day or two, with the square of the time to now.
const (
	basePerSecond  = 500.0 / 86400
	growth         = 2 * time.Hour // a quarter of the live rate was reached so long ago
	mostLive       = 20.0          // events a second at the end of a history; more would only take longer
	dayDeviation   = 0.3           // of the logarithm of how busy a day is
	seasonalSwing  = 0.35
	seasonsPerYear = 2 // a distribution is released twice
)

// History is a reader of JSON lines: the events of a bus from one time to another, oldest first.
type History struct {
	generator *Generator
	at, end   time.Time
	now       func() time.Time
	live      float64
	day       int64
	busy      float64 // how busy that day is, about 1
	rest      []byte
}

// NewHistory makes up the events of a length of time up to now, as it is when the last one is read: live ones go on
// from there at the given rate a second.
func NewHistory(g *Generator, length time.Duration, now func() time.Time, live float64) *History {
	end := now()
	return &History{generator: g, at: end.Add(-length), end: end, now: now, live: min(live, mostLive)}
}

// Events is about how many there will be.
func (h *History) Events() int {
	length := h.end.Sub(h.at)
	return int(length.Seconds()*basePerSecond + h.live*growth.Seconds()*float64(length)/float64(length+growth))
}

// rate is how many events a second come at a time.
func (h *History) rate(t time.Time) float64 {
	if day := t.Unix() / 86400; day != h.day || h.busy == 0 {
		h.day = day
		season := 1 + seasonalSwing*math.Cos(float64(t.YearDay())/365*seasonsPerYear*2*math.Pi)
		h.busy = season * math.Exp(h.generator.rng.NormFloat64()*dayDeviation)
	}
	ago := 1 + float64(max(0, h.end.Sub(t)))/float64(growth)
	return basePerSecond*activity(t)*h.busy + h.live/(ago*ago)
}

// Read gives the next piece.
func (h *History) Read(p []byte) (int, error) {
	for len(h.rest) == 0 {
		h.at = h.at.Add(h.generator.pause(h.rate(h.at)))
		if !h.at.Before(h.now()) {
			return 0, io.EOF
		}
		h.rest = append(h.generator.Next(h.at).Body, '\n')
	}
	n := copy(p, h.rest)
	h.rest = h.rest[n:]
	return n, nil
}
