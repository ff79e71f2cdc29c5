package api

import (
	"bytes"
	"encoding/json"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"
)

// table is rows ready to be written: integers and strings, in columns sorted by name.
type table struct {
	columns []column // sorted by name
	rows    int
	stamp   int // which column is timestamp: it comes first in CSV
}

// column holds the values of one name: of the two slices one is used.
type column struct {
	name    string
	numbers []int64
	strings []string
}

func newTable(rows int, columns []column) *table {
	sort.SliceStable(columns, func(i, j int) bool { return columns[i].name < columns[j].name })
	t := &table{columns: columns, rows: rows}
	for i := range columns {
		if columns[i].name == "timestamp" && columns[i].numbers != nil {
			t.stamp = i
		}
	}
	return t
}

// encode writes the table. callback is used for JSON-P only.
func (t *table) encode(f format, callback string) []byte {
	switch f {
	case formatCSV, formatAppCSV:
		return t.csv()
	case formatJSONP:
		return padding(callback, t.json())
	}
	return t.json()
}

// padding makes JSON-P. The comment keeps a callback's letters from being read as the start of another file format.
func padding(callback string, body []byte) []byte {
	out := make([]byte, 0, len(body)+len(callback)+6)
	out = append(out, "/**/"...)
	out = append(out, callback...)
	out = append(out, '(')
	out = append(out, bytes.TrimRight(body, "\n")...)
	return append(out, ')')
}

func (t *table) json() []byte {
	names := make([][]byte, len(t.columns))
	for i, c := range t.columns {
		sep := byte(',')
		if i == 0 {
			sep = '{'
		}
		names[i] = append(appendString([]byte{sep}, c.name), ':')
	}
	out := make([]byte, 0, 2+t.rows*32*max(1, len(t.columns)))
	out = append(out, '[')
	for r := range t.rows {
		if r > 0 {
			out = append(out, ',')
		}
		for i := range t.columns {
			out = append(out, names[i]...)
			if c := &t.columns[i]; c.numbers != nil {
				out = strconv.AppendInt(out, c.numbers[r], 10)
			} else {
				out = appendString(out, c.strings[r])
			}
		}
		out = append(out, '}')
	}
	return append(out, ']')
}

// appendString writes a JSON string that is also safe inside a script and inside HTML.
func appendString(out []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, _ := json.Marshal(s) // a string always can
			return append(out, quoted...)
		}
	}
	out = append(out, '"')
	out = append(out, s...)
	return append(out, '"')
}

// csv writes RFC 4180 with LF: timestamp first, the other columns sorted.
func (t *table) csv() []byte {
	order := []int{t.stamp}
	for i := range t.columns {
		if i != t.stamp {
			order = append(order, i)
		}
	}
	out := make([]byte, 0, 64+t.rows*24*max(1, len(t.columns)))
	for n, i := range order {
		out = appendField(out, n, t.columns[i].name)
	}
	out = append(out, '\n')
	for r := range t.rows {
		for n, i := range order {
			if c := &t.columns[i]; c.numbers == nil {
				out = appendField(out, n, c.strings[r])
			} else {
				if n > 0 {
					out = append(out, ',')
				}
				out = strconv.AppendInt(out, c.numbers[r], 10)
			}
		}
		out = append(out, '\n')
	}
	return out
}

func appendField(out []byte, n int, s string) []byte {
	if n > 0 {
		out = append(out, ',')
	}
	s = strings.ToValidUTF8(s, "\uFFFD")
	if !strings.ContainsAny(s, "\",\r\n") {
		return append(out, s...)
	}
	out = append(out, '"')
	out = append(out, strings.ReplaceAll(s, `"`, `""`)...)
	return append(out, '"')
}
