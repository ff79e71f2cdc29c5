package fedmsg

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/statscache/statscache/internal/block"
)

func FuzzScan(f *testing.F) {
	paths, err := filepath.Glob("testdata/variants/*.body")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range paths {
		body, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add("", body)
	}
	for _, body := range []string{`{"topic":"a","headers":{"fedora_messaging_user_\u0061":1},"timestamp":1.5e3}`, `[1,2`, `{"a":"\ud83d"}`,
		`{"topic":"\ud83dx\ude00","t\u006fpic":"b","i":5,"i":null}`, "{\"topic\":\"\xff\"}", `{"msg":{"b":1,"a":[{}, 1e400]}}`} {
		f.Add("a", []byte(body))
	}
	s := NewScanner(Limits{})
	f.Fuzz(func(t *testing.T, frame string, body []byte) {
		if deeperThan(body, maxDepth) {
			t.Skip()
		}
		var ev block.Event
		reason := s.Scan([]byte(frame), body, received, &ev)
		switch {
		case !utf8.Valid(body):
			if reason != EncodingReason {
				t.Fatalf("not UTF-8, but %q", reason)
			}
			return
		case !json.Valid(body):
			if reason != JSONReason {
				t.Fatalf("not JSON, but %q", reason)
			}
			return
		case reason == JSONReason || reason == EncodingReason && utf8.ValidString(frame):
			t.Fatalf("valid, but %q: %s", reason, s.Detail())
		}
		if reason == Accepted {
			checkAgainstEncodingJSON(t, frame, body, &ev)
		}
	})
}

// deeperThan counts brackets wherever they stand: enough to leave out what only our bound refuses.
func deeperThan(body []byte, limit int) bool {
	return bytes.Count(body, []byte("{"))+bytes.Count(body, []byte("[")) > limit
}

func checkAgainstEncodingJSON(t *testing.T, frame string, body []byte, ev *block.Event) {
	t.Helper()
	var fields map[string]json.RawMessage // the last of equal keys
	if err := json.Unmarshal(body, &fields); err != nil {
		t.Fatalf("accepted, but: %v", err)
	}
	text := func(key string) string {
		var s string
		if raw, ok := fields[key]; ok {
			if err := json.Unmarshal(raw, &s); err != nil {
				t.Fatalf("%s accepted, but: %v", key, err)
			}
		}
		return s
	}
	_, hasTopic := fields["topic"]
	if want := text("topic"); hasTopic && string(ev.Topic) != want || !hasTopic && string(ev.Topic) != frame {
		t.Fatalf("topic %q, want %q or frame %q", ev.Topic, want, frame)
	}
	_, hasMsg := fields["msg"]
	_, hasID := fields["msg_id"]
	bare := !hasTopic && !hasMsg && !hasID
	id := text("msg_id")
	if hashed := strings.HasPrefix(string(ev.ID), hashedIDPrefix); id != "" && string(ev.ID) != id || id == "" && !hashed {
		t.Fatalf("id %q, want %q", ev.ID, id)
	}
	if ev.IDAt >= 0 && !bytes.Equal(body[ev.IDAt:ev.IDAt+len(ev.ID)], ev.ID) {
		t.Fatalf("id not at %d", ev.IDAt)
	}
	checkTime(t, fields["timestamp"], bare, ev)
	var headers map[string]json.RawMessage
	if raw := fields["headers"]; !bare && len(raw) > 0 && raw[0] == '{' {
		if err := json.Unmarshal(raw, &headers); err != nil {
			t.Fatal(err)
		}
	}
	var users, packages []string
	for key := range headers {
		if name, ok := strings.CutPrefix(key, userHeader); ok {
			users = append(users, name)
		} else if name, ok := strings.CutPrefix(key, packageHeader); ok {
			packages = append(packages, name)
		}
	}
	for _, c := range [2]struct{ got, want []string }{{texts(ev.Users), users}, {texts(ev.Packages), packages}} {
		slices.Sort(c.got)
		slices.Sort(c.want)
		if !slices.Equal(c.got, c.want) {
			t.Fatalf("names %q, want %q", c.got, c.want)
		}
	}
}

func checkTime(t *testing.T, raw json.RawMessage, bare bool, ev *block.Event) {
	t.Helper()
	if raw == nil || bare {
		if !ev.Untimed || ev.Time != received {
			t.Fatalf("no timestamp, but %d", ev.Time)
		}
		return
	}
	want, err := strconv.ParseInt(string(raw), 10, 64)
	if want *= 1e6; err != nil {
		f, err := strconv.ParseFloat(string(raw), 64)
		if err != nil {
			t.Fatalf("timestamp accepted, but: %v", err)
		}
		want = int64(math.RoundToEven(f * 1e6))
	}
	if ev.Untimed || ev.Time != want {
		t.Fatalf("timestamp %s: %d, want %d", raw, ev.Time, want)
	}
}
