package fedmsg

import (
	_ "embed" // for the shipped rules
	"errors"
	"fmt"
	"strings"
)

//go:embed rules.txt
var shippedRules string

// maxRulesBytes bounds a file of rules.
const maxRulesBytes = 1 << 20

// ShippedRules are the rules that come with the program.
func ShippedRules() ([]Rule, error) { return ParseRules("rules.txt", shippedRules) }

// ParseRules reads a file of rules. Lines "topic PATTERN..." begin a rule; the lines "users SOURCE", "packages SOURCE"
// and "agent SOURCE" below it add sources, or say with "none" for a source that there are no such names. Blank lines
// and those that begin with # say nothing. Errors name the file and line; sources are looked at by CompileRules.
func ParseRules(file, text string) ([]Rule, error) {
	if len(text) > maxRulesBytes {
		return nil, fmt.Errorf("%s: %d bytes; allowed are %d", file, len(text), maxRulesBytes)
	}
	var out []Rule
	var problems []error
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		var err error
		word, rest, _ := strings.Cut(strings.ReplaceAll(line, "\t", " "), " ")
		if rest = strings.TrimSpace(rest); word == "topic" {
			if last := len(out) - 1; last >= 0 && out[last].open() {
				out[last].Topic += " " + rest
				continue
			}
			out = append(out, Rule{Topic: rest, Origin: fmt.Sprintf("%s:%d", file, number)})
		} else if len(out) == 0 {
			err = errors.New("the first rule must begin with its topic")
		} else {
			err = out[len(out)-1].add(word, rest)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("%s:%d: %w", file, number, err))
		}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return out, nil
}

// open says whether a rule has topics only so far.
func (r *Rule) open() bool { return r.Users == nil && r.Packages == nil && r.Agent == nil }

// add takes a line of a rule.
func (r *Rule) add(word, text string) error {
	var list *[]string
	var of part
	switch word {
	case users.String():
		list, of = &r.Users, users
	case packages.String():
		list, of = &r.Packages, packages
	case agent.String():
		list, of = &r.Agent, agent
	default:
		return fmt.Errorf("%q is no part of a rule: topic, users, packages or agent", clipped(word))
	}
	if text == "none" {
		if *list != nil {
			return fmt.Errorf("%s: none, though there are lines before", word)
		}
		*list = []string{}
		return nil
	}
	if *list != nil && len(*list) == 0 {
		return fmt.Errorf("%s: a line before says none", word)
	}
	if _, err := parseSource(text, of); err != nil {
		return fmt.Errorf("%s: %q: %w", word, clipped(text), err)
	}
	*list = append(*list, text)
	return nil
}
