package pyfile

import (
	"strings"
	"unicode/utf8"
)

type tokenKind uint8

const (
	tokName tokenKind = iota
	tokNumber
	tokString
	tokOp
	tokNewline
	tokIndent
	tokDedent
	tokEnd
)

// token is one lexical element of a Python file. text is the raw source text
// (for strings with prefix and quotes).
type token struct {
	kind      tokenKind
	text      string
	line, col int32
}

// lexer splits Python source into tokens, with the indentation made explicit
// as Python's own tokenizer does.
type lexer struct {
	src       string
	pos       int
	line      int32
	lineStart int
	brackets  []int32 // the lines of those that are open
	indents   []indent
	out       []token
}

// indent is the width of one indentation level, measured with tabs of eight
// columns and with tabs of one: Python refuses a file in which the two
// disagree about the nesting.
type indent struct{ wide, narrow int }

// normalizeSource decodes what Python decodes before it tokenizes: the byte
// order mark, line endings, and the declared encoding (only UTF-8 is read; a
// file of another encoding must be pure ASCII).
func normalizeSource(src string) string {
	src = strings.TrimPrefix(src, "\ufeff")
	ascii := true
	for i := 0; i < len(src); i++ {
		if src[i] >= utf8.RuneSelf {
			ascii = false
		}
		if src[i] == 0 {
			fail(lineOf(src, i), "the file holds a NUL byte")
		}
	}
	if !ascii {
		if enc := declaredEncoding(src); enc != "" && enc != "utf-8" && enc != "utf8" {
			fail(1, "the file is encoded as %q; only UTF-8 is understood", enc)
		}
		for i := 0; i < len(src); {
			r, n := utf8.DecodeRuneInString(src[i:])
			if r == utf8.RuneError && n == 1 {
				fail(lineOf(src, i), "the file is not valid UTF-8")
			}
			i += n
		}
	}
	src = strings.ReplaceAll(src, "\r\n", "\n")
	return strings.ReplaceAll(src, "\r", "\n")
}

func lineOf(src string, at int) int32 {
	return int32(1 + strings.Count(src[:at], "\n"))
}

// declaredEncoding returns the encoding named by a PEP 263 comment in the
// first two lines, in lower case, or "".
func declaredEncoding(src string) string {
	for range 2 {
		line, rest, _ := strings.Cut(src, "\n")
		if trimmed := strings.TrimLeft(line, " \t\f"); strings.HasPrefix(trimmed, "#") {
			if _, after, ok := strings.Cut(trimmed, "coding"); ok && (strings.HasPrefix(after, ":") || strings.HasPrefix(after, "=")) {
				name := strings.TrimLeft(after[1:], " \t")
				end := strings.IndexFunc(name, func(r rune) bool {
					return !(r == '-' || r == '_' || r == '.' || r < utf8.RuneSelf && isNameByte(byte(r)))
				})
				if end >= 0 {
					name = name[:end]
				}
				return strings.ReplaceAll(strings.ToLower(name), "_", "-")
			}
		}
		src = rest
	}
	return ""
}

