package pyfile

import (
	"strings"

	"go.starlark.net/syntax"
)

// parenthesized parses (x), a tuple or a generator expression.
func (p *parser) parenthesized() syntax.Expr {
	t := p.next()
	if p.acceptOp(")") {
		return p.tuple(t)
	}
	first := p.element()
	if p.isName("for") {
		e := p.call(t, "$generator", p.comprehension(t, first.expr(p, t)))
		p.expectOp(")")
		return e
	}
	if !p.isOp(",") {
		p.expectOp(")")
		return first.expr(p, t)
	}
	elems := p.elements(first, ")")
	if spread := p.spread(t, elems); spread != nil {
		return p.call(t, "$tuple", spread)
	}
	return p.tuple(t, plain(elems)...)
}

func (p *parser) listDisplay() syntax.Expr {
	t := p.next()
	if p.acceptOp("]") {
		return p.list(t, nil)
	}
	first := p.element()
	if p.isName("for") {
		e := p.comprehension(t, first.expr(p, t))
		p.expectOp("]")
		return e
	}
	elems := p.elements(first, "]")
	if spread := p.spread(t, elems); spread != nil {
		return spread
	}
	return p.list(t, plain(elems))
}

// element is one element of a display; starred ones are spread.
type element struct {
	value   syntax.Expr
	starred bool
}

func (e element) expr(p *parser, t token) syntax.Expr {
	if e.starred {
		fail(t.line, "a starred expression is not understood here")
	}
	return e.value
}

func (p *parser) element() element {
	starred := p.acceptOp("*")
	return element{value: p.test(), starred: starred}
}

// elements parses the rest of a display up to its closing bracket.
func (p *parser) elements(first element, closing string) []element {
	elems := []element{first}
	for p.acceptOp(",") {
		if p.isOp(closing) {
			break
		}
		elems = append(elems, p.element())
	}
	p.expectOp(closing)
	return elems
}

func plain(elems []element) []syntax.Expr {
	out := make([]syntax.Expr, len(elems))
	for i, e := range elems {
		out[i] = e.value
	}
	return out
}

// spread builds the list of elements of which some are starred, or returns nil
// if none is.
func (p *parser) spread(t token, elems []element) syntax.Expr {
	var any bool
	parts := make([]syntax.Expr, len(elems))
	for i, e := range elems {
		any = any || e.starred
		if e.starred {
			parts[i] = p.call(t, "$iter", e.value)
		} else {
			parts[i] = p.list(t, []syntax.Expr{e.value})
		}
	}
	if !any {
		return nil
	}
	return p.call(t, "$spread", p.list(t, parts))
}

// comprehension parses the clauses after the body of a list comprehension.
// Sets, dicts and generators are built from the list.
func (p *parser) comprehension(t token, body syntax.Expr) syntax.Expr {
	c := &syntax.Comprehension{Lbrack: p.pos(t), Body: body, Rbrack: p.pos(t)}
	for p.isName("for") || p.isName("if") {
		at := p.next()
		if len(c.Clauses) > maxNesting {
			fail(at.line, "a comprehension has more than %d clauses", maxNesting)
		}
		if at.text == "if" {
			c.Clauses = append(c.Clauses, &syntax.IfClause{If: p.pos(at), Cond: p.truth(at, p.or())})
			continue
		}
		vars := p.loopVars()
		p.expectName("in")
		x := p.call(at, "$iter", p.or())
		c.Clauses = append(c.Clauses, &syntax.ForClause{For: p.pos(at), Vars: vars, In: p.pos(at), X: x})
	}
	return c
}

// loopVars parses the targets of a for: names, or tuples of them.
func (p *parser) loopVars() syntax.Expr {
	t := p.peek()
	one := func() syntax.Expr {
		if open := p.peek(); p.acceptOp("(") || p.acceptOp("[") {
			p.enter()
			defer p.leave()
			vars := p.loopVars()
			if open.text == "(" {
				p.expectOp(")")
			} else {
				p.expectOp("]")
			}
			return vars
		}
		return p.identifier()
	}
	first := one()
	if !p.isOp(",") {
		return first
	}
	vars := []syntax.Expr{first}
	for p.acceptOp(",") {
		if p.isName("in") || p.isOp(")") || p.isOp("]") {
			break
		}
		vars = append(vars, one())
	}
	return p.tuple(t, vars...)
}

// braces parses a dict or set display or comprehension. A dict is built by
// $dict from (key, value, line): Python allows a key twice, and the line of
// every key is remembered for messages.
func (p *parser) braces() syntax.Expr {
	t := p.next()
	var entries []syntax.Expr
	for !p.isOp("}") {
		at := p.peek()
		if p.acceptOp("**") {
			entries = append(entries, p.tuple(at, p.test()))
		} else {
			first := p.element()
			if !p.isOp(":") && len(entries) == 0 {
				return p.setRest(t, first)
			}
			p.expectOp(":")
			value := p.test()
			entry := p.tuple(at, first.expr(p, at), value, p.line(at))
			if p.isName("for") && len(entries) == 0 {
				e := p.call(t, "$dict", p.comprehension(t, entry))
				p.expectOp("}")
				return e
			}
			entries = append(entries, entry)
		}
		if !p.acceptOp(",") {
			break
		}
	}
	p.expectOp("}")
	return p.call(t, "$dict", p.list(t, entries))
}

