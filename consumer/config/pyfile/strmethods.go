package pyfile

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.starlark.net/starlark"
)

// stringMethod returns a method of str. Those that look at single characters
// work on ASCII text only: Python's and Go's Unicode tables differ.
func (m *machine) stringMethod(s starlark.String, name string) starlark.Value {
	text := string(s)
	method := func(least, most int, fn func(args starlark.Tuple) (starlark.Value, error)) starlark.Value {
		return function(name, least, most, func(args starlark.Tuple) (starlark.Value, error) {
			if err := m.chargeBytes(len(text)); err != nil {
				return nil, err
			}
			return fn(args)
		})
	}
	switch name {
	case "format":
		return starlark.NewBuiltin(name, func(_ *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
			return m.format(text, args, kwargs)
		})
	case "join":
		return method(1, 1, func(args starlark.Tuple) (starlark.Value, error) { return m.join(text, args[0]) })
	case "split", "rsplit":
		return method(0, 2, func(args starlark.Tuple) (starlark.Value, error) { return m.split(text, name, args) })
	case "splitlines":
		return method(0, 0, func(starlark.Tuple) (starlark.Value, error) { return m.splitLines(text) })
	case "partition", "rpartition":
		return method(1, 1, func(args starlark.Tuple) (starlark.Value, error) { return partition(text, name, args[0]) })
	case "replace":
		return method(2, 2, func(args starlark.Tuple) (starlark.Value, error) { return m.replaceText(text, args[0], args[1]) })
	case "startswith", "endswith":
		return method(1, 1, func(args starlark.Tuple) (starlark.Value, error) { return affix(text, name, args[0]) })
	case "strip", "lstrip", "rstrip":
		return method(0, 1, func(args starlark.Tuple) (starlark.Value, error) { return strip(text, name, args) })
	case "upper", "lower", "title", "capitalize", "isdigit", "isalpha", "isalnum", "find", "rfind", "zfill":
		return method(0, 1, func(args starlark.Tuple) (starlark.Value, error) {
			if !isASCII(text) {
				return nil, fmt.Errorf("%s of text outside ASCII is not understood", name)
			}
			return m.asciiMethod(text, name, args)
		})
	case "count":
		return method(1, 1, func(args starlark.Tuple) (starlark.Value, error) {
			part, ok := starlark.AsString(args[0])
			if !ok || part == "" {
				return nil, errors.New("this use of count is not understood")
			}
			return starlark.MakeInt(strings.Count(text, part)), nil
		})
	case "encode":
		return method(0, 1, func(args starlark.Tuple) (starlark.Value, error) {
			return starlark.Bytes(text), checkCodec(text, args)
		})
	}
	return nil
}

func (m *machine) bytesMethod(b starlark.Bytes, name string) starlark.Value {
	if name != "decode" {
		return nil
	}
	return function(name, 0, 1, func(args starlark.Tuple) (starlark.Value, error) {
		if !utf8.ValidString(string(b)) {
			return nil, errors.New("decode of bytes that are not UTF-8 is not understood")
		}
		return starlark.String(b), checkCodec(string(b), args)
	})
}

// checkCodec accepts UTF-8, and ASCII for ASCII text.
func checkCodec(text string, args starlark.Tuple) error {
	if len(args) == 0 {
		return nil
	}
	name, _ := starlark.AsString(args[0])
	switch strings.ReplaceAll(strings.ToLower(name), "_", "-") {
	case "utf-8", "utf8":
		return nil
	case "ascii", "us-ascii":
		if isASCII(text) {
			return nil
		}
	}
	return fmt.Errorf("the encoding %q is not understood here", name)
}

func (m *machine) join(sep string, parts starlark.Value) (starlark.Value, error) {
	elems, err := m.elements(parts)
	if err != nil {
		return nil, err
	}
	texts := make([]string, len(elems))
	size := 0
	for i, e := range elems {
		s, ok := e.(starlark.String)
		if !ok {
			return nil, fmt.Errorf("join of a %s is an error", typeName(e))
		}
		texts[i] = string(s)
		size += len(s) + len(sep)
	}
	if err := m.chargeBytes(size); err != nil {
		return nil, err
	}
	return starlark.String(strings.Join(texts, sep)), nil
}

func (m *machine) texts(parts []string) (starlark.Value, error) {
	elems := make([]starlark.Value, len(parts))
	for i, p := range parts {
		elems[i] = starlark.String(p)
	}
	return starlark.NewList(elems), m.chargeElements(len(elems))
}

