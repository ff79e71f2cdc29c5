package pyfile

import (
	"errors"
	"fmt"
	"sort"

	"go.starlark.net/starlark"
	"go.starlark.net/starlarkstruct"
)

// attr is x.name.
func (m *machine) attr(x starlark.Value, name string) (starlark.Value, error) {
	var v starlark.Value
	switch x := x.(type) {
	case opaque:
		v = opaque{what: shorten(x.what, 60) + "." + name}
	case *starlarkstruct.Module:
		if v = x.Members[name]; v == nil {
			return nil, fmt.Errorf("%s.%s is not available to a configuration file", x.Name, name)
		}
	case class:
		if v = x.members[name]; v == nil {
			return nil, fmt.Errorf("%s.%s is not available to a configuration file", x.Name(), name)
		}
	case starlark.String:
		v = m.stringMethod(x, name)
	case starlark.Bytes:
		v = m.bytesMethod(x, name)
	case *starlark.List:
		v = m.listMethod(x, name)
	case *starlark.Dict:
		v = m.dictMethod(x, name)
	case *starlark.Set:
		v = m.setMethod(x, name)
	case starlark.Tuple:
		v = m.sequenceMethod(x, name)
	case timedelta:
		v = timedeltaAttr(x, name)
	case Datetime:
		v = datetimeAttr(x, name)
	}
	if v == nil {
		return nil, fmt.Errorf("%s.%s is not understood", typeName(x), name)
	}
	return v, nil
}

// sequenceMethod returns the methods that lists and tuples share.
func (m *machine) sequenceMethod(seq starlark.Indexable, name string) starlark.Value {
	switch name {
	case "index":
		return function(name, 1, 1, func(args starlark.Tuple) (starlark.Value, error) {
			for i := range seq.Len() {
				same, err := m.equal(args[0], seq.Index(i), 0)
				if err != nil {
					return nil, err
				}
				if same {
					return starlark.MakeInt(i), nil
				}
			}
			return nil, errors.New("index finds no such element")
		})
	case "count":
		return function(name, 1, 1, func(args starlark.Tuple) (starlark.Value, error) {
			n := 0
			for i := range seq.Len() {
				same, err := m.equal(args[0], seq.Index(i), 0)
				if err != nil {
					return nil, err
				}
				if same {
					n++
				}
			}
			return starlark.MakeInt(n), nil
		})
	}
	return nil
}

func (m *machine) listMethod(l *starlark.List, name string) starlark.Value {
	switch name {
	case "append":
		return function(name, 1, 1, func(args starlark.Tuple) (starlark.Value, error) {
			return starlark.None, m.extend(l, args)
		})
	case "extend":
		return function(name, 1, 1, func(args starlark.Tuple) (starlark.Value, error) {
			elems, err := m.elements(args[0])
			if err != nil {
				return nil, err
			}
			return starlark.None, m.extend(l, elems)
		})
	case "insert":
		return function(name, 2, 2, func(args starlark.Tuple) (starlark.Value, error) {
			return starlark.None, m.listInsert(l, args[0], args[1])
		})
	case "pop":
		return function(name, 0, 1, func(args starlark.Tuple) (starlark.Value, error) {
			i := starlark.Value(starlark.MakeInt(-1))
			if len(args) == 1 {
				i = args[0]
			}
			at, err := position(i, l.Len())
			if err != nil {
				return nil, err
			}
			return m.listPop(l, at)
		})
	case "remove":
		return function(name, 1, 1, func(args starlark.Tuple) (starlark.Value, error) {
			return starlark.None, m.listRemove(l, args[0])
		})
	case "copy":
		return function(name, 0, 0, func(starlark.Tuple) (starlark.Value, error) {
			elems, err := m.elements(l)
			return starlark.NewList(elems), err
		})
	case "clear":
		return function(name, 0, 0, func(starlark.Tuple) (starlark.Value, error) { return starlark.None, l.Clear() })
	case "reverse":
		return function(name, 0, 0, func(starlark.Tuple) (starlark.Value, error) {
			elems, err := m.elements(l)
			if err != nil {
				return nil, err
			}
			reverse(elems)
			return starlark.None, m.replace(l, elems)
		})
	case "sort":
		return starlark.NewBuiltin(name, func(_ *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
			if len(args) > 0 {
				return nil, errors.New("sort takes no positional arguments")
			}
			elems, err := m.sorted(l, kwargs)
			if err != nil {
				return nil, err
			}
			return starlark.None, m.replace(l, elems)
		})
	}
	return m.sequenceMethod(l, name)
}

func (m *machine) listInsert(l *starlark.List, at, v starlark.Value) error {
	n, err := starlark.AsInt32(at)
	if err != nil {
		return fmt.Errorf("a %s is no index", typeName(at))
	}
	elems, err := m.elements(l)
	if err != nil {
		return err
	}
	if n < 0 {
		n = max(n+len(elems), 0)
	}
	n = min(n, len(elems))
	elems = append(elems[:n], append([]starlark.Value{v}, elems[n:]...)...)
	return m.replace(l, elems)
}

func (m *machine) listRemove(l *starlark.List, v starlark.Value) error {
	for i := range l.Len() {
		same, err := m.equal(v, l.Index(i), 0)
		if err != nil {
			return err
		}
		if same {
			_, err := m.listPop(l, i)
			return err
		}
	}
	return errors.New("remove finds no such element")
}

