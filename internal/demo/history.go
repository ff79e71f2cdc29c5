package demo

import (
	"io"
	"time"
)

// historyPerSecond is how busy the history is: about 800 events a day, enough for every chart and quickly brought in.
const historyPerSecond = 800.0 / 86400

// History is a reader of JSON lines: the events of a bus from one time to another, oldest first.
type History struct {
	generator *Generator
	at, end   time.Time
	rest      []byte
}

// NewHistory makes up the events of [from, to).
func NewHistory(g *Generator, from, to time.Time) *History {
	return &History{generator: g, at: from, end: to}
}

// Events is about how many there will be.
func (h *History) Events() int { return int(h.end.Sub(h.at).Seconds() * historyPerSecond) }

// Read gives the next piece.
func (h *History) Read(p []byte) (int, error) {
	for len(h.rest) == 0 {
		h.at = h.at.Add(h.generator.Pause(h.at, historyPerSecond))
		if !h.at.Before(h.end) {
			return 0, io.EOF
		}
		h.rest = append(h.generator.Next(h.at).Body, '\n')
	}
	n := copy(p, h.rest)
	h.rest = h.rest[n:]
	return n, nil
}
