package pyfile

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"

	"go.starlark.net/starlark"
)

// str is Python's str(v).
func (m *machine) str(v starlark.Value) (string, error) {
	switch v := v.(type) {
	case starlark.String:
		return string(v), nil
	case Datetime:
		return v.isoformat(" "), nil
	case timedelta:
		return v.python(), nil
	}
	return m.repr(v)
}

// repr is Python's repr(v).
func (m *machine) repr(v starlark.Value) (string, error) {
	var b strings.Builder
	err := m.writeRepr(&b, v, 0)
	return b.String(), err
}

func (m *machine) writeRepr(b *strings.Builder, v starlark.Value, depth int) error {
	if depth > maxDepth || b.Len() > maxBytes {
		return errors.New("a value is too large to be printed")
	}
	if err := m.charge(1); err != nil {
		return err
	}
	switch v := v.(type) {
	case starlark.NoneType, starlark.Bool, starlark.Int:
		b.WriteString(v.String())
	case starlark.Float:
		b.WriteString(floatRepr(float64(v)))
	case starlark.String:
		if err := m.chargeBytes(len(v)); err != nil {
			return err
		}
		return quote(b, string(v))
	case *starlark.List:
		return m.writeSeq(b, "[", v, "]", depth)
	case starlark.Tuple:
		if len(v) == 1 {
			return m.writeSeq(b, "(", v, ",)", depth)
		}
		return m.writeSeq(b, "(", v, ")", depth)
	case *starlark.Dict:
		return m.writeDict(b, v, depth)
	default:
		if err := known(v); err != nil {
			return err
		}
		return fmt.Errorf("the text of a %s is not understood", typeName(v))
	}
	return nil
}

func (m *machine) writeSeq(b *strings.Builder, open string, seq starlark.Indexable, end string, depth int) error {
	b.WriteString(open)
	for i := range seq.Len() {
		if i > 0 {
			b.WriteString(", ")
		}
		if err := m.writeRepr(b, seq.Index(i), depth+1); err != nil {
			return err
		}
	}
	b.WriteString(end)
	return nil
}

func (m *machine) writeDict(b *strings.Builder, d *starlark.Dict, depth int) error {
	b.WriteString("{")
	for i, kv := range d.Items() {
		if i > 0 {
			b.WriteString(", ")
		}
		if err := m.writeRepr(b, kv[0], depth+1); err != nil {
			return err
		}
		b.WriteString(": ")
		if err := m.writeRepr(b, kv[1], depth+1); err != nil {
			return err
		}
	}
	b.WriteString("}")
	return nil
}

// quote writes a string as Python's repr does.
func quote(b *strings.Builder, s string) error {
	q := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		q = '"'
	}
	b.WriteByte(q)
	for _, r := range s {
		switch {
		case r == rune(q) || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(b, `\x%02x`, r)
		case r > 0x7f && !unicode.IsPrint(r):
			return errors.New("the text of an unprintable character is not understood")
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte(q)
	return nil
}

// floatRepr is Python's repr of a float.
func floatRepr(f float64) string {
	switch {
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	case math.IsNaN(f):
		return "nan"
	}
	sci := strconv.FormatFloat(f, 'e', -1, 64)
	mantissa, exponent, _ := strings.Cut(sci, "e")
	exp, _ := strconv.Atoi(exponent)
	if exp < -4 || exp >= 16 {
		return fmt.Sprintf("%se%+03d", mantissa, exp)
	}
	plain := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(plain, ".") {
		plain += ".0"
	}
	return plain
}

// python is the str of a timedelta.
func (t timedelta) python() string {
	us := t.d.Microseconds()
	days := us / 86400e6
	if us%86400e6 < 0 {
		days--
	}
	us -= days * 86400e6
	sec := us / 1e6
	out := fmt.Sprintf("%d:%02d:%02d", sec/3600, sec/60%60, sec%60)
	if us %= 1e6; us != 0 {
		out += fmt.Sprintf(".%06d", us)
	}
	switch days {
	case 0:
		return out
	case 1, -1:
		return fmt.Sprintf("%d day, %s", days, out)
	}
	return fmt.Sprintf("%d days, %s", days, out)
}
