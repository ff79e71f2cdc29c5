package pyfile

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"go.starlark.net/starlark"
)

// key checks that a value can be a dict key or an element of a set, and that
// hashing it is cheap: tuples can be made that take for ever to walk through.
func (m *machine) key(v starlark.Value) error {
	nodes := 0
	var walk func(v starlark.Value, depth int) error
	walk = func(v starlark.Value, depth int) error {
		nodes++
		if depth > 8 || nodes > 256 {
			return errors.New("a key is too large")
		}
		switch v := v.(type) {
		case starlark.NoneType, starlark.Bool, starlark.Int, starlark.Float, starlark.String, starlark.Bytes:
			return nil
		case starlark.Tuple:
			for _, e := range v {
				if err := walk(e, depth+1); err != nil {
					return err
				}
			}
			return nil
		}
		if err := known(v); err != nil {
			return err
		}
		return fmt.Errorf("a %s as a key is not understood", typeName(v))
	}
	if err := walk(v, 0); err != nil {
		return err
	}
	if s, ok := starlark.AsString(v); ok {
		nodes += len(s) / 16
	}
	return m.charge(nodes)
}

// twin returns the number that Python takes for the same key as a bool, and
// the other way round, or nil. Starlark keeps them apart.
func twin(v starlark.Value) starlark.Value {
	switch v := v.(type) {
	case starlark.Bool:
		if v {
			return starlark.MakeInt(1)
		}
		return starlark.MakeInt(0)
	case starlark.Int:
		if n, ok := v.Int64(); ok && (n == 0 || n == 1) {
			return starlark.Bool(n == 1)
		}
	case starlark.Float:
		if v == 0 || v == 1 {
			return starlark.Bool(v == 1)
		}
	}
	return nil
}

func (m *machine) getKey(d *starlark.Dict, k starlark.Value) (starlark.Value, bool, error) {
	if err := m.key(k); err != nil {
		return nil, false, err
	}
	if other := twin(k); other != nil {
		if _, clash, _ := d.Get(other); clash {
			return nil, false, errors.New("a dict that mixes True or False with 1 or 0 is not understood")
		}
	}
	return d.Get(k)
}

func (m *machine) setKey(d *starlark.Dict, k, v starlark.Value) error {
	if _, _, err := m.getKey(d, k); err != nil {
		return err
	}
	if d.Len() >= maxElements {
		return fmt.Errorf("a value grows beyond %d elements", maxElements)
	}
	return d.SetKey(k, v)
}

// position turns a Python index into one of a sequence of n elements.
func position(i starlark.Value, n int) (int, error) {
	if b, ok := i.(starlark.Bool); ok {
		i = twin(b)
	}
	at, err := starlark.AsInt32(i)
	if err != nil {
		return 0, fmt.Errorf("a %s is no index", typeName(i))
	}
	if at < 0 {
		at += n
	}
	if at < 0 || at >= n {
		return 0, errors.New("an index is out of range")
	}
	return at, nil
}

func (m *machine) index(x, i starlark.Value) (starlark.Value, error) {
	if err := errors.Join(known(x), known(i)); err != nil {
		return nil, err
	}
	switch x := x.(type) {
	case *starlark.Dict:
		v, found, err := m.getKey(x, i)
		if err == nil && !found {
			err = fmt.Errorf("the key %s is missing", m.describe(i))
		}
		return v, err
	case starlark.String:
		if err := m.chargeBytes(len(x)); err != nil {
			return nil, err
		}
		at, err := position(i, utf8.RuneCountInString(string(x)))
		if err != nil {
			return nil, err
		}
		return starlark.String([]rune(string(x))[at]), nil
	case starlark.Bytes:
		at, err := position(i, len(x))
		if err != nil {
			return nil, err
		}
		return starlark.MakeInt(int(x[at])), nil
	case starlark.Indexable:
		at, err := position(i, x.Len())
		if err != nil {
			return nil, err
		}
		return x.Index(at), nil
	}
	return nil, fmt.Errorf("a %s can't be indexed", typeName(x))
}

