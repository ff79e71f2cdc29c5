package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// runOn runs the tool on a module with one test file and gives its exit status and its standard output.
func runOn(t *testing.T, source, require string) (int, string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module example.com/x\n\ngo 1.26\n", "x_test.go": "package x\n" + source} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = out
	code := run(t.Context(), []string{"./..."}, regexp.MustCompile(require))
	os.Stdout = stdout
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	return code, string(text)
}

func TestRun(t *testing.T) {
	const imports = "import \"testing\"\n"
	const skipping = imports + "func TestA(t *testing.T) { t.Skip(\"SKIPPED: no such\\nthing here\") }\n"
	tests := []struct {
		name, source, require, allow string
		code                         int
		want                         []string
	}{
		{"all pass", imports + "func TestA(t *testing.T) {}", "thing", "", 0, []string{"ok    example.com/x", "\n1 passed, 0 failed, 0 skipped\n"}},
		{"a failure is shown in full", imports + "func TestA(t *testing.T) { t.Log(\"first\"); t.Error(\"second\") }", "thing", "", 1,
			[]string{"first", "second", "\n0 passed, 1 failed, 0 skipped\n"}},
		{"a skip is listed", skipping, "other", "", 0, []string{"example.com/x TestA: no such thing here\n", "\n0 passed, 0 failed, 1 skipped\n"}},
		{"a required skip fails", skipping, "such thing", "", 1, []string{"TestA: needed here: no such thing here"}},
		{"a required skip may be allowed", skipping, "such thing", "1", 0, []string{"needed here"}},
		{"a package that doesn't build fails", "func TestA(t *testing.T) {}", "thing", "", 1, []string{"undefined: testing", "\n0 passed, 1 failed, 0 skipped\n"}},
		{"a panic is shown", imports + "func TestA(t *testing.T) { panic(\"boom\") }", "thing", "", 1, []string{"boom", " 1 failed"}},
		{"an early exit is shown", imports + "import \"os\"\nfunc TestA(t *testing.T) { println(\"bye\"); os.Exit(3) }", "thing", "", 1, []string{"bye", " 1 failed"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(allowSkip, tt.allow)
			code, out := runOn(t, tt.source, tt.require)
			if code != tt.code {
				t.Errorf("exit status %d, want %d", code, tt.code)
			}
			for _, want := range tt.want {
				if !strings.Contains(out, want) {
					t.Errorf("output lacks %q:\n%s", want, out)
				}
			}
		})
	}
}

func TestSkipReason(t *testing.T) {
	tests := []struct{ name, output, want string }{
		{"one line", "=== RUN   TestA\n    x_test.go:3: why\n--- SKIP: TestA (0.00s)\n", "why"},
		{"the last of several", "    x_test.go:3: first\n    y.go:9: why\n        and how\n--- SKIP: TestA (0.00s)\n", "why and how"},
		{"subtest", "=== RUN   TestA/b\n    x_test.go:3: why\n    --- SKIP: TestA/b (0.00s)\n", "why"},
		{"none", "--- SKIP: TestA (0.00s)\n", "no reason given"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := skipReason(tt.output); got != tt.want {
				t.Errorf("skipReason = %q, want %q", got, tt.want)
			}
		})
	}
}
