package file

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/statscache/statscache/consumer/source/datagrepper"
)

// Columns are those of a dump without a header, in this order; docs/import.md has the command that writes it.
var Columns = []string{"msg_id", "topic", "timestamp", "i", "msg", "headers", "agent_name", "crypto", "certificate", "signature", "source_name", "source_version"} // immutable

// hasColumns says whether names are those of a table of messages.
func hasColumns(names []string) bool {
	return slices.Contains(names, "topic") && slices.Contains(names, "timestamp") && (slices.Contains(names, "msg") || slices.Contains(names, "_msg"))
}

// field is a value of a row; nil is NULL.
type field []byte

// tableReader reads rows of datanommer's table of messages.
type tableReader struct {
	in          *lines
	row         func(*tableReader) ([]field, int, *Record, error)
	columns     []string // nil: they are to be read
	maybeHeader bool     // the first row may name the columns
	sql         bool     // rows stand between COPY and \.
	inside      bool
}

// Next gives the next message.
func (r *tableReader) Next() (Record, error) {
	for {
		if r.sql && !r.inside {
			if err := r.findCopy(); err != nil {
				return Record{}, err
			}
		}
		fields, line, bad, err := r.row(r)
		switch {
		case err != nil:
			return Record{}, err
		case bad != nil:
			return *bad, nil
		case fields == nil:
			continue
		}
		if r.columns == nil || r.maybeHeader {
			names := plain(fields)
			header := hasColumns(names)
			r.maybeHeader = false
			if header || r.columns == nil {
				if !header {
					return Record{}, fmt.Errorf("line %d names no columns topic, timestamp and msg", line)
				}
				r.columns = names
				continue
			}
		}
		if len(fields) != len(r.columns) {
			return Record{Line: line, Reason: "envelope", Detail: fmt.Sprintf("%d columns instead of %d (%s)", len(fields), len(r.columns), strings.Join(r.columns, ", "))}, nil
		}
		env, err := envelopeOf(r.columns, fields)
		if err != nil {
			return Record{Line: line, Reason: "envelope", Detail: err.Error()}, nil
		}
		return Record{Line: line, Envelope: env}, nil
	}
}

func plain(fields []field) []string {
	out := make([]string, len(fields))
	for i, f := range fields {
		out[i] = strings.TrimSpace(string(f))
	}
	return out
}

// findCopy passes over statements up to the next COPY of a table of messages.
func (r *tableReader) findCopy() error {
	for {
		line, _, err := r.in.next()
		if err != nil {
			return err
		}
		rest, ok := bytes.CutPrefix(line, []byte("COPY "))
		if !ok || !bytes.HasSuffix(rest, []byte(") FROM stdin;")) {
			continue
		}
		_, list, ok := strings.Cut(strings.TrimSuffix(string(rest), ") FROM stdin;"), " (")
		if !ok {
			continue
		}
		columns := strings.Split(list, ", ")
		for i, c := range columns {
			columns[i] = strings.Trim(c, `"`)
		}
		if hasColumns(columns) {
			r.columns, r.inside = columns, true
			return nil
		}
	}
}

// copyRow reads a row of COPY's text format: nothing for an empty line or the end of the data.
func (r *tableReader) copyRow() ([]field, int, *Record, error) {
	line, size, err := r.in.next()
	if err != nil {
		return nil, 0, nil, err
	}
	if size > r.in.max+2 {
		bad := tooLong(r.in.line, size, r.in.max)
		return nil, 0, &bad, nil
	}
	if string(line) == `\.` {
		r.inside = false
		return nil, 0, nil, nil
	}
	if len(line) == 0 {
		return nil, 0, nil, nil
	}
	pieces := bytes.Split(line, []byte("\t"))
	fields := make([]field, len(pieces))
	for i, p := range pieces {
		if string(p) != `\N` {
			fields[i] = unescape(p)
		}
	}
	return fields, r.in.line, nil, nil
}

// unescape undoes what COPY does to a value. It works in place.
func unescape(p []byte) field {
	if bytes.IndexByte(p, '\\') < 0 {
		return p
	}
	out := p[:0]
	for i := 0; i < len(p); i++ {
		if p[i] != '\\' || i+1 == len(p) {
			out = append(out, p[i])
			continue
		}
		i++
		switch c := p[i]; c {
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'v':
			out = append(out, '\v')
		default:
			out = append(out, c) // the octal and hexadecimal forms are read only, never written
		}
	}
	return out
}

