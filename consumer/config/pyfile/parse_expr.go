package pyfile

import (
	"math/big"

	"go.starlark.net/syntax"
)

// testList parses one expression or, with commas, a tuple.
func (p *parser) testList() syntax.Expr {
	start := p.peek()
	first := p.test()
	if !p.isOp(",") {
		return first
	}
	elems := []syntax.Expr{first}
	for p.acceptOp(",") {
		if !p.startsExpr() {
			break
		}
		elems = append(elems, p.test())
	}
	return p.tuple(start, elems...)
}

// startsExpr reports whether an expression can start at the next token.
func (p *parser) startsExpr() bool {
	t := p.peek()
	switch t.kind {
	case tokNumber, tokString:
		return true
	case tokName:
		switch t.text {
		case "None", "True", "False", "not", "lambda":
			return true
		}
		return !isKeyword(t.text)
	case tokOp:
		switch t.text {
		case "(", "[", "{", "-", "+", "~", "...":
			return true
		}
	}
	return false
}

// test parses a conditional expression or a lambda.
func (p *parser) test() syntax.Expr {
	p.enter()
	defer p.leave()
	if p.isName("lambda") {
		return p.lambda()
	}
	e := p.or()
	t := p.peek()
	if !p.acceptName("if") {
		return e
	}
	cond := p.truth(t, p.or())
	p.expectName("else")
	return &syntax.CondExpr{If: p.pos(t), Cond: cond, True: e, ElsePos: p.pos(t), False: p.test()}
}

// truth wraps a condition: a value whose truth is not known must not decide.
func (p *parser) truth(t token, e syntax.Expr) syntax.Expr { return p.call(t, "$truth", e) }

func (p *parser) lambda() syntax.Expr {
	t := p.next()
	params := p.params(":", false)
	p.expectOp(":")
	p.functions++
	body := p.test()
	p.functions--
	return &syntax.LambdaExpr{Lambda: p.pos(t), Params: params, Body: body}
}

func (p *parser) or() syntax.Expr  { return p.logic("or", syntax.OR, p.and) }
func (p *parser) and() syntax.Expr { return p.logic("and", syntax.AND, p.not) }

func (p *parser) logic(word string, op syntax.Token, operand func() syntax.Expr) syntax.Expr {
	var c chain
	e := operand()
	for p.isName(word) {
		t := p.next()
		c.link(t.line)
		e = &syntax.BinaryExpr{X: p.call(t, "$decidable", e), OpPos: p.pos(t), Op: op, Y: operand()}
	}
	return e
}

func (p *parser) not() syntax.Expr {
	if !p.isName("not") {
		return p.comparison()
	}
	p.enter()
	defer p.leave()
	t := p.next()
	return &syntax.UnaryExpr{OpPos: p.pos(t), Op: syntax.NOT, X: p.truth(t, p.not())}
}

// comparisonOp consumes a comparison operator, or returns "".
func (p *parser) comparisonOp() string {
	t := p.peek()
	switch t.text {
	case "<", ">", "==", ">=", "<=", "!=":
		if t.kind != tokOp {
			return ""
		}
		p.next()
	case "in", "is", "not":
		if t.kind != tokName {
			return ""
		}
		p.next()
		if t.text == "is" && p.acceptName("not") {
			return "is not"
		}
		if t.text == "not" {
			p.expectName("in")
			return "not in"
		}
	default:
		return ""
	}
	return t.text
}

func (p *parser) comparison() syntax.Expr {
	left := p.binary(0)
	var all syntax.Expr
	var c chain
	for {
		t := p.peek()
		op := p.comparisonOp()
		if op == "" {
			break
		}
		c.link(t.line)
		right := p.binary(0)
		one := p.call(t, "$compare", p.text(t, op), left, right)
		if all == nil {
			all = one
		} else {
			// a < b < c evaluates b once in Python, twice here.
			if !repeatable(left) {
				fail(t.line, "a chained comparison with a computed middle part is not understood")
			}
			all = &syntax.BinaryExpr{X: all, OpPos: p.pos(t), Op: syntax.AND, Y: one}
		}
		left = right
	}
	if all == nil {
		return left
	}
	return all
}

func repeatable(e syntax.Expr) bool {
	switch e.(type) {
	case *syntax.Ident, *syntax.Literal:
		return true
	}
	return false
}

// binaryLevel returns the operators of one level of precedence, loosest first.
func binaryLevel(level int) []string {
	switch level {
	case 0:
		return []string{"|"}
	case 1:
		return []string{"^"}
	case 2:
		return []string{"&"}
	case 3:
		return []string{"<<", ">>"}
	case 4:
		return []string{"+", "-"}
	case 5:
		return []string{"*", "/", "//", "%", "@"}
	}
	return nil
}

