package pyfile

import (
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"
)

// stringLiteral is a decoded Python string token. For an f-string body is
// still undecoded: its braces are found first.
type stringLiteral struct {
	body         string
	bytes        bool
	raw          bool
	interpolated bool
	line         int32
}

// splitLiteral takes the prefix and the quotes off a string token.
func splitLiteral(t token) stringLiteral {
	k := strings.IndexAny(t.text, `"'`)
	prefix := strings.ToLower(t.text[:k])
	switch prefix {
	case "", "u", "r", "b", "f", "br", "rb", "fr", "rf":
	default:
		fail(t.line, "the string prefix %q is not understood", t.text[:k])
	}
	q := 1
	if len(t.text)-k >= 6 && t.text[k+1] == t.text[k] && t.text[k+2] == t.text[k] {
		q = 3
	}
	lit := stringLiteral{
		body:         t.text[k+q : len(t.text)-q],
		bytes:        strings.Contains(prefix, "b"),
		raw:          strings.Contains(prefix, "r"),
		interpolated: strings.Contains(prefix, "f"),
		line:         t.line,
	}
	if lit.bytes && !isASCII(lit.body) {
		fail(t.line, "a bytes literal holds a character outside ASCII")
	}
	return lit
}

// decode resolves the escapes of a piece of the literal's body.
func (lit stringLiteral) decode(body string) string {
	if lit.raw || !strings.Contains(body, `\`) {
		return body
	}
	var b strings.Builder
	for i := 0; i < len(body); {
		if body[i] != '\\' || i+1 >= len(body) {
			b.WriteByte(body[i])
			i++
			continue
		}
		i += 1 + lit.escape(&b, body[i+1:])
	}
	return b.String()
}

// escape writes what the escape sequence after a backslash stands for and
// returns its length.
func (lit stringLiteral) escape(b *strings.Builder, s string) int {
	switch c := s[0]; c {
	case '\n':
	case '\\', '\'', '"':
		b.WriteByte(c)
	case 'a':
		b.WriteByte('\a')
	case 'b':
		b.WriteByte('\b')
	case 'f':
		b.WriteByte('\f')
	case 'n':
		b.WriteByte('\n')
	case 'r':
		b.WriteByte('\r')
	case 't':
		b.WriteByte('\t')
	case 'v':
		b.WriteByte('\v')
	case '0', '1', '2', '3', '4', '5', '6', '7':
		n := 1
		for n < len(s) && n < 3 && '0' <= s[n] && s[n] <= '7' {
			n++
		}
		lit.writeCode(b, s[:n], 8)
		return n
	case 'x':
		return lit.hexEscape(b, s, 2)
	case 'u', 'U', 'N':
		if lit.bytes {
			fail(lit.line, `the escape \%c in a bytes literal is not understood`, c)
		}
		switch c {
		case 'u':
			return lit.hexEscape(b, s, 4)
		case 'U':
			return lit.hexEscape(b, s, 8)
		}
		fail(lit.line, `the escape \N{...} is not understood`)
	default:
		// Python keeps the backslash of an unknown escape.
		_, n := utf8.DecodeRuneInString(s)
		b.WriteByte('\\')
		b.WriteString(s[:n])
		return n
	}
	return 1
}

func (lit stringLiteral) hexEscape(b *strings.Builder, s string, digits int) int {
	if len(s) < 1+digits {
		fail(lit.line, `the escape \%s is cut short`, s)
	}
	lit.writeCode(b, s[1:1+digits], 16)
	return 1 + digits
}

func (lit stringLiteral) writeCode(b *strings.Builder, digits string, base int) {
	v, err := strconv.ParseUint(digits, base, 32)
	switch {
	case err != nil:
		fail(lit.line, "the escape digits %q are not a number", digits)
	case lit.bytes && v > 255:
		fail(lit.line, "the escape %q is no byte", digits)
	case lit.bytes:
		b.WriteByte(byte(v))
	case !utf8.ValidRune(rune(v)) || v > utf8.MaxRune:
		fail(lit.line, "the escape %q is no character", digits)
	default:
		b.WriteRune(rune(v))
	}
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// decodeNumber returns the value of a number token as int64, *big.Int or
// float64. Python 2's 0777 and 10L are refused, as Python 3 does.
func decodeNumber(t token) any {
	text := strings.ToLower(t.text)
	bad := func() { fail(t.line, "the number %q is not understood", t.text) }
	if len(text) > maxDigits {
		fail(t.line, "a number is longer than %d digits", maxDigits)
	}
	for i := 0; i < len(text); i++ {
		// Go's base prefixes allow underscores in the same places as Python.
		if text[i] == '_' && (i+1 == len(text) || !isNameByte(text[i+1]) || text[i+1] == '_' || i == 0 || !isNameByte(text[i-1])) {
			bad()
		}
	}
	plain := strings.ReplaceAll(text, "_", "")
	base := 10
	if len(plain) > 1 && plain[0] == '0' {
		switch plain[1] {
		case 'x':
			base = 16
		case 'o':
			base = 8
		case 'b':
			base = 2
		}
	}
	if base != 10 {
		return integer(plain[2:], base, bad)
	}
	if strings.Trim(plain, "0123456789") == "" {
		if plain[0] == '0' && strings.Trim(plain, "0") != "" {
			bad()
		}
		return integer(plain, 10, bad)
	}
	if strings.Trim(plain, "0123456789.e+-") != "" {
		bad()
	}
	f, err := strconv.ParseFloat(plain, 64)
	if err != nil {
		// Python reads 1e999 as infinity; no setting means that.
		bad()
	}
	return f
}

func integer(digits string, base int, bad func()) any {
	v, ok := new(big.Int).SetString(digits, base)
	if !ok || digits[0] == '+' || digits[0] == '-' {
		bad()
	}
	if v.IsInt64() {
		return v.Int64()
	}
	return v
}
