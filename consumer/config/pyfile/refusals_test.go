package pyfile

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

// TestRefusals checks that what is not understood is an error that names the
// line. In testdata/refusals.py.txt the bad line ends in "#!" and the words
// the message must hold.
func TestRefusals(t *testing.T) {
	for _, c := range sections(t, "testdata/refusals.py.txt") {
		t.Run(c.name, func(t *testing.T) {
			line, words := 0, ""
			for i, l := range strings.Split(c.source, "\n") {
				if _, after, ok := strings.Cut(l, "#!"); ok {
					line, words = i+1, strings.TrimSpace(after)
				}
			}
			res, err := Eval("case.py", []byte(c.source), testHost())
			if err == nil {
				t.Fatalf("no error, but %v", res.Config)
			}
			var e *Error
			if !errors.As(err, &e) || e.File != "case.py" || e.Line != line || !strings.Contains(e.Msg, words) {
				t.Errorf("got %q, want line %d and %q", err, line, words)
			}
		})
	}
}

// TestLimits runs files that would grow or run without end.
func TestLimits(t *testing.T) {
	for name, source := range map[string]string{
		"endless loop":        "while True:\n  pass\nconfig = {}",
		"endless tight loop":  "x = 0\nwhile x < 10 ** 18: x += 1\nconfig = {}",
		"huge range":          "config = {'a': list(range(10 ** 12))}",
		"huge string":         "config = {'a': 'x' * 10 ** 10}",
		"huge list":           "config = {'a': [0] * 10 ** 9}",
		"doubling string":     "x = 'x'\nfor i in range(100): x += x\nconfig = {'a': x}",
		"doubling list":       "x = [1]\nfor i in range(100): x = x + x\nconfig = {'a': x}",
		"doubling in place":   "x = [1]\nfor i in range(100): x += x\nconfig = {'a': x}",
		"huge power":          "config = {'a': 9 ** 9 ** 9}",
		"huge shift":          "config = {'a': 1 << 10 ** 9}",
		"growing number":      "x = 3\nfor i in range(1000): x *= x\nconfig = {'a': x}",
		"replace explosion":   "x = 'a' * 1000000\nconfig = {'a': x.replace('a', x)}",
		"join explosion":      "x = ['a' * 100000] * 100000\nconfig = {'a': ''.join(x)}",
		"wide format":         "config = {'a': '%999999999d' % 1}",
		"wide f-string":       "config = {'a': f'{1:999999999}'}",
		"shared lists":        "x = [1]\nfor i in range(60): x = [x, x]\nconfig = {'a': x}",
		"shared lists as str": "x = [1]\nfor i in range(60): x = [x, x]\nconfig = {'a': str(x)}",
		"shared compare":      "x = [1]\ny = [1]\nfor i in range(60):\n  x = [x, x]\n  y = [y, y]\nconfig = {'a': x == y}",
		"shared order":        "x = [1]\ny = [1]\nfor i in range(60):\n  x = [x, x]\n  y = [y, y]\nconfig = {'a': x < y}",
		"shared tuple as key": "x = (1,)\nfor i in range(60): x = (x, x)\nconfig = {'a': {x: 1}}",
		"deep list":           "x = []\nfor i in range(100000): x = [x]\nconfig = {'a': x}",
		"deep list as str":    "x = []\nfor i in range(100000): x = [x]\nconfig = {'a': str(x)}",
		"deep tuple as key":   "x = ()\nfor i in range(100000): x = (x,)\nconfig = {'a': {x: 1}}",
		"list in itself":      "x = []\nx.append(x)\nconfig = {'a': x}",
		"dict in itself":      "config = {}\nconfig['a'] = config",
		"sort without end":    "x = [[0] * 100000] * 100000\nconfig = {'a': sorted(x)}",
		"nested brackets":     "config = " + strings.Repeat("[", 100000) + strings.Repeat("]", 100000),
		"nested minus":        "config = " + strings.Repeat("-", 100000) + "1",
		"nested not":          "config = " + strings.Repeat("not ", 100000) + "1",
		"operator chain":      "config = " + strings.Repeat("1+", 100000) + "1",
		"attribute chain":     "config = a" + strings.Repeat(".a", 100000),
		"nested blocks":       nestedBlocks(200),
		"elif chain":          "if 0: pass\n" + strings.Repeat("elif 0: pass\n", 50000) + "config = {}",
		"nested lambdas":      "config = " + strings.Repeat("lambda: ", 10000) + "1",
		"long number":         "config = {'a': " + strings.Repeat("9", 100000) + "}",
		"recursion":           "def f(n): return f(n + 1)\nconfig = {'a': f(0)}",
		"recursion by map":    "def f(n): return list(map(f, [n]))\nconfig = {'a': f(0)}",
		"many arguments":      "config = dict(" + strings.Repeat("1,", 5000) + ")",
		"huge file":           "config = {}" + strings.Repeat("\n", MaxFileBytes),
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			res, err := Eval("case.py", []byte(source), testHost())
			if err == nil {
				t.Errorf("no error, but %d keys", len(res.Config))
			}
			if d := time.Since(start); d > 20*time.Second {
				t.Errorf("it took %v", d)
			}
		})
	}
}

func nestedBlocks(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "if 1:\n")
	}
	return b.String() + strings.Repeat(" ", n) + "config = {}"
}

// FuzzEval looks for panics, hangs and values that can't be what Python says.
func FuzzEval(f *testing.F) {
	for _, path := range []string{"testdata/constructs.py.txt", "testdata/refusals.py.txt"} {
		for _, c := range sections(f, path) {
			f.Add(c.source)
		}
	}
	host := testHost()
	host.PathKind = func(string) (bool, bool) { return false, false }
	f.Fuzz(func(t *testing.T, source string) {
		res, err := Eval("fuzz.py", []byte(source), host)
		if err == nil {
			mark(res.Config)
			return
		}
		var e *Error
		if !errors.As(err, &e) || e.Msg == "" {
			t.Fatalf("not a located error: %v", err)
		}
		// A panic below must never be the answer.
		if strings.Contains(e.Msg, "runtime error") || strings.Contains(e.Msg, "the file is not understood (") {
			t.Fatalf("a panic: %v", err)
		}
	})
}

func BenchmarkEval_AllConstructs(b *testing.B) {
	cases := sections(b, "testdata/constructs.py.txt")
	text, err := os.ReadFile("testdata/constructs.py.txt")
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		for _, c := range cases {
			if _, err := Eval("case.py", []byte(c.source), testHost()); err != nil {
				b.Fatal(err)
			}
		}
	}
}
