package host

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"
)

const (
	maxLine      = 4 << 10 // bytes of a line that are logged; the rest is dropped
	lineBurst    = 50      // lines that may come at once
	linePeriod   = 100 * time.Millisecond
	maxTailLines = 8
)

// output logs what a plugin prints, line by line, cut and bounded in rate, and remembers the last lines for telling
// why a process ended.
type output struct {
	logger *slog.Logger
	now    func() time.Time

	mu         sync.Mutex
	tokens     int
	refilled   time.Time
	suppressed int
	tail       []string
}

func newOutput(logger *slog.Logger, now func() time.Time) *output {
	return &output{logger: logger, now: now, tokens: lineBurst, refilled: now()}
}

// line takes one line of a stream ("stdout" or "stderr").
func (o *output) line(stream string, text []byte) {
	text = bytes.TrimRight(text, "\r\n")
	if len(text) == 0 {
		return
	}
	s := strings.ToValidUTF8(string(text[:min(len(text), maxLine)]), "\uFFFD")
	o.mu.Lock()
	o.tail = append(o.tail, s[:min(len(s), 512)])
	o.tail = o.tail[max(0, len(o.tail)-maxTailLines):]
	now := o.now()
	if k := int(now.Sub(o.refilled) / linePeriod); k > 0 {
		o.tokens, o.refilled = min(lineBurst, o.tokens+k), now
	}
	missed := 0
	ok := o.tokens > 0
	if ok {
		o.tokens--
		missed, o.suppressed = o.suppressed, 0
	} else {
		o.suppressed++
	}
	o.mu.Unlock()
	if missed > 0 {
		o.logger.Warn("plugin prints too much: lines were not logged", "lines", missed)
	}
	if ok {
		o.logger.Log(context.Background(), slog.LevelInfo, "plugin output", "stream", stream, "line", s)
	}
}

// last gives the last lines, for an error message.
func (o *output) last() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.tail, "; ")
}

// flush reports what was held back.
func (o *output) flush() {
	o.mu.Lock()
	missed := o.suppressed
	o.suppressed = 0
	o.mu.Unlock()
	if missed > 0 {
		o.logger.Warn("plugin prints too much: lines were not logged", "lines", missed)
	}
}

// writer gives an io.Writer that takes a stream in any pieces.
func (o *output) writer(stream string) io.Writer { return &pieces{o: o, stream: stream} }

// pieces puts lines together from what is written in pieces.
type pieces struct {
	o      *output
	stream string
	part   []byte
	skip   bool // the rest of the line is beyond maxLine
}

func (p *pieces) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		end := i >= 0
		if !end {
			i = len(b)
		}
		if !p.skip {
			p.part = append(p.part, b[:min(i, maxLine-len(p.part))]...)
			if len(p.part) == maxLine || end {
				p.o.line(p.stream, p.part)
				p.part, p.skip = p.part[:0], true
			}
		}
		if !end {
			break
		}
		p.skip = false
		b = b[i+1:]
	}
	return n, nil
}

// readLines calls f for every line of r, cut to maxLine, until r ends.
func readLines(r io.Reader, f func(line []byte)) {
	br := bufio.NewReaderSize(r, maxLine)
	for {
		line, prefix, err := br.ReadLine()
		if err != nil {
			return
		}
		f(line)
		for prefix && err == nil {
			_, prefix, err = br.ReadLine()
		}
	}
}
