package e2e

import (
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// report gathers what the long suites did to the daemon and what came of it, for the page at the end of a run.
type report struct {
	mu      sync.Mutex
	began   time.Time
	faults  map[string]int      // by kind, over all suites
	outcome map[string]string   // by test that noted anything: passed, FAILED or skipped
	figures map[string][]string // by the same; in the order in which they came
}

var page = &report{began: time.Now(), faults: map[string]int{}, outcome: map[string]string{}, figures: map[string][]string{}}

// noteFault adds faults of a kind ("plugin killed", "store locked for 2m") that a test injected.
func noteFault(t testing.TB, kind string, n int) {
	t.Helper()
	page.mu.Lock()
	defer page.mu.Unlock()
	page.suite(t)
	page.faults[kind] += n
}

// noteResult adds a figure that a test measured, on one short line.
func noteResult(t testing.TB, what, figure string) {
	t.Helper()
	page.mu.Lock()
	defer page.mu.Unlock()
	name := page.suite(t)
	line := what + ": " + figure
	if sub := strings.TrimPrefix(strings.TrimPrefix(t.Name(), name), "/"); sub != "" {
		line = sub + ": " + line
	}
	page.figures[name] = append(page.figures[name], line)
}

// suite makes sure that the outcome of the test is noted when it ends; under mu.
func (r *report) suite(t testing.TB) string {
	name, _, _ := strings.Cut(t.Name(), "/")
	if _, known := r.outcome[t.Name()]; !known {
		r.outcome[t.Name()] = "did not end"
		t.Cleanup(func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.outcome[t.Name()] = "passed"
			switch {
			case t.Failed():
				r.outcome[t.Name()] = "FAILED"
			case t.Skipped():
				r.outcome[t.Name()] = "skipped"
			}
		})
	}
	return name
}

// print writes the page, empty where no suite noted anything.
func (r *report) print() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.outcome) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "statscache: faults injected and results, %s, %s\n", time.Now().UTC().Format("2006-01-02 15:04 UTC"), time.Since(r.began).Round(time.Second))
	fmt.Fprintf(&b, "machine: %s, %d cores, %s, %s, %s; race detector: %v\n", machineModel(), runtime.NumCPU(), machineMemory(), runtime.GOOS, runtime.Version(), raced)
	fmt.Fprintf(&b, "\nfaults injected\n")
	total := 0
	for _, kind := range slices.Sorted(maps.Keys(r.faults)) {
		fmt.Fprintf(&b, "%8d  %s\n", r.faults[kind], kind)
		total += r.faults[kind]
	}
	fmt.Fprintf(&b, "%8d  together\n\nresults\n", total)
	seen := map[string]map[string]int{} // outcomes of a suite's tests
	for test, outcome := range r.outcome {
		name, _, _ := strings.Cut(test, "/")
		if seen[name] == nil {
			seen[name] = map[string]int{}
		}
		seen[name][outcome]++
	}
	for _, name := range slices.Sorted(maps.Keys(seen)) {
		var counts []string
		for _, outcome := range slices.Sorted(maps.Keys(seen[name])) {
			counts = append(counts, fmt.Sprintf("%d %s", seen[name][outcome], outcome))
		}
		fmt.Fprintf(&b, "  %s: %s\n", name, strings.Join(counts, ", "))
		for _, line := range r.figures[name] {
			fmt.Fprintf(&b, "    %s\n", line)
		}
	}
	return b.String()
}

// publish prints the page in the long runs, and writes it where STATSCACHE_REPORT names a file.
func (r *report) publish() error {
	text, path := r.print(), os.Getenv("STATSCACHE_REPORT")
	if text == "" {
		return nil
	}
	if path != "" {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return fmt.Errorf("STATSCACHE_REPORT: %w", err)
		}
	}
	if path == "" && (long() || os.Getenv("STATSCACHE_SOAK") != "") {
		fmt.Print("\n", text)
	}
	return nil
}

func machineModel() string {
	return machineField("/proc/cpuinfo", "model name", runtime.GOARCH)
}

func machineMemory() string {
	text := machineField("/proc/meminfo", "MemTotal", "memory unknown")
	if kib, err := strconv.ParseFloat(strings.TrimSuffix(text, " kB"), 64); err == nil {
		return fmt.Sprintf("%.0f GiB", kib/(1<<20))
	}
	return text
}

// machineField finds "name : value" in a file of /proc.
func machineField(path, name, otherwise string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return otherwise
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return otherwise
}

func TestReport(t *testing.T) {
	r := &report{began: time.Now(), faults: map[string]int{"plugin killed": 3, "daemon killed": 4},
		outcome: map[string]string{"TestA/x": "passed", "TestA/y": "FAILED", "TestB": "passed"}, figures: map[string][]string{"TestB": {"lag: 1 s"}}}
	text := r.print()
	for _, want := range []string{"4  daemon killed\n", "3  plugin killed\n", "7  together\n", "TestA: 1 FAILED, 1 passed\n", "TestB: 1 passed\n    lag: 1 s\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q:\n%s", want, text)
		}
	}
	if got := (&report{}).print(); got != "" {
		t.Errorf("a run without long suites has a page: %s", got)
	}
}
