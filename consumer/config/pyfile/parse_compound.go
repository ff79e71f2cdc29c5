package pyfile

import (
	"strings"

	"go.starlark.net/syntax"
)

func (p *parser) ifStmt(c *chain) syntax.Stmt {
	t := p.next()
	c.link(t.line)
	out := &syntax.IfStmt{If: p.pos(t), Cond: p.truth(t, p.test())}
	out.True = p.suite()
	next := p.peek()
	switch {
	case p.isName("elif"):
		out.ElsePos = p.pos(next)
		out.False = []syntax.Stmt{p.ifStmt(c)}
	case p.acceptName("else"):
		out.ElsePos = p.pos(next)
		out.False = p.suite()
	}
	return out
}

func (p *parser) forStmt() []syntax.Stmt {
	t := p.next()
	vars := p.loopVars()
	p.expectName("in")
	loop := &syntax.ForStmt{For: p.pos(t), Vars: vars, X: p.call(t, "$iter", p.testList())}
	loop.Body = p.suite()
	return append(p.loopElse(), loop)
}

func (p *parser) whileStmt() []syntax.Stmt {
	t := p.next()
	loop := &syntax.WhileStmt{While: p.pos(t), Cond: p.truth(t, p.test())}
	loop.Body = p.suite()
	return append(p.loopElse(), loop)
}

func (p *parser) loopElse() []syntax.Stmt {
	t := p.peek()
	if !p.acceptName("else") {
		return nil
	}
	p.suite()
	return p.unsupported(t, "the else of a loop")
}

func (p *parser) defStmt() []syntax.Stmt {
	t := p.next()
	name := p.identifier()
	p.expectOp("(")
	def := &syntax.DefStmt{Def: p.pos(t), Name: name, Params: p.params(")", true)}
	p.expectOp(")")
	if p.acceptOp("->") {
		p.test()
	}
	outer := p.yields
	p.yields = false
	p.functions++
	def.Body = p.suite()
	p.functions--
	if p.yields {
		def.Body = p.unsupported(t, "a generator function")
	}
	p.yields = outer
	return []syntax.Stmt{def}
}

// params parses the parameters of a function up to closing.
func (p *parser) params(closing string, annotations bool) []syntax.Expr {
	var out []syntax.Expr
	for !p.isOp(closing) {
		t := p.peek()
		switch {
		case p.acceptOp("**"):
			out = append(out, &syntax.UnaryExpr{OpPos: p.pos(t), Op: syntax.STARSTAR, X: p.param(annotations)})
		case p.acceptOp("*"):
			star := &syntax.UnaryExpr{OpPos: p.pos(t), Op: syntax.STAR}
			if !p.isOp(",") {
				star.X = p.param(annotations)
			}
			out = append(out, star)
		default:
			name := p.param(annotations)
			if p.acceptOp("=") {
				out = append(out, &syntax.BinaryExpr{X: name, OpPos: p.pos(t), Op: syntax.EQ, Y: p.test()})
			} else {
				out = append(out, name)
			}
		}
		if len(out) > maxArguments {
			fail(t.line, "a function has more than %d parameters", maxArguments)
		}
		if !p.acceptOp(",") {
			break
		}
	}
	return out
}

func (p *parser) param(annotations bool) *syntax.Ident {
	name := p.identifier()
	if annotations && p.acceptOp(":") {
		p.test()
	}
	return name
}

// decorated parses a decorated function or class: its name is bound to
// something that can be passed around but not looked into.
func (p *parser) decorated() []syntax.Stmt {
	t := p.peek()
	args := []syntax.Expr{p.text(t, "a decorated definition")}
	for p.acceptOp("@") {
		args = append(args, p.test())
		if p.peek().kind != tokNewline {
			p.unexpected()
		}
		p.next()
	}
	if !p.isName("def") && !p.isName("class") {
		p.unexpected()
	}
	name := p.toks[p.at+1]
	body := p.statement()
	return append(body, p.assignTo(t, p.ident(name, name.text), p.call(t, "$opaque", args...)))
}

// classStmt binds the name of a class to an opaque value. Its body is not run,
// so it may only hold definitions.
func (p *parser) classStmt() []syntax.Stmt {
	t := p.next()
	name := p.identifier()
	args := []syntax.Expr{p.text(t, "class "+name.Name)}
	if open := p.peek(); p.acceptOp("(") {
		for _, base := range p.arguments(open) {
			if _, keyword := base.(*syntax.BinaryExpr); !keyword {
				args = append(args, base)
			}
		}
	}
	p.functions++
	body := p.suite()
	p.functions--
	for _, s := range body {
		if !definition(s) {
			return p.unsupported(t, "a class whose body does more than define")
		}
	}
	return []syntax.Stmt{p.assignTo(t, name, p.call(t, "$opaque", args...))}
}

// definition reports whether a statement of a class body changes nothing
// outside the class.
func definition(s syntax.Stmt) bool {
	switch s := s.(type) {
	case *syntax.DefStmt:
		return true
	case *syntax.BranchStmt:
		return s.Token == syntax.PASS
	case *syntax.AssignStmt:
		return callsNothing(s.RHS)
	case *syntax.ExprStmt:
		_, literal := s.X.(*syntax.Literal)
		return literal
	}
	return false
}

