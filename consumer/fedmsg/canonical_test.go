package fedmsg

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/internal/testpython"
)

func canonicalOf(body string) string {
	var c canon
	c.reset([]byte(body))
	c.value(c.space(0))
	return string(c.out)
}

func TestCanonical(t *testing.T) {
	for in, want := range map[string]string{
		` { "b" : 1 , "a" : [ true , false , null ] } `: `{"a":[true,false,null],"b":1}`,
		`{"a":1,"a":2}`: `{"a":2}`,
		`{"b":{"d":1,"c":2},"a":{},"b":{"z":[],"y":0}}`:    `{"a":{},"b":{"y":0,"z":[]}}`,
		`[-0,-0.0,0.0,1,1.0,1e2,1E-5,0.0001,1e16,1e15]`:    `[0,-0.0,0.0,1,1.0,100.0,1e-05,0.0001,1e+16,1000000000000000.0]`,
		`[1e999,-1e999,1e-999,123456789012345678901234.5]`: `[Infinity,-Infinity,0.0,1.2345678901234569e+23]`,
		`[123456789012345678901234567890]`:                 `[123456789012345678901234567890]`,
		`"\/\u0041\u007f\u00e9\u001f\b\f\n\r\t\"\\"`:       `"/A\u007f\u00e9\u001f\b\f\n\r\t\"\\"`,
		"\"\u00e9\U0001F600\u007f\"":                       `"\u00e9\ud83d\ude00\u007f"`,
		`"\uD83D\uDE00 \uD83D \uDE00"`:                     `"\ud83d\ude00 \ud83d \ude00"`,
		// U+FFFF sorts before U+1F600, though its UTF-16 unit is the larger.
		`{"\ud83d\ude00":1,"\uffff":2,"\ud83d":3}`:                      `{"\ud83d":3,"\uffff":2,"\ud83d\ude00":1}`,
		"{\"\\u0061\":1,\"\U0001F600\":2,\"a\":3,\"\\ud83d\\ude00\":4}": `{"a":3,"\ud83d\ude00":4}`,
	} {
		if got := canonicalOf(in); got != want {
			t.Errorf("%s\n got %s\nwant %s", in, got, want)
		}
	}
}

func scanID(t *testing.T, frame, body string) string {
	t.Helper()
	s := NewScanner(Limits{})
	var ev block.Event
	if reason := s.Scan([]byte(frame), []byte(body), received, &ev); reason != Accepted {
		t.Fatalf("%s: %s %s", body, reason, s.Detail())
	}
	return string(ev.ID)
}

func TestHashedID_IsOneForRelaysOfAMessage(t *testing.T) {
	const first = `{"i":1,"msg":{"a":"\u00e9","b":[1.0,2]},"timestamp":1347470406.35126,"topic":"a.b.c.d"}`
	want := scanID(t, "", first)
	sum := sha256.Sum256([]byte(first)) // it is in canonical form already
	if pinned := hashedIDPrefix + hex.EncodeToString(sum[:16]); want != pinned {
		t.Fatalf("id %s, want %s: stored ids would not be found again", want, pinned)
	}
	for name, c := range map[string][2]string{
		"topic frame":       {"a.b.c.d", first},
		"spaces":            {"", `{"i": 1, "msg": {"a": "\u00e9", "b": [1.0, 2]}, "timestamp": 1347470406.35126, "topic": "a.b.c.d"}`},
		"order and UTF-8":   {"", `{"topic":"a.b.c.d","timestamp":1347470406.35126,"msg":{"b":[1.0,2],"a":"é"},"i":1}`},
		"other fields":      {"", strings.TrimSuffix(first, "}") + `,"username":"x","source_name":"datanommer","msg_id":null}`},
		"topic not in body": {"a.b.c.d", `{"i":1,"msg":{"a":"\u00e9","b":[1.0,2]},"timestamp":1347470406.35126}`},
	} {
		if got := scanID(t, c[0], c[1]); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	for name, body := range map[string]string{
		"counter":   strings.Replace(first, `"i":1`, `"i":2`, 1),
		"number":    strings.Replace(first, `1.0`, `1`, 1),
		"timestamp": strings.Replace(first, `.35126`, ``, 1),
		"topic":     strings.Replace(first, `a.b.c.d`, `a.b.c.e`, 1),
	} {
		if got := scanID(t, "", body); got == want {
			t.Errorf("another %s gives the same id", name)
		}
	}
	if scanID(t, "", `{"topic":"a","i":null,"msg":null}`) != scanID(t, "", `{"topic":"a"}`) {
		t.Error("null and a missing field differ")
	}
	if scanID(t, "a", `{"x":[1, 2]}`) != scanID(t, "", `{"topic":"a","msg":{"x":[1,2]}}`) {
		t.Error("a bare payload and its wrapped form differ")
	}
}

// randomJSON writes what Python reads the same way as we do, in every form it can be written.
func randomJSON(r *rand.Rand, depth int) string {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	text := func() string {
		var b strings.Builder
		for range r.IntN(6) {
			b.WriteString(pick("a", "b", "é", "\U0001F600", "\uffff", "\u007f", " ", `\u0061`, `\n`, `\/`, `\"`, `\\`, `\u0000`,
				`\ud83d\ude00`, `\ud83d`, `\ude00`, `\uFFFF`, `\u00E9`))
		}
		return `"` + b.String() + `"`
	}
	sp := func() string { return pick("", "", " ", "\n") }
	switch k := r.IntN(9); {
	case k < 2 && depth > 0:
		var parts []string
		for range r.IntN(5) {
			parts = append(parts, sp()+text()+sp()+":"+sp()+randomJSON(r, depth-1)+sp())
		}
		return "{" + strings.Join(parts, ",") + "}"
	case k == 2 && depth > 0:
		var parts []string
		for range r.IntN(5) {
			parts = append(parts, sp()+randomJSON(r, depth-1)+sp())
		}
		return "[" + strings.Join(parts, ",") + "]"
	case k < 5:
		return text()
	case k == 5:
		return strconv.FormatInt(r.Int64()>>r.IntN(64), 10)
	case k == 6:
		return strconv.FormatFloat(r.NormFloat64(), pick("e", "f", "g")[0], r.IntN(20), 64) + pick("e0", "E5", "e-7", "e+12", "e-200", "e18")
	}
	return pick("true", "false", "null", "-0", "0", "-0.0", "1e400", "1.5e-324", "0.1", "100000000000000000000000000000", "1e22", "5e-5", "123456789.123456789")
}

func TestCanonical_AgreesWithPython(t *testing.T) {
	python := testpython.Find(t)
	r := rand.New(rand.NewPCG(1, 2))
	var in []string
	for range 20_000 {
		if doc := randomJSON(r, 5); json.Valid([]byte(doc)) { // 1.5e3e0 and the like are not
			in = append(in, doc)
		}
	}
	raw, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), python, "-c", `
import json, sys
for doc in json.load(sys.stdin.buffer):
    print(json.dumps(json.loads(doc), sort_keys=True, separators=(",", ":")))`)
	cmd.Stdin = bytes.NewReader(raw)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(lines) != len(in) {
		t.Fatalf("%d answers to %d documents", len(lines), len(in))
	}
	for i, doc := range in {
		if got := canonicalOf(doc); got != lines[i] {
			t.Fatalf("%s\n   got %s\nPython %s", doc, got, lines[i])
		}
	}
	t.Logf("%d documents", len(in))
}
