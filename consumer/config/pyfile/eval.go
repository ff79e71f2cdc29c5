// Package pyfile evaluates one Python configuration file in a sandbox and
// returns its variable "config".
//
// The file is parsed as Python, lowered to a Starlark syntax tree and run by
// go.starlark.net with Python's semantics restored in helpers. The rule is
// that the answer is Python 3's or an error that names file and line; what is
// not understood is never guessed. A file can read the clock, the environment
// it was given, the host's name and whether a path exists; it can change
// nothing. Work and memory are bounded by one budget of steps.
package pyfile

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"go.starlark.net/resolve"
	"go.starlark.net/starlark"
	"go.starlark.net/syntax"
)

const (
	// MaxFileBytes is the size of the largest file that is read.
	MaxFileBytes = 1 << 20

	maxSteps     = 2_000_000
	maxElements  = 1 << 18 // of one list, tuple, dict or set
	maxBytes     = 4 << 20 // of one string
	maxIntBits   = 8192
	maxDigits    = 2048
	maxNesting   = 60
	maxChain     = 1000
	maxArguments = 200
	maxDepth     = 64      // of a value that is compared, printed or returned
	maxNodes     = 500_000 // of the returned value
)

// Host is what a file may learn about the machine.
type Host struct {
	// Environ is what os.environ holds. A file may change its own copy.
	Environ map[string]string
	// Home and WorkDir are used by expanduser, abspath and getcwd.
	Home, WorkDir string
	// Hostname and FQDN answer gethostname and getfqdn.
	Hostname, FQDN func() string
	// PathKind tells whether a path exists and is a directory.
	PathKind func(path string) (exists, dir bool)
	Now      func() time.Time
}

// Result is what a file said.
type Result struct {
	// Config is the file's dict of that name. Its values are nil, bool, int64,
	// *big.Int, float64, string, Bytes, []any, map[string]any, time.Duration
	// (timedelta), Datetime and Opaque. Keys that are no strings are written as
	// Python's json module writes them.
	Config map[string]any
	// Lines tells for each string key of any dict the line that set it last.
	Lines map[string]int
}

// Error is a problem at one line of a file; Line is 0 where none is to blame.
type Error struct {
	File string
	Line int
	Msg  string
}

// Error returns "file:line: message".
func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, e.Msg)
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Msg)
}

// complaint carries an error out of the lexer and parser, whose recursion
// would be unreadable with an error result everywhere.
type complaint struct {
	line int32
	msg  string
}

func fail(line int32, format string, args ...any) {
	panic(complaint{line: line, msg: fmt.Sprintf(format, args...)})
}

// recoverError turns a complaint, and any panic of the libraries below, into
// an error: a broken file must not end the process.
func recoverError(file string, err *error) {
	switch r := recover().(type) {
	case nil:
	case complaint:
		*err = &Error{File: file, Line: int(r.line), Msg: r.msg}
	default:
		*err = &Error{File: file, Msg: fmt.Sprintf("the file is not understood (%v)", r)}
	}
}

// Eval runs the source of the named file. The error is an *Error.
func Eval(name string, src []byte, host Host) (res *Result, err error) {
	defer recoverError(name, &err)
	if len(src) > MaxFileBytes {
		return nil, &Error{File: name, Msg: fmt.Sprintf("the file is larger than %d bytes", MaxFileBytes)}
	}
	m := &machine{host: host, lines: map[string]int{}, modules: map[string]starlark.Value{}}
	tree, err := parse(name, string(src), m.hasModule)
	if err != nil {
		return nil, err
	}
	// Every free name counts as predeclared: like Python, a name that doesn't
	// exist is an error when it is used, not before.
	prog, err := starlark.FileProgram(tree, func(string) bool { return true })
	if err != nil {
		return nil, located(name, err)
	}
	m.thread = &starlark.Thread{Name: name}
	m.thread.SetMaxExecutionSteps(maxSteps)
	globals, err := prog.Init(m.thread, m.predeclared())
	if err != nil {
		return nil, located(name, err)
	}
	at := configLine(tree)
	config, ok := globals["config"]
	if !ok {
		return nil, &Error{File: name, Line: at, Msg: `the file defines no variable "config"`}
	}
	dict, ok := config.(*starlark.Dict)
	if !ok {
		return nil, &Error{File: name, Line: at, Msg: fmt.Sprintf(`the variable "config" is a %s, not a dict`, typeName(config))}
	}
	ex := exporter{}
	value, err := ex.dict(dict, 0)
	if err != nil {
		return nil, &Error{File: name, Line: at, Msg: err.Error()}
	}
	return &Result{Config: value, Lines: m.lines}, nil
}

// configLine is the line that assigns config last, or 1.
func configLine(tree *syntax.File) int {
	line := 1
	syntax.Walk(tree, func(n syntax.Node) bool {
		if a, ok := n.(*syntax.AssignStmt); ok {
			if id, ok := a.LHS.(*syntax.Ident); ok && id.Name == "config" {
				line = int(id.NamePos.Line)
			}
		}
		return true
	})
	return line
}

// located finds the line of the file at which evaluation failed.
func located(name string, err error) error {
	out := &Error{File: name, Msg: message(err.Error())}
	var eval *starlark.EvalError
	var static resolve.ErrorList
	switch {
	case errors.As(err, &eval):
		out.Msg = message(eval.Msg)
		innermost := 0
		if strings.HasPrefix(eval.Msg, "function ") {
			// Wrong arguments: the call is to blame, not the definition.
			innermost = 1
		}
		for i := innermost; i < len(eval.CallStack); i++ {
			if at := eval.CallStack.At(i).Pos; at.IsValid() && at.Filename() == name {
				out.Line = int(at.Line)
				break
			}
		}
	case errors.As(err, &static):
		out.Line, out.Msg = int(static[0].Pos.Line), static[0].Msg
	}
	return out
}

// message puts the engine's words into the user's.
func message(msg string) string {
	switch {
	case strings.Contains(msg, "too many steps"):
		return "the file takes too long to evaluate"
	case strings.HasPrefix(msg, "internal error: predeclared variable "):
		word := strings.TrimSuffix(strings.TrimPrefix(msg, "internal error: predeclared variable "), " is uninitialized")
		return fmt.Sprintf("the name %q is not defined here", word)
	case strings.Contains(msg, "called recursively"):
		return "a function that calls itself is not understood"
	}
	return msg
}
