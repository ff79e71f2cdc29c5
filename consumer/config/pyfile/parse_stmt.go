package pyfile

import (
	"strings"

	"go.starlark.net/syntax"
)

// statement parses one line of simple statements or one compound statement.
// It may yield several Starlark statements, or none.
func (p *parser) statement() []syntax.Stmt {
	p.enter()
	defer p.leave()
	t := p.peek()
	if t.kind == tokIndent {
		p.unexpected()
	}
	if t.kind == tokName {
		switch t.text {
		case "if":
			return []syntax.Stmt{p.ifStmt(new(chain))}
		case "for":
			return p.forStmt()
		case "while":
			return p.whileStmt()
		case "def":
			return p.defStmt()
		case "class":
			return p.classStmt()
		case "try":
			return p.tryStmt()
		case "with":
			return p.withStmt()
		}
	}
	if p.isOp("@") {
		return p.decorated()
	}
	return p.simpleLine()
}

func (p *parser) simpleLine() []syntax.Stmt {
	var out []syntax.Stmt
	for {
		out = append(out, p.simple()...)
		if !p.acceptOp(";") || p.peek().kind == tokNewline {
			break
		}
	}
	if p.peek().kind != tokNewline {
		p.unexpected()
	}
	p.next()
	return out
}

// suite parses the body of a compound statement, from its colon on.
func (p *parser) suite() []syntax.Stmt {
	colon := p.expectOp(":")
	if p.peek().kind != tokNewline {
		return p.filled(colon, p.simpleLine())
	}
	p.next()
	if p.peek().kind != tokIndent {
		fail(p.peek().line, "an indented block is expected")
	}
	p.next()
	var body []syntax.Stmt
	for p.peek().kind != tokDedent {
		body = append(body, p.statement()...)
	}
	p.next()
	return p.filled(colon, body)
}

// filled makes sure that a body holds a statement, as Starlark demands.
func (p *parser) filled(t token, body []syntax.Stmt) []syntax.Stmt {
	if len(body) == 0 {
		return []syntax.Stmt{p.pass(t)}
	}
	return body
}

func (p *parser) simple() []syntax.Stmt {
	t := p.peek()
	if t.kind == tokName {
		switch t.text {
		case "pass":
			p.next()
			return nil
		case "break", "continue":
			p.next()
			branch := syntax.Token(syntax.BREAK)
			if t.text == "continue" {
				branch = syntax.CONTINUE
			}
			return []syntax.Stmt{&syntax.BranchStmt{Token: branch, TokenPos: p.pos(t)}}
		case "return":
			return p.returnStmt()
		case "import":
			return p.importStmt()
		case "from":
			return p.fromStmt()
		case "del":
			return p.delStmt()
		case "raise":
			return p.raiseStmt()
		case "assert":
			return p.assertStmt()
		case "global", "nonlocal":
			return p.globalStmt()
		}
	}
	return p.exprStmt()
}

func (p *parser) returnStmt() []syntax.Stmt {
	t := p.next()
	if p.functions == 0 {
		fail(t.line, "return stands outside a function")
	}
	ret := &syntax.ReturnStmt{Return: p.pos(t)}
	if p.startsExpr() {
		ret.Result = p.testList()
	}
	return []syntax.Stmt{ret}
}

func (p *parser) raiseStmt() []syntax.Stmt {
	t := p.next()
	what := "raise"
	if p.startsExpr() {
		if name := p.peek(); name.kind == tokName {
			what += " " + name.text
		}
		p.test()
		if p.acceptName("from") {
			p.test()
		}
	}
	return []syntax.Stmt{&syntax.ExprStmt{X: p.call(t, "$raise", p.text(t, what))}}
}

func (p *parser) assertStmt() []syntax.Stmt {
	t := p.next()
	cond := p.test()
	if p.acceptOp(",") {
		p.test()
	}
	return []syntax.Stmt{&syntax.ExprStmt{X: p.call(t, "$assert", cond)}}
}

// globalStmt: at the top level global says nothing; in a function it lets the
// function assign what Starlark's functions cannot.
func (p *parser) globalStmt() []syntax.Stmt {
	t := p.next()
	p.identifier()
	for p.acceptOp(",") {
		p.identifier()
	}
	if p.functions == 0 {
		return nil
	}
	return p.unsupported(t, "the "+t.text+" statement in a function")
}

func (p *parser) delStmt() []syntax.Stmt {
	t := p.next()
	target := p.testList()
	targets := []syntax.Expr{target}
	if tuple, ok := target.(*syntax.TupleExpr); ok {
		targets = tuple.List
	}
	var out []syntax.Stmt
	for _, e := range targets {
		if id, ok := e.(*syntax.Ident); ok && !strings.HasPrefix(id.Name, "$") {
			out = append(out, p.assignTo(t, id, p.ident(t, "$deleted")))
		} else if helperName(e) == "$index" {
			args := e.(*syntax.CallExpr).Args
			out = append(out, &syntax.ExprStmt{X: p.call(t, "$delitem", args...)})
		} else {
			out = append(out, p.unsupported(t, "this form of del")...)
		}
	}
	return out
}

