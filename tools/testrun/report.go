package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// event is one line of `go test -json` (see `go doc test2json`).
type event struct {
	Action     string
	Package    string
	ImportPath string // of build output, in place of Package
	Test       string
	Elapsed    float64
	Output     string
}

// maxKept bounds what is kept of one test's output; a test in a loop must not fill the memory.
const maxKept = 1 << 20

// skip is a test that didn't run.
type skip struct{ pkg, test, reason string }

// report turns events into what a reader wants to see.
type report struct {
	out                     io.Writer
	kept                    map[string]*strings.Builder // output so far, by package and test
	failing                 map[string]bool             // packages with a failed test
	passed, failed, skipped int
	skips                   []skip
}

func newReport(out io.Writer) *report {
	return &report{out: out, kept: map[string]*strings.Builder{}, failing: map[string]bool{}}
}

// read takes the whole output of go test. A line that isn't an event is printed as it is.
func (r *report) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil || e.Action == "" {
				fmt.Fprintf(r.out, "%s", line)
			} else {
				r.take(e)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read go test's output: %w", err)
		}
	}
}

func (r *report) take(e event) {
	key := e.Package + "\x00" + e.Test
	switch e.Action {
	case "build-output":
		fmt.Fprint(r.out, e.Output)
	case "output":
		b := r.kept[key]
		if b == nil {
			b = &strings.Builder{}
			r.kept[key] = b
		}
		if b.Len() < maxKept {
			b.WriteString(e.Output)
		}
	case "pass", "fail", "skip":
		output := ""
		if b := r.kept[key]; b != nil {
			output = b.String()
			delete(r.kept, key)
		}
		if e.Test == "" {
			r.packageEnded(e, output)
		} else {
			r.testEnded(e, output)
		}
	}
}

func (r *report) testEnded(e event, output string) {
	switch e.Action {
	case "pass":
		r.passed++
	case "skip":
		r.skipped++
		r.skips = append(r.skips, skip{e.Package, e.Test, skipReason(output)})
	case "fail":
		r.failed++
		r.failing[e.Package] = true
		fmt.Fprintf(r.out, "\n--- failed: %s %s (%.2f s)\n%s\n", e.Package, e.Test, e.Elapsed, output)
	}
}

func (r *report) packageEnded(e event, output string) {
	switch e.Action {
	case "pass":
		fmt.Fprintf(r.out, "ok    %s  %.1f s\n", e.Package, e.Elapsed)
	case "fail":
		// A package can fail without any failed test: it doesn't build, its TestMain fails, it panics or times out.
		// The test that was running then never ended, and its output is the one that tells.
		if !r.failing[e.Package] {
			r.failed++
		}
		var unended []string
		for key := range r.kept {
			if strings.HasPrefix(key, e.Package+"\x00") {
				unended = append(unended, key)
			}
		}
		slices.Sort(unended)
		for _, key := range unended {
			fmt.Fprintf(r.out, "\n--- did not end: %s\n%s", strings.ReplaceAll(key, "\x00", " "), r.kept[key].String())
			delete(r.kept, key)
		}
		fmt.Fprintf(r.out, "%sFAIL  %s  %.1f s\n", output, e.Package, e.Elapsed)
	}
}

// logLine is the beginning of a line that a test logged.
var logLine = regexp.MustCompile(`(?m)^\s*[\w.-]+\.go:\d+: `)

// skipReason is the last thing that a skipped test logged, on one line.
func skipReason(output string) string {
	at := logLine.FindAllStringIndex(output, -1)
	if len(at) == 0 {
		return "no reason given"
	}
	text := output[at[len(at)-1][1]:]
	if end := strings.Index(text, "--- SKIP"); end >= 0 {
		text = text[:end]
	}
	return strings.TrimPrefix(strings.Join(strings.Fields(text), " "), "SKIPPED: ")
}

// finish prints the closing lines and gives the number of skipped tests whose reason matches require.
func (r *report) finish(require *regexp.Regexp) int {
	missing := 0
	if len(r.skips) > 0 {
		fmt.Fprintln(r.out, "\nskipped:")
	}
	for _, s := range r.skips {
		needed := ""
		if require != nil && require.MatchString(s.reason) {
			missing++
			needed = "needed here: "
		}
		fmt.Fprintf(r.out, "  %s %s: %s%s\n", s.pkg, s.test, needed, s.reason)
	}
	fmt.Fprintf(r.out, "\n%d passed, %d failed, %d skipped\n", r.passed, r.failed, r.skipped)
	return missing
}
