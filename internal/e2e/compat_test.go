package e2e

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// compatEvents is the number of events in the record of the original's answers.
const compatEvents = 3019

// exchange is a request to the original and what it answered.
type exchange struct {
	name, method, path, accept string
	code                       int
	number, count              string // paging headers
	answer                     string // all of it with its head, empty where it was not kept
}

// exchanges reads a record: requests.tsv and bodies/.
func exchanges(t testing.TB, dir string) (out []exchange) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "requests.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	for _, line := range lines[1:] {
		fields := strings.Split(line, "\t")
		if len(fields) != 10 {
			t.Fatalf("requests.tsv: %d fields: %q", len(fields), line)
		}
		x := exchange{name: fields[0], method: fields[1], path: fields[2], accept: fields[3], number: fields[7], count: fields[8]}
		if x.code, err = strconv.Atoi(fields[4]); err != nil {
			t.Fatal(err)
		}
		body, err := os.ReadFile(filepath.Join(dir, "bodies", x.name+".txt"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		x.answer = strings.ReplaceAll(string(body), "\r\n", "\n")
		out = append(out, x)
	}
	return out
}

// answersOtherwise gives the status of requests that ours answers otherwise on purpose.
func answersOtherwise() map[string]int {
	out := map[string]int{}
	put := func(code int, names ...string) {
		for _, n := range names {
			out[n] = code
		}
	}
	// No Accept is JSON, not 406.
	put(200, "index_noaccept", "layout_noaccept", "model_noaccept")
	// Unusable parameters are the asker's fault, neither ours (500) nor without effect.
	put(400, "rpp_0", "rpp_neg", "rpp_bad", "page_0", "page_neg", "page_bad", "order_bad", "start_bad", "start_iso", "start_empty",
		"stop_empty", "start_huge", "start_nan", "limit_bad", "model_jsonp_evil")
	return out
}

// pagesOtherwise says whether the rows of an ident are others on purpose: the original keyed all volume by the raw time
// stamp, and wrote a new row of the same update again and again. How many pages there are differs then.
func pagesOtherwise(path string) bool {
	ident, _, _ := strings.Cut(strings.TrimPrefix(path, "/api/"), "?")
	return strings.HasPrefix(ident, "volume-") && !strings.HasPrefix(ident, "volume-by-") || ident == "release-engineering-event-logs"
}

// TestCompat_AnswersAsTheOriginal asks what the original was asked, about every ident, for a record that is cut down to
// what counts.
func TestCompat_AnswersAsTheOriginal(t *testing.T) {
	t.Parallel()
	compareWithOriginal(t, "testdata/compat").stop()
}

// TestCompat_WholeRecord does so for the whole record, and holds the rows of all idents to the oracle's.
func TestCompat_WholeRecord(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(filepath.Dir(needSharedTools(t)), "data", "compat")
	if _, err := os.Stat(dir); err != nil {
		t.Skip("SKIPPED: no record of the original's answers: " + err.Error())
	}
	d := compareWithOriginal(t, dir)
	g := golden{name: "compat", file: unpacked(t, filepath.Join(dir, "events.jsonl.gz")), expected: map[string]string{}}
	g.ask(t)
	g.check(t, d, 100)
	g.checkLatest(t, d)
	d.stop()
}

// compareWithOriginal gives the daemon that answered.
func compareWithOriginal(t *testing.T, dir string) *daemon {
	t.Helper()
	s := newSite(t, map[string]string{"statscache.app.maximum_rows_per_page": "100"})
	s.mustRun("import", filepath.Join(dir, "events.jsonl.gz"))
	d := s.start()
	d.waitCaughtUp(60 * time.Second)
	if got := d.total("volume-by-category-1h", ""); got != compatEvents {
		t.Fatalf("%d events counted, want %d", got, compatEvents)
	}
	for _, x := range exchanges(t, dir) {
		if strings.HasPrefix(x.name, "web_") {
			continue // pages, not data
		}
		t.Run(x.name, func(t *testing.T) { x.check(t, d) })
	}
	return d
}

