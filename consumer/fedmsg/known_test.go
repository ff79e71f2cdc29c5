package fedmsg

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/statscache/statscache/internal/block"
)

// TestShippedRules_TellingMessages goes over messages of Fedora's services, one of each kind, with what is known of
// them: null is unknown. Where the rules miss somebody the case says so, with why.
func TestShippedRules_TellingMessages(t *testing.T) {
	s := NewScanner(Limits{})
	s.SetRules(shipped(t))
	n := 0
	lines(t, "testdata/known.jsonl", func(line string) {
		var c struct {
			Name            string
			Users, Packages []string
			Agent           *string
			Misses          string
			Message         json.RawMessage
		}
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			t.Fatal(err)
		}
		n++
		var ev block.Event
		if s.Scan(nil, c.Message, 1<<60, &ev) != Accepted {
			t.Fatalf("%s: %s", c.Name, s.Detail())
		}
		users, packages := texts(ev.Users), texts(ev.Packages)
		slices.Sort(users)
		slices.Sort(packages)
		if c.Misses == "" && c.Users != nil && !slices.Equal(users, c.Users) {
			t.Errorf("%s: users %q, known %q", c.Name, users, c.Users)
		}
		if c.Misses == "" && c.Packages != nil && !slices.Equal(packages, c.Packages) {
			t.Errorf("%s: packages %q, known %q", c.Name, packages, c.Packages)
		}
		if c.Misses != "" && slices.Equal(users, c.Users) && slices.Equal(packages, c.Packages) {
			t.Errorf("%s: nothing is missed any more", c.Name)
		}
		if c.Agent != nil && string(ev.Agent) != *c.Agent {
			t.Errorf("%s: agent %q, known %q", c.Name, ev.Agent, *c.Agent)
		}
	})
	if n < 40 {
		t.Errorf("%d messages", n)
	}
}
