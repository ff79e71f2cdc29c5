package e2e

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// compatEvents is the number of events in testdata/compat.
const compatEvents = 3019

// TestCompat_AnswersAsTheOriginal asks what the original was asked. Where its answer was right ours must have the same
// value: rows of one timestamp may stand in another order (ours is defined, the original's was not), so where a page
// cuts such a group only the numbers of rows are compared.
func TestCompat_AnswersAsTheOriginal(t *testing.T) {
	t.Parallel()
	s := newSite(t, map[string]string{"statscache.app.maximum_rows_per_page": "100"})
	s.mustRun("import", "testdata/compat/events.jsonl.gz")
	d := s.start()
	d.waitCaughtUp(20 * time.Second)
	if got := d.total("volume-by-category-1h", ""); got != compatEvents {
		t.Fatalf("%d events counted, want %d", got, compatEvents)
	}

	text, err := os.ReadFile("testdata/compat/requests.tsv")
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		if i == 0 {
			continue
		}
		fields := strings.Split(line, "\t")
		name, path, accept, code, number, count := fields[0], fields[1], fields[2], fields[3], fields[4], fields[5]
		t.Run(name, func(t *testing.T) {
			gotCode, header, body, err := fetch("http://"+d.api+path, "Accept", accept)
			if err != nil {
				t.Fatal(err)
			}
			if strconv.Itoa(gotCode) != code {
				t.Fatalf("GET %s: status %d, want %s: %s", path, gotCode, code, body)
			}
			if header.Get("Access-Control-Allow-Origin") != "*" {
				t.Error("no Access-Control-Allow-Origin: *")
			}
			if got := header.Get("X-Link-Number"); got != number {
				t.Errorf("X-Link-Number %q, want %q", got, number)
			}
			if got := header.Get("X-Link-Count"); got != count {
				t.Errorf("X-Link-Count %q, want %q", got, count)
			}
			recorded, err := os.ReadFile(filepath.Join("testdata/compat/bodies", name+".txt"))
			if errors.Is(err, fs.ErrNotExist) {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			compareAnswers(t, header.Get("Content-Type"), body, string(recorded))
		})
	}
	d.stop()
}

// compareAnswers compares a body with a recorded HTTP exchange.
func compareAnswers(t *testing.T, contentType, body, recorded string) {
	t.Helper()
	recorded = strings.ReplaceAll(recorded, "\r\n", "\n")
	_, answer, _ := strings.Cut(recorded, "\n\n")
	head, want, ok := strings.Cut(answer, "\n\n")
	if !ok {
		t.Fatalf("the recorded exchange has no body: %q", recorded)
	}
	wantType := ""
	for line := range strings.Lines(head) {
		if value, ok := strings.CutPrefix(line, "Content-Type: "); ok {
			wantType, _, _ = strings.Cut(strings.TrimSpace(value), ";")
		}
	}
	gotType, _, _ := strings.Cut(contentType, ";")
	if gotType != wantType {
		t.Errorf("Content-Type %s, want %s", gotType, wantType)
	}
	got, err := decodeRows(gotType, body)
	if err != nil {
		t.Fatalf("our answer: %v: %q", err, body)
	}
	expected, err := decodeRows(wantType, want)
	if err != nil {
		t.Fatalf("the original's answer: %v: %q", err, want)
	}
	if len(got) != len(expected) {
		t.Fatalf("%d rows, want %d", len(got), len(expected))
	}
	for i := range got {
		if got[i].time != expected[i].time {
			t.Fatalf("row %d is of %s, want %s", i, got[i].time, expected[i].time)
		}
	}
	// The last group of a page may be cut in the middle.
	whole := 0
	for i := range expected {
		if expected[i].time != expected[len(expected)-1].time {
			whole = i + 1
		}
	}
	a, b := sortedRows(got[:whole]), sortedRows(expected[:whole])
	if !slices.Equal(a, b) {
		t.Errorf("rows\n%v, want\n%v", a, b)
	}
}

type row struct{ time, rest string }

func sortedRows(rows []row) []row {
	out := slices.Clone(rows)
	slices.SortFunc(out, func(a, b row) int { return strings.Compare(a.time+"\x00"+a.rest, b.time+"\x00"+b.rest) })
	return out
}

// decodeRows reads JSON, JSON-P or CSV rows into comparable ones.
func decodeRows(contentType, body string) ([]row, error) {
	var out []row
	add := func(stamp, category, volume string) error {
		at, err := strconv.ParseFloat(stamp, 64)
		if err != nil {
			return err
		}
		out = append(out, row{strconv.FormatFloat(at, 'f', -1, 64), category + "=" + volume})
		return nil
	}
	if contentType == "text/csv" {
		lines, err := csv.NewReader(strings.NewReader(body)).ReadAll()
		if err != nil {
			return nil, err
		}
		if len(lines) == 0 || strings.Join(lines[0], ",") != "timestamp,category,volume" {
			return nil, fmt.Errorf("no such header")
		}
		for _, line := range lines[1:] {
			if err := add(line[0], line[1], line[2]); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	if contentType == "application/javascript" {
		open, closing := strings.IndexByte(body, '('), strings.LastIndexByte(body, ')')
		if open < 0 || closing < open {
			return nil, fmt.Errorf("no call")
		}
		body = body[open+1 : closing]
	}
	var rows []struct {
		Timestamp json.Number `json:"timestamp"`
		Category  string      `json:"category"`
		Volume    json.Number `json:"volume"`
	}
	if err := json.Unmarshal([]byte(body), &rows); err != nil {
		return nil, err
	}
	for _, r := range rows {
		if err := add(r.Timestamp.String(), r.Category, r.Volume.String()); err != nil {
			return nil, err
		}
	}
	return out, nil
}
