package pyfile

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.starlark.net/starlark"
)

// class is a type of Python's that can be called and asked for members.
type class struct {
	*starlark.Builtin
	members starlark.StringDict
}

// addBuiltins adds Python's own functions, and names that are only named.
func (m *machine) addBuiltins(d starlark.StringDict) {
	for name, fn := range map[string]func(starlark.Value) (starlark.Value, error){
		"len":   m.length,
		"repr":  func(v starlark.Value) (starlark.Value, error) { s, err := m.repr(v); return starlark.String(s), err },
		"bool":  truth,
		"float": toFloat,
		"abs":   m.abs,
		"hex":   func(v starlark.Value) (starlark.Value, error) { return based(v, 'x') },
		"oct":   func(v starlark.Value) (starlark.Value, error) { return based(v, 'o') },
		"bin":   func(v starlark.Value) (starlark.Value, error) { return based(v, 'b') },
		"chr":   chr,
		"ord":   ord,
		"any":   func(v starlark.Value) (starlark.Value, error) { return m.anyAll(v, true) },
		"all":   func(v starlark.Value) (starlark.Value, error) { return m.anyAll(v, false) },
		"callable": func(v starlark.Value) (starlark.Value, error) {
			_, ok := v.(starlark.Callable)
			return starlark.Bool(ok), known(v)
		},
	} {
		d[name] = function(name, 1, 1, func(a starlark.Tuple) (starlark.Value, error) { return fn(a[0]) })
	}
	d["str"] = function("str", 0, 1, func(a starlark.Tuple) (starlark.Value, error) {
		if len(a) == 0 {
			return starlark.String(""), nil
		}
		s, err := m.str(a[0])
		return starlark.String(s), err
	})
	d["int"] = function("int", 0, 2, toInt)
	d["round"] = function("round", 1, 2, round)
	d["range"] = function("range", 1, 3, m.rangeOf)
	d["sum"] = function("sum", 1, 2, m.sum)
	d["isinstance"] = function("isinstance", 2, 2, func(a starlark.Tuple) (starlark.Value, error) { return isInstance(a[0], a[1]) })
	d["format"] = function("format", 1, 2, func(a starlark.Tuple) (starlark.Value, error) {
		spec := ""
		if len(a) == 2 {
			spec, _ = starlark.AsString(a[1])
		}
		return m.formatValue(a[0], "", spec)
	})
	d["print"] = starlark.NewBuiltin("print", func(*starlark.Thread, *starlark.Builtin, starlark.Tuple, []starlark.Tuple) (starlark.Value, error) {
		return starlark.None, nil
	})
	d["min"] = function("min", 1, maxArguments, func(a starlark.Tuple) (starlark.Value, error) { return m.extreme(a, false) })
	d["max"] = function("max", 1, maxArguments, func(a starlark.Tuple) (starlark.Value, error) { return m.extreme(a, true) })
	m.addCollections(d)
	for _, name := range []string{
		"object", "property", "staticmethod", "classmethod", "super", "BaseException", "Exception", "ValueError", "RuntimeError",
		"KeyError", "IndexError", "ImportError", "OSError", "IOError", "TypeError", "AttributeError", "NotImplementedError",
		"Warning", "RuntimeWarning", "DeprecationWarning", "UserWarning",
	} {
		d[name] = opaque{what: name}
	}
}

// addCollections adds what makes or walks through collections.
func (m *machine) addCollections(d starlark.StringDict) {
	optional := func(a starlark.Tuple) ([]starlark.Value, error) {
		if len(a) == 0 {
			return nil, nil
		}
		return m.elements(a[0])
	}
	d["list"] = function("list", 0, 1, func(a starlark.Tuple) (starlark.Value, error) {
		elems, err := optional(a)
		return starlark.NewList(elems), err
	})
	d["tuple"] = function("tuple", 0, 1, func(a starlark.Tuple) (starlark.Value, error) {
		elems, err := optional(a)
		return starlark.Tuple(elems), err
	})
	d["set"] = function("set", 0, 1, func(a starlark.Tuple) (starlark.Value, error) {
		elems, err := optional(a)
		if err != nil {
			return nil, err
		}
		return m.newSet(starlark.NewList(elems))
	})
	d["dict"] = starlark.NewBuiltin("dict", func(_ *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		fresh := starlark.NewDict(len(kwargs))
		return fresh, m.update(fresh, args, kwargs)
	})
	d["sorted"] = starlark.NewBuiltin("sorted", func(_ *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		if len(args) != 1 {
			return nil, errors.New("sorted takes one positional argument")
		}
		elems, err := m.sorted(args[0], kwargs)
		return starlark.NewList(elems), err
	})
	d["reversed"] = function("reversed", 1, 1, func(a starlark.Tuple) (starlark.Value, error) {
		switch a[0].(type) {
		case *starlark.Set, *iterator:
			return nil, fmt.Errorf("reversed of a %s is an error", typeName(a[0]))
		}
		elems, err := m.elements(a[0])
		reverse(elems)
		return &iterator{what: "reversed", items: starlark.NewList(elems)}, err
	})
	d["enumerate"] = function("enumerate", 1, 2, m.enumerate)
	d["zip"] = function("zip", 0, maxArguments, m.zip)
	d["map"] = function("map", 2, maxArguments, m.mapOver)
	d["filter"] = function("filter", 2, 2, m.filter)
}

