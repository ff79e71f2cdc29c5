package pyfile

import (
	"errors"
	"fmt"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/starlarkstruct"
	"go.starlark.net/syntax"
)

// compare is x op y for the operators that answer a bool.
func (m *machine) compare(op string, x, y starlark.Value) (starlark.Value, error) {
	if err := errors.Join(known(x), known(y)); err != nil {
		return nil, err
	}
	var is bool
	var err error
	switch op {
	case "==", "!=":
		is, err = m.equal(x, y, 0)
	case "in", "not in":
		is, err = m.contains(y, x)
	case "is", "is not":
		is, err = identical(x, y)
	case "<":
		is, err = m.less(x, y, 0)
	case ">":
		is, err = m.less(y, x, 0)
	case "<=":
		is, err = m.less(y, x, 0)
	case ">=":
		is, err = m.less(x, y, 0)
	}
	switch op {
	case "!=", "not in", "is not", "<=", ">=": // no NaN gets here: the orders are total
		is = !is
	}
	return starlark.Bool(is), err
}

// identical is Python's "is", where the language defines the answer.
func identical(x, y starlark.Value) (bool, error) {
	if singleton(x) || singleton(y) {
		return x == y, nil
	}
	switch x := x.(type) {
	case *starlark.List, *starlark.Dict, *starlark.Set, *starlark.Function, *starlarkstruct.Module:
		return x == y, nil
	}
	return false, fmt.Errorf("is between %s and %s is not understood", typeName(x), typeName(y))
}

func singleton(v starlark.Value) bool {
	switch v.(type) {
	case starlark.NoneType, starlark.Bool:
		return true
	}
	return false
}

// number returns ints and floats as they are and bools as ints.
func number(v starlark.Value) (starlark.Value, bool) {
	switch v := v.(type) {
	case starlark.Bool:
		return twin(v), true
	case starlark.Int, starlark.Float:
		return v, true
	}
	return nil, false
}

// equal is Python's ==; its work is charged, as shared parts can make small
// values long to walk through.
func (m *machine) equal(x, y starlark.Value, depth int) (bool, error) {
	if depth > maxDepth {
		return false, errors.New("a value is nested too deep to be compared")
	}
	if err := errors.Join(m.charge(1), known(x), known(y)); err != nil {
		return false, err
	}
	if nx, ok := number(x); ok {
		ny, ok := number(y)
		if !ok {
			return false, nil
		}
		return starlark.Equal(nx, ny)
	}
	switch x := x.(type) {
	case starlark.NoneType:
		return y == starlark.None, nil
	case starlark.String:
		other, ok := y.(starlark.String)
		return ok && x == other, m.charge(len(x) / 16)
	case starlark.Bytes:
		other, ok := y.(starlark.Bytes)
		return ok && x == other, m.charge(len(x) / 16)
	case timedelta, Datetime:
		return x == y, nil
	case *starlark.List:
		other, ok := y.(*starlark.List)
		if !ok {
			return false, nil
		}
		return m.equalSeq(x, other, depth)
	case starlark.Tuple:
		other, ok := y.(starlark.Tuple)
		if !ok {
			return false, nil
		}
		return m.equalSeq(x, other, depth)
	case *starlark.Dict:
		other, ok := y.(*starlark.Dict)
		if !ok {
			return false, nil
		}
		return m.equalDict(x, other, depth)
	case *starlark.Set:
		other, ok := y.(*starlark.Set)
		if !ok {
			return false, nil
		}
		if err := m.charge(x.Len() + other.Len()); err != nil {
			return false, err
		}
		return starlark.Equal(x, other)
	case *starlark.Function, *starlark.Builtin:
		return x == y, nil
	}
	return false, operandError("==", x, y)
}

func (m *machine) equalSeq(x, y starlark.Indexable, depth int) (bool, error) {
	if x.Len() != y.Len() {
		return false, nil
	}
	for i := range x.Len() {
		if same, err := m.equal(x.Index(i), y.Index(i), depth+1); !same || err != nil {
			return false, err
		}
	}
	return true, nil
}

func (m *machine) equalDict(x, y *starlark.Dict, depth int) (bool, error) {
	if x.Len() != y.Len() {
		return false, nil
	}
	for _, kv := range x.Items() {
		other, found, err := m.getKey(y, kv[0])
		if !found || err != nil {
			return false, err
		}
		if same, err := m.equal(kv[1], other, depth+1); !same || err != nil {
			return false, err
		}
	}
	return true, nil
}

// less is Python's <.
func (m *machine) less(x, y starlark.Value, depth int) (bool, error) {
	if depth > maxDepth {
		return false, errors.New("a value is nested too deep to be compared")
	}
	if err := errors.Join(m.charge(1), known(x), known(y)); err != nil {
		return false, err
	}
	if nx, ok := number(x); ok {
		if ny, ok := number(y); ok {
			return starlark.Compare(syntax.LT, nx, ny)
		}
	}
	switch x := x.(type) {
	case starlark.String:
		if other, ok := y.(starlark.String); ok {
			// The byte order of UTF-8 is the order of code points.
			return strings.Compare(string(x), string(other)) < 0, m.charge(len(x) / 16)
		}
	case timedelta:
		if other, ok := y.(timedelta); ok {
			return x.d < other.d, nil
		}
	case Datetime:
		if other, ok := y.(Datetime); ok {
			return x.Time.Before(other.Time), nil
		}
	case *starlark.List:
		if other, ok := y.(*starlark.List); ok {
			return m.lessSeq(x, other, depth)
		}
	case starlark.Tuple:
		if other, ok := y.(starlark.Tuple); ok {
			return m.lessSeq(x, other, depth)
		}
	}
	return false, operandError("<", x, y)
}

func (m *machine) lessSeq(x, y starlark.Indexable, depth int) (bool, error) {
	for i := range min(x.Len(), y.Len()) {
		same, err := m.equal(x.Index(i), y.Index(i), depth+1)
		if err != nil {
			return false, err
		}
		if !same {
			return m.less(x.Index(i), y.Index(i), depth+1)
		}
	}
	return x.Len() < y.Len(), nil
}
