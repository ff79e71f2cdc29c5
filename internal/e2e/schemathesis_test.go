package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/testpython"
)

// TestSchemathesis has schemathesis ask a daemon for all that /openapi.json describes, right and wrong: no answer is a
// failure of the server or other than described, and what the document forbids is refused.
func TestSchemathesis(t *testing.T) {
	t.Parallel()
	python := testpython.Find(t)
	if out, err := exec.CommandContext(t.Context(), python, "-c", "import schemathesis").CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: %s has no schemathesis; `make python` installs it: %s", python, out)
	}
	s := newSite(t, nil)
	s.mustRun("import", goldens(t)[0].file)
	d := s.start()
	examples, seed := "5", []string{"--seed", "1"}
	if os.Getenv("STATSCACHE_LONG") != "" {
		examples, seed = "100", nil // it prints the one that it chooses
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	// What the document can't say, such as which dimensions a metric has, makes valid questions that are refused.
	run := exec.CommandContext(ctx, python, append([]string{"-m", "schemathesis.cli", "run", "http://" + s.api + "/openapi.json",
		"--phases", "examples,coverage,fuzzing", "--exclude-checks", "positive_data_acceptance", "--exclude-path", "/api/v1/stream", // it never ends
		"--max-examples", examples,
		"--request-timeout", "30", "--warnings", "off", "--no-shrink", "--no-color"}, seed...)...)
	run.Dir = t.TempDir()                                                                        // it keeps what it found there
	rules := "[checks.negative_data_rejection]\nexpected-statuses = [400, 404, 405, 406, 414]\n" // 414: a query too long to be looked at
	if err := os.WriteFile(filepath.Join(run.Dir, "schemathesis.toml"), []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	run.Env = append(os.Environ(), "HOME="+run.Dir, "PYTHONIOENCODING=utf-8")
	out, err := run.CombinedOutput()
	if err != nil {
		t.Errorf("%v:\n%s", err, tail(string(out)))
	}
	if text := string(out); !strings.Contains(text, "Tested: ") {
		t.Errorf("it tested nothing:\n%s", tail(text))
	}
	d.stop()
}
