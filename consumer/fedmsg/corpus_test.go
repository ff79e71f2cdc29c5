package fedmsg

import (
	"bufio"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/statscache/statscache/internal/block"
)

// example is a message of the corpus with what it is known to be about; nil where that is unknown.
type example struct {
	name            string
	topic           string
	body            []byte
	users, packages []string
	hasUsers        bool
	hasPackages     bool
	subtitle        string
	agent           string
}

// hides says whether a name stands nowhere in the message: only who asks somebody else could know it.
func (e *example) hides(name string) bool {
	return !strings.Contains(strings.ToLower(string(e.body)), strings.ToLower(name))
}

// corpus reads the messages with known answers that stand beside the repository on developers' machines.
func corpus(t testing.TB) []example {
	t.Helper()
	const path = "../../../shared/data/meta_corpus.jsonl"
	f, err := os.Open(path)
	if err != nil {
		t.Skipf("SKIPPED: the comparison with known messages needs %s: %v", path, err)
	}
	defer f.Close()
	var out []example
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var line struct {
			Name     string
			Message  json.RawMessage
			Expected map[string]any
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		var envelope struct{ Topic string }
		if err := json.Unmarshal(line.Message, &envelope); err != nil {
			t.Fatal(err)
		}
		e := example{name: line.Name, topic: envelope.Topic, body: line.Message}
		e.users, e.hasUsers = stringsOf(line.Expected["usernames"])
		e.packages, e.hasPackages = stringsOf(line.Expected["packages"])
		e.subtitle, _ = line.Expected["subtitle"].(string)
		e.agent, _ = line.Expected["agent"].(string)
		if first, _, _ := strings.Cut(e.subtitle, " "); e.agent == "" {
			first = strings.TrimSuffix(first, "'s")
			if slices.Contains(e.users, first) {
				e.agent = first
			}
		}
		out = append(out, e)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

func stringsOf(v any) ([]string, bool) {
	list, ok := v.([]any)
	var out []string
	for _, s := range list {
		out = append(out, s.(string))
	}
	return out, ok
}

// score counts names that are right.
type score struct{ ours, right, known int }

func (s *score) add(ours, known []string, hidden func(string) bool) {
	s.ours += len(ours)
	for _, name := range known {
		if slices.Contains(ours, name) {
			s.right++
			s.known++
		} else if !hidden(name) {
			s.known++
		}
	}
}

func (s score) precision() float64 { return float64(s.right) / max(1, float64(s.ours)) }
func (s score) recall() float64    { return float64(s.right) / max(1, float64(s.known)) }

// shipped are the rules that come with the program, ready for use.
func shipped(t testing.TB) *Rules {
	t.Helper()
	list, err := ShippedRules()
	if err != nil {
		t.Fatal(err)
	}
	rules, err := CompileRules(list...)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

func TestShippedRules_KnownMessages(t *testing.T) {
	var users, packages, agents score
	s := NewScanner(Limits{})
	s.SetRules(shipped(t))
	var ev block.Event
	for _, e := range corpus(t) {
		if s.Scan(nil, e.body, 1<<60, &ev) != Accepted {
			if len(e.users)+len(e.packages) > 0 {
				t.Errorf("%s: %s", e.name, s.Detail())
			}
			continue
		}
		report := func(what string, ours, known []string) {
			slices.Sort(ours)
			slices.Sort(known)
			if !slices.Equal(ours, known) {
				t.Logf("%-9s %s %s: %q, known %q", what, e.name, e.topic, ours, known)
			}
		}
		if ours := texts(ev.Users); e.hasUsers {
			report("users", ours, e.users)
			users.add(ours, e.users, e.hides)
		}
		if ours := texts(ev.Packages); e.hasPackages {
			report("packages", ours, e.packages)
			packages.add(ours, e.packages, e.hides)
		}
		if e.agent != "" && !e.hides(e.agent) {
			var ours []string
			if len(ev.Agent) > 0 {
				ours = []string{string(ev.Agent)}
			}
			report("agent", ours, []string{e.agent})
			agents.add(ours, []string{e.agent}, e.hides)
		}
	}
	for _, r := range []struct {
		what              string
		score             score
		precision, recall float64
	}{{"users", users, 0.97, 0.92}, {"packages", packages, 0.97, 0.90}, {"agent", agents, 0.90, 0.90}} {
		t.Logf("%s: precision %.4f, recall %.4f (%+v)", r.what, r.score.precision(), r.score.recall(), r.score)
		if r.score.precision() < r.precision || r.score.recall() < r.recall {
			t.Errorf("%s: wanted are %.2f and %.2f", r.what, r.precision, r.recall)
		}
	}
}

// TestGeneralRules_KnownMessages tells how far the rules come with services that no rule speaks of, by leaving only the
// last rule, which is for any topic.
func TestGeneralRules_KnownMessages(t *testing.T) {
	list, err := ShippedRules()
	if err != nil {
		t.Fatal(err)
	}
	general := list[len(list)-1]
	if general.Topic != "**" {
		t.Fatalf("the last rule is for %s", general.Topic)
	}
	rules, err := CompileRules(general)
	if err != nil {
		t.Fatal(err)
	}
	s := NewScanner(Limits{})
	s.SetRules(rules)
	var users, packages score
	var ev block.Event
	for _, e := range corpus(t) {
		if s.Scan(nil, e.body, 1<<60, &ev) != Accepted {
			continue
		}
		if e.hasUsers {
			users.add(texts(ev.Users), e.users, e.hides)
		}
		if e.hasPackages {
			packages.add(texts(ev.Packages), e.packages, e.hides)
		}
	}
	t.Logf("users: precision %.4f, recall %.4f (%+v)", users.precision(), users.recall(), users)
	t.Logf("packages: precision %.4f, recall %.4f (%+v)", packages.precision(), packages.recall(), packages)
	if users.precision() < 0.95 || users.recall() < 0.65 {
		t.Error("users: wanted are 0.95 and 0.65 of services that no rule speaks of")
	}
}
