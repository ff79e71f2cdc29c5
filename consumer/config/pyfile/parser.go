package pyfile

import (
	"fmt"
	"strings"

	"go.starlark.net/syntax"
)

// parser turns Python tokens into a Starlark syntax tree. Everything in which
// the two languages differ becomes a call of a helper of the run time (see
// runtime.go); their names start with "$" so that no file can name them.
//
// What is valid Python but not understood becomes a call of $unsupported,
// which fails when it is reached: a function nobody calls may hold anything.
type parser struct {
	file    string
	toks    []token
	at      int
	nesting int
	temps   int
	// yields is set when a yield was met in the function being parsed.
	yields bool
	// loops and functions count the enclosing constructs of that kind.
	functions int
	// hasModule reports whether an import of the module succeeds.
	hasModule func(name string) bool
}

// parse returns the tree of a file.
func parse(file, src string, hasModule func(string) bool) (tree *syntax.File, err error) {
	defer recoverError(file, &err)
	p := &parser{file: file, toks: lex(normalizeSource(src), 1), hasModule: hasModule}
	tree = &syntax.File{Path: file, Options: &syntax.FileOptions{
		Set: true, While: true, TopLevelControl: true, GlobalReassign: true,
		// Recursion stays off: Go's stack is not bounded by the step limit.
	}}
	for p.peek().kind != tokEnd {
		tree.Stmts = append(tree.Stmts, p.statement()...)
	}
	if len(tree.Stmts) == 0 {
		tree.Stmts = []syntax.Stmt{p.pass(p.peek())}
	}
	return tree, nil
}

func (p *parser) peek() token { return p.toks[p.at] }

func (p *parser) next() token {
	t := p.toks[p.at]
	if t.kind != tokEnd {
		p.at++
	}
	return t
}

// isOp and isName report whether the next token is that operator or word.
func (p *parser) isOp(op string) bool {
	t := p.peek()
	return t.kind == tokOp && t.text == op
}

func (p *parser) isName(word string) bool {
	t := p.peek()
	return t.kind == tokName && t.text == word
}

func (p *parser) acceptOp(op string) bool {
	ok := p.isOp(op)
	if ok {
		p.at++
	}
	return ok
}

func (p *parser) acceptName(word string) bool {
	ok := p.isName(word)
	if ok {
		p.at++
	}
	return ok
}

func (p *parser) expectOp(op string) token {
	if !p.isOp(op) {
		p.unexpected()
	}
	return p.next()
}

func (p *parser) expectName(word string) token {
	if !p.isName(word) {
		p.unexpected()
	}
	return p.next()
}

func (p *parser) unexpected() {
	t := p.peek()
	switch t.kind {
	case tokNewline, tokEnd:
		fail(t.line, "the line ends in the middle of a statement")
	case tokIndent, tokDedent:
		fail(t.line, "the indentation is not expected here")
	default:
		fail(t.line, "%q is not understood here", shorten(t.text, 40))
	}
}

// identifier consumes a name that is no keyword.
func (p *parser) identifier() *syntax.Ident {
	t := p.peek()
	if t.kind != tokName || isKeyword(t.text) {
		p.unexpected()
	}
	return p.ident(p.next(), t.text)
}

func isKeyword(word string) bool {
	switch word {
	case "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue",
		"def", "del", "elif", "else", "except", "finally", "for", "from", "global", "if", "import", "in",
		"is", "lambda", "nonlocal", "not", "or", "pass", "raise", "return", "try", "while", "with", "yield":
		return true
	}
	return false
}

// enter bounds the recursion of the parser and of all that walks its tree.
func (p *parser) enter() {
	p.nesting++
	if p.nesting > maxNesting {
		fail(p.peek().line, "the code is nested more than %d deep", maxNesting)
	}
}

func (p *parser) leave() { p.nesting-- }

// chain bounds operator chains, which make the tree as deep as nesting does.
type chain int

func (c *chain) link(line int32) {
	*c++
	if *c > maxChain {
		fail(line, "an expression chains more than %d operators", maxChain)
	}
}

func (p *parser) pos(t token) syntax.Position {
	return syntax.MakePosition(&p.file, t.line, t.col)
}

func (p *parser) ident(t token, name string) *syntax.Ident {
	return &syntax.Ident{NamePos: p.pos(t), Name: name}
}

func (p *parser) temp(t token) *syntax.Ident {
	p.temps++
	return p.ident(t, fmt.Sprintf("$t%d", p.temps))
}

func (p *parser) text(t token, s string) syntax.Expr {
	return &syntax.Literal{Token: syntax.STRING, TokenPos: p.pos(t), Value: s}
}

func (p *parser) line(t token) syntax.Expr {
	return &syntax.Literal{Token: syntax.INT, TokenPos: p.pos(t), Value: int64(t.line)}
}

// call builds a call of a run-time helper; an error in it is reported at t.
func (p *parser) call(t token, helper string, args ...syntax.Expr) *syntax.CallExpr {
	return &syntax.CallExpr{Fn: p.ident(t, helper), Lparen: p.pos(t), Args: args, Rparen: p.pos(t)}
}

func (p *parser) list(t token, elems []syntax.Expr) syntax.Expr {
	return &syntax.ListExpr{Lbrack: p.pos(t), List: elems, Rbrack: p.pos(t)}
}

func (p *parser) tuple(t token, elems ...syntax.Expr) syntax.Expr {
	return &syntax.TupleExpr{Lparen: p.pos(t), List: elems, Rparen: p.pos(t)}
}

func (p *parser) pass(t token) syntax.Stmt {
	return &syntax.BranchStmt{Token: syntax.PASS, TokenPos: p.pos(t)}
}

func (p *parser) unsupported(t token, what string) []syntax.Stmt {
	return []syntax.Stmt{&syntax.ExprStmt{X: p.call(t, "$unsupported", p.text(t, what))}}
}

// helperName returns the helper an expression calls, or "".
func helperName(e syntax.Expr) string {
	if c, ok := e.(*syntax.CallExpr); ok {
		if id, ok := c.Fn.(*syntax.Ident); ok && strings.HasPrefix(id.Name, "$") {
			return id.Name
		}
	}
	return ""
}
