package fedmsg

import (
	"encoding/binary"
	"math/bits"
)

// maxDepth bounds the nesting of arrays and objects. encoding/json stops at 10,000 and CPython near 1,000; no message
// of the bus comes near 100.
const maxDepth = 512

// pass is one strict walk over a body: it validates all of it as JSON and notes where the envelope's fields stand.
//
// Its methods take the index to go on at and return the index behind what they read; where the body is not JSON they
// return the complement (^) of the offending index, which is negative.
type pass struct {
	b       []byte
	high    uint64 // every byte of every string or-ed together: says whether a UTF-8 check is needed
	escaped bool   // a backslash was seen since it was last cleared
	tooDeep bool
	found   fields
}

func isSpace(c byte) bool { return c <= ' ' && (c == ' ' || c == '\n' || c == '\t' || c == '\r') }

func isDigit(c byte) bool { return c-'0' < 10 }

func isHex(c byte) bool { return isDigit(c) || c|0x20-'a' < 6 }

// space skips white space.
func (p *pass) space(i int) int {
	for i < len(p.b) && isSpace(p.b[i]) {
		i++
	}
	return i
}

// text reads a string; i is behind the opening quote. Eight bytes are looked at together: a byte that ends the run (a
// quote, a backslash, a control character) sets its high bit in m. Borrows may set bits wrongly, but only above a
// byte that is truly one of them, and the lowest is taken.
func (p *pass) text(i int) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	b := p.b
	for i+8 <= len(b) {
		w := binary.LittleEndian.Uint64(b[i:])
		q, e := w^(ones*'"'), w^(ones*'\\')
		m := (((q - ones) &^ q) | ((e - ones) &^ e) | ((w - ones*0x20) &^ w)) & highs
		if m == 0 {
			p.high |= w
			i += 8
			continue
		}
		k := bits.TrailingZeros64(m) >> 3
		p.high |= w & (1<<(uint(k)*8) - 1)
		i += k
		if b[i] == '"' {
			return i + 1
		}
		if b[i] != '\\' {
			return ^i
		}
		if i = p.escape(i + 1); i < 0 {
			return i
		}
	}
	for i < len(b) {
		switch c := b[i]; {
		case c == '"':
			return i + 1
		case c == '\\':
			if i = p.escape(i + 1); i < 0 {
				return i
			}
		case c < 0x20:
			return ^i
		default:
			p.high |= uint64(c)
			i++
		}
	}
	return ^i
}

// escape reads what follows a backslash.
func (p *pass) escape(i int) int {
	p.escaped = true
	b := p.b
	if i >= len(b) {
		return ^i
	}
	switch b[i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 1
	case 'u':
		if i+5 > len(b) || !isHex(b[i+1]) || !isHex(b[i+2]) || !isHex(b[i+3]) || !isHex(b[i+4]) {
			return ^i
		}
		return i + 5
	}
	return ^i
}

func (p *pass) number(i int) int {
	b := p.b
	if i < len(b) && b[i] == '-' {
		i++
	}
	switch {
	case i >= len(b) || !isDigit(b[i]):
		return ^i
	case b[i] == '0':
		i++
	default:
		i = p.digits(i)
	}
	if i < len(b) && b[i] == '.' {
		if i = p.digits(i + 1); i < 0 {
			return i
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		if i++; i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		return p.digits(i)
	}
	return i
}

// digits reads one or more of them.
func (p *pass) digits(i int) int {
	b := p.b
	if i >= len(b) || !isDigit(b[i]) {
		return ^i
	}
	for i < len(b) && isDigit(b[i]) {
		i++
	}
	return i
}

func (p *pass) literal(i int, word string) int {
	if end := i + len(word); end <= len(p.b) && string(p.b[i:end]) == word {
		return end
	}
	return ^i
}

// value reads any value; i is at its first byte.
func (p *pass) value(i, depth int) int {
	if i >= len(p.b) {
		return ^i
	}
	switch c := p.b[i]; {
	case c == '"':
		return p.text(i + 1)
	case c == '{':
		return p.object(i+1, depth+1)
	case c == '[':
		return p.array(i+1, depth+1)
	case c == '-' || isDigit(c):
		return p.number(i)
	case c == 't':
		return p.literal(i, "true")
	case c == 'f':
		return p.literal(i, "false")
	case c == 'n':
		return p.literal(i, "null")
	}
	return ^i
}

// array reads an array; i is behind its bracket.
func (p *pass) array(i, depth int) int {
	if depth > maxDepth {
		p.tooDeep = true
		return ^i
	}
	b := p.b
	if i = p.space(i); i < len(b) && b[i] == ']' {
		return i + 1
	}
	for {
		if i = p.value(p.space(i), depth); i < 0 {
			return i
		}
		if i = p.space(i); i >= len(b) {
			return ^i
		}
		if b[i] == ']' {
			return i + 1
		}
		if b[i] != ',' {
			return ^i
		}
		i++
	}
}

// object reads an object whose members nobody asks for; i is behind its brace.
func (p *pass) object(i, depth int) int {
	if depth > maxDepth {
		p.tooDeep = true
		return ^i
	}
	b := p.b
	if i = p.space(i); i < len(b) && b[i] == '}' {
		return i + 1
	}
	for {
		if _, i = p.key(i); i < 0 {
			return i
		}
		if i = p.value(i, depth); i < 0 {
			return i
		}
		if i = p.space(i); i >= len(b) {
			return ^i
		}
		if b[i] == '}' {
			return i + 1
		}
		if b[i] != ',' {
			return ^i
		}
		i++
	}
}

// key reads a member up to its value: where the key stands (without quotes) and the first byte of the value.
func (p *pass) key(i int) (key span, next int) {
	b := p.b
	if i = p.space(i); i >= len(b) || b[i] != '"' {
		return key, ^i
	}
	from := i + 1
	if i = p.text(from); i < 0 {
		return key, i
	}
	key = span{from, i - 1}
	if i = p.space(i); i >= len(b) || b[i] != ':' {
		return key, ^i
	}
	return key, p.space(i + 1)
}
