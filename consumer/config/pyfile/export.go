package pyfile

import (
	"errors"
	"fmt"
	"sort"

	"go.starlark.net/starlark"
)

// Bytes is a value that Python holds as bytes, not text.
type Bytes string

// Opaque is a value that a file holds but that cannot be expressed: a class, a
// function, a logger.
type Opaque struct{ What string }

// exporter turns the values of a file into Go's, with a bound on their number:
// a value that shares its parts can unfold without end.
type exporter struct{ nodes int }

func (e *exporter) value(v starlark.Value, depth int) (any, error) {
	e.nodes++
	if depth > maxDepth || e.nodes > maxNodes {
		return nil, errors.New("the configuration is too large or nested too deep")
	}
	switch v := v.(type) {
	case starlark.NoneType:
		return nil, nil
	case starlark.Bool:
		return bool(v), nil
	case starlark.Int:
		if n, ok := v.Int64(); ok {
			return n, nil
		}
		return v.BigInt(), nil
	case starlark.Float:
		return float64(v), nil
	case starlark.String:
		return string(v), nil
	case starlark.Bytes:
		return Bytes(v), nil
	case timedelta:
		return v.d, nil
	case Datetime:
		return v, nil
	case *starlark.Dict:
		return e.dict(v, depth)
	case *starlark.List:
		return e.sequence(v, depth)
	case starlark.Tuple:
		return e.sequence(v, depth)
	case *starlark.Set:
		return e.set(v, depth)
	case deleted:
		return nil, errors.New("a deleted name is used in the configuration")
	}
	return Opaque{What: typeName(v)}, nil
}

func (e *exporter) sequence(seq starlark.Indexable, depth int) (any, error) {
	out := make([]any, seq.Len())
	for i := range out {
		v, err := e.value(seq.Index(i), depth+1)
		if err != nil {
			return nil, err
		}
		out[i] = v
	}
	return out, nil
}

// set returns the elements of a set in a stable order; Python has none.
func (e *exporter) set(s *starlark.Set, depth int) (any, error) {
	out := make([]any, 0, s.Len())
	for v := range s.Elements() {
		x, err := e.value(v, depth+1)
		if err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	sort.SliceStable(out, func(i, j int) bool { return fmt.Sprint(out[i]) < fmt.Sprint(out[j]) })
	return out, nil
}

func (e *exporter) dict(d *starlark.Dict, depth int) (map[string]any, error) {
	out := make(map[string]any, d.Len())
	for _, kv := range d.Items() {
		key, err := exportedKey(kv[0])
		if err != nil {
			return nil, err
		}
		if _, twice := out[key]; twice {
			return nil, fmt.Errorf("a dict has the key %q as text and as another type", key)
		}
		if out[key], err = e.value(kv[1], depth+1); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// exportedKey writes a key as Python's json module does.
func exportedKey(k starlark.Value) (string, error) {
	switch k := k.(type) {
	case starlark.String:
		return string(k), nil
	case starlark.NoneType:
		return "null", nil
	case starlark.Bool:
		if k {
			return "true", nil
		}
		return "false", nil
	case starlark.Int:
		return k.String(), nil
	case starlark.Float:
		return floatRepr(float64(k)), nil
	}
	return "", fmt.Errorf("a %s as a key of the configuration is not understood", typeName(k))
}