// callsNothing reports whether an expression calls no function of the file.
func callsNothing(e syntax.Expr) bool {
	pure := true
	syntax.Walk(e, func(n syntax.Node) bool {
		if c, ok := n.(*syntax.CallExpr); ok && helperName(c) == "" {
			pure = false
		}
		return pure
	})
	return pure
}

func (p *parser) withStmt() []syntax.Stmt {
	t := p.next()
	for !p.isOp(":") {
		if k := p.peek().kind; k == tokNewline || k == tokEnd {
			p.unexpected()
		}
		// The items of a with may hold a lambda or a slice only inside brackets.
		p.test()
		if p.acceptName("as") {
			p.test()
		}
		if !p.acceptOp(",") {
			break
		}
	}
	p.suite()
	return p.unsupported(t, "the with statement")
}

// handler is one except clause.
type handler struct {
	catches []string // empty: everything
	body    []syntax.Stmt
}

// catchesImportError reports whether a failed import ends up in the clause.
func (h handler) catchesImportError() bool {
	if len(h.catches) == 0 {
		return true
	}
	for _, c := range h.catches {
		switch c {
		case "ImportError", "ModuleNotFoundError", "Exception", "BaseException":
			return true
		}
	}
	return false
}

// tryStmt decides a try at once: only an import of a module that isn't there
// leads to a handler. Anything else that goes wrong in the body stays an error
// of the file.
func (p *parser) tryStmt() []syntax.Stmt {
	p.next()
	body := p.suite()
	var handlers []handler
	for p.isName("except") {
		handlers = append(handlers, p.except())
	}
	var orElse, finally []syntax.Stmt
	if p.acceptName("else") {
		orElse = p.suite()
	}
	if p.acceptName("finally") {
		finally = p.suite()
	} else if len(handlers) == 0 {
		p.unexpected()
	}
	for i, s := range body {
		x, ok := s.(*syntax.ExprStmt)
		if !ok || helperName(x.X) != "$importerror" {
			continue
		}
		for _, h := range handlers {
			if h.catchesImportError() {
				return append(append(body[:i:i], h.body...), finally...)
			}
		}
		break
	}
	return append(append(body, orElse...), finally...)
}

func (p *parser) except() handler {
	t := p.next()
	var h handler
	if !p.isOp(":") {
		h.catches = exceptionNames(p.test())
		if p.acceptName("as") {
			name := p.identifier()
			h.body = append(h.body, p.assignTo(t, name, p.call(t, "$opaque", p.text(t, "an exception"))))
		}
	}
	h.body = append(h.body, p.suite()...)
	return h
}

// exceptionNames returns the names in an except clause; "?" stands for one
// that is not a plain name.
func exceptionNames(e syntax.Expr) []string {
	switch e := e.(type) {
	case *syntax.Ident:
		return []string{e.Name}
	case *syntax.TupleExpr:
		names := []string{"?"}
		for _, x := range e.List {
			names = append(names, exceptionNames(x)...)
		}
		return names
	}
	return []string{"?"}
}

// importStmt binds modules; one that isn't there becomes $importerror.
func (p *parser) importStmt() []syntax.Stmt {
	p.next()
	var out []syntax.Stmt
	for {
		t := p.peek()
		name := p.dottedName()
		root, _, _ := strings.Cut(name, ".")
		as, module := root, root
		if p.acceptName("as") {
			as, module = p.identifier().Name, name
		}
		if !p.hasModule(name) {
			return append(out, p.importError(t, name))
		}
		out = append(out, p.assignTo(t, p.ident(t, as), p.call(t, "$import", p.text(t, module))))
		if !p.acceptOp(",") {
			return out
		}
	}
}

func (p *parser) importError(t token, module string) syntax.Stmt {
	// The rest of the line is only skipped: an import binds, it computes nothing.
	for p.peek().kind != tokNewline && !p.isOp(";") {
		p.next()
	}
	return &syntax.ExprStmt{X: p.call(t, "$importerror", p.text(t, module))}
}

func (p *parser) dottedName() string {
	name := p.identifier().Name
	for p.acceptOp(".") {
		name += "." + p.identifier().Name
	}
	return name
}

func (p *parser) fromStmt() []syntax.Stmt {
	t := p.next()
	if p.isOp(".") || p.isOp("...") {
		return []syntax.Stmt{p.importError(t, ".")}
	}
	module := p.dottedName()
	p.expectName("import")
	if !p.hasModule(module) {
		return []syntax.Stmt{p.importError(t, module)}
	}
	if p.acceptOp("*") {
		return p.unsupported(t, "import *")
	}
	paren := p.acceptOp("(")
	var out []syntax.Stmt
	for {
		at := p.peek()
		name := p.identifier().Name
		as := name
		if p.acceptName("as") {
			as = p.identifier().Name
		}
		if module != "__future__" {
			out = append(out, p.assignTo(at, p.ident(at, as),
				p.call(at, "$attr", p.call(at, "$import", p.text(at, module)), p.text(at, name))))
		}
		if !p.acceptOp(",") || paren && p.isOp(")") {
			break
		}
	}
	if paren {
		p.expectOp(")")
	}
	return out
}