// slice returns x[low:high:step].
func (m *machine) slice(x starlark.Value, bounds starlark.Tuple) (starlark.Value, error) {
	if err := known(x); err != nil {
		return nil, err
	}
	var sliced starlark.Sliceable
	back := func(v starlark.Value) starlark.Value { return v }
	switch x := x.(type) {
	case starlark.String:
		chars, err := m.elements(x)
		if err != nil {
			return nil, err
		}
		sliced = starlark.Tuple(chars)
		back = func(v starlark.Value) starlark.Value {
			var b strings.Builder
			for _, c := range v.(starlark.Tuple) {
				b.WriteString(string(c.(starlark.String)))
			}
			return starlark.String(b.String())
		}
	case starlark.Bytes, *starlark.List, starlark.Tuple:
		sliced = x.(starlark.Sliceable)
	default:
		return nil, fmt.Errorf("a slice of a %s is not understood", typeName(x))
	}
	low, high, step, err := sliceBounds(bounds, sliced.Len())
	if err != nil {
		return nil, err
	}
	if err := m.charge(sliced.Len()); err != nil {
		return nil, err
	}
	return back(sliced.Slice(low, high, step)), nil
}

// sliceBounds resolves the bounds of a slice as Python's PySlice_AdjustIndices.
func sliceBounds(bounds starlark.Tuple, n int) (low, high, step int, err error) {
	num := func(v starlark.Value, missing int) int {
		if v == starlark.None {
			return missing
		}
		i, ok := v.(starlark.Int)
		if !ok {
			err = fmt.Errorf("a %s is no bound of a slice", typeName(v))
			return 0
		}
		if i64, ok := i.Int64(); ok && i64 > -maxBytes && i64 < maxBytes {
			return int(i64)
		}
		return i.Sign() * maxBytes
	}
	step = num(bounds[2], 1)
	if err == nil && step == 0 {
		err = errors.New("the step of a slice is zero")
	}
	first, last := 0, n
	if step < 0 {
		first, last = n-1, -1
	}
	clamp := func(v starlark.Value, missing int) int {
		if v == starlark.None {
			return missing
		}
		i := num(v, 0)
		if i < 0 {
			i += n
		}
		if step < 0 {
			return min(max(i, -1), n-1)
		}
		return min(max(i, 0), n)
	}
	low, high = clamp(bounds[0], first), clamp(bounds[1], last)
	if step > 0 {
		high = max(high, low)
	} else {
		high = min(high, low)
	}
	return low, high, step, err
}

func (m *machine) setItem(x, k, v starlark.Value) error {
	switch x := x.(type) {
	case *starlark.Dict:
		if err := m.setKey(x, k, v); err != nil {
			return err
		}
		m.noteLine(k)
		return nil
	case *starlark.List:
		at, err := position(k, x.Len())
		if err != nil {
			return err
		}
		return x.SetIndex(at, v)
	}
	if err := known(x); err != nil {
		return err
	}
	return fmt.Errorf("assigning to an element of a %s is not understood", typeName(x))
}

// noteLine remembers the line being executed as the one that set a key.
func (m *machine) noteLine(k starlark.Value) {
	key, ok := k.(starlark.String)
	if !ok {
		return
	}
	for depth := range m.thread.CallStackDepth() {
		if at := m.thread.CallFrame(depth).Pos; at.IsValid() && at.Filename() == m.thread.Name {
			m.lines[string(key)] = int(at.Line)
			return
		}
	}
}

func (m *machine) delItem(x, k starlark.Value) error {
	switch x := x.(type) {
	case *starlark.Dict:
		_, found, err := m.getKey(x, k)
		if err == nil && !found {
			err = fmt.Errorf("the key %s is missing", m.describe(k))
		}
		if err == nil {
			_, _, err = x.Delete(k)
		}
		return err
	case *starlark.List:
		at, err := position(k, x.Len())
		if err != nil {
			return err
		}
		_, err = m.listPop(x, at)
		return err
	}
	return fmt.Errorf("deleting an element of a %s is not understood", typeName(x))
}

// listPop removes and returns one element. Starlark's lists have no method
// for that in Go, so the rest is written back.
func (m *machine) listPop(l *starlark.List, at int) (starlark.Value, error) {
	elems, err := m.elements(l)
	if err != nil {
		return nil, err
	}
	gone := elems[at]
	return gone, m.replace(l, append(elems[:at], elems[at+1:]...))
}

// replace gives a list new elements.
func (m *machine) replace(l *starlark.List, elems []starlark.Value) error {
	if err := m.chargeElements(len(elems)); err != nil {
		return err
	}
	if err := l.Clear(); err != nil {
		return err
	}
	for _, e := range elems {
		if err := l.Append(e); err != nil {
			return err
		}
	}
	return nil
}

// describe is a short form of a value for messages.
func (m *machine) describe(v starlark.Value) string {
	s, err := m.repr(v)
	if err != nil {
		return "<" + typeName(v) + ">"
	}
	return shorten(s, 60)
}
