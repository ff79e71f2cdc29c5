package api

import (
	"encoding/json"
	"strconv"
	"time"
)

// sheet is an answer as rows: of one kind each column.
type sheet struct {
	columns []sheetColumn
	rows    int
}

// sheetColumn holds the values of one name: of the slices one is used. A number may be null.
type sheetColumn struct {
	name    string
	texts   []string
	numbers []int64
	null    []bool            // nil: none is
	values  []json.RawMessage // JSON, as it is
}

func times(name string, seconds []int64) sheetColumn {
	c := sheetColumn{name: name, texts: make([]string, len(seconds))}
	for i, t := range seconds {
		c.texts[i] = clock(t)
	}
	return c
}

// json writes an array of objects; a line each and no brackets for NDJSON.
func (s *sheet) json(lines bool) []byte {
	out := make([]byte, 0, 2+s.rows*32*max(1, len(s.columns)))
	if !lines {
		out = append(out, '[')
	}
	for r := range s.rows {
		if r > 0 && !lines {
			out = append(out, ',')
		}
		out = append(out, '{')
		for i := range s.columns {
			if i > 0 {
				out = append(out, ',')
			}
			c := &s.columns[i]
			out = append(appendString(out, c.name), ':')
			switch {
			case c.texts != nil:
				out = appendString(out, c.texts[r])
			case c.values != nil:
				out = appendRaw(out, c.values[r])
			case c.null != nil && c.null[r]:
				out = append(out, "null"...)
			default:
				out = strconv.AppendInt(out, c.numbers[r], 10)
			}
		}
		out = append(out, '}')
		if lines {
			out = append(out, '\n')
		}
	}
	if !lines {
		out = append(out, ']')
	}
	return out
}

// appendRaw writes a value that plugins gave, and null for what isn't JSON.
func appendRaw(out []byte, v json.RawMessage) []byte {
	b, err := json.Marshal(v) // compact, and safe inside a script
	if err != nil {
		b = []byte("null")
	}
	return append(out, b...)
}

// csv writes RFC 4180 with LF. What is null is empty.
func (s *sheet) csv() []byte {
	out := make([]byte, 0, 64+s.rows*24*max(1, len(s.columns)))
	for i := range s.columns {
		out = appendField(out, i, s.columns[i].name)
	}
	out = append(out, '\n')
	for r := range s.rows {
		for i := range s.columns {
			c := &s.columns[i]
			switch {
			case c.texts != nil:
				out = appendField(out, i, c.texts[r])
				continue
			case c.values != nil:
				out = appendField(out, i, string(c.values[r]))
				continue
			}
			if i > 0 {
				out = append(out, ',')
			}
			if c.null == nil || !c.null[r] {
				out = strconv.AppendInt(out, c.numbers[r], 10)
			}
		}
		out = append(out, '\n')
	}
	return out
}

// dataAnswer makes an answer in a format: of document as JSON, else of the rows of the sheet.
func dataAnswer(f format, document any, rows func() *sheet) (*answer, error) {
	switch f {
	case formatCSV, formatAppCSV:
		return &answer{body: rows().csv(), contentType: f.contentType()}, nil
	case formatNDJSON:
		return &answer{body: rows().json(true), contentType: f.contentType()}, nil
	}
	return jsonAnswer(document)
}

// countList is counts as JSON writes them: null where there is none to be given.
type countList struct {
	counts []int64
	null   []bool // nil: none is
}

// MarshalJSON writes an array of numbers.
func (l countList) MarshalJSON() ([]byte, error) {
	out := make([]byte, 0, 2+4*len(l.counts))
	out = append(out, '[')
	for i, n := range l.counts {
		if i > 0 {
			out = append(out, ',')
		}
		if l.null != nil && l.null[i] {
			out = append(out, "null"...)
		} else {
			out = strconv.AppendInt(out, n, 10)
		}
	}
	return append(out, ']'), nil
}

func utc(t int64) time.Time { return time.Unix(t, 0).UTC() }
