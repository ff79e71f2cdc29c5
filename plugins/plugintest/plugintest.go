// Package plugintest is the harness that tries a plugin on sample events, through all of statscache.
//
// A plugin's folder holds its cases: testdata/NAME/events.jsonl are the messages, testdata/NAME/expected.jsonl the rows
// that they add up to, as the API gives them, a line each with the row's ident. The plugin's test is
//
//	func TestMain(m *testing.M) { plugintest.Main(m, Plugin()) }
//	func TestCases(t *testing.T) { plugintest.Run(t, "testdata") }
//
// Every case is run several times, through a real inbox, archive and database and with the plugin as a process of its
// own: as it is, with every message twice, in another order, and with a restart in the middle. The rows must be the same
// each time: a plugin whose numbers depend on the order of events, or on what it remembers, fails. Run with -update the
// test writes expected.jsonl anew; read it before it is committed.
//
// Program tries a plugin in any language: it takes the command that starts it.
package plugintest

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/statscache/statscache/plugins"
)

// serveVariable makes the test binary the plugin.
const serveVariable = "STATSCACHE_PLUGINTEST_SERVE"

// mostTold bounds the differences that a failing case tells.
const mostTold = 10

// Main is for TestMain: where statscache starts the test binary as a plugin it is p, else it runs the tests.
func Main(m *testing.M, p plugins.Plugin) {
	if os.Getenv(serveVariable) != "" {
		plugins.Serve(p)
		return
	}
	if flag.Lookup("update") == nil {
		flag.Bool("update", false, "write expected.jsonl anew")
	}
	os.Exit(m.Run())
}

// Run tries the plugin of Main on every case below a folder.
func Run(t *testing.T, dir string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	run(t, dir, itself(self))
}

// itself is the test binary as a plugin. The race detector would have it wait for a second before it ends.
func itself(self string) program {
	return program{argv: []string{self}, env: []string{serveVariable + "=1", "GORACE=atexit_sleep_ms=0"}}
}

// Program tries the plugin that a command starts on every case below a folder.
func Program(t *testing.T, dir string, argv ...string) {
	t.Helper()
	run(t, dir, program{argv: argv})
}

func run(t *testing.T, dir string, p program) {
	cases, err := filepath.Glob(filepath.Join(dir, "*", "events.jsonl"))
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases: there is no %s (%v)", filepath.Join(dir, "*", "events.jsonl"), err)
	}
	for _, file := range cases {
		t.Run(filepath.Base(filepath.Dir(file)), func(t *testing.T) {
			t.Parallel()
			oneCase(t, p, file)
		})
	}
}

// oneCase runs a case in all ways and compares.
func oneCase(t *testing.T, p program, file string) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	events := bytes.Split(bytes.TrimRight(data, "\n"), []byte("\n"))
	expected := filepath.Join(filepath.Dir(file), "expected.jsonl")
	if f := flag.Lookup("update"); f != nil && f.Value.String() == "true" {
		if err := os.WriteFile(expected, join(rows(t, p, events)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(expected)
	if err != nil {
		t.Fatalf("%v (run the test with -update to write it)", err)
	}
	want := bytes.Split(bytes.TrimRight(text, "\n"), []byte("\n"))
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			for _, d := range differences(rows(t, p, w.parts(slices.Clone(events))...), want) {
				t.Error(d)
			}
		})
	}
}

// ways are the orders in which the events of a case come. Between two parts statscache is stopped and started again.
var ways = []struct { // immutable
	name  string
	parts func(events [][]byte) [][][]byte
}{
	{"as it is", func(e [][]byte) [][][]byte { return [][][]byte{e} }},
	{"every message twice", func(e [][]byte) [][][]byte { return [][][]byte{slices.Concat(e, shuffled(e))} }},
	{"in another order", func(e [][]byte) [][][]byte { return [][][]byte{shuffled(e)} }},
	{"backwards, with a restart in the middle", func(e [][]byte) [][][]byte {
		slices.Reverse(e)
		return [][][]byte{e[:len(e)/2], e[len(e)/3:]}
	}},
}

func shuffled(events [][]byte) [][]byte {
	out := slices.Clone(events)
	r := rand.New(rand.NewPCG(1, 1))
	r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// differences tells where rows are not those that were expected: the first ten, and how many more there are.
func differences(got, want [][]byte) (out []string) {
	for len(got) > 0 || len(want) > 0 {
		switch {
		case len(want) == 0 || len(got) > 0 && bytes.Compare(got[0], want[0]) < 0:
			out = append(out, "not expected: "+string(got[0]))
			got = got[1:]
		case len(got) == 0 || bytes.Compare(got[0], want[0]) > 0:
			out = append(out, "missing:      "+string(want[0]))
			want = want[1:]
		default:
			got, want = got[1:], want[1:]
		}
	}
	if more := len(out) - mostTold; more > 0 {
		out = append(out[:mostTold], fmt.Sprintf("and %d more", more))
	}
	return out
}

func join(lines [][]byte) []byte {
	return append(bytes.Join(lines, []byte("\n")), '\n')
}
