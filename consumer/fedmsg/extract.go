package fedmsg

import "bytes"

// program is what the rules that count for a topic come to: the paths of all their sources in one tree, so that a
// message is walked once.
type program struct {
	sources [parts][]source
	msg     *node // nil where no path goes below msg
	// Sources that take the envelope's username or topic.
	username, topic []sourceID
}

// sourceID is a source of a program.
type sourceID struct {
	part  part
	index uint8
}

// node is a place in a message that paths lead to.
type node struct {
	members []branch
	any     *node // for each member
	keys    []sourceID
	leaf    []sourceID
	places  []place
	when    condition // of guarded's nodes: what the object must hold
	guarded []*node   // conditions stand between a step and the next: they are places of the same object
}

// place is a source that takes the text at one place of a list.
type place struct {
	index  int
	source sourceID
}

type branch struct {
	key string
	to  *node
}

func newProgram(r *Rules, c choice) *program {
	p := &program{}
	for part := range parts {
		if c[part] < 0 {
			continue
		}
		rule := &r.rules[c[part]]
		p.sources[part] = rule.sources[part]
		for i := range p.sources[part] {
			p.add(sourceID{part, uint8(i)}, &p.sources[part][i])
		}
	}
	return p
}

// add puts the path of a source into the tree.
func (p *program) add(id sourceID, s *source) {
	switch {
	case s.soleUser:
		return
	case s.root == usernameRoot:
		p.username = append(p.username, id)
		return
	case s.root == topicRoot:
		p.topic = append(p.topic, id)
		return
	}
	if p.msg == nil {
		p.msg = &node{}
	}
	n := p.msg
	for i, seg := range s.segments {
		if i > 0 { // the first is msg itself
			n = n.step(seg.key)
		}
		for _, c := range seg.conditions {
			n = n.guard(c)
		}
	}
	switch {
	case s.keys:
		n.keys = append(n.keys, id)
	case s.place > 0:
		n.places = append(n.places, place{s.place, id})
	default:
		n.leaf = append(n.leaf, id)
	}
}

func (n *node) step(key string) *node {
	if key == "" {
		if n.any == nil {
			n.any = &node{}
		}
		return n.any
	}
	for _, m := range n.members {
		if m.key == key {
			return m.to
		}
	}
	to := &node{}
	n.members = append(n.members, branch{key, to})
	return to
}

func (n *node) guard(c condition) *node {
	for _, g := range n.guarded {
		if g.when == c {
			return g
		}
	}
	g := &node{when: c}
	n.guarded = append(n.guarded, g)
	return g
}

// match is a text that a source leads to, as written in the body (or the topic, which is never escaped here).
type match struct {
	source sourceID
	text   []byte
	raw    bool // may hold escapes
}

// extraction walks the msg of one message. The body is known to be valid JSON and UTF-8.
type extraction struct {
	b       []byte
	active  []*node // a stack: the places that the value under way is, for each level
	matches []match
	seen    [parts]uint64 // the sources that matched something, a bit each
	scratch []byte
}

// value walks a value that is the places active[from:]; the index behind it is returned.
func (x *extraction) value(i, from int) int {
	switch x.b[i] {
	case '"':
		end := skipText(x.b, i+1)
		for _, n := range x.active[from:] {
			for _, id := range n.leaf {
				x.match(id, x.b[i+1:end-1], true)
			}
		}
		return end
	case '{':
		return x.object(i+1, from)
	case '[':
		i = skipSpace(x.b, i+1)
		for k := 1; x.b[i] != ']'; k++ {
			if x.b[i] == '"' {
				x.placed(i, k, from)
			}
			i = skipSpace(x.b, x.value(i, from))
			if x.b[i] == ',' {
				i = skipSpace(x.b, i+1)
			}
		}
		return i + 1
	}
	return skipValue(x.b, i)
}

// placed matches the text at i as the k-th of a list.
func (x *extraction) placed(i, k, from int) {
	for _, n := range x.active[from:] {
		for _, p := range n.places {
			if p.index == k {
				x.match(p.source, x.b[i+1:skipText(x.b, i+1)-1], true)
			}
		}
	}
}

