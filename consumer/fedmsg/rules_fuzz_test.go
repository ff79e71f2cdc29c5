package fedmsg

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/statscache/statscache/internal/block"
)

// FuzzParseRules: whatever stands in a file of rules, it is refused with file and line or can be used.
func FuzzParseRules(f *testing.F) {
	f.Add(shippedRules)
	f.Add("topic a.** b\n users each nvr /msg/a[b=c][!d]/*/~key\n packages none\n agent sole-user\n")
	f.Add("topic *\nusers email:a,b /msg/#3\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := ParseRules("file", text)
		if err == nil {
			_, err = CompileRules(list...)
		}
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.HasPrefix(line, "file:") {
					t.Errorf("%q doesn't say where", line)
				}
			}
			return
		}
		scanWith(t, text, `{"msg_id":"1","msg":{"a":[{"b":"c","e":{"k":"v-1-1"}},"x"]}}`)
	})
}

// FuzzExtract walks any message with any path, and compares what is found with a slow and simple walk over the values
// that encoding/json reads.
func FuzzExtract(f *testing.F) {
	f.Add("/msg/a[b=c]/*/~key", `{"a":[{"b":"c","x":{"k":1}},{"b":"d","x":{"l":1}}]}`)
	f.Add("/msg/*/#2", `{"a":[["x","y"],["z"]],"b":["1","2"]}`)
	f.Add("/msg/a[!b]/c", "{\"\\u0061\":{\"c\":\"\\n\\ud83d\\ude00\"}}")
	f.Add("/msg[a!=b]/a", ` { "a" : [ "b" , null, -1.5e3 , [ ] , { } ] } `)
	f.Fuzz(func(t *testing.T, path, msg string) {
		src, err := parseSource(path, users)
		if err != nil || src.root != msgRoot || len(src.transforms) > 0 || len(msg) > 1<<12 {
			return
		}
		rules, err := CompileRules(Rule{Topic: "t", Users: []string{path}, Packages: []string{path}})
		if err != nil {
			t.Fatal(err)
		}
		s := NewScanner(Limits{})
		s.SetRules(rules)
		var ev block.Event
		body := fmt.Appendf(nil, `{"topic":"t","msg_id":"1","msg":%s}`, msg)
		if s.Scan(nil, body, 1<<60, &ev) != Accepted || string(s.pass.found.msg.of(body)) != strings.TrimSpace(msg) ||
			len(s.pass.found.userKeys)+len(s.pass.found.packageKeys)+len(s.pass.found.escapedKeys) > 0 {
			return
		}
		var v any
		if err := json.Unmarshal(s.pass.found.msg.of(body), &v); err != nil {
			t.Fatal(err)
		}
		if hasTwice(msg) { // maps keep one value of a key
			return
		}
		var want []string
		simple(v, src.segments, src, &want)
		want = slices.DeleteFunc(want, func(s string) bool { return !isName([]byte(s)) })
		slices.Sort(want)
		want = slices.Compact(want)
		got := texts(ev.Users)
		slices.Sort(got)
		if len(s.matched.matches) < maxMatches && !slices.Equal(got, want) || !slices.Equal(texts(ev.Users), texts(ev.Packages)) {
			t.Errorf("%q in %s: %q, want %q", path, msg, got, want)
		}
	})
}

// hasTwice says whether any object of a document may have a key twice.
func hasTwice(doc string) bool {
	dec := json.NewDecoder(strings.NewReader(doc))
	seen := map[string]int{}
	for {
		tok, err := dec.Token()
		if err != nil {
			return false
		}
		if s, ok := tok.(string); ok {
			if seen[s]++; seen[s] > 1 {
				return true
			}
		}
	}
}

// simple collects what a path leads to; segments[0] is where v stands.
func simple(v any, segments []segment, src source, out *[]string) {
	switch v := v.(type) {
	case string:
		if len(segments) == 1 && !src.keys && src.place == 0 {
			*out = append(*out, v)
		}
	case []any:
		for k, x := range v {
			if text, ok := x.(string); ok && len(segments) == 1 && src.place == k+1 {
				*out = append(*out, text)
			}
			simple(x, segments, src, out)
		}
	case map[string]any:
		for _, c := range segments[0].conditions {
			x, there := v[c.key]
			text, isText := x.(string)
			if holds := c.any && there || !c.any && isText && text == c.value; holds == c.not {
				return
			}
		}
		for key, x := range v {
			switch {
			case len(segments) == 1 && src.keys:
				*out = append(*out, key)
			case len(segments) > 1 && (segments[1].key == "" || segments[1].key == key):
				simple(x, segments[1:], src, out)
			}
		}
	}
}

// FuzzScanRules: rules change nothing of an event but whom and what it is about, and that only where no header says;
// what they find can be a name.
func FuzzScanRules(f *testing.F) {
	lines(f, "testdata/known.jsonl", func(line string) {
		var c struct{ Message json.RawMessage }
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(c.Message))
	})
	f.Add([]byte(`{"topic":"org.x.prod.mdapi.x","headers":{"fedora_messaging_user_a":1},"msg":{"differences":{"files":{"added":[["","","p"]]}}}}`))
	plain, ruled := NewScanner(Limits{}), NewScanner(Limits{})
	ruled.SetRules(shipped(f))
	f.Fuzz(func(t *testing.T, body []byte) {
		var want, got block.Event
		reason := plain.Scan(nil, body, received, &want)
		if other := ruled.Scan(nil, body, received, &got); other != reason {
			t.Fatalf("%q with rules, %q without", other, reason)
		}
		if reason != Accepted {
			return
		}
		if string(got.ID) != string(want.ID) || string(got.Topic) != string(want.Topic) || got.Time != want.Time || got.IDAt != want.IDAt {
			t.Errorf("another event: %+v, %+v", got, want)
		}
		named := len(want.Users)+len(want.Packages) > 0
		if named && (!slices.Equal(texts(got.Users), texts(want.Users)) || !slices.Equal(texts(got.Packages), texts(want.Packages))) {
			t.Errorf("headers name %q and %q, the event has %q and %q", want.Users, want.Packages, got.Users, got.Packages)
		}
		if len(got.Users) > maxMatches && !named || len(got.Packages) > maxMatches && !named {
			t.Errorf("%d users, %d packages", len(got.Users), len(got.Packages))
		}
		for _, name := range slices.Concat(got.Users, got.Packages, [][]byte{got.Agent}) {
			if !named && len(name) > 0 && (!isName(name) || !utf8.Valid(name)) {
				t.Errorf("%q is no name", name)
			}
		}
	})
}
