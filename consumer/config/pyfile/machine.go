package pyfile

import (
	"errors"
	"fmt"

	"go.starlark.net/starlark"
)

// machine holds the state of one evaluation: the run-time helpers are its
// methods.
type machine struct {
	host    Host
	thread  *starlark.Thread
	lines   map[string]int
	modules map[string]starlark.Value
}

// charge takes n units off the budget of steps that bounds the evaluation.
// Helpers charge what they allocate or walk through, before they do it.
func (m *machine) charge(n int) error {
	m.thread.Steps += uint64(max(n, 0))
	if m.thread.Steps >= maxSteps {
		return errors.New("the file takes too long to evaluate")
	}
	return nil
}

func (m *machine) chargeElements(n int) error {
	if n > maxElements {
		return fmt.Errorf("a value grows beyond %d elements", maxElements)
	}
	return m.charge(n)
}

func (m *machine) chargeBytes(n int) error {
	if n > maxBytes {
		return fmt.Errorf("a string grows beyond %d bytes", maxBytes)
	}
	return m.charge(n / 16)
}

// function makes a builtin that takes no keyword arguments and from least to
// most positional ones.
func function(name string, least, most int, fn func(args starlark.Tuple) (starlark.Value, error)) *starlark.Builtin {
	return starlark.NewBuiltin(name, func(_ *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		if len(kwargs) > 0 {
			return nil, fmt.Errorf("%s with the keyword argument %s is not understood", name, kwargs[0][0])
		}
		if len(args) < least || len(args) > most {
			return nil, fmt.Errorf("%s with %d arguments is not understood", name, len(args))
		}
		return fn(args)
	})
}

// predeclared returns every name a file can use without defining it: the
// helpers of the lowering, Python's builtins, and classes that are only named.
func (m *machine) predeclared() starlark.StringDict {
	d := starlark.StringDict{
		"$None": starlark.None, "$True": starlark.True, "$False": starlark.False, "$deleted": deleted{},
		// fedmsg executes its files with empty globals.
		"__name__": starlark.String("builtins"),
	}
	for name, fn := range map[string]func(starlark.Tuple) (starlark.Value, error){
		"$truth":     func(a starlark.Tuple) (starlark.Value, error) { return truth(a[0]) },
		"$decidable": func(a starlark.Tuple) (starlark.Value, error) { return a[0], known(a[0]) },
		"$binary": func(a starlark.Tuple) (starlark.Value, error) {
			return m.binary(string(a[0].(starlark.String)), a[1], a[2])
		},
		"$inplace": func(a starlark.Tuple) (starlark.Value, error) {
			return m.inPlace(string(a[0].(starlark.String)), a[1], a[2])
		},
		"$compare": func(a starlark.Tuple) (starlark.Value, error) {
			return m.compare(string(a[0].(starlark.String)), a[1], a[2])
		},
		"$unary":   func(a starlark.Tuple) (starlark.Value, error) { return unary(string(a[0].(starlark.String)), a[1]) },
		"$attr":    func(a starlark.Tuple) (starlark.Value, error) { return m.attr(a[0], string(a[1].(starlark.String))) },
		"$index":   func(a starlark.Tuple) (starlark.Value, error) { return m.index(a[0], a[1]) },
		"$slice":   func(a starlark.Tuple) (starlark.Value, error) { return m.slice(a[0], a[1:]) },
		"$setitem": func(a starlark.Tuple) (starlark.Value, error) { return starlark.None, m.setItem(a[0], a[1], a[2]) },
		"$delitem": func(a starlark.Tuple) (starlark.Value, error) { return starlark.None, m.delItem(a[0], a[1]) },
		"$iter":    func(a starlark.Tuple) (starlark.Value, error) { return m.iterable(a[0]) },
		"$spread":  func(a starlark.Tuple) (starlark.Value, error) { return m.spread(a[0]) },
		"$dict":    func(a starlark.Tuple) (starlark.Value, error) { return m.dictDisplay(a[0].(*starlark.List)) },
		"$set":     func(a starlark.Tuple) (starlark.Value, error) { return m.newSet(a[0]) },
		"$tuple": func(a starlark.Tuple) (starlark.Value, error) {
			elems, err := m.elements(a[0])
			return starlark.Tuple(elems), err
		},
		"$generator": func(a starlark.Tuple) (starlark.Value, error) {
			return &iterator{what: "generator", items: a[0].(*starlark.List)}, nil
		},
		"$concat": func(a starlark.Tuple) (starlark.Value, error) { return m.concat(a[0].(*starlark.List)) },
		"$format": func(a starlark.Tuple) (starlark.Value, error) {
			return m.formatValue(a[0], string(a[1].(starlark.String)), string(a[2].(starlark.String)))
		},
		"$import": func(a starlark.Tuple) (starlark.Value, error) { return m.module(string(a[0].(starlark.String))), nil },
		"$importerror": func(a starlark.Tuple) (starlark.Value, error) {
			return nil, fmt.Errorf("the module %s is not available to a configuration file", a[0])
		},
		"$unsupported": func(a starlark.Tuple) (starlark.Value, error) {
			return nil, fmt.Errorf("%s is not understood", string(a[0].(starlark.String)))
		},
		"$raise": func(a starlark.Tuple) (starlark.Value, error) {
			return nil, fmt.Errorf("the file stops with %q", string(a[0].(starlark.String)))
		},
		"$assert": func(a starlark.Tuple) (starlark.Value, error) { return starlark.None, assert(a[0]) },
		// The values after the name are only evaluated, for the errors in them.
		"$opaque": func(a starlark.Tuple) (starlark.Value, error) {
			return opaque{what: string(a[0].(starlark.String))}, nil
		},
	} {
		d[name] = function(name, 1, maxArguments+8, fn)
	}
	m.addBuiltins(d)
	return d
}

