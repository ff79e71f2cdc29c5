package fedmsg

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

const (
	hashedIDPrefix = "sha256-"
	hashedIDDigits = 32
	// maxKept bounds the buffers kept between messages.
	maxKept = 1 << 20
)

// hashedID is the id of a message without one: the hash of its {i, msg, timestamp, topic} in canonical form, a missing
// field being null. A relay that writes the same message differently doesn't change it; two messages that say the same
// at the same time are one. The id stands in the scanner's own memory.
func (s *Scanner) hashedID(body, topic []byte) []byte {
	f, c := &s.pass.found, &s.canon
	c.reset(body)
	c.out = append(c.out, `{"i":`...)
	c.field(f.i)
	c.out = append(c.out, `,"msg":`...)
	c.field(f.msg)
	c.out = append(c.out, `,"timestamp":`...)
	c.field(f.timestamp)
	c.out = append(c.out, `,"topic":`...)
	if f.topic.missing() {
		c.out = append(c.out, '"')
		c.plain(topic)
		c.out = append(c.out, '"')
	} else {
		c.field(f.topic)
	}
	c.out = append(c.out, '}')
	sum := sha256.Sum256(c.out)
	copy(s.id[:], hashedIDPrefix)
	hex.Encode(s.id[len(hashedIDPrefix):], sum[:hashedIDDigits/2])
	return s.id[:]
}

// canon writes JSON that is known to be valid as Python's json.dumps(..., sort_keys=True, separators=(",", ":")) does
// after json.loads: keys in the order of code points, the last of equal keys, everything but printable ASCII escaped,
// integers as they are, floats as Python's repr.
//
// It writes straight from the source, without a tree in between: members of an object are put in order afterwards
// where they weren't, so that memory stays in proportion to the message.
type canon struct {
	b       []byte
	out     []byte
	members []member // of the objects that are being written, the innermost last
	sorted  []byte
}

// member is a piece of canon.out: "key":value.
type member struct {
	key      []byte // WTF-8
	from, to int
}

func (c *canon) reset(b []byte) {
	c.b, c.out, c.members = b, c.out[:0], c.members[:0]
	if cap(c.out) > maxKept {
		c.out = nil
	}
	if cap(c.sorted) > maxKept {
		c.sorted = nil
	}
	if cap(c.members) > maxKept/64 {
		c.members = nil
	}
}

// field writes one value of the envelope.
func (c *canon) field(value span) {
	if value.missing() {
		c.out = append(c.out, "null"...)
		return
	}
	c.value(c.space(value.from))
}

func (c *canon) space(i int) int {
	for i < len(c.b) && isSpace(c.b[i]) {
		i++
	}
	return i
}

// value writes the value at i and returns the index behind it.
func (c *canon) value(i int) int {
	switch c.b[i] {
	case '{':
		return c.object(i + 1)
	case '[':
		return c.array(i + 1)
	case '"':
		end := endOfString(c.b, i+1)
		c.out = append(c.out, '"')
		c.text(c.b[i+1 : end-1])
		c.out = append(c.out, '"')
		return end
	case 't', 'n':
		c.out = append(c.out, c.b[i:i+4]...)
		return i + 4
	case 'f':
		c.out = append(c.out, c.b[i:i+5]...)
		return i + 5
	}
	end := i
	for end < len(c.b) && bytes.IndexByte([]byte("+-.0123456789eE"), c.b[end]) >= 0 {
		end++
	}
	c.number(c.b[i:end])
	return end
}

// endOfString gives the index behind the closing quote.
func endOfString(b []byte, i int) int {
	for b[i] != '"' {
		if b[i] == '\\' {
			i++
		}
		i++
	}
	return i + 1
}

func (c *canon) array(i int) int {
	c.out = append(c.out, '[')
	if i = c.space(i); c.b[i] == ']' {
		c.out = append(c.out, ']')
		return i + 1
	}
	for {
		i = c.space(c.value(c.space(i)))
		c.out = append(c.out, c.b[i]) // a comma or the end
		if c.b[i] == ']' {
			return i + 1
		}
		i++
	}
}

func (c *canon) object(i int) int {
	start, first := len(c.out), len(c.members)
	c.out = append(c.out, '{')
	if i = c.space(i); c.b[i] == '}' {
		c.out = append(c.out, '}')
		return i + 1
	}
	inOrder := true
	for {
		i = c.space(i)
		end := endOfString(c.b, i+1)
		m := member{key: sortKey(c.b[i+1 : end-1]), from: len(c.out)}
		if n := len(c.members); n > first && bytes.Compare(c.members[n-1].key, m.key) >= 0 {
			inOrder = false
		}
		c.out = append(c.out, '"')
		c.text(c.b[i+1 : end-1])
		c.out = append(c.out, '"', ':')
		i = c.space(c.value(c.space(c.space(end) + 1)))
		m.to = len(c.out)
		c.members = append(c.members, m)
		c.out = append(c.out, c.b[i]) // a comma or the end
		if c.b[i] == '}' {
			break
		}
		i++
	}
	if !inOrder {
		c.order(start, c.members[first:])
	}
	c.members = c.members[:first]
	return i + 1
}

