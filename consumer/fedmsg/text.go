package fedmsg

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// isString says whether a valid JSON value is a string.
func isString(raw []byte) bool { return raw[0] == '"' }

// unquoted gives the text of a valid JSON string and whether that is a piece of raw itself. Escapes are undone at the
// end of scratch, which is returned longer then.
func unquoted(raw, scratch []byte) (text, longer []byte, verbatim bool) {
	return unescaped(raw[1:len(raw)-1], scratch)
}

// unescaped is unquoted for a string without its quotes.
func unescaped(raw, scratch []byte) (text, longer []byte, verbatim bool) {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw, scratch, true
	}
	from := len(scratch)
	scratch = appendUnescaped(scratch, raw, false)
	return scratch[from:len(scratch):len(scratch)], scratch, false
}

// appendUnescaped appends the text of a valid JSON string without its quotes. Half a surrogate pair becomes U+FFFD as
// with encoding/json, or with keepHalves its three-byte form (WTF-8), so that the order of bytes is the order of code
// points.
func appendUnescaped(dst, raw []byte, keepHalves bool) []byte {
	for {
		k := bytes.IndexByte(raw, '\\')
		if k < 0 {
			return append(dst, raw...)
		}
		dst = append(dst, raw[:k]...)
		c := raw[k+1]
		raw = raw[k+2:]
		if c != 'u' {
			dst = append(dst, simpleEscape(c))
			continue
		}
		r := hex4(raw)
		raw = raw[4:]
		if !utf16.IsSurrogate(r) {
			dst = utf8.AppendRune(dst, r)
			continue
		}
		if len(raw) >= 6 && raw[0] == '\\' && raw[1] == 'u' {
			if whole := utf16.DecodeRune(r, hex4(raw[2:])); whole != utf8.RuneError {
				dst = utf8.AppendRune(dst, whole)
				raw = raw[6:]
				continue
			}
		}
		if keepHalves {
			dst = append(dst, 0xE0|byte(r>>12), 0x80|byte(r>>6)&0x3F, 0x80|byte(r)&0x3F)
		} else {
			dst = utf8.AppendRune(dst, utf8.RuneError)
		}
	}
}

// simpleEscape is the character that a backslash and c stand for.
func simpleEscape(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c
}

// hex4 reads the four digits at the beginning of b, which are known to be hexadecimal.
func hex4(b []byte) rune {
	var r rune
	for _, c := range b[:4] {
		if isDigit(c) {
			r = r<<4 | rune(c-'0')
		} else {
			r = r<<4 | rune(c|0x20-'a'+10)
		}
	}
	return r
}