func (p *parser) setRest(t token, first element) syntax.Expr {
	if p.isName("for") {
		e := p.call(t, "$set", p.comprehension(t, first.expr(p, t)))
		p.expectOp("}")
		return e
	}
	elems := p.elements(first, "}")
	if spread := p.spread(t, elems); spread != nil {
		return p.call(t, "$set", spread)
	}
	return p.call(t, "$set", p.list(t, plain(elems)))
}

// strings joins adjacent string literals.
func (p *parser) strings() syntax.Expr {
	start := p.peek()
	var parts []syntax.Expr
	var text strings.Builder
	isBytes, interpolated := false, false
	for first := true; p.peek().kind == tokString; first = false {
		lit := splitLiteral(p.next())
		if !first && lit.bytes != isBytes {
			fail(lit.line, "bytes and text literals are mixed")
		}
		isBytes = lit.bytes
		if !lit.interpolated {
			text.WriteString(lit.decode(lit.body))
			continue
		}
		interpolated = true
		p.interpolate(lit, func(literal string, value syntax.Expr) {
			text.WriteString(literal)
			if value != nil {
				parts = append(parts, p.text(start, text.String()), value)
				text.Reset()
			}
		})
	}
	if interpolated {
		parts = append(parts, p.text(start, text.String()))
		return p.call(start, "$concat", p.list(start, parts))
	}
	lit := &syntax.Literal{Token: syntax.STRING, TokenPos: p.pos(start), Value: text.String()}
	if isBytes {
		lit.Token = syntax.BYTES
	}
	return lit
}

// interpolate hands the pieces of an f-string to emit, in order: literal text,
// or a formatted value (with literal "").
func (p *parser) interpolate(lit stringLiteral, emit func(literal string, value syntax.Expr)) {
	body := lit.body
	for i := 0; i < len(body); {
		switch c := body[i]; {
		case (c == '{' || c == '}') && i+1 < len(body) && body[i+1] == c:
			emit(string(c), nil)
			i += 2
		case c == '}':
			fail(lit.line, "a single } stands in an f-string")
		case c == '{':
			end := replacementEnd(lit, i+1)
			emit("", p.replacement(lit, body[i+1:end]))
			i = end + 1
		default:
			end := strings.IndexAny(body[i:], "{}")
			if end < 0 {
				end = len(body) - i
			}
			piece := body[i : i+end]
			if strings.HasSuffix(piece, `\N`) && !lit.raw {
				fail(lit.line, `the escape \N{...} is not understood`)
			}
			emit(lit.decode(piece), nil)
			i += end
		}
	}
}

// replacementEnd finds the } of the replacement field that starts at i.
func replacementEnd(lit stringLiteral, i int) int {
	depth := 0
	var quote byte
	for ; i < len(lit.body); i++ {
		c := lit.body[i]
		switch {
		case c == '\\' || c == '#':
			fail(lit.line, "%q inside the braces of an f-string is not understood", c)
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case c == '(' || c == '[' || c == '{':
			depth++
		case c == '}' && depth == 0:
			return i
		case c == ')' || c == ']' || c == '}':
			depth--
		}
	}
	fail(lit.line, "a { of an f-string is never closed")
	return 0
}

// replacement parses the inside of {expression!conversion:format}.
func (p *parser) replacement(lit stringLiteral, field string) syntax.Expr {
	p.enter()
	defer p.leave()
	// Parentheses around the code make line breaks inside a triple-quoted field harmless.
	sub := &parser{file: p.file, nesting: p.nesting, functions: p.functions, hasModule: p.hasModule}
	code, conversion, spec := cutField(field)
	if strings.TrimSpace(code) == "" || strings.HasSuffix(strings.TrimSpace(code), "=") {
		fail(lit.line, "the f-string field {%s} is not understood", shorten(field, 40))
	}
	sub.toks = lex("("+code+")", lit.line)
	t := sub.peek()
	e := sub.parenthesized()
	if sub.next().kind != tokNewline {
		fail(lit.line, "the f-string field {%s} is not understood", shorten(field, 40))
	}
	if strings.ContainsAny(spec, "{}") {
		fail(lit.line, "a nested format in an f-string is not understood")
	}
	return p.call(t, "$format", e, p.text(t, conversion), p.text(t, spec))
}

// cutField splits a replacement field at its conversion and format, which
// start at the first ! (not of !=) and : outside brackets and quotes.
func cutField(field string) (code, conversion, spec string) {
	depth := 0
	var quote byte
	for i := 0; i < len(field); i++ {
		c := field[i]
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case strings.IndexByte("([{", c) >= 0:
			depth++
		case strings.IndexByte(")]}", c) >= 0:
			depth--
		case depth > 0:
		case c == ':':
			return field[:i], "", field[i+1:]
		case c == '!' && !strings.HasPrefix(field[i+1:], "="):
			conversion, spec, _ = strings.Cut(field[i+1:], ":")
			return field[:i], conversion, spec
		}
	}
	return field, "", ""
}