func (m *machine) length(v starlark.Value) (starlark.Value, error) {
	if s, ok := v.(starlark.String); ok {
		return starlark.MakeInt(utf8.RuneCountInString(string(s))), m.chargeBytes(len(s))
	}
	if n := starlark.Len(v); n >= 0 {
		return starlark.MakeInt(n), nil
	}
	return nil, fmt.Errorf("a %s has no length", typeName(v))
}

func toFloat(v starlark.Value) (starlark.Value, error) {
	if n, ok := number(v); ok {
		f, ok := starlark.AsFloat(n)
		if !ok || math.IsInf(f, 0) && !isInf(v) {
			return nil, errors.New("a number is too large for a float")
		}
		return starlark.Float(f), nil
	}
	s, ok := v.(starlark.String)
	if text := strings.TrimSpace(string(s)); ok && text != "" && strings.Trim(text, "0123456789.eE+-") == "" {
		if f, err := strconv.ParseFloat(text, 64); err == nil {
			return starlark.Float(f), nil
		}
	}
	return nil, fmt.Errorf("a %s is not understood as a float", typeName(v))
}

func isInf(v starlark.Value) bool {
	f, ok := v.(starlark.Float)
	return ok && math.IsInf(float64(f), 0)
}

func toInt(a starlark.Tuple) (starlark.Value, error) {
	if len(a) == 0 {
		return starlark.MakeInt(0), nil
	}
	base := 10
	if len(a) == 2 {
		b, err := starlark.AsInt32(a[1])
		if err != nil || b < 2 || b > 36 {
			return nil, errors.New("the base of int is not understood")
		}
		base = b
	} else if n, ok := number(a[0]); ok {
		i, err := starlark.NumberToInt(n)
		if err != nil {
			return nil, errors.New("a float is no int")
		}
		return i, nil
	}
	s, ok := a[0].(starlark.String)
	text := strings.TrimSpace(string(s))
	if ok && len(text) <= maxDigits && text != "" {
		if i, ok := new(big.Int).SetString(text, base); ok {
			return starlark.MakeBigInt(i), nil
		}
	}
	return nil, fmt.Errorf("a %s is not understood as an int", typeName(a[0]))
}

func (m *machine) abs(v starlark.Value) (starlark.Value, error) {
	n, ok := number(v)
	if !ok {
		return nil, fmt.Errorf("abs of a %s is not understood", typeName(v))
	}
	if negative, err := m.less(n, starlark.MakeInt(0), 0); !negative || err != nil {
		return n, err
	}
	return unary("-", n)
}

func based(v starlark.Value, verb byte) (starlark.Value, error) {
	n, ok := v.(starlark.Int)
	if !ok {
		return nil, fmt.Errorf("a %s is no int", typeName(v))
	}
	s, err := formatSpec{fill: ' ', sign: '-', precision: -1, alternate: true, verb: verb}.integer(n.BigInt())
	return starlark.String(s), err
}

func chr(v starlark.Value) (starlark.Value, error) {
	n, err := starlark.AsInt32(v)
	if err != nil || !utf8.ValidRune(rune(n)) {
		return nil, errors.New("the argument of chr is no character")
	}
	return starlark.String(rune(n)), nil
}

func ord(v starlark.Value) (starlark.Value, error) {
	s, ok := v.(starlark.String)
	if !ok || utf8.RuneCountInString(string(s)) != 1 {
		return nil, errors.New("the argument of ord is not one character")
	}
	r, _ := utf8.DecodeRuneInString(string(s))
	return starlark.MakeInt(int(r)), nil
}

// anyAll is any (stop at true) and all (stop at false).
func (m *machine) anyAll(v starlark.Value, stop bool) (starlark.Value, error) {
	elems, err := m.elements(v)
	if err != nil {
		return nil, err
	}
	for _, e := range elems {
		t, err := truth(e)
		if err != nil {
			return nil, err
		}
		if bool(t.(starlark.Bool)) == stop {
			return starlark.Bool(stop), nil
		}
	}
	return starlark.Bool(!stop), nil
}

func round(a starlark.Tuple) (starlark.Value, error) {
	f, ok := a[0].(starlark.Float)
	if !ok || isInf(f) {
		if n, isInt := a[0].(starlark.Int); isInt && len(a) == 1 {
			return n, nil
		}
		return nil, fmt.Errorf("this use of round on a %s is not understood", typeName(a[0]))
	}
	if len(a) == 1 {
		return starlark.NumberToInt(starlark.Float(math.RoundToEven(float64(f))))
	}
	digits, err := starlark.AsInt32(a[1])
	if err != nil || digits < 0 || digits > 300 {
		return nil, errors.New("the digits of round are not understood")
	}
	out, err := strconv.ParseFloat(strconv.FormatFloat(float64(f), 'f', digits, 64), 64)
	return starlark.Float(out), err
}

