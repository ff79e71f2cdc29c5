package pyfile

import (
	"errors"
	"fmt"

	"go.starlark.net/starlark"
	"go.starlark.net/starlarkstruct"
)

// opaque is a value of which only the name is known: a class, a compiled
// regular expression, a logger. It can be stored, passed around and called;
// whatever would need to look into it is an error.
type opaque struct{ what string }

func (o opaque) String() string { return "<" + o.what + ">" }

// Type implements starlark.Value.
func (o opaque) Type() string { return "unknown value" }

// Freeze implements starlark.Value.
func (o opaque) Freeze() {}

// Truth implements starlark.Value; helpers refuse the value before it matters.
func (o opaque) Truth() starlark.Bool { return true }

// Hash implements starlark.Value.
func (o opaque) Hash() (uint32, error) { return 0, o.unknown() }

// Name implements starlark.Callable.
func (o opaque) Name() string { return o.what }

// CallInternal answers another opaque value. What is called could change a
// list or dict it is given, so it is given none.
func (o opaque) CallInternal(_ *starlark.Thread, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	for _, kv := range kwargs {
		args = append(args[:len(args):len(args)], kv[1])
	}
	for _, a := range args {
		switch a.(type) {
		case *starlark.List, *starlark.Dict, *starlark.Set, *starlark.Function:
			return nil, fmt.Errorf("what %s does with a %s is not known", o.what, typeName(a))
		}
	}
	return opaque{what: "what " + shorten(o.what, 60) + " returns"}, nil
}

func (o opaque) unknown() error { return fmt.Errorf("the value of %s is not known", o.what) }

// iterator is what generator expressions, zip, map and their like return: it
// can be walked through once.
type iterator struct {
	what  string
	items *starlark.List
}

func (it *iterator) String() string { return "<" + it.what + ">" }

// Type implements starlark.Value.
func (it *iterator) Type() string { return it.what }

// Freeze implements starlark.Value.
func (it *iterator) Freeze() {}

// Truth implements starlark.Value.
func (it *iterator) Truth() starlark.Bool { return true }

// Hash implements starlark.Value.
func (it *iterator) Hash() (uint32, error) { return 0, errors.New("an iterator can't be a key") }

// take returns the elements and leaves the iterator exhausted.
func (it *iterator) take() *starlark.List {
	items := it.items
	it.items = starlark.NewList(nil)
	return items
}

// view is what a dict's keys, values and items return: it follows the dict.
type view struct {
	what string
	dict *starlark.Dict
}

func (v view) String() string { return "<" + v.what + ">" }

// Type implements starlark.Value.
func (v view) Type() string { return v.what }

// Freeze implements starlark.Value.
func (v view) Freeze() {}

// Truth implements starlark.Value.
func (v view) Truth() starlark.Bool { return v.dict.Len() > 0 }

// Hash implements starlark.Value.
func (v view) Hash() (uint32, error) { return 0, errors.New("a dict view can't be a key") }

// Len implements starlark.Sequence.
func (v view) Len() int { return v.dict.Len() }

// Iterate implements starlark.Iterable.
func (v view) Iterate() starlark.Iterator {
	if v.what == "dict_keys" {
		return v.dict.Iterate()
	}
	items := make([]starlark.Value, 0, v.dict.Len())
	for _, kv := range v.dict.Items() {
		if v.what == "dict_values" {
			items = append(items, kv[1])
		} else {
			items = append(items, kv)
		}
	}
	return starlark.NewList(items).Iterate()
}

// known returns an error for a value that must not decide anything.
func known(v starlark.Value) error {
	switch v := v.(type) {
	case opaque:
		return v.unknown()
	case deleted:
		return errors.New("a deleted name is used")
	}
	return nil
}

// deleted is what a name holds after del.
type deleted struct{}

func (deleted) String() string { return "<deleted>" }

// Type implements starlark.Value.
func (deleted) Type() string { return "deleted name" }

// Freeze implements starlark.Value.
func (deleted) Freeze() {}

// Truth implements starlark.Value.
func (deleted) Truth() starlark.Bool { return false }

// Hash implements starlark.Value.
func (deleted) Hash() (uint32, error) { return 0, errors.New("a deleted name is used") }

// typeName is Python's name of a value's type.
func typeName(v starlark.Value) string {
	switch v := v.(type) {
	case starlark.String:
		return "str"
	case *starlark.Builtin, *starlark.Function:
		return "function"
	case *starlarkstruct.Module:
		return "module"
	default:
		return v.Type()
	}
}

func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	cut := n
	for cut > 0 && s[cut]&0xC0 == 0x80 {
		cut--
	}
	return s[:cut] + "..."
}