// check asks ours what the original was asked.
func (x exchange) check(t *testing.T, d *daemon) {
	want, other := answersOtherwise()[x.name]
	if !other {
		want = x.code
	}
	request, err := http.NewRequest(x.method, "http://"+d.api+x.path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if x.accept != "-" {
		request.Header.Set("Accept", x.accept)
	}
	response, err := http.DefaultTransport.RoundTrip(request) // redirections are answers
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }() // nothing more is read from it
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != want {
		t.Fatalf("%s %s: status %d, want %d: %.300s", x.method, x.path, response.StatusCode, want, body)
	}
	if response.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Error("no Access-Control-Allow-Origin: *")
	}
	if other {
		return
	}
	if got := response.Header.Get("X-Link-Number"); got != x.number {
		t.Errorf("X-Link-Number %q, want %q", got, x.number)
	}
	if got := response.Header.Get("X-Link-Count"); got != x.count && !pagesOtherwise(x.path) {
		t.Errorf("X-Link-Count %q, want %q", got, x.count)
	}
	if x.answer != "" && want == http.StatusOK {
		x.compare(t, response.Header.Get("Content-Type"), string(body))
	}
}

// compare holds a body to the recorded one. Rows of one time stamp may stand in another order (ours is defined, the
// original's was not), so where a page cuts such a group only the number of its rows and their time are compared.
func (x exchange) compare(t *testing.T, contentType, body string) {
	t.Helper()
	_, answer, _ := strings.Cut(x.answer, "\n\n")
	head, want, ok := strings.Cut(answer, "\n\n")
	if !ok {
		t.Fatalf("the recorded exchange has no body: %q", x.answer)
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
	switch {
	case strings.HasPrefix(x.name, "index_"):
		for _, ident := range strings.FieldsFunc(want, func(r rune) bool { return strings.ContainsRune("\n\"[], ()", r) }) {
			if !strings.Contains(body, ident) {
				t.Errorf("%s is not listed", ident)
			}
		}
		return
	case strings.HasPrefix(x.name, "layout_"):
		sameJSON(t, body, want)
		return
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
	if columns := gotColumns(got); columns != gotColumns(expected) {
		t.Fatalf("columns %s, want %s", columns, gotColumns(expected))
	}
	if pagesOtherwise(x.path) && !strings.Contains(x.path, "release-") {
		return // the rows themselves are others; the oracle's are compared elsewhere
	}
	// The last group of a page may be cut in the middle.
	whole := 0
	for i := range expected {
		if got[i].time != expected[i].time {
			t.Fatalf("row %d is of %s, want %s", i, got[i].time, expected[i].time)
		}
		if expected[i].time != expected[len(expected)-1].time || x.count == "1" || i == 0 || strings.Contains(x.path, "release-") {
			whole = i + 1
		}
	}
	if len(expected) > 1 && expected[0].time == expected[len(expected)-1].time && x.count != "1" {
		whole = 0 // all of the page is one group, of which it is a part
	}
	a, b := sortedRows(got[:whole]), sortedRows(expected[:whole])
	if !slices.Equal(a, b) {
		t.Errorf("rows\n%v, want\n%v", a, b)
	}
}

// sameJSON compares values.
func sameJSON(t *testing.T, got, want string) {
	t.Helper()
	var g, w any
	if err := errors.Join(json.Unmarshal([]byte(got), &g), json.Unmarshal([]byte(want), &w)); err != nil {
		t.Fatalf("%v: %q", err, got)
	}
	a, errA := json.Marshal(g) // keys sorted
	b, errB := json.Marshal(w)
	if errA != nil || errB != nil || string(a) != string(b) {
		t.Errorf("%s\nwant %s", a, b)
	}
}
