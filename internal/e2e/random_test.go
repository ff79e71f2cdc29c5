package e2e

import (
	"cmp"
	"encoding/json"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// sharedTools finds the folder with gen_events.py and oracle.py: below STATSCACHE_SHARED, else below ../shared beside
// the repository. The reason says why there is none: the committed goldens stand alone.
func sharedTools() (dir, reason string) {
	shared := os.Getenv("STATSCACHE_SHARED")
	if shared == "" {
		shared = filepath.Join("..", "..", "..", "shared")
	}
	dir, err := filepath.Abs(filepath.Join(shared, "tools"))
	if err != nil {
		return "", err.Error()
	}
	for _, name := range []string{"gen_events.py", "oracle.py"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return "", "no " + name + " in " + dir + "; set STATSCACHE_SHARED to the folder whose tools/ holds the stream generator and the oracle"
		}
	}
	if _, err := exec.LookPath("python3"); err != nil {
		return "", "no python3 to run the stream generator and the oracle"
	}
	return dir, ""
}

// needSharedTools skips the test where they are missing.
func needSharedTools(t testing.TB) string {
	t.Helper()
	dir, reason := sharedTools()
	if reason != "" {
		t.Skip("SKIPPED: " + reason)
	}
	return dir
}

// runTool runs one of the shared programs.
func runTool(t testing.TB, script string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "python3", append([]string{filepath.Join(needSharedTools(t), script)}, args...)...)
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// generate makes a stream with the shared generator and the oracle's rows of it.
func generate(t testing.TB, args ...string) golden {
	t.Helper()
	g := golden{name: strings.Join(args, " "), file: filepath.Join(t.TempDir(), "events.jsonl"), expected: map[string]string{}}
	runTool(t, "gen_events.py", append(slices.Clone(args), "--out", g.file)...)
	g.ask(t)
	g.count(t)
	return g
}

// ask takes the oracle's rows of the stream; more arguments are for the oracle.
func (g *golden) ask(t testing.TB, args ...string) {
	t.Helper()
	rows := filepath.Join(t.TempDir(), "rows")
	runTool(t, "oracle.py", append([]string{g.file, "--out", rows, "--dedupe", "--lateness", "86400", "--only", "volume-,number-of-"}, args...)...)
	files, err := filepath.Glob(filepath.Join(rows, "*.csv"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		// Rows keyed by the raw time stamp are a fault of the original that ours does not repeat.
		if ident := strings.TrimSuffix(filepath.Base(file), ".csv"); ident != "volume-raw" {
			g.expected[ident] = string(text)
		}
	}
	g.latest = filepath.Join(rows, "release-engineering-event-logs.json")
	if len(g.expected) < 20 {
		t.Fatalf("the oracle gave rows of only %q", slices.Sorted(maps.Keys(g.expected)))
	}
}

// TestImport_RandomStreamsEqualTheOracles compares larger streams; the long suite takes more of them.
func TestImport_RandomStreamsEqualTheOracles(t *testing.T) {
	t.Parallel()
	needSharedTools(t)
	streams := [][]string{
		{"--seed", "101", "--n", "10000", "--days", "1", "--start", "2018-04-26T18:00", "--dup", "0.03", "--late", "0.05"},
	}
	if long() {
		streams = append(streams,
			[]string{"--seed", "102", "--n", "50000", "--days", "7", "--start", "2018-04-26", "--dup", "0.1", "--late", "0.1"},
			[]string{"--seed", "103", "--n", "50000", "--days", "0.02", "--start", "2018-12-31T23:50", "--dup", "0.02"},
			[]string{"--seed", "104", "--n", "50000", "--days", "60", "--start", "2016-02-01", "--late", "0.2"},
			[]string{"--seed", "105", "--n", "50000", "--days", "3", "--start", "2018-06-01", "--diurnal", "0", "--burst", "0", "--dup", "0.5"},
		)
	}
	for _, args := range streams {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			g := generate(t, args...)
			s := newSite(t, nil)
			s.mustRun("import", g.file)
			d := s.start()
			d.waitCaughtUp(time.Minute)
			g.check(t, d, 10_000)
			g.checkLatest(t, d)
			d.stop()
			s.verifyClean()
		})
	}
}

// checkLatest compares the rows of release engineering with the oracle's.
func (g golden) checkLatest(t *testing.T, d *daemon) {
	t.Helper()
	type state struct {
		Timestamp            float64
		Category, Constraint string
		Message              any
	}
	read := func(raw []byte) (s state) {
		t.Helper()
		var x struct {
			Timestamp  float64 `json:"timestamp"`
			Category   string  `json:"category"`
			Constraint string  `json:"category_constraint"`
			Message    any     `json:"message"`
		}
		if err := json.Unmarshal(raw, &x); err != nil {
			t.Fatalf("%v: %s", err, raw)
		}
		if text, ok := x.Message.(string); ok { // ours, as the original's, is text inside
			if err := json.Unmarshal([]byte(text), &x.Message); err != nil {
				t.Fatalf("%v: %s", err, text)
			}
		}
		return state{math.Floor(x.Timestamp), x.Category, x.Constraint, x.Message}
	}
	text, err := os.ReadFile(g.latest)
	if err != nil {
		t.Fatal(err)
	}
	var got, want []state
	for line := range strings.Lines(string(text)) {
		want = append(want, read([]byte(line)))
	}
	var rows []json.RawMessage
	code, _, body, err := fetch("http://" + d.api + "/api/release-engineering-event-logs?rows_per_page=10000&stop=" + farStop)
	if err == nil && code == 200 {
		err = json.Unmarshal([]byte(body), &rows)
	}
	if err != nil || code != 200 {
		t.Fatalf("rows of release engineering: %d, %v: %.200s", code, err, body)
	}
	for _, r := range rows {
		got = append(got, read(r))
	}
	for _, list := range [][]state{got, want} {
		slices.SortFunc(list, func(a, b state) int {
			return cmp.Or(cmp.Compare(a.Category, b.Category), cmp.Compare(a.Constraint, b.Constraint))
		})
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("release engineering: %d rows\n%+v\nwant %d\n%+v", len(got), got, len(want), want)
	}
}

// long says that the long suites are asked for (`make e2e`).
func long() bool { return os.Getenv("STATSCACHE_LONG") == "1" }

// needLong leaves a test out of the short form.
func needLong(t testing.TB, why string) {
	t.Helper()
	if !long() {
		t.Skip("SKIPPED: " + why + ": set STATSCACHE_LONG=1, or run `make e2e`")
	}
}