func truth(v starlark.Value) (starlark.Value, error) {
	if err := known(v); err != nil {
		return nil, err
	}
	return v.Truth(), nil
}

func assert(v starlark.Value) error {
	t, err := truth(v)
	if err == nil && t == starlark.False {
		err = errors.New("an assertion of the file fails")
	}
	return err
}

// iterable returns something Starlark can iterate over; a string yields its
// characters, bytes their numbers, an iterator what is left of it.
func (m *machine) iterable(v starlark.Value) (starlark.Value, error) {
	if err := known(v); err != nil {
		return nil, err
	}
	switch x := v.(type) {
	case starlark.String:
		if err := m.chargeElements(len(x)); err != nil {
			return nil, err
		}
		var elems []starlark.Value
		for _, r := range string(x) {
			elems = append(elems, starlark.String(r))
		}
		return starlark.NewList(elems), nil
	case starlark.Bytes:
		if err := m.chargeElements(len(x)); err != nil {
			return nil, err
		}
		elems := make([]starlark.Value, len(x))
		for i := range len(x) {
			elems[i] = starlark.MakeInt(int(x[i]))
		}
		return starlark.NewList(elems), nil
	case *iterator:
		return x.take(), nil
	case starlark.Sequence:
		return v, nil
	}
	return nil, fmt.Errorf("a %s can't be iterated over", typeName(v))
}

// elements returns a copy of what v iterates over.
func (m *machine) elements(v starlark.Value) ([]starlark.Value, error) {
	it, err := m.iterable(v)
	if err != nil {
		return nil, err
	}
	seq := it.(starlark.Sequence)
	if err := m.chargeElements(seq.Len()); err != nil {
		return nil, err
	}
	elems := make([]starlark.Value, 0, seq.Len())
	iter := seq.Iterate()
	defer iter.Done()
	for x := starlark.Value(nil); iter.Next(&x); {
		elems = append(elems, x)
	}
	return elems, nil
}

func (m *machine) spread(parts starlark.Value) (starlark.Value, error) {
	var all []starlark.Value
	list := parts.(*starlark.List)
	for i := range list.Len() {
		elems, err := m.elements(list.Index(i))
		if err != nil {
			return nil, err
		}
		all = append(all, elems...)
	}
	return starlark.NewList(all), m.chargeElements(len(all))
}

// dictDisplay builds a dict from tuples (key, value, line) and, for **, (dict).
func (m *machine) dictDisplay(entries *starlark.List) (starlark.Value, error) {
	d := starlark.NewDict(entries.Len())
	if err := m.chargeElements(entries.Len()); err != nil {
		return nil, err
	}
	for i := range entries.Len() {
		t := entries.Index(i).(starlark.Tuple)
		if len(t) == 1 {
			other, ok := t[0].(*starlark.Dict)
			if !ok {
				return nil, fmt.Errorf("** of a %s is not understood", typeName(t[0]))
			}
			if err := m.merge(d, other); err != nil {
				return nil, err
			}
			continue
		}
		if err := m.setKey(d, t[0], t[1]); err != nil {
			return nil, err
		}
		if key, ok := t[0].(starlark.String); ok {
			line, _ := starlark.AsInt32(t[2])
			m.lines[string(key)] = line
		}
	}
	return d, nil
}

func (m *machine) merge(d, other *starlark.Dict) error {
	if err := m.chargeElements(d.Len() + other.Len()); err != nil {
		return err
	}
	for _, kv := range other.Items() {
		if err := m.setKey(d, kv[0], kv[1]); err != nil {
			return err
		}
	}
	return nil
}

func (m *machine) newSet(v starlark.Value) (starlark.Value, error) {
	elems, err := m.elements(v)
	if err != nil {
		return nil, err
	}
	s := starlark.NewSet(len(elems))
	for _, e := range elems {
		if err := m.key(e); err != nil {
			return nil, err
		}
		if other := twin(e); other != nil {
			if clash, _ := s.Has(other); clash {
				return nil, errors.New("a set that mixes True or False with 1 or 0 is not understood")
			}
		}
		if err := s.Insert(e); err != nil {
			return nil, err
		}
	}
	return s, nil
}
