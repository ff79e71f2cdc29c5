package e2e

import (
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// row is a row of the original's API in a form that can be compared: the time, then the other columns in the order of
// their names.
type row struct{ time, columns, values string }

func gotColumns(rows []row) string {
	if len(rows) == 0 {
		return ""
	}
	return rows[0].columns
}

func sortedRows(rows []row) []row {
	out := slices.Clone(rows)
	slices.SortFunc(out, func(a, b row) int { return strings.Compare(a.time+"\x00"+a.values, b.time+"\x00"+b.values) })
	return out
}

// makeRow takes one decoded row. The original wrote updates without their constraint, which is their name.
func makeRow(columns map[string]any) (row, error) {
	at, err := strconv.ParseFloat(fmt.Sprint(columns["timestamp"]), 64)
	if err != nil {
		return row{}, err
	}
	delete(columns, "timestamp")
	if text, ok := columns["message"].(string); ok {
		var message map[string]any
		if err := json.Unmarshal([]byte(text), &message); err != nil {
			return row{}, fmt.Errorf("message %q: %w", text, err)
		}
		columns["message"] = message
		if c := columns["category_constraint"]; c == nil || c == "None" {
			columns["category_constraint"] = message["name"]
		}
	}
	values := make([]any, 0, len(columns))
	names := slices.Sorted(maps.Keys(columns))
	for _, name := range names {
		values = append(values, columns[name])
	}
	text, err := json.Marshal(values)
	return row{strconv.FormatFloat(at, 'f', -1, 64), strings.Join(names, ","), string(text)}, err
}

// decodeRows reads JSON, JSON-P or CSV rows.
func decodeRows(contentType, body string) (out []row, err error) {
	var maps []map[string]any
	if contentType == "text/csv" {
		maps, err = csvRows(body)
	} else {
		if contentType == "application/javascript" {
			open, closing := strings.IndexByte(body, '('), strings.LastIndexByte(body, ')')
			if open < 0 || closing < open {
				return nil, fmt.Errorf("no call")
			}
			body = body[open+1 : closing]
		}
		decoder := json.NewDecoder(strings.NewReader(body))
		decoder.UseNumber()
		err = decoder.Decode(&maps)
	}
	if err != nil {
		return nil, err
	}
	for _, columns := range maps {
		r, err := makeRow(columns)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// csvRows reads CSV, also the original's, which put no quotes around a last column of JSON.
func csvRows(body string) ([]map[string]any, error) {
	lines, err := csv.NewReader(strings.NewReader(body)).ReadAll()
	if err != nil {
		lines = nil
		for line := range strings.Lines(body) {
			n := -1
			if len(lines) > 0 {
				n = len(lines[0])
			}
			lines = append(lines, strings.SplitN(strings.TrimSpace(line), ",", n))
		}
	}
	if len(lines) == 0 || lines[0][0] != "timestamp" {
		return nil, fmt.Errorf("no such header")
	}
	var out []map[string]any
	for _, line := range lines[1:] {
		if len(line) != len(lines[0]) {
			return nil, fmt.Errorf("%d columns: %q", len(line), line)
		}
		columns := map[string]any{}
		for i, name := range lines[0] {
			columns[name] = line[i]
		}
		out = append(out, columns)
	}
	return out, nil
}

// unpacked writes the lines of a packed file, for programs that don't unpack.
func unpacked(t testing.TB, path string) string {
	t.Helper()
	in, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }() // only read
	lines, err := gzip.NewReader(in)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(lines)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "events.jsonl")
	if err := os.WriteFile(out, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return out
}