func isNameByte(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// lex returns the tokens of normalized source, ending with tokEnd. It reports
// what it doesn't understand with fail.
func lex(src string, firstLine int32) []token {
	lx := &lexer{src: src, line: firstLine, indents: []indent{{}}}
	atLineStart := true
	for lx.pos < len(lx.src) {
		if atLineStart && len(lx.brackets) == 0 {
			if !lx.indentation() {
				continue
			}
			atLineStart = false
		}
		if lx.skipBlank() {
			continue
		}
		if lx.src[lx.pos] == '\n' {
			if len(lx.brackets) == 0 {
				lx.emit(tokNewline, lx.pos)
				atLineStart = true
			}
			lx.pos++
			lx.newline()
			continue
		}
		lx.next()
	}
	if n := len(lx.brackets); n > 0 {
		fail(lx.brackets[n-1], "a bracket is never closed")
	}
	if n := len(lx.out); n > 0 && lx.out[n-1].kind != tokNewline {
		lx.emit(tokNewline, lx.pos)
	}
	for range lx.indents[1:] {
		lx.emit(tokDedent, lx.pos)
	}
	lx.emit(tokEnd, lx.pos)
	return lx.out
}

func (lx *lexer) emit(kind tokenKind, start int) {
	lx.out = append(lx.out, token{kind: kind, text: lx.src[start:lx.pos], line: lx.line, col: int32(start-lx.lineStart) + 1})
}

func (lx *lexer) newline() {
	lx.line++
	lx.lineStart = lx.pos
}

// skipBlank skips white space, comments and joined lines; it reports whether
// it skipped anything.
func (lx *lexer) skipBlank() bool {
	switch c := lx.src[lx.pos]; {
	case c == ' ' || c == '\t' || c == '\f':
		lx.pos++
	case c == '#':
		if end := strings.IndexByte(lx.src[lx.pos:], '\n'); end >= 0 {
			lx.pos += end
		} else {
			lx.pos = len(lx.src)
		}
	case c == '\\' && strings.HasPrefix(lx.src[lx.pos+1:], "\n"):
		lx.pos += 2
		lx.newline()
	default:
		return false
	}
	return true
}

// indentation measures the start of a line and emits the changes of level. It
// returns false for a line without code, which it skips.
func (lx *lexer) indentation() bool {
	var in indent
	for ; lx.pos < len(lx.src); lx.pos++ {
		switch lx.src[lx.pos] {
		case ' ':
			in.wide, in.narrow = in.wide+1, in.narrow+1
			continue
		case '\t':
			in.wide, in.narrow = (in.wide/8+1)*8, in.narrow+1
			continue
		case '\f':
			in = indent{}
			continue
		case '#':
			end := strings.IndexByte(lx.src[lx.pos:], '\n')
			if end < 0 {
				end = len(lx.src) - lx.pos
			}
			lx.pos += end
		}
		break
	}
	if lx.pos >= len(lx.src) {
		return false
	}
	if lx.src[lx.pos] == '\n' {
		lx.pos++
		lx.newline()
		return false
	}
	lx.setIndent(in)
	return true
}

func (lx *lexer) setIndent(in indent) {
	top := lx.indents[len(lx.indents)-1]
	if (in.wide > top.wide) != (in.narrow > top.narrow) || (in.wide < top.wide) != (in.narrow < top.narrow) {
		fail(lx.line, "tabs and spaces are mixed in the indentation")
	}
	if in.wide > top.wide {
		if len(lx.indents) > maxNesting {
			fail(lx.line, "blocks are nested more than %d deep", maxNesting)
		}
		lx.indents = append(lx.indents, in)
		lx.emit(tokIndent, lx.pos)
		return
	}
	for in.wide < lx.indents[len(lx.indents)-1].wide {
		lx.indents = lx.indents[:len(lx.indents)-1]
		lx.emit(tokDedent, lx.pos)
	}
	if in != lx.indents[len(lx.indents)-1] {
		fail(lx.line, "the indentation matches no outer level")
	}
}

// next emits the token that starts at lx.pos.
func (lx *lexer) next() {
	start := lx.pos
	c := lx.src[start]
	prefix := start
	for prefix < len(lx.src) && prefix-start < 3 && strings.IndexByte("uUrRbBfF", lx.src[prefix]) >= 0 {
		prefix++
	}
	switch {
	case prefix < len(lx.src) && (lx.src[prefix] == '"' || lx.src[prefix] == '\''):
		lx.stringToken(start, prefix)
	case isDigit(c) || c == '.' && start+1 < len(lx.src) && isDigit(lx.src[start+1]):
		lx.pos = numberEnd(lx.src, start)
		lx.emit(tokNumber, start)
	case isNameByte(c):
		for lx.pos < len(lx.src) && isNameByte(lx.src[lx.pos]) {
			lx.pos++
		}
		lx.emit(tokName, start)
	case c >= utf8.RuneSelf:
		r, _ := utf8.DecodeRuneInString(lx.src[start:])
		fail(lx.line, "the character %q outside a string is not understood", r)
	default:
		lx.operator(start)
	}
}

func numberEnd(src string, start int) int {
	end := start
	hex := len(src) > start+1 && (src[start+1] == 'x' || src[start+1] == 'X')
	for end < len(src) {
		c := src[end]
		exponentSign := (c == '+' || c == '-') && end > start && !hex && (src[end-1] == 'e' || src[end-1] == 'E')
		if c != '.' && !isNameByte(c) && !exponentSign {
			break
		}
		end++
	}
	return end
}

// stringToken emits a string literal; its token carries the line it starts on.
func (lx *lexer) stringToken(start, quote int) {
	startLine, startCol := lx.line, int32(start-lx.lineStart)+1
	q := lx.src[quote : quote+1]
	triple := strings.HasPrefix(lx.src[quote:], strings.Repeat(q, 3))
	if triple {
		q = strings.Repeat(q, 3)
	}
	for lx.pos = quote + len(q); ; {
		if lx.pos >= len(lx.src) || !triple && lx.src[lx.pos] == '\n' {
			fail(startLine, "a string is never closed")
		}
		if strings.HasPrefix(lx.src[lx.pos:], q) {
			lx.pos += len(q)
			break
		}
		if lx.src[lx.pos] == '\\' && lx.pos+1 < len(lx.src) {
			lx.pos++
		}
		if lx.src[lx.pos] == '\n' {
			lx.pos++
			lx.newline()
			continue
		}
		lx.pos++
	}
	lx.out = append(lx.out, token{kind: tokString, text: lx.src[start:lx.pos], line: startLine, col: startCol})
}

func (lx *lexer) operator(start int) {
	rest := lx.src[start:]
	size := 0
	switch {
	case hasAnyPrefix(rest, "**=", "//=", ">>=", "<<=", "..."):
		size = 3
	case hasAnyPrefix(rest, "==", "!=", "<=", ">=", "->", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "@=", "**", "//", "<<", ">>", ":="):
		size = 2
	case strings.IndexByte("()[]{}:,;.+-*/%&|^~<>=@", rest[0]) >= 0:
		size = 1
	default:
		fail(lx.line, "the character %q is not understood", rest[0])
	}
	lx.pos = start + size
	switch rest[0] {
	case '(', '[', '{':
		lx.brackets = append(lx.brackets, lx.line)
		if len(lx.brackets) > maxNesting {
			fail(lx.line, "brackets are nested more than %d deep", maxNesting)
		}
	case ')', ']', '}':
		if len(lx.brackets) == 0 {
			fail(lx.line, "a closing %q has no opening bracket", rest[0])
		}
		lx.brackets = lx.brackets[:len(lx.brackets)-1]
	}
	lx.emit(tokOp, start)
}

func hasAnyPrefix(s string, prefixes ...string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}
