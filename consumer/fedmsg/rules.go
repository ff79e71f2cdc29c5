package fedmsg

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Rule says where in the messages of a topic the names of users and packages stand, and who caused the event.
//
// Topic holds one pattern or several, separated by blanks: a dotted topic in which "*" stands for any one part and "**"
// for any number of parts, none included. Of a part that is nil the rule says nothing, and the next rule whose pattern
// matches is asked; of one that is empty it says that there are no such names.
type Rule struct {
	Topic string `json:"topic"`
	// Sources: transforms and a path, such as "nvr /msg/build".
	Users    []string `json:"users,omitzero"`
	Packages []string `json:"packages,omitzero"`
	Agent    []string `json:"agent,omitzero"`
	Origin   string   `json:"-"` // where the rule stands: file and line
}

// The bounds of a set of rules and of what it finds.
const (
	maxRules    = 4096
	maxSources  = 64   // of one part of a rule
	maxSegments = 16   // of a path
	maxText     = 1024 // of a source or pattern, in bytes
	maxMatches  = 4096 // pieces of a message that sources may point to; the rest of such a message is not looked at
)

// soleUser is the source of an agent that is no path: the event's user, where there is exactly one.
const soleUser = "sole-user"

// Rules are rules ready for use. They don't change; scanners share them.
type Rules struct {
	rules []compiledRule
}

// part is what a rule speaks of.
type part uint8

const (
	users part = iota
	packages
	agent
	parts
)

func (p part) String() string { return [...]string{"users", "packages", "agent"}[p] }

type compiledRule struct {
	patterns []pattern
	sources  [parts][]source
	says     [parts]bool
}

// CompileRules makes rules ready for use: of those whose pattern matches a topic, the first that says something of a
// part counts. The error names every rule that is wrong, with its origin.
func CompileRules(rules ...Rule) (*Rules, error) {
	if len(rules) > maxRules {
		return nil, fmt.Errorf("%d rules; allowed are %d", len(rules), maxRules)
	}
	out := &Rules{rules: make([]compiledRule, len(rules))}
	var problems []error
	for i, r := range rules {
		var errs []error
		if out.rules[i], errs = compileRule(r); len(errs) > 0 {
			for _, err := range errs {
				problems = append(problems, fmt.Errorf("%s: rule for %q: %w", r.Origin, clipped(r.Topic), err))
			}
		}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return out, nil
}

func compileRule(r Rule) (compiledRule, []error) {
	var out compiledRule
	var errs []error
	var err error
	if out.patterns, err = parsePatterns(r.Topic); err != nil {
		errs = append(errs, err)
	}
	if r.Users == nil && r.Packages == nil && r.Agent == nil {
		errs = append(errs, errors.New("says nothing of users, packages or agent"))
	}
	for p, texts := range [parts][]string{users: r.Users, packages: r.Packages, agent: r.Agent} {
		out.says[p] = texts != nil
		if len(texts) > maxSources {
			errs = append(errs, fmt.Errorf("%s: %d sources; allowed are %d", part(p), len(texts), maxSources))
			continue
		}
		for _, text := range texts {
			s, err := parseSource(text, part(p))
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %q: %w", part(p), clipped(text), err))
				continue
			}
			out.sources[p] = append(out.sources[p], s)
		}
	}
	return out, errs
}

// pattern is a topic pattern by its dotted parts.
type pattern []string

func parsePatterns(text string) ([]pattern, error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("topic has %d bytes, allowed are %d", len(text), maxText)
	}
	var out []pattern
	for _, field := range strings.Fields(text) {
		p := pattern(strings.Split(field, "."))
		gaps := 0
		for _, s := range p {
			if s == "" {
				return nil, fmt.Errorf("topic %q has an empty part", field)
			}
			if strings.Contains(s, "*") && s != "*" && s != "**" {
				return nil, fmt.Errorf("topic %q: * stands for a whole part, ** for any number of them", field)
			}
			if s == "**" {
				gaps++
			}
		}
		if gaps > 2 {
			return nil, fmt.Errorf("topic %q has ** more than twice", field)
		}
		out = append(out, p)
	}
	if len(out) == 0 {
		return nil, errors.New("topic is empty")
	}
	return out, nil
}

// matches says whether the parts of a topic fit. With at most two gaps it looks at each part a bounded number of times.
func (p pattern) matches(topic []string) bool {
	for i, want := range p {
		switch {
		case want == "**":
			rest := p[i+1:]
			for k := i; k <= len(topic); k++ {
				if rest.matches(topic[k:]) {
					return true
				}
			}
			return false
		case i >= len(topic) || want != "*" && want != topic[i]:
			return false
		}
	}
	return len(p) == len(topic)
}

// choice is which rule counts for each part of a topic: an index, -1 where none does.
type choice [parts]int

func (r *Rules) choose(topic string) choice {
	c := choice{-1, -1, -1}
	words := strings.Split(topic, ".")
	open := len(c)
	for i := range r.rules {
		rule := &r.rules[i]
		if !slices.ContainsFunc(rule.patterns, func(p pattern) bool { return p.matches(words) }) {
			continue
		}
		for p := range c {
			if c[p] < 0 && rule.says[p] {
				c[p] = i
				open--
			}
		}
		if open == 0 {
			break
		}
	}
	return c
}

// clipped is as much of a text as an error bears.
func clipped(s string) string { return string(excerpt([]byte(s))) }
