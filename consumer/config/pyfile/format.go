package pyfile

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.starlark.net/starlark"
)

const maxWidth = 4096

// formatSpec is Python's format specification, and what of it the % operator
// shares.
type formatSpec struct {
	fill      rune
	align     byte // < > ^ = or 0
	sign      byte // + - or space
	alternate bool
	comma     bool
	width     int
	precision int // -1: none
	verb      byte
}

// parseSpec reads [[fill]align][sign][#][0][width][,][.precision][type].
func parseSpec(s string) (formatSpec, error) {
	f := formatSpec{fill: ' ', sign: '-', precision: -1}
	if r, n := utf8.DecodeRuneInString(s); n > 0 && n < len(s) && strings.IndexByte("<>^=", s[n]) >= 0 {
		f.fill, f.align, s = r, s[n], s[n+1:]
	} else if s != "" && strings.IndexByte("<>^=", s[0]) >= 0 {
		f.align, s = s[0], s[1:]
	}
	if s != "" && strings.IndexByte("+- ", s[0]) >= 0 {
		f.sign, s = s[0], s[1:]
	}
	if strings.HasPrefix(s, "#") {
		f.alternate, s = true, s[1:]
	}
	if strings.HasPrefix(s, "0") {
		if f.align == 0 {
			f.fill, f.align = '0', '='
		}
		s = s[1:]
	}
	var err error
	if f.width, s, err = leadingNumber(s, 0); err != nil {
		return f, err
	}
	if strings.HasPrefix(s, ",") {
		f.comma, s = true, s[1:]
	}
	if strings.HasPrefix(s, ".") {
		if f.precision, s, err = leadingNumber(s[1:], -1); err != nil || f.precision < 0 {
			return f, errors.New("the precision of a format is not understood")
		}
	}
	if len(s) == 1 {
		f.verb, s = s[0], ""
	}
	if s != "" {
		return f, fmt.Errorf("the format ending in %q is not understood", shorten(s, 20))
	}
	return f, nil
}

func leadingNumber(s string, missing int) (int, string, error) {
	n := 0
	for n < len(s) && isDigit(s[n]) {
		n++
	}
	if n == 0 {
		return missing, s, nil
	}
	v, err := strconv.Atoi(s[:n])
	if err != nil || v > maxWidth {
		return 0, s, fmt.Errorf("the number %s of a format is too large", shorten(s[:n], 20))
	}
	return v, s[n:], nil
}

// formatValue is format(v, spec) after the conversion !s or !r.
func (m *machine) formatValue(v starlark.Value, conversion, spec string) (starlark.Value, error) {
	if err := known(v); err != nil {
		return nil, err
	}
	switch conversion {
	case "":
	case "s", "r":
		text, err := m.convert(v, conversion)
		if err != nil {
			return nil, err
		}
		v = starlark.String(text)
	default:
		return nil, fmt.Errorf("the conversion !%s is not understood", conversion)
	}
	if spec == "" {
		text, err := m.str(v)
		return starlark.String(text), err
	}
	f, err := parseSpec(spec)
	if err != nil {
		return nil, err
	}
	if err := m.chargeBytes(f.width + max(f.precision, 0)); err != nil {
		return nil, err
	}
	text, err := m.formatSpecced(v, f)
	return starlark.String(text), err
}

func (m *machine) convert(v starlark.Value, conversion string) (string, error) {
	if conversion == "r" {
		return m.repr(v)
	}
	return m.str(v)
}

func (m *machine) formatSpecced(v starlark.Value, f formatSpec) (string, error) {
	switch v := v.(type) {
	case starlark.String:
		if f.verb != 0 && f.verb != 's' || f.align == '=' || f.sign != '-' || f.comma || f.alternate {
			return "", errors.New("the format of a str is not understood")
		}
		return f.pad("", truncate(string(v), f.precision), '<'), nil
	case starlark.Int:
		if strings.IndexByte("eEfFgG%", f.verb) >= 0 && f.verb != 0 {
			x, ok := starlark.AsFloat(v)
			if !ok {
				return "", errors.New("a number is too large for its format")
			}
			return f.float(x)
		}
		if f.precision >= 0 {
			return "", errors.New("a precision of an int is not understood")
		}
		return f.integer(v.BigInt())
	case starlark.Float:
		return f.float(float64(v))
	}
	return "", fmt.Errorf("the format of a %s is not understood", typeName(v))
}

