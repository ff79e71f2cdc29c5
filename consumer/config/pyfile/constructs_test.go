package pyfile

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the expected values with python3's")

// testHost is what testdata/judge.py makes python3 see.
func testHost() Host {
	name := func() string { return "box.example.org" }
	return Host{
		Environ:  map[string]string{"HOME": "/home/tester", "LANG": "C.UTF-8"},
		Home:     "/home/tester",
		WorkDir:  "/srv/work",
		Hostname: name,
		FQDN:     name,
		PathKind: func(path string) (bool, bool) {
			info, err := os.Stat(path)
			return err == nil, err == nil && info.IsDir()
		},
		Now: func() time.Time { return time.Date(2020, 2, 29, 12, 0, 0, 0, time.UTC) },
	}
}

// section is one case of a file of cases: what follows a line "=== name".
type section struct{ name, source string }

func sections(tb testing.TB, path string) []section {
	tb.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	var out []section
	for _, part := range strings.Split("\n"+string(text), "\n=== ")[1:] {
		name, source, _ := strings.Cut(part, "\n")
		if name == "crlf" {
			source = strings.ReplaceAll(source, "\n", "\r\n")
		}
		out = append(out, section{name: name, source: source + "\n"})
	}
	return out
}

// mark writes a value as testdata/judge.py does.
func mark(v any) any {
	switch v := v.(type) {
	case int64:
		if v > -1<<53 && v < 1<<53 {
			return float64(v)
		}
		return map[string]any{"int": fmt.Sprint(v)}
	case *big.Int:
		return map[string]any{"int": v.String()}
	case float64:
		return map[string]any{"float": floatRepr(v)}
	case Bytes:
		var b strings.Builder
		for i := range len(v) {
			b.WriteRune(rune(v[i]))
		}
		return map[string]any{"bytes": b.String()}
	case time.Duration:
		return map[string]any{"timedelta": float64(v.Microseconds())}
	case Datetime:
		return map[string]any{"datetime": v.isoformat("T")}
	case map[string]any:
		out := map[string]any{}
		for k, x := range v {
			out[k] = mark(x)
		}
		return map[string]any{"dict": out}
	case []any:
		out := []any{}
		for _, x := range v {
			out = append(out, mark(x))
		}
		return out
	case Opaque:
		return map[string]any{"opaque": true}
	}
	return v
}

func judge(tb testing.TB, cases []section) map[string]any {
	tb.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		tb.Skip("python3 is not installed: only the committed values were compared; install python3 to ask the judge itself")
	}
	files := map[string]string{}
	for _, c := range cases {
		files[c.name] = c.source
	}
	in, err := json.Marshal(files)
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(python, "testdata/judge.py")
	cmd.Stdin = bytes.NewReader(in)
	cmd.Stderr = os.Stderr
	text, err := cmd.Output()
	if err != nil {
		tb.Fatalf("judge.py: %v", err)
	}
	if *update {
		if err := os.WriteFile("testdata/constructs.json", append(text, '\n'), 0o644); err != nil {
			tb.Fatal(err)
		}
	}
	return decode(tb, text)
}

func decode(tb testing.TB, text []byte) map[string]any {
	tb.Helper()
	var out map[string]any
	if err := json.Unmarshal(text, &out); err != nil {
		tb.Fatal(err)
	}
	return out
}

func compareAll(t *testing.T, cases []section, want map[string]any) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			res, err := Eval("case.py", []byte(c.source), testHost())
			if err != nil {
				t.Fatalf("%v (python3: %v)", err, want[c.name])
			}
			if got := mark(res.Config); !reflect.DeepEqual(got, want[c.name]) {
				t.Errorf("\n got %v\nwant %v", got, want[c.name])
			}
		})
	}
}

func TestConstructs_GiveTheCommittedValues(t *testing.T) {
	text, err := os.ReadFile("testdata/constructs.json")
	if err != nil {
		t.Fatal(err)
	}
	compareAll(t, sections(t, "testdata/constructs.py.txt"), decode(t, text))
}

func TestConstructs_GiveWhatPythonGives(t *testing.T) {
	cases := sections(t, "testdata/constructs.py.txt")
	compareAll(t, cases, judge(t, cases))
}