// exprStmt parses an expression, an assignment or an augmented assignment.
func (p *parser) exprStmt() []syntax.Stmt {
	start := p.peek()
	left := p.testList()
	t := p.peek()
	switch {
	case t.kind == tokOp && t.text == ":":
		return p.annotated(left)
	case t.kind == tokOp && len(t.text) >= 2 && strings.HasSuffix(t.text, "=") && strings.IndexByte("=!<>:", t.text[0]) < 0,
		t.kind == tokOp && (t.text == "<<=" || t.text == ">>="):
		p.next()
		return p.augmented(t, left, strings.TrimSuffix(t.text, "="), p.testList())
	case !p.isOp("="):
		return []syntax.Stmt{&syntax.ExprStmt{X: left}}
	}
	targets := []syntax.Expr{left}
	var value syntax.Expr
	for p.acceptOp("=") {
		value = p.testList()
		if p.isOp("=") {
			targets = append(targets, value)
		}
	}
	if len(targets) == 1 {
		return p.assign(start, targets[0], value)
	}
	tmp := p.temp(start)
	out := []syntax.Stmt{p.assignTo(start, tmp, value)}
	for _, target := range targets {
		out = append(out, p.assign(start, target, p.ident(start, tmp.Name))...)
	}
	return out
}

func (p *parser) annotated(left syntax.Expr) []syntax.Stmt {
	t := p.next()
	p.test()
	if p.acceptOp("=") {
		return p.assign(t, left, p.testList())
	}
	return nil
}

func (p *parser) assignTo(t token, target *syntax.Ident, value syntax.Expr) syntax.Stmt {
	return &syntax.AssignStmt{OpPos: p.pos(t), Op: syntax.EQ, LHS: target, RHS: value}
}

// assign lowers an assignment to one target.
func (p *parser) assign(t token, target, value syntax.Expr) []syntax.Stmt {
	switch x := target.(type) {
	case *syntax.Ident:
		if strings.HasPrefix(x.Name, "$") {
			break
		}
		return []syntax.Stmt{p.assignTo(t, x, value)}
	case *syntax.TupleExpr:
		return p.unpack(t, x.List, value)
	case *syntax.ListExpr:
		return p.unpack(t, x.List, value)
	case *syntax.CallExpr:
		switch helperName(x) {
		case "$index":
			return []syntax.Stmt{&syntax.ExprStmt{X: p.call(t, "$setitem", x.Args[0], x.Args[1], value)}}
		case "$attr":
			return p.unsupported(t, "assigning to an attribute")
		case "$slice":
			return p.unsupported(t, "assigning to a slice")
		}
	}
	fail(t.line, "the target of an assignment is not understood")
	return nil
}

// unpack assigns the elements of a value to several targets: first to
// temporary names, so that all of them come from the value as it was.
func (p *parser) unpack(t token, targets []syntax.Expr, value syntax.Expr) []syntax.Stmt {
	p.enter()
	defer p.leave()
	if len(targets) == 0 {
		fail(t.line, "the target of an assignment is not understood")
	}
	names := make([]syntax.Expr, len(targets))
	for i := range targets {
		names[i] = p.temp(t)
	}
	out := []syntax.Stmt{&syntax.AssignStmt{OpPos: p.pos(t), Op: syntax.EQ, LHS: p.tuple(t, names...), RHS: p.call(t, "$iter", value)}}
	for i, target := range targets {
		out = append(out, p.assign(t, target, p.ident(t, names[i].(*syntax.Ident).Name))...)
	}
	return out
}

func (p *parser) augmented(t token, target syntax.Expr, op string, value syntax.Expr) []syntax.Stmt {
	inPlace := func(old syntax.Expr) syntax.Expr {
		return p.call(t, "$inplace", p.text(t, op), old, value)
	}
	if id, ok := target.(*syntax.Ident); ok && !strings.HasPrefix(id.Name, "$") {
		return []syntax.Stmt{p.assignTo(t, id, inPlace(p.ident(t, id.Name)))}
	}
	if helperName(target) != "$index" {
		return p.unsupported(t, "this form of "+t.text)
	}
	args := target.(*syntax.CallExpr).Args
	box, key := p.temp(t), p.temp(t)
	return []syntax.Stmt{
		p.assignTo(t, box, args[0]),
		p.assignTo(t, key, args[1]),
		&syntax.ExprStmt{X: p.call(t, "$setitem", p.ident(t, box.Name), p.ident(t, key.Name),
			inPlace(p.call(t, "$index", p.ident(t, box.Name), p.ident(t, key.Name))))},
	}
}