func (m *machine) rangeOf(a starlark.Tuple) (starlark.Value, error) {
	v, err := starlark.Call(m.thread, starlark.Universe["range"], a, nil)
	if err != nil {
		return nil, errors.New("the arguments of range are not understood")
	}
	if starlark.Len(v) > maxElements {
		return nil, fmt.Errorf("a range has more than %d elements", maxElements)
	}
	return v, nil
}

func (m *machine) sum(a starlark.Tuple) (starlark.Value, error) {
	elems, err := m.elements(a[0])
	if err != nil {
		return nil, err
	}
	total := starlark.Value(starlark.MakeInt(0))
	if len(a) == 2 {
		total = a[1]
	}
	if _, text := total.(starlark.String); text {
		return nil, errors.New("sum of strings is an error")
	}
	for _, e := range elems {
		if b, ok := e.(starlark.Bool); ok {
			e = twin(b)
		}
		if total, err = m.binary("+", total, e); err != nil {
			return nil, err
		}
	}
	return total, nil
}

// extreme is min and max; of equal elements the first wins.
func (m *machine) extreme(a starlark.Tuple, largest bool) (starlark.Value, error) {
	elems := []starlark.Value(a)
	if len(a) == 1 {
		var err error
		if elems, err = m.elements(a[0]); err != nil {
			return nil, err
		}
	}
	if len(elems) == 0 {
		return nil, errors.New("min or max of nothing is an error")
	}
	best := elems[0]
	for _, e := range elems[1:] {
		x, y := e, best
		if largest {
			x, y = best, e
		}
		better, err := m.less(x, y, 0)
		if err != nil {
			return nil, err
		}
		if better {
			best = e
		}
	}
	return best, known(best)
}

func (m *machine) enumerate(a starlark.Tuple) (starlark.Value, error) {
	elems, err := m.elements(a[0])
	if err != nil {
		return nil, err
	}
	start := 0
	if len(a) == 2 {
		if start, err = starlark.AsInt32(a[1]); err != nil {
			return nil, errors.New("the start of enumerate is not understood")
		}
	}
	for i, e := range elems {
		elems[i] = starlark.Tuple{starlark.MakeInt(start + i), e}
	}
	return &iterator{what: "enumerate", items: starlark.NewList(elems)}, nil
}

func (m *machine) zip(a starlark.Tuple) (starlark.Value, error) {
	var rows []starlark.Value
	for i, arg := range a {
		elems, err := m.elements(arg)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			rows = make([]starlark.Value, len(elems))
			for j := range rows {
				rows[j] = starlark.Tuple(nil)
			}
		}
		rows = rows[:min(len(rows), len(elems))]
		for j := range rows {
			rows[j] = append(rows[j].(starlark.Tuple), elems[j])
		}
	}
	return &iterator{what: "zip", items: starlark.NewList(rows)}, nil
}

func (m *machine) mapOver(a starlark.Tuple) (starlark.Value, error) {
	rows, err := m.zip(a[1:])
	if err != nil {
		return nil, err
	}
	items := rows.(*iterator).items
	out := make([]starlark.Value, items.Len())
	for i := range out {
		if out[i], err = starlark.Call(m.thread, a[0], items.Index(i).(starlark.Tuple), nil); err != nil {
			return nil, err
		}
	}
	return &iterator{what: "map", items: starlark.NewList(out)}, nil
}

func (m *machine) filter(a starlark.Tuple) (starlark.Value, error) {
	elems, err := m.elements(a[1])
	if err != nil {
		return nil, err
	}
	var kept []starlark.Value
	for _, e := range elems {
		verdict := e
		if a[0] != starlark.None {
			if verdict, err = starlark.Call(m.thread, a[0], starlark.Tuple{e}, nil); err != nil {
				return nil, err
			}
		}
		t, err := truth(verdict)
		if err != nil {
			return nil, err
		}
		if t == starlark.True {
			kept = append(kept, e)
		}
	}
	return &iterator{what: "filter", items: starlark.NewList(kept)}, nil
}

// isInstance answers for the built-in types, named by their constructors.
func isInstance(v, types starlark.Value) (starlark.Value, error) {
	if err := known(v); err != nil {
		return nil, err
	}
	list, ok := types.(starlark.Tuple)
	if !ok {
		list = starlark.Tuple{types}
	}
	name := typeName(v)
	for _, t := range list {
		b, ok := t.(*starlark.Builtin)
		if !ok {
			return nil, fmt.Errorf("isinstance with a %s is not understood", typeName(t))
		}
		switch b.Name() {
		case "str", "int", "float", "bool", "list", "tuple", "dict", "set":
		default:
			return nil, fmt.Errorf("isinstance with %s is not understood", b.Name())
		}
		if name == b.Name() || name == "bool" && b.Name() == "int" {
			return starlark.True, nil
		}
	}
	return starlark.False, nil
}
