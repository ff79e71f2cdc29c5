// Package file reads the forms in which people keep a bus's history: envelopes, datagrepper's and datanommer's answers,
// and dumps of datanommer's table of messages.
package file

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Form is how messages stand in a file.
type Form int

// The forms.
const (
	// Lines holds an envelope a line. It is for whoever reads lines: New knows the others.
	Lines Form = iota
	// Messages is Lines, but the messages are fedora-messaging's.
	Messages
	// Values holds JSON objects one after the other or in an array, each a message of any form or a page of datagrepper's.
	Values
	// CSV holds a row a message, behind a header.
	CSV
	// Copy is PostgreSQL's text format of COPY, with or without a header.
	Copy
	// SQL is a plain dump by pg_dump: COPY's text format among statements.
	SQL
)

// String names the form as an operator knows it.
func (f Form) String() string {
	return [...]string{"JSON lines of envelopes", "JSON lines of fedora-messaging's messages", "JSON", "CSV", "PostgreSQL COPY", "PostgreSQL dump"}[f]
}

// maxHead is how much of a file its form is told by.
const maxHead = 64 << 10

// Sniff tells a file's form by what it begins with, without reading it. What can't be told is Lines: then every line says
// for itself what is wrong with it. An error means that the file is known for something that can't be imported.
func Sniff(in *bufio.Reader) (Form, error) {
	head, err := firstLine(in)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
		return Lines, nil // the first read says what is wrong
	}
	if err := foreign(head); err != nil {
		return Lines, err
	}
	text := bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf")), " \t\r\n")
	if len(text) == 0 {
		return Lines, nil
	}
	switch text[0] {
	case '[':
		return Values, nil
	case '{':
		return sniffObject(text), nil
	}
	line := text
	if i := bytes.IndexByte(text, '\n'); i >= 0 {
		line = text[:i]
	}
	line = bytes.TrimRight(line, "\r\n")
	switch {
	case bytes.HasPrefix(text, []byte("--")), bytes.HasPrefix(text, []byte("COPY ")), bytes.HasPrefix(text, []byte("SET ")):
		return SQL, nil
	case hasColumns(strings.Split(string(line), "\t")):
		return Copy, nil
	case bytes.Count(line, []byte("\t")) == len(Columns)-1:
		return Copy, nil
	}
	if fields, err := splitCSV(line); err == nil && hasColumns(plain(fields)) {
		return CSV, nil
	}
	return Lines, nil
}

// firstLine looks ahead until there is a line with something in it. It waits for no more than that: a pipe may be slow.
func firstLine(in *bufio.Reader) ([]byte, error) {
	for n := 1; ; {
		_, err := in.Peek(n)
		head, _ := in.Peek(in.Buffered())
		text := bytes.TrimLeft(head, "\xef\xbb\xbf \t\r\n")
		if i := bytes.IndexByte(text, '\n'); err != nil || len(head) >= maxHead || i >= 0 {
			return head, err
		}
		n = len(head) + 1
	}
}

// sniffObject tells what the objects of a file are by the first one.
func sniffObject(text []byte) Form {
	line := text
	ended := false
	if i := bytes.IndexByte(text, '\n'); i >= 0 {
		line, ended = text[:i], true
	}
	if keys := topKeys(line); slices.ContainsFunc(keys, func(k string) bool { return slices.Contains(pageKeys, k) }) {
		return Values
	} else if json.Valid(line) {
		if slices.Contains(keys, "body") && !slices.Contains(keys, "msg") {
			return Messages
		}
		return Lines
	}
	// An object that goes on in the next line is one that somebody printed for people.
	var v json.RawMessage
	if err := json.NewDecoder(bytes.NewReader(line)).Decode(&v); ended && errors.Is(err, io.ErrUnexpectedEOF) {
		return Values
	}
	return Lines
}

// pageKeys are the keys of a page of datagrepper's that no message has.
var pageKeys = []string{"raw_messages", "arguments", "pages", "total"} // immutable

// topKeys gives the keys of an object as far as they can be read.
func topKeys(line []byte) (keys []string) {
	d := json.NewDecoder(bytes.NewReader(line))
	if _, err := d.Token(); err != nil {
		return nil
	}
	for d.More() {
		t, err := d.Token()
		k, ok := t.(string)
		if err != nil || !ok {
			break
		}
		keys = append(keys, k)
		var v json.RawMessage
		if d.Decode(&v) != nil {
			break
		}
	}
	return keys
}

// foreign names files that people take for what they are not.
func foreign(head []byte) error {
	for _, x := range []struct{ magic, what string }{
		{"PGDMP", "a dump of PostgreSQL in its custom format: write it as text with `pg_restore --data-only --table=messages -f - FILE | statscache import -`"},
		{"SQLite format 3\x00", "a SQLite database"},
		{"PK\x03\x04", "a zip archive: unpack it first"},
		{"\xfd7zXZ\x00", "compressed by xz: unpack it first"},
		{"BZh", "compressed by bzip2: unpack it first"},
	} {
		if bytes.HasPrefix(head, []byte(x.magic)) {
			return fmt.Errorf("it is %s", x.what)
		}
	}
	if len(head) > 262 && string(head[257:262]) == "ustar" {
		return errors.New("it is a tar archive: unpack it first; one that `statscache backup` made is for `statscache restore`")
	}
	return nil
}

// Record is a message of a file, or what is wrong with a piece of it.
type Record struct {
	Line     int    // where it begins, from 1
	Envelope []byte // nil where Reason says why there is none
	Reason   string // one of INTERFACE's reasons of rejection: json, envelope or size
	Detail   string
}

// Reader reads messages, one after the other.
type Reader interface {
	// Next gives the next record, io.EOF after the last. Any other error ends the file.
	Next() (Record, error)
}

// New reads a file of a form other than Lines. A message may have maxBytes.
func New(form Form, in *bufio.Reader, maxBytes int) Reader {
	const escaped = 2 // what a row may be longer than its message
	switch form {
	case CSV:
		return &tableReader{in: newLines(in, escaped*maxBytes), row: (*tableReader).csvRow}
	case Copy:
		return &tableReader{in: newLines(in, escaped*maxBytes), row: (*tableReader).copyRow, columns: Columns, maybeHeader: true}
	case SQL:
		return &tableReader{in: newLines(in, escaped*maxBytes), row: (*tableReader).copyRow, sql: true}
	case Messages:
		return &messageReader{in: newLines(in, maxBytes)}
	}
	return &valueReader{in: in, max: maxBytes, line: 1}
}

// lines reads lines of bounded length and counts them.
type lines struct {
	in   *bufio.Reader
	max  int
	line int // the last one read
}

func newLines(in *bufio.Reader, maxBytes int) *lines { return &lines{in: in, max: maxBytes} }

// next gives a line without its end; size is above max, and the line cut, where it is too long.
func (l *lines) next() (line []byte, size int, err error) {
	for {
		piece, err := l.in.ReadSlice('\n')
		size += len(piece)
		if size <= l.max+2 {
			line = append(line, piece...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if size == 0 || (err != nil && !errors.Is(err, io.EOF)) {
			return nil, 0, err
		}
		l.line++
		return bytes.TrimRight(line, "\r\n"), size, nil
	}
}

func tooLong(line, size, most int) Record {
	return Record{Line: line, Reason: "size", Detail: fmt.Sprintf("%d bytes are more than the limit of %d", size, most)}
}