// object walks an object; i is behind its brace.
func (x *extraction) object(i, from int) int {
	b := x.b
	own := len(x.active)
	for k := from; k < len(x.active); k++ {
		for _, g := range x.active[k].guarded {
			if x.holds(i, &g.when) {
				x.active = append(x.active, g)
			}
		}
	}
	level := len(x.active)
	for i = skipSpace(b, i); b[i] != '}'; {
		end := skipText(b, i+1)
		key := b[i+1 : end-1]
		i = skipSpace(b, skipSpace(b, end)+1)
		for _, n := range x.active[from:level] {
			x.enter(n, key)
		}
		if len(x.active) > level {
			i = x.value(i, level)
			x.active = x.active[:level]
		} else {
			i = skipValue(b, i)
		}
		if i = skipSpace(b, i); b[i] == ',' {
			i = skipSpace(b, i+1)
		}
	}
	x.active = x.active[:own]
	return i + 1
}

// enter notes the places that a member of an object at n is.
func (x *extraction) enter(n *node, key []byte) {
	for _, id := range n.keys {
		x.match(id, key, true)
	}
	if n.any != nil {
		x.active = append(x.active, n.any)
	}
	if len(n.members) == 0 {
		return
	}
	for i := range n.members {
		if n.members[i].key == string(key) {
			x.active = append(x.active, n.members[i].to)
			return
		}
	}
	if bytes.IndexByte(key, '\\') < 0 {
		return
	}
	for i := range n.members {
		if x.is(key, n.members[i].key) {
			x.active = append(x.active, n.members[i].to)
			return
		}
	}
}

// is compares a string of the body with a text.
func (x *extraction) is(raw []byte, text string) bool {
	if string(raw) == text {
		return true
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return false
	}
	mark := len(x.scratch)
	equal := string(x.unescape(raw)) == text
	x.scratch = x.scratch[:mark]
	return equal
}

// holds says whether the object at i (behind its brace) has the condition's member.
func (x *extraction) holds(i int, c *condition) bool {
	b := x.b
	for i = skipSpace(b, i); b[i] != '}'; {
		end := skipText(b, i+1)
		key := b[i+1 : end-1]
		i = skipSpace(b, skipSpace(b, end)+1)
		from := i
		i = skipValue(b, i)
		if (c.any || b[from] == '"') && x.is(key, c.key) && (c.any || x.is(b[from+1:i-1], c.value)) {
			return !c.not
		}
		if i = skipSpace(b, i); b[i] == ',' {
			i = skipSpace(b, i+1)
		}
	}
	return c.not
}

func (x *extraction) match(id sourceID, text []byte, raw bool) {
	if len(x.matches) == maxMatches {
		return
	}
	x.seen[id.part] |= 1 << id.index
	x.matches = append(x.matches, match{id, text, raw})
}

func (x *extraction) unescape(raw []byte) (text []byte) {
	text, x.scratch, _ = unescaped(raw, x.scratch)
	return text
}

// names appends the names that a part's sources make of what was matched, source by source in the order of the rule.
func (x *extraction) names(dst [][]byte, p *program, of part, known [][]byte, most int) [][]byte {
	for i := range p.sources[of] {
		s := &p.sources[of][i]
		if s.soleUser && len(known) == 1 {
			dst = append(dst, known[0])
		}
		if x.seen[of]&(1<<i) == 0 {
			continue
		}
		for k := range x.matches {
			if m := &x.matches[k]; m.source.part == of && int(m.source.index) == i {
				text := m.text
				if m.raw {
					text = x.unescape(text)
				}
				dst = x.transformed(dst, text, s.transforms)
			}
		}
		if len(dst) >= most {
			return dst[:most]
		}
	}
	return dst
}

// transformed appends the names that transforms make of a text.
func (x *extraction) transformed(dst [][]byte, s []byte, ts []transform) [][]byte {
	for i := range ts {
		if ts[i].kind != kindEach {
			var ok bool
			if s, x.scratch, ok = ts[i].apply(s, x.scratch); !ok {
				return dst
			}
			continue
		}
		for len(s) > 0 {
			k := 0
			for k < len(s) && !isSeparator(s[k]) {
				k++
			}
			if k > 0 && len(dst) < maxMatches {
				dst = x.transformed(dst, s[:k], ts[i+1:])
			}
			s = s[min(k+1, len(s)):]
		}
		return dst
	}
	if isName(s) {
		dst = append(dst, s)
	}
	return dst
}

// isName says whether a text can be the name of a user or package at all: no blanks, no control characters, not empty.
func isName(s []byte) bool {
	for _, c := range s {
		if c <= ' ' || c == 0x7F {
			return false
		}
	}
	return len(s) > 0 && len(s) <= MaxNameBytes
}