// csvRow reads a row of CSV; one may go over several lines.
func (r *tableReader) csvRow() ([]field, int, *Record, error) {
	var row []byte
	begin, total := 0, 0
	for {
		line, size, err := r.in.next()
		if err != nil {
			if errors.Is(err, io.EOF) && begin > 0 {
				err = fmt.Errorf("it ends inside of a value that began in line %d", begin)
			}
			return nil, 0, nil, err
		}
		if begin == 0 {
			begin = r.in.line
		} else {
			row = append(row, '\n')
		}
		total += size
		if total <= r.in.max+2 {
			row = append(row, line...)
		} else if size > r.in.max+2 || bytes.Count(line, []byte{'"'})%2 == 1 {
			bad := tooLong(begin, total, r.in.max)
			return nil, 0, &bad, nil
		}
		if bytes.Count(row, []byte{'"'})%2 == 0 {
			break
		}
	}
	if len(bytes.TrimSpace(row)) == 0 {
		return nil, 0, nil, nil
	}
	fields, err := splitCSV(row)
	if err != nil {
		return nil, 0, &Record{Line: begin, Reason: "envelope", Detail: err.Error()}, nil
	}
	return fields, begin, nil, nil
}

// splitCSV takes a row apart. A value that is empty without quotes is NULL.
func splitCSV(row []byte) (fields []field, err error) {
	for {
		if len(row) == 0 || row[0] != '"' {
			value, rest, more := bytes.Cut(row, []byte{','})
			if bytes.IndexByte(value, '"') >= 0 {
				return nil, fmt.Errorf("a quote in the middle of value %d", len(fields)+1)
			}
			if len(value) == 0 {
				value = nil
			}
			fields = append(fields, value)
			if !more {
				return fields, nil
			}
			row = rest
			continue
		}
		value := field{}
		for row = row[1:]; ; {
			i := bytes.IndexByte(row, '"')
			if i < 0 {
				return nil, fmt.Errorf("value %d has no closing quote", len(fields)+1)
			}
			value = append(value, row[:i]...)
			if row = row[i+1:]; len(row) == 0 || row[0] != '"' {
				break
			}
			value, row = append(value, '"'), row[1:]
		}
		fields = append(fields, value)
		if len(row) == 0 {
			return fields, nil
		}
		if row[0] != ',' {
			return nil, fmt.Errorf("something behind the closing quote of value %d", len(fields))
		}
		row = row[1:]
	}
}

// envelopeOf makes the envelope of a row: names of columns as envelopes have them, JSON as it stands there.
func envelopeOf(columns []string, fields []field) ([]byte, error) {
	out := make([]byte, 0, 256)
	put := func(key string, value []byte) {
		if len(out) == 0 {
			out = append(out, '{')
		} else {
			out = append(out, ',')
		}
		out = strconv.AppendQuote(out, key)
		out = append(append(out, ':'), value...)
	}
	for i, column := range columns {
		value := fields[i]
		if value == nil {
			continue
		}
		switch column {
		case "msg", "_msg", "headers":
			if !json.Valid(value) {
				return nil, fmt.Errorf("column %s is no JSON", column)
			}
			put(strings.TrimPrefix(column, "_"), value)
		case "timestamp":
			at, err := timestamp(string(value))
			if err != nil {
				return nil, err
			}
			put(column, []byte(at))
		case "i":
			n, err := strconv.ParseInt(string(value), 10, 64)
			if err != nil {
				return nil, fmt.Errorf("column i is %q, not a number", clip(value))
			}
			put(column, strconv.AppendInt(nil, n, 10))
		case "msg_id", "topic", "crypto", "certificate", "signature", "source_name", "source_version", "username":
			put(column, quote(value))
		case "agent_name":
			put("username", quote(value))
		}
	}
	if len(out) == 0 {
		return nil, errors.New("an empty row")
	}
	return append(out, '}'), nil
}

// quote writes JSON text. PostgreSQL's is UTF-8; what is not is replaced.
func quote(value []byte) []byte {
	if !utf8.Valid(value) {
		value = bytes.ToValidUTF8(value, []byte("\uFFFD"))
	}
	text, _ := json.Marshal(string(value)) // a string can always be written
	return text
}

// timestamp reads PostgreSQL's time, which datanommer keeps in UTC, or seconds since 1970.
func timestamp(s string) (string, error) {
	if strings.Trim(s, "0123456789.") == "" && json.Valid([]byte(s)) {
		return s, nil
	}
	for _, layout := range []string{"2006-01-02 15:04:05.999999999", "2006-01-02 15:04:05.999999999Z07", "2006-01-02 15:04:05.999999999Z07:00", time.RFC3339Nano} {
		if t, err := time.Parse(layout, s); err == nil {
			return datagrepper.Seconds(t), nil
		}
	}
	return "", fmt.Errorf("column timestamp is %q, not a time", clip([]byte(s)))
}

// clip shortens what is quoted in a message.
func clip(b []byte) string {
	const longest = 60
	if len(b) > longest {
		return string(bytes.ToValidUTF8(b[:longest], nil)) + "..."
	}
	return string(b)
}