func (m *machine) split(text, name string, args starlark.Tuple) (starlark.Value, error) {
	limit := -1
	if len(args) == 2 {
		n, err := starlark.AsInt32(args[1])
		if err != nil {
			return nil, fmt.Errorf("the limit of %s is a %s", name, typeName(args[1]))
		}
		limit = n
	}
	if len(args) == 0 || args[0] == starlark.None {
		if limit >= 0 || !isASCII(text) || strings.ContainsAny(text, "\x1c\x1d\x1e\x1f") {
			return nil, fmt.Errorf("this use of %s is not understood", name)
		}
		return m.texts(strings.Fields(text))
	}
	sep, ok := args[0].(starlark.String)
	if !ok || sep == "" {
		return nil, fmt.Errorf("the separator of %s is not understood", name)
	}
	if name == "rsplit" && limit >= 0 {
		return m.texts(splitRight(text, string(sep), limit))
	}
	if limit >= 0 {
		limit++
	}
	return m.texts(strings.SplitN(text, string(sep), limit))
}

func splitRight(text, sep string, limit int) []string {
	var parts []string
	for ; limit > 0; limit-- {
		at := strings.LastIndex(text, sep)
		if at < 0 {
			break
		}
		parts = append(parts, text[at+len(sep):])
		text = text[:at]
	}
	parts = append(parts, text)
	for i, j := 0, len(parts)-1; i < j; i, j = i+1, j-1 {
		parts[i], parts[j] = parts[j], parts[i]
	}
	return parts
}

func (m *machine) splitLines(text string) (starlark.Value, error) {
	if strings.ContainsAny(text, "\r\v\f\x1c\x1d\x1e\u0085\u2028\u2029") {
		return nil, errors.New("splitlines of text with unusual line ends is not understood")
	}
	if text == "" {
		return m.texts(nil)
	}
	return m.texts(strings.Split(strings.TrimSuffix(text, "\n"), "\n"))
}

func partition(text, name string, sep starlark.Value) (starlark.Value, error) {
	s, ok := sep.(starlark.String)
	if !ok || s == "" {
		return nil, fmt.Errorf("the separator of %s is not understood", name)
	}
	at := strings.Index(text, string(s))
	if name == "rpartition" {
		at = strings.LastIndex(text, string(s))
	}
	switch {
	case at >= 0:
		return starlark.Tuple{starlark.String(text[:at]), s, starlark.String(text[at+len(s):])}, nil
	case name == "partition":
		return starlark.Tuple{starlark.String(text), starlark.String(""), starlark.String("")}, nil
	}
	return starlark.Tuple{starlark.String(""), starlark.String(""), starlark.String(text)}, nil
}

func (m *machine) replaceText(text string, from, to starlark.Value) (starlark.Value, error) {
	old, ok1 := from.(starlark.String)
	fresh, ok2 := to.(starlark.String)
	if !ok1 || !ok2 {
		return nil, errors.New("replace takes two strings")
	}
	if err := m.chargeBytes(len(text) + strings.Count(text, string(old))*len(fresh)); err != nil {
		return nil, err
	}
	return starlark.String(strings.ReplaceAll(text, string(old), string(fresh))), nil
}

// affix is startswith and endswith, of one string or a tuple of them.
func affix(text, name string, arg starlark.Value) (starlark.Value, error) {
	parts, ok := arg.(starlark.Tuple)
	if !ok {
		parts = starlark.Tuple{arg}
	}
	for _, p := range parts {
		s, ok := p.(starlark.String)
		if !ok {
			return nil, fmt.Errorf("%s of a %s is an error", name, typeName(p))
		}
		if name == "startswith" && strings.HasPrefix(text, string(s)) || name == "endswith" && strings.HasSuffix(text, string(s)) {
			return starlark.True, nil
		}
	}
	return starlark.False, nil
}

func strip(text, name string, args starlark.Tuple) (starlark.Value, error) {
	const whitespace = " \t\n\v\f\r\x1c\x1d\x1e\x1f"
	cut := whitespace + "\u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
	if len(args) == 1 && args[0] != starlark.None {
		s, ok := args[0].(starlark.String)
		if !ok {
			return nil, fmt.Errorf("%s of a %s is an error", name, typeName(args[0]))
		}
		cut = string(s)
	}
	if name != "rstrip" {
		text = strings.TrimLeft(text, cut)
	}
	if name != "lstrip" {
		text = strings.TrimRight(text, cut)
	}
	return starlark.String(text), nil
}

