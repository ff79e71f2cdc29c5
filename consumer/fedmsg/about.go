package fedmsg

import (
	"bytes"

	"github.com/statscache/statscache/internal/block"
)

// fewNames is up to how many names are told apart by looking at each; more go through a map.
const fewNames = 32

// about sets who and what a message is about. It is the one place that decides it, when an event is archived and once
// for all. Where the message's headers name users or packages it is about those, each once, whatever the header's
// value; otherwise the rules say. No header names an agent: that is always theirs.
func (s *Scanner) about(body []byte, ev *block.Event) Reason {
	f := &s.pass.found
	for _, key := range f.userKeys {
		ev.Users = append(ev.Users, key.of(body))
	}
	for _, key := range f.packageKeys {
		ev.Packages = append(ev.Packages, key.of(body))
	}
	for _, key := range f.escapedKeys {
		var name []byte
		name, s.scratch, _ = unescaped(key.of(body), s.scratch)
		if user, ok := bytes.CutPrefix(name, []byte(userHeader)); ok {
			ev.Users = append(ev.Users, user)
		} else if pkg, ok := bytes.CutPrefix(name, []byte(packageHeader)); ok {
			ev.Packages = append(ev.Packages, pkg)
		}
	}
	ev.Users, ev.Packages = distinct(ev.Users), distinct(ev.Packages)
	for _, names := range [2][][]byte{ev.Users, ev.Packages} {
		for _, name := range names {
			if len(name) > MaxNameBytes {
				return s.reject(EnvelopeReason, "a header names a user or package of %d bytes, allowed are %d", len(name), MaxNameBytes)
			}
		}
	}
	if s.rules != nil {
		s.byRules(body, ev)
	}
	return Accepted
}

// byRules sets what no header says. Names that can be none (too long, with blanks) are left out: a rule that matches
// a malformed message is no reason to refuse it.
func (s *Scanner) byRules(body []byte, ev *block.Event) {
	named := len(ev.Users) > 0 || len(ev.Packages) > 0
	ready := &s.ready
	if named {
		ready = &s.agentOnly
	}
	p := ready.of(s.rules, ev.Topic, named)
	f, x := &s.pass.found, &s.matched
	x.b, x.active, x.matches, x.seen, x.scratch = body, x.active[:0], x.matches[:0], [parts]uint64{}, s.scratch
	if p.msg != nil && !f.msg.missing() {
		x.active = append(x.active, p.msg)
		x.value(f.msg.from, 0)
	}
	if raw := f.username; len(p.username) > 0 && !raw.missing() && body[raw.from] == '"' {
		for _, id := range p.username {
			x.match(id, body[raw.from+1:raw.to-1], true)
		}
	}
	for _, id := range p.topic {
		x.match(id, ev.Topic, false)
	}
	if len(p.sources[users]) > 0 {
		ev.Users = distinct(x.names(ev.Users, p, users, nil, maxMatches))
	}
	if len(p.sources[packages]) > 0 {
		ev.Packages = distinct(x.names(ev.Packages, p, packages, nil, maxMatches))
	}
	if s.agents = x.names(s.agents[:0], p, agent, ev.Users, 1); len(s.agents) > 0 {
		ev.Agent = s.agents[0]
	}
	s.scratch = x.scratch
}

// SetRules puts rules in force for the messages that are scanned from now on; nil leaves it to the headers.
func (s *Scanner) SetRules(r *Rules) {
	if s.rules != r {
		s.rules, s.ready, s.agentOnly = r, programs{}, programs{}
	}
}

// maxTopics bounds the topics whose program is kept ready. Fedora has used 28,000; few of them in a week.
const maxTopics = 4096

// programs keeps what rules come to for the topics seen lately.
type programs struct {
	byTopic  map[string]*program
	byChoice map[choice]*program // most topics of a service share theirs
}

func (c *programs) of(r *Rules, topic []byte, agentOnly bool) *program {
	if p := c.byTopic[string(topic)]; p != nil {
		return p
	}
	if c.byTopic == nil || len(c.byTopic) >= maxTopics {
		c.byTopic, c.byChoice = make(map[string]*program), make(map[choice]*program)
	}
	name := string(topic)
	chosen := r.choose(name)
	if agentOnly {
		chosen[users], chosen[packages] = -1, -1
	}
	p := c.byChoice[chosen]
	if p == nil {
		p = newProgram(r, chosen)
		c.byChoice[chosen] = p
	}
	c.byTopic[name] = p
	return p
}

// distinct keeps the first of equal names, in place.
func distinct(names [][]byte) [][]byte {
	if len(names) < 2 {
		return names
	}
	kept := names[:0]
	if len(names) <= fewNames {
	next:
		for _, name := range names {
			for _, k := range kept {
				if bytes.Equal(k, name) {
					continue next
				}
			}
			kept = append(kept, name)
		}
		return kept
	}
	seen := make(map[string]struct{}, len(names)) // rare: not kept for the next message
	for _, name := range names {
		if _, ok := seen[string(name)]; !ok {
			seen[string(name)] = struct{}{}
			kept = append(kept, name)
		}
	}
	return kept
}
