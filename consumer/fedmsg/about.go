package fedmsg

import (
	"bytes"

	"github.com/statscache/statscache/internal/block"
)

// fewNames is up to how many names are told apart by looking at each; more go through a map.
const fewNames = 32

// about sets who and what a message is about. It is the one place that decides it, when an event is archived and once
// for all: users and packages are those that the message's headers name, each once, whatever the header's value. No
// header names an agent.
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
	return Accepted
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