func reverse(elems []starlark.Value) {
	for i, j := 0, len(elems)-1; i < j; i, j = i+1, j-1 {
		elems[i], elems[j] = elems[j], elems[i]
	}
}

// sorted returns the sorted elements of v; kwargs are key and reverse.
func (m *machine) sorted(v starlark.Value, kwargs []starlark.Tuple) ([]starlark.Value, error) {
	elems, err := m.elements(v)
	if err != nil {
		return nil, err
	}
	var key starlark.Value = starlark.None
	var descending bool
	if err := starlark.UnpackArgs("sort", nil, kwargs, "key?", &key, "reverse?", &descending); err != nil {
		return nil, fmt.Errorf("the arguments of a sort are not understood: %w", err)
	}
	type item struct{ key, value starlark.Value }
	items := make([]item, len(elems))
	for i, e := range elems {
		items[i] = item{key: e, value: e}
		if key != starlark.None {
			if items[i].key, err = starlark.Call(m.thread, key, starlark.Tuple{e}, nil); err != nil {
				return nil, err
			}
		}
	}
	sort.SliceStable(items, func(i, j int) bool {
		if err != nil {
			return false
		}
		if descending {
			i, j = j, i
		}
		var before bool
		before, err = m.less(items[i].key, items[j].key, 0)
		return before
	})
	for i := range items {
		elems[i] = items[i].value
	}
	return elems, err
}

func (m *machine) dictMethod(d *starlark.Dict, name string) starlark.Value {
	switch name {
	case "get", "setdefault":
		return function(name, 1, 2, func(args starlark.Tuple) (starlark.Value, error) {
			v, found, err := m.getKey(d, args[0])
			if err != nil || found {
				return v, err
			}
			v = starlark.None
			if len(args) == 2 {
				v = args[1]
			}
			if name == "setdefault" {
				err = m.setItem(d, args[0], v)
			}
			return v, err
		})
	case "pop":
		return function(name, 1, 2, func(args starlark.Tuple) (starlark.Value, error) {
			v, found, err := m.getKey(d, args[0])
			switch {
			case err != nil:
				return nil, err
			case found:
				_, _, err = d.Delete(args[0])
				return v, err
			case len(args) == 2:
				return args[1], nil
			}
			return nil, fmt.Errorf("the key %s is missing", m.describe(args[0]))
		})
	case "keys", "values", "items":
		return function(name, 0, 0, func(starlark.Tuple) (starlark.Value, error) {
			return view{what: "dict_" + name, dict: d}, m.chargeElements(d.Len())
		})
	case "copy":
		return function(name, 0, 0, func(starlark.Tuple) (starlark.Value, error) {
			fresh := starlark.NewDict(d.Len())
			return fresh, m.merge(fresh, d)
		})
	case "clear":
		return function(name, 0, 0, func(starlark.Tuple) (starlark.Value, error) { return starlark.None, d.Clear() })
	case "update":
		return starlark.NewBuiltin(name, func(_ *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
			return starlark.None, m.update(d, args, kwargs)
		})
	}
	return nil
}

// update fills a dict as dict(...) and dict.update(...) do.
func (m *machine) update(d *starlark.Dict, args starlark.Tuple, kwargs []starlark.Tuple) error {
	if len(args) > 1 {
		return errors.New("a dict is filled from more than one value")
	}
	if len(args) == 1 {
		if other, ok := args[0].(*starlark.Dict); ok {
			if err := m.merge(d, other); err != nil {
				return err
			}
		} else if err := m.updatePairs(d, args[0]); err != nil {
			return err
		}
	}
	for _, kv := range kwargs {
		if err := m.setItem(d, kv[0], kv[1]); err != nil {
			return err
		}
	}
	return nil
}

func (m *machine) updatePairs(d *starlark.Dict, v starlark.Value) error {
	pairs, err := m.elements(v)
	if err != nil {
		return err
	}
	for _, p := range pairs {
		kv, err := m.elements(p)
		if err != nil {
			return err
		}
		if len(kv) != 2 {
			return errors.New("a dict is filled from something that is no pair")
		}
		if err := m.setItem(d, kv[0], kv[1]); err != nil {
			return err
		}
	}
	return nil
}

func (m *machine) setMethod(s *starlark.Set, name string) starlark.Value {
	switch name {
	case "add":
		return function(name, 1, 1, func(args starlark.Tuple) (starlark.Value, error) {
			if found, err := m.contains(s, args[0]); found || err != nil {
				return starlark.None, err
			}
			return starlark.None, s.Insert(args[0])
		})
	case "discard":
		return function(name, 1, 1, func(args starlark.Tuple) (starlark.Value, error) {
			if err := m.key(args[0]); err != nil {
				return nil, err
			}
			_, err := s.Delete(args[0])
			return starlark.None, err
		})
	case "union", "difference", "intersection":
		op := map[string]string{"union": "|", "difference": "-", "intersection": "&"}[name]
		return function(name, 1, 1, func(args starlark.Tuple) (starlark.Value, error) {
			other, err := m.newSet(args[0])
			if err != nil {
				return nil, err
			}
			return m.binary(op, s, other)
		})
	}
	return nil
}
