package pyfile

import (
	"errors"
	"fmt"
	"math/big"
	"strings"
	"unicode/utf8"

	"go.starlark.net/starlark"
)

// percent is Python's format % args on text.
func (m *machine) percent(format string, arg starlark.Value) (starlark.Value, error) {
	if err := m.chargeBytes(len(format)); err != nil {
		return nil, err
	}
	p := percentArgs{values: []starlark.Value{arg}}
	if t, ok := arg.(starlark.Tuple); ok {
		p.values = t
	}
	p.dict, _ = arg.(*starlark.Dict)
	var b strings.Builder
	for i := 0; i < len(format); {
		if format[i] != '%' {
			b.WriteByte(format[i])
			i++
			continue
		}
		if strings.HasPrefix(format[i:], "%%") {
			b.WriteByte('%')
			i += 2
			continue
		}
		text, size, err := m.percentItem(format[i+1:], &p)
		if err != nil {
			return nil, err
		}
		if err := m.chargeBytes(b.Len() + len(text)); err != nil {
			return nil, err
		}
		b.WriteString(text)
		i += 1 + size
	}
	if p.used < len(p.values) && p.dict == nil {
		return nil, errors.New("a % format uses fewer values than it is given")
	}
	return starlark.String(b.String()), nil
}

// percentArgs hands out the values of a % expression.
type percentArgs struct {
	values []starlark.Value
	used   int
	dict   *starlark.Dict
}

func (p *percentArgs) next() (starlark.Value, error) {
	if p.used >= len(p.values) {
		return nil, errors.New("a % format needs more values than it is given")
	}
	p.used++
	return p.values[p.used-1], nil
}

// percentItem formats one conversion; s is what follows its %. It returns the
// text and the length of the conversion.
func (m *machine) percentItem(s string, p *percentArgs) (string, int, error) {
	i := 0
	var value starlark.Value
	if strings.HasPrefix(s, "(") {
		end := strings.IndexByte(s, ')')
		if end < 0 || strings.Contains(s[1:end], "(") || p.dict == nil {
			return "", 0, errors.New("a key in a % format is not understood")
		}
		v, found, err := m.getKey(p.dict, starlark.String(s[1:end]))
		if err != nil {
			return "", 0, err
		}
		if !found {
			return "", 0, fmt.Errorf("the key %q of a %% format is missing", s[1:end])
		}
		value, i = v, end+1
	}
	f := formatSpec{fill: ' ', sign: '-', precision: -1, align: '>'}
	for ; i < len(s) && strings.IndexByte("#0- +", s[i]) >= 0; i++ {
		f.flag(s[i])
	}
	var err error
	rest := s[i:]
	if f.width, rest, err = leadingNumber(rest, 0); err == nil && strings.HasPrefix(rest, ".") {
		f.precision, rest, err = leadingNumber(rest[1:], 0)
	}
	if err != nil {
		return "", 0, err
	}
	rest = strings.TrimLeft(rest, "hlL")
	verb, n := utf8.DecodeRuneInString(rest)
	if n == 0 {
		return "", 0, errors.New("a % format ends in the middle of a conversion")
	}
	if value == nil {
		if value, err = p.next(); err != nil {
			return "", 0, err
		}
	}
	text, err := m.percentValue(f, verb, value)
	return text, len(s) - len(rest) + n, err
}

func (f *formatSpec) flag(c byte) {
	switch c {
	case '#':
		f.alternate = true
	case '0':
		if f.align != '<' {
			f.fill, f.align = '0', '='
		}
	case '-':
		f.fill, f.align = ' ', '<'
	case ' ':
		if f.sign != '+' {
			f.sign = ' '
		}
	case '+':
		f.sign = '+'
	}
}

func (m *machine) percentValue(f formatSpec, verb rune, v starlark.Value) (string, error) {
	if err := known(v); err != nil {
		return "", err
	}
	switch verb {
	case 's', 'r':
		text, err := m.convert(v, string(verb))
		if err != nil {
			return "", err
		}
		f.fill = ' '
		if f.align == '=' {
			f.align = '>'
		}
		return f.pad("", truncate(text, f.precision), '>'), nil
	case 'd', 'i', 'u', 'x', 'X', 'o':
		return f.percentInt(verb, v)
	case 'f', 'F', 'e', 'E', 'g', 'G':
		n, ok := number(v)
		if !ok {
			return "", fmt.Errorf("%%%c of a %s is an error", verb, typeName(v))
		}
		x, ok := starlark.AsFloat(n)
		if !ok {
			return "", errors.New("a number is too large for its format")
		}
		f.verb = byte(verb)
		return f.float(x)
	}
	return "", fmt.Errorf("the conversion %%%c is not understood", verb)
}

func (f formatSpec) percentInt(verb rune, v starlark.Value) (string, error) {
	n, ok := number(v)
	if !ok {
		return "", fmt.Errorf("%%%c of a %s is an error", verb, typeName(v))
	}
	var x *big.Int
	switch n := n.(type) {
	case starlark.Int:
		x = n.BigInt()
	case starlark.Float:
		whole, err := starlark.NumberToInt(n)
		if err != nil || verb == 'x' || verb == 'X' || verb == 'o' {
			return "", fmt.Errorf("%%%c of a float is not understood", verb)
		}
		x = whole.BigInt()
	}
	f.verb = byte(verb)
	if verb == 'i' || verb == 'u' {
		f.verb = 'd'
	}
	if f.precision < 0 {
		return f.integer(x)
	}
	// A precision is the least number of digits.
	narrow := formatSpec{fill: '0', align: '=', sign: '-', width: f.precision, verb: f.verb, precision: -1}
	if f.alternate {
		return "", errors.New("# with a precision is not understood")
	}
	digits, err := narrow.integer(new(big.Int).Abs(x))
	if err != nil {
		return "", err
	}
	return f.pad(f.signOf(x.Sign() < 0), digits, '>'), nil
}