func (p *parser) binary(level int) syntax.Expr {
	ops := binaryLevel(level)
	if ops == nil {
		return p.factor()
	}
	var c chain
	e := p.binary(level + 1)
	for p.peek().kind == tokOp && contains(ops, p.peek().text) {
		t := p.next()
		c.link(t.line)
		e = p.call(t, "$binary", p.text(t, t.text), e, p.binary(level+1))
	}
	return e
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func (p *parser) factor() syntax.Expr {
	t := p.peek()
	if p.isOp("-") || p.isOp("+") || p.isOp("~") {
		p.enter()
		defer p.leave()
		p.next()
		return p.call(t, "$unary", p.text(t, t.text), p.factor())
	}
	e := p.postfix()
	if t := p.peek(); p.acceptOp("**") {
		p.enter()
		defer p.leave()
		e = p.call(t, "$binary", p.text(t, "**"), e, p.factor())
	}
	return e
}

func (p *parser) postfix() syntax.Expr {
	var c chain
	e := p.atom()
	for {
		t := p.peek()
		switch {
		case p.acceptOp("."):
			name := p.peek()
			p.identifier()
			e = p.call(name, "$attr", e, p.text(name, name.text))
		case p.acceptOp("("):
			e = &syntax.CallExpr{Fn: e, Lparen: p.pos(t), Args: p.arguments(t), Rparen: p.pos(t)}
		case p.acceptOp("["):
			e = p.subscript(t, e)
		default:
			return e
		}
		c.link(t.line)
	}
}

// arguments parses what follows the opening parenthesis of a call. Starlark
// wants the order positional, keyword, *, **; Python lets them mix.
func (p *parser) arguments(open token) []syntax.Expr {
	var positional []element
	var keywords, rest []syntax.Expr
	for !p.acceptOp(")") {
		t := p.peek()
		switch {
		case p.acceptOp("**"):
			rest = append(rest, &syntax.UnaryExpr{OpPos: p.pos(t), Op: syntax.STARSTAR, X: p.test()})
		case t.kind == tokName && p.toks[p.at+1].kind == tokOp && p.toks[p.at+1].text == "=":
			name := p.identifier()
			p.next()
			keywords = append(keywords, &syntax.BinaryExpr{X: name, OpPos: p.pos(t), Op: syntax.EQ, Y: p.test()})
		default:
			e := p.element()
			if p.isName("for") {
				if len(positional)+len(keywords)+len(rest) > 0 {
					fail(t.line, "a generator expression must stand alone in its call")
				}
				e.value = p.call(t, "$generator", p.comprehension(t, e.expr(p, t)))
				p.acceptOp(",")
				p.expectOp(")")
				return []syntax.Expr{e.value}
			}
			positional = append(positional, e)
		}
		if len(positional)+len(keywords)+len(rest) > maxArguments {
			fail(t.line, "a call has more than %d arguments", maxArguments)
		}
		if !p.acceptOp(",") {
			p.expectOp(")")
			break
		}
	}
	if spread := p.spread(open, positional); spread != nil {
		star := &syntax.UnaryExpr{OpPos: p.pos(open), Op: syntax.STAR, X: spread}
		return append(append(keywords, star), rest...)
	}
	return append(append(plain(positional), keywords...), rest...)
}

func (p *parser) subscript(open token, x syntax.Expr) syntax.Expr {
	bound := func() syntax.Expr {
		if p.isOp(":") || p.isOp("]") {
			return p.ident(open, "$None")
		}
		return p.test()
	}
	if !p.isOp(":") {
		key := p.testList()
		if p.acceptOp("]") {
			return p.call(open, "$index", x, key)
		}
		p.expectOp(":")
		return p.sliceRest(open, x, key, bound)
	}
	p.next()
	return p.sliceRest(open, x, p.ident(open, "$None"), bound)
}

func (p *parser) sliceRest(open token, x, low syntax.Expr, bound func() syntax.Expr) syntax.Expr {
	high := bound()
	step := syntax.Expr(p.ident(open, "$None"))
	if p.acceptOp(":") {
		step = bound()
	}
	p.expectOp("]")
	return p.call(open, "$slice", x, low, high, step)
}

func (p *parser) atom() syntax.Expr {
	t := p.peek()
	switch t.kind {
	case tokNumber:
		p.next()
		return p.number(t)
	case tokString:
		return p.strings()
	case tokName:
		switch t.text {
		case "None", "True", "False":
			p.next()
			return p.ident(t, "$"+t.text)
		case "yield":
			return p.yieldExpr()
		}
		return p.identifier()
	case tokOp:
		switch t.text {
		case "(":
			return p.parenthesized()
		case "[":
			return p.listDisplay()
		case "{":
			return p.braces()
		case "...":
			p.next()
			return p.call(t, "$opaque", p.text(t, "Ellipsis"))
		}
	}
	p.unexpected()
	return nil
}

// yieldExpr marks the function as a generator, which only fails when called.
func (p *parser) yieldExpr() syntax.Expr {
	p.yields = true
	t := p.next()
	p.acceptName("from")
	if p.startsExpr() {
		p.testList()
	}
	return p.call(t, "$unsupported", p.text(t, "yield"))
}

func (p *parser) number(t token) syntax.Expr {
	lit := &syntax.Literal{Token: syntax.INT, TokenPos: p.pos(t), Raw: t.text, Value: decodeNumber(t)}
	switch v := lit.Value.(type) {
	case float64:
		lit.Token = syntax.FLOAT
	case *big.Int:
		if v.BitLen() > maxIntBits {
			fail(t.line, "a number is larger than %d bits", maxIntBits)
		}
	}
	return lit
}