// sortKey gives a key in a form whose bytes sort as its code points.
func sortKey(raw []byte) []byte {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw
	}
	return appendUnescaped(nil, raw, true)
}

// order writes the object that begins at start anew, its members sorted, of equal keys the last.
func (c *canon) order(start int, members []member) {
	slices.SortStableFunc(members, func(a, b member) int { return bytes.Compare(a.key, b.key) })
	c.sorted = append(c.sorted[:0], '{')
	for i, m := range members {
		if i+1 < len(members) && bytes.Equal(m.key, members[i+1].key) {
			continue
		}
		if len(c.sorted) > 1 {
			c.sorted = append(c.sorted, ',')
		}
		c.sorted = append(c.sorted, c.out[m.from:m.to]...)
	}
	c.out = append(append(c.out[:start], c.sorted...), '}')
}

func (c *canon) number(raw []byte) {
	if bytes.IndexByte(raw, '.') < 0 && bytes.IndexByte(raw, 'e') < 0 && bytes.IndexByte(raw, 'E') < 0 {
		if string(raw) == "-0" {
			raw = raw[1:]
		}
		c.out = append(c.out, raw...)
		return
	}
	f, _ := strconv.ParseFloat(string(raw), 64) // the only error is a range error, and then f is infinite as in Python
	c.out = appendFloat(c.out, f)
}

// appendFloat writes f as Python's repr.
func appendFloat(out []byte, f float64) []byte {
	switch {
	case math.IsInf(f, 1):
		return append(out, "Infinity"...)
	case math.IsInf(f, -1):
		return append(out, "-Infinity"...)
	}
	var buf [32]byte
	e := strconv.AppendFloat(buf[:0], f, 'e', -1, 64) // two digits of exponent at least and a sign, as Python
	exp, _ := strconv.Atoi(string(e[bytes.IndexByte(e, 'e')+1:]))
	if f != 0 && (exp < -4 || exp >= 16) {
		return append(out, e...)
	}
	from := len(out)
	out = strconv.AppendFloat(out, f, 'f', -1, 64)
	if bytes.IndexByte(out[from:], '.') < 0 {
		out = append(out, ".0"...)
	}
	return out
}

// text writes a valid JSON string's inside.
func (c *canon) text(raw []byte) {
	for {
		k := bytes.IndexByte(raw, '\\')
		if k < 0 {
			c.plain(raw)
			return
		}
		c.plain(raw[:k])
		// Escapes are written anew one by one: the halves of a surrogate pair stay what they are.
		if e := raw[k+1]; e != 'u' {
			c.char(rune(simpleEscape(e)))
			raw = raw[k+2:]
		} else {
			c.char(hex4(raw[k+2:]))
			raw = raw[k+6:]
		}
	}
}

// plain writes text without escapes.
func (c *canon) plain(text []byte) {
	for len(text) > 0 {
		n := 0
		for n < len(text) && isPlain(text[n]) {
			n++
		}
		c.out = append(c.out, text[:n]...)
		if text = text[n:]; len(text) > 0 {
			r, size := utf8.DecodeRune(text)
			c.char(r)
			text = text[size:]
		}
	}
}

// isPlain says whether a byte stands for itself.
func isPlain(b byte) bool { return b >= 0x20 && b < 0x7f && b != '"' && b != '\\' }

func (c *canon) char(r rune) {
	switch {
	case r == '"' || r == '\\':
		c.out = append(c.out, '\\', byte(r))
	case r >= 0x20 && r < 0x7f:
		c.out = append(c.out, byte(r))
	case r == '\b':
		c.out = append(c.out, '\\', 'b')
	case r == '\f':
		c.out = append(c.out, '\\', 'f')
	case r == '\n':
		c.out = append(c.out, '\\', 'n')
	case r == '\r':
		c.out = append(c.out, '\\', 'r')
	case r == '\t':
		c.out = append(c.out, '\\', 't')
	case r >= 0x10000:
		r -= 0x10000
		c.unit(0xD800 + r>>10)
		c.unit(0xDC00 + r&0x3FF)
	default:
		c.unit(r)
	}
}

func (c *canon) unit(r rune) {
	const digits = "0123456789abcdef"
	c.out = append(c.out, '\\', 'u', digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15])
}