// asciiMethod runs the methods that are only understood on ASCII text.
func (m *machine) asciiMethod(text, name string, args starlark.Tuple) (starlark.Value, error) {
	switch name {
	case "find", "rfind", "zfill":
		if len(args) != 1 {
			return nil, fmt.Errorf("this use of %s is not understood", name)
		}
		if name == "zfill" {
			return m.zfill(text, args[0])
		}
		part, ok := args[0].(starlark.String)
		if !ok {
			return nil, fmt.Errorf("%s of a %s is an error", name, typeName(args[0]))
		}
		if name == "find" {
			return starlark.MakeInt(strings.Index(text, string(part))), nil
		}
		return starlark.MakeInt(strings.LastIndex(text, string(part))), nil
	}
	if len(args) != 0 {
		return nil, fmt.Errorf("%s takes no argument", name)
	}
	switch name {
	case "upper":
		return starlark.String(strings.ToUpper(text)), nil
	case "lower":
		return starlark.String(strings.ToLower(text)), nil
	case "title", "capitalize":
		return starlark.String(capitalized(text, name == "title")), nil
	}
	return starlark.Bool(text != "" && strings.IndexFunc(text, func(r rune) bool {
		digit, letter := isDigit(byte(r)), r != '_' && isNameByte(byte(r)) && !isDigit(byte(r))
		return !(digit && name != "isalpha" || letter && name != "isdigit")
	}) < 0), nil
}

func capitalized(text string, everyWord bool) string {
	b := []byte(strings.ToLower(text))
	inWord := false
	for i, c := range b {
		letter := 'a' <= c && c <= 'z'
		if letter && !inWord && (everyWord || i == 0) {
			b[i] -= 'a' - 'A'
		}
		inWord = letter
	}
	return string(b)
}

func (m *machine) zfill(text string, arg starlark.Value) (starlark.Value, error) {
	n, err := starlark.AsInt32(arg)
	if err != nil || n > maxWidth {
		return nil, errors.New("the width of zfill is not understood")
	}
	sign := ""
	if text != "" && (text[0] == '+' || text[0] == '-') {
		sign, text = text[:1], text[1:]
	}
	return starlark.String(sign + strings.Repeat("0", max(n-len(text)-len(sign), 0)) + text), nil
}

// format is str.format.
func (m *machine) format(text string, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var b strings.Builder
	auto := 0
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case (c == '{' || c == '}') && i+1 < len(text) && text[i+1] == c:
			b.WriteByte(c)
			i += 2
		case c == '{':
			end := strings.IndexAny(text[i+1:], "{}")
			if end < 0 || text[i+1+end] == '{' {
				return nil, errors.New("a replacement field of format is not understood")
			}
			v, err := m.formatField(text[i+1:i+1+end], &auto, args, kwargs)
			if err != nil {
				return nil, err
			}
			b.WriteString(v)
			i += end + 2
		case c == '}':
			return nil, errors.New("a single } stands in the text of format")
		default:
			end := strings.IndexAny(text[i:], "{}")
			if end < 0 {
				end = len(text) - i
			}
			b.WriteString(text[i : i+end])
			i += end
		}
		if err := m.chargeBytes(b.Len()); err != nil {
			return nil, err
		}
	}
	return starlark.String(b.String()), nil
}

func (m *machine) formatField(field string, auto *int, args starlark.Tuple, kwargs []starlark.Tuple) (string, error) {
	field, spec, _ := strings.Cut(field, ":")
	field, conversion, hasConversion := strings.Cut(field, "!")
	if hasConversion && conversion == "" {
		return "", errors.New("the conversion of a replacement field is missing")
	}
	name, path, indexed := strings.Cut(field, "[")
	var v starlark.Value
	if name == "" || strings.Trim(name, "0123456789") == "" {
		n, err := strconv.Atoi(name)
		switch {
		case name == "" && *auto >= 0:
			n = *auto
			*auto++
		case err != nil || *auto > 0:
			return "", errors.New("numbered and unnumbered fields of format are mixed")
		default:
			*auto = -1
		}
		if n >= len(args) {
			return "", errors.New("format has too few arguments")
		}
		v = args[n]
	}
	for _, kv := range kwargs {
		if v == nil && string(kv[0].(starlark.String)) == name {
			v = kv[1]
		}
	}
	if v == nil {
		return "", fmt.Errorf("the field %q of format is not understood", shorten(field, 40))
	}
	if indexed {
		var err error
		if v, err = m.formatIndex(v, path); err != nil {
			return "", err
		}
	}
	out, err := m.formatValue(v, conversion, spec)
	if err != nil {
		return "", err
	}
	return string(out.(starlark.String)), nil
}

// formatIndex follows one [key] of a replacement field.
func (m *machine) formatIndex(v starlark.Value, path string) (starlark.Value, error) {
	key, ok := strings.CutSuffix(path, "]")
	if !ok || key == "" || strings.ContainsAny(key, "[].") {
		return nil, fmt.Errorf("the field index %q of format is not understood", shorten(path, 40))
	}
	if strings.Trim(key, "0123456789") == "" {
		n, err := strconv.Atoi(key)
		if err != nil {
			return nil, errors.New("a field index of format is too large")
		}
		return m.index(v, starlark.MakeInt(n))
	}
	return m.index(v, starlark.String(key))
}