func truncate(s string, chars int) string {
	if chars < 0 || utf8.RuneCountInString(s) <= chars {
		return s
	}
	return string([]rune(s)[:chars])
}

// pad fills to the width; sign stays in front of a fill with align "=".
func (f formatSpec) pad(sign, body string, align byte) string {
	if f.align != 0 {
		align = f.align
	}
	missing := f.width - utf8.RuneCountInString(sign+body)
	if missing <= 0 {
		return sign + body
	}
	fill := strings.Repeat(string(f.fill), missing)
	switch align {
	case '<':
		return sign + body + fill
	case '=':
		return sign + fill + body
	case '^':
		left := strings.Repeat(string(f.fill), missing/2)
		return left + sign + body + strings.Repeat(string(f.fill), missing-missing/2)
	}
	return fill + sign + body
}

func (f formatSpec) signOf(negative bool) string {
	switch {
	case negative:
		return "-"
	case f.sign != '-':
		return string(f.sign)
	}
	return ""
}

func (f formatSpec) integer(v *big.Int) (string, error) {
	base, prefix := 10, ""
	switch f.verb {
	case 0, 'd':
	case 'x', 'X':
		base, prefix = 16, "0"+string(f.verb)
	case 'o':
		base, prefix = 8, "0o"
	case 'b':
		base, prefix = 2, "0b"
	default:
		return "", fmt.Errorf("the format %q of an int is not understood", f.verb)
	}
	digits := new(big.Int).Abs(v).Text(base)
	if f.verb == 'X' {
		digits = strings.ToUpper(digits)
	}
	sign := f.signOf(v.Sign() < 0)
	if f.alternate && base != 10 {
		sign += prefix
	}
	return f.grouped(sign, digits)
}

func (f formatSpec) float(x float64) (string, error) {
	if math.IsInf(x, 0) || math.IsNaN(x) {
		return "", errors.New("the format of infinity is not understood")
	}
	if f.alternate {
		return "", errors.New("# in the format of a float is not understood")
	}
	precision := f.precision
	if precision < 0 {
		precision = 6
	}
	sign := f.signOf(math.Signbit(x))
	x = math.Abs(x)
	var digits string
	switch f.verb {
	case 'f', 'F':
		digits = strconv.FormatFloat(x, 'f', precision, 64)
	case 'e', 'E', 'g', 'G':
		if f.verb|0x20 == 'g' && precision == 0 {
			precision = 1
		}
		digits = strconv.FormatFloat(x, f.verb, precision, 64)
	case '%':
		digits = strconv.FormatFloat(x*100, 'f', precision, 64) + "%"
	case 0:
		if f.precision >= 0 {
			return "", errors.New("a precision without a type is not understood")
		}
		digits = floatRepr(x)
	default:
		return "", fmt.Errorf("the format %q of a float is not understood", f.verb)
	}
	return f.grouped(sign, digits)
}

// grouped adds the thousands separators and pads a number.
func (f formatSpec) grouped(sign, digits string) (string, error) {
	if !f.comma {
		return f.pad(sign, digits, '>'), nil
	}
	if f.align == '=' || strings.ContainsAny(digits, "eE") || f.verb == 'x' || f.verb == 'X' || f.verb == 'o' || f.verb == 'b' {
		return "", errors.New("this use of the thousands separator is not understood")
	}
	whole, rest := digits, ""
	if dot := strings.IndexAny(digits, ".%"); dot >= 0 {
		whole, rest = digits[:dot], digits[dot:]
	}
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	return f.pad(sign, whole+rest, '>'), nil
}

// concat joins the parts of an f-string.
func (m *machine) concat(parts *starlark.List) (starlark.Value, error) {
	var b strings.Builder
	for i := range parts.Len() {
		s, _ := starlark.AsString(parts.Index(i))
		if err := m.chargeBytes(b.Len() + len(s)); err != nil {
			return nil, err
		}
		b.WriteString(s)
	}
	return starlark.String(b.String()), nil
}
