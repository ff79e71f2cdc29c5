package file

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/statscache/statscache/consumer/source/datagrepper"
)

// record makes a record of a message of any form.
func record(line int, raw []byte) Record {
	env, err := datagrepper.Envelope(raw)
	if err != nil {
		return Record{Line: line, Reason: "json", Detail: err.Error()}
	}
	return Record{Line: line, Envelope: env}
}

// messageReader reads a message a line.
type messageReader struct{ in *lines }

func (r *messageReader) Next() (Record, error) {
	for {
		line, size, err := r.in.next()
		switch {
		case err != nil:
			return Record{}, err
		case size > r.in.max+2:
			return tooLong(r.in.line, size, r.in.max), nil
		case len(bytes.TrimSpace(line)) > 0:
			return record(r.in.line, line), nil
		}
	}
}

// valueReader cuts objects out of a stream of JSON: those at its top, those of arrays there, and those of pages. It
// looks at braces and strings only; what stands between them is looked at with each message.
type valueReader struct {
	in   *bufio.Reader
	max  int
	line int
	page bool // inside of a page's raw_messages
}

// Next gives the next message.
func (r *valueReader) Next() (Record, error) {
	for {
		b, err := r.in.ReadByte()
		if err != nil {
			if errors.Is(err, io.EOF) && r.page {
				return Record{}, fmt.Errorf("it ends inside of a page, in line %d", r.line)
			}
			return Record{}, err
		}
		switch b {
		case '\n':
			r.line++
		case ' ', '\t', '\r', ',', '[', 0xef, 0xbb, 0xbf:
		case ']':
			if r.page {
				r.page = false
				if err := r.skipPage(); err != nil {
					return Record{}, err
				}
			}
		case '{':
			rec, ok, err := r.object()
			if err != nil || ok {
				return rec, err
			}
		default:
			return r.garbage(b)
		}
	}
}

// garbage passes over a line that is no JSON here.
func (r *valueReader) garbage(b byte) (Record, error) {
	rec := Record{Line: r.line, Reason: "json", Detail: fmt.Sprintf("%q where an object should begin", b)}
	for {
		_, err := r.in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err == nil {
			r.line++
		} else if !errors.Is(err, io.EOF) {
			return Record{}, err
		}
		return rec, nil
	}
}

// object reads an object whose brace has been read. ok is false where it turned out to be a page: its messages follow.
func (r *valueReader) object() (rec Record, ok bool, err error) {
	s := scan{depth: 1, key: true}
	begin, size := r.line, 1
	buf := []byte{'{'}
	for s.depth > 0 {
		b, err := r.byte()
		if err != nil {
			return rec, false, fmt.Errorf("it ends inside of an object that began in line %d", begin)
		}
		size++
		if size <= r.max {
			buf = append(buf, b)
		}
		if s.next(b); s.depth == 2 && b == '[' && !s.text && !r.page && s.name() == "raw_messages" {
			r.page = true
			return rec, false, nil
		}
	}
	if size > r.max {
		return tooLong(begin, size, r.max), true, nil
	}
	if !r.page && isPage(buf) {
		return rec, false, nil // one without messages
	}
	return record(begin, buf), true, nil
}

// isPage tells a page whose messages are null or were left out from a message.
func isPage(object []byte) bool {
	n := 0
	for _, k := range topKeys(object) {
		switch k {
		case "total", "pages", "arguments", "count":
			n++
		case "msg", "body", "topic":
			return false
		}
	}
	return n >= 3
}

// skipPage reads what stands behind a page's messages.
func (r *valueReader) skipPage() error {
	for s := (scan{depth: 1}); s.depth > 0; {
		b, err := r.byte()
		if err != nil {
			return fmt.Errorf("it ends inside of a page, in line %d", r.line)
		}
		s.next(b)
	}
	return nil
}

func (r *valueReader) byte() (byte, error) {
	b, err := r.in.ReadByte()
	if b == '\n' && err == nil {
		r.line++
	}
	return b, err
}

// scan follows JSON by its brackets and strings.
type scan struct {
	depth   int
	text    bool // inside of a string
	escaped bool
	key     bool // the next string at depth 1 is a key
	last    []byte
}

// maxKey is how much of a key is remembered.
const maxKey = 32

func (s *scan) next(b byte) {
	if s.text {
		switch {
		case s.escaped:
			s.escaped = false
		case b == '\\':
			s.escaped = true
		case b == '"':
			s.text = false
			return
		}
		if s.depth == 1 && s.key && len(s.last) < maxKey {
			s.last = append(s.last, b)
		}
		return
	}
	switch b {
	case '"':
		s.text = true
		if s.depth == 1 && s.key {
			s.last = s.last[:0]
		}
	case '{', '[':
		s.depth++
	case '}', ']':
		s.depth--
	case ':':
		if s.depth == 1 {
			s.key = false
		}
	case ',':
		if s.depth == 1 {
			s.key = true
		}
	}
}

// name is the key of the value under way at depth 1.
func (s *scan) name() string { return string(s.last) }
