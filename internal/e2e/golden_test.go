package e2e

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// golden is a stream and the rows that it must give.
type golden struct {
	name     string
	file     string            // JSON lines, gzipped
	expected map[string]string // CSV by ident
	events   int64             // without duplicates
	latest   string            // the oracle's rows of release engineering, where there are some
}

// goldens are the streams under testdata/golden.
func goldens(t testing.TB) []golden {
	t.Helper()
	files, err := filepath.Glob("testdata/golden/*/events.jsonl.gz")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden streams: %v", err)
	}
	var all []golden
	for _, file := range files {
		dir := filepath.Dir(file)
		g := golden{name: filepath.Base(dir), file: file, expected: readTar(t, filepath.Join(dir, "expected.tar.gz"))}
		g.count(t)
		all = append(all, g)
	}
	return all
}

// count takes the number of events from the oracle's rows.
func (g *golden) count(t testing.TB) {
	t.Helper()
	for line := range strings.Lines(g.expected["volume-1m"]) {
		_, volume, _ := strings.Cut(strings.TrimSpace(line), ",")
		if volume == "volume" {
			continue
		}
		n, err := strconv.ParseInt(volume, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		g.events += n
	}
	if g.events == 0 {
		t.Fatalf("golden %s expects no events", g.name)
	}
}

func readTar(t testing.TB, path string) map[string]string {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }() // only read
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for archive := tar.NewReader(unzipped); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if ident, ok := strings.CutSuffix(filepath.Base(header.Name), ".csv"); ok {
			text, err := io.ReadAll(archive)
			if err != nil {
				t.Fatal(err)
			}
			files[ident] = string(text)
		}
	}
}

// check compares the rows of every ident with the oracle's, byte for byte.
func (g golden) check(t testing.TB, d *daemon, perPage int) {
	t.Helper()
	g.checkUntil(t, d, farStop, perPage)
}

// checkUntil is check where later events are counted beside the golden ones.
func (g golden) checkUntil(t testing.TB, d *daemon, stop string, perPage int) {
	t.Helper()
	for _, ident := range slices.Sorted(maps.Keys(g.expected)) {
		if difference := firstDifference(d.rowsUntil(ident, stop, perPage), g.expected[ident]); difference != "" {
			t.Errorf("%s: %s", ident, difference)
		}
	}
}

// firstDifference describes where two texts part, "" when they don't.
func firstDifference(got, want string) string {
	if got == want {
		return ""
	}
	gotLines, wantLines := strings.SplitAfter(got, "\n"), strings.SplitAfter(want, "\n")
	for i := range max(len(gotLines), len(wantLines)) {
		var g, w string
		if i < len(gotLines) {
			g = gotLines[i]
		}
		if i < len(wantLines) {
			w = wantLines[i]
		}
		if g != w {
			return fmt.Sprintf("%d lines, want %d; line %d is %q, want %q", len(gotLines)-1, len(wantLines)-1, i+1, g, w)
		}
	}
	return ""
}

// verified is the last line of `verify`.
var verified = regexp.MustCompile(`^verify: ([\d,]+) metrics, ([\d,]+) rows, ([\d,]+) differences(, [\d,]+ rows not verifiable)?$`)

// verify runs the command and gives the numbers of its last line.
func (s *site) verify() (r result, rows, differences int) {
	s.t.Helper()
	r = s.run("verify")
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	match := verified.FindStringSubmatch(lines[len(lines)-1])
	if match == nil {
		s.t.Fatalf("verify: exit status %d; its last line is not as promised:\n%s%s", r.code, r.stdout, r.stderr)
	}
	number := func(text string) int {
		n, err := strconv.Atoi(strings.ReplaceAll(text, ",", ""))
		if err != nil {
			s.t.Fatal(err)
		}
		return n
	}
	return r, number(match[2]), number(match[3])
}

// verifyClean holds the numbers against the archive.
func (s *site) verifyClean() {
	s.t.Helper()
	r, rows, differences := s.verify()
	if r.code != 0 || rows == 0 || differences != 0 {
		s.t.Errorf("verify: exit status %d, %d rows, %d differences; want 0, more than 0, 0:\n%s%s", r.code, rows, differences, r.stdout, r.stderr)
	}
}

func TestImport_GoldenRowsEqualTheOracles(t *testing.T) {
	for i, g := range goldens(t) {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, nil)
			s.mustRun("import", g.file)
			s.verifyClean()
			d := s.start()
			d.waitCaughtUp(20 * time.Second)
			perPage := 1_000_000
			if i == 0 {
				perPage = 97 // many pages, the last one not full
			}
			g.check(t, d, perPage)
			d.stop()
			s.verifyClean()
		})
	}
}

func TestImport_TwiceCountsOnce(t *testing.T) {
	t.Parallel()
	g := goldens(t)[0]
	s := newSite(t, nil)
	s.mustRun("import", g.file, g.file)
	s.mustRun("import", g.file)
	d := s.start()
	d.waitCaughtUp(20 * time.Second)
	g.check(t, d, 1_000_000)
	d.stop()
}

func TestImport_FromStandardInput(t *testing.T) {
	t.Parallel()
	g := goldens(t)[0]
	s := newSite(t, nil)
	file, err := os.Open(g.file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }() // only read
	lines, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary(t), append([]string{"import", "-"}, s.flags()...)...)
	cmd.Env = append(os.Environ(), s.env()...)
	cmd.Stdin = bufio.NewReader(lines)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("import -: %v\n%s", err, out)
	}
	d := s.start()
	d.waitCaughtUp(20 * time.Second)
	g.check(t, d, 1_000_000)
	d.stop()
}

// oneSentence holds a command's failure to the rule: status, one line on stderr that names what it is about.
func oneSentence(t testing.TB, r result, code int, names ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit status %d, want %d", r.code, code)
	}
	text := strings.TrimSuffix(r.stderr, "\n")
	if text == "" || strings.Contains(text, "\n") {
		t.Errorf("stderr is not one sentence: %q", r.stderr)
	}
	for _, name := range names {
		if !strings.Contains(text, name) {
			t.Errorf("stderr does not name %q: %q", name, text)
		}
	}
}
