package config

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/statscache/statscache/consumer/config/pyfile"
)

// given is what one layer (flag, environment or file) says about a setting.
type given struct {
	key    string
	origin string
	value  any
	// text marks a flag or variable: its value is a string to be parsed.
	text bool
}

// wrong makes the error for a value that a setting can't have.
func (g given) wrong(format string, args ...any) error {
	return fmt.Errorf("%s: %s %s", g.origin, g.key, fmt.Sprintf(format, args...))
}

// describe names a value and its Python type in a message.
func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		if v {
			return "True"
		}
		return "False"
	case string:
		return "the str " + strconv.Quote(clip(v))
	case int64:
		return "the int " + strconv.FormatInt(v, 10)
	case *big.Int:
		return "a huge int"
	case float64:
		return "the float " + strconv.FormatFloat(v, 'g', -1, 64)
	case pyfile.Bytes:
		return "bytes"
	case time.Duration:
		return "a timedelta"
	case pyfile.Datetime:
		return "a datetime"
	case []any:
		return "a list"
	case map[string]any:
		return "a dict"
	case pyfile.Opaque:
		return "a " + v.What
	}
	return fmt.Sprintf("a %T", v)
}

func (g given) boolean() (bool, error) {
	if b, ok := g.value.(bool); ok {
		return b, nil
	}
	if s, ok := g.value.(string); ok {
		switch strings.ToLower(strings.TrimSpace(s)) {
		case "true":
			return true, nil
		case "false":
			return false, nil
		}
		if g.text {
			switch strings.ToLower(strings.TrimSpace(s)) {
			case "1", "yes", "on":
				return true, nil
			case "0", "no", "off":
				return false, nil
			}
		}
	}
	return false, g.wrong("must be True or False, not %s", describe(g.value))
}

func (g given) integer(least, most int64) (int64, error) {
	n, ok := g.value.(int64)
	if s, isText := g.value.(string); isText && g.text {
		v, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
		n, ok = v, err == nil
	}
	if !ok {
		return 0, g.wrong("must be an int, not %s", describe(g.value))
	}
	if n < least || n > most {
		return 0, g.wrong("must be between %d and %d, not %d", least, most, n)
	}
	return n, nil
}

func (g given) str() (string, error) {
	s, ok := g.value.(string)
	if !ok {
		return "", g.wrong("must be a str, not %s", describe(g.value))
	}
	return s, nil
}

// duration reads a timedelta, a number of seconds or a text such as 7d.
func (g given) duration() (time.Duration, error) {
	var d time.Duration
	var err error
	switch v := g.value.(type) {
	case time.Duration:
		d = v
	case int64:
		d, err = seconds(float64(v))
	case float64:
		d, err = seconds(v)
	case string:
		d, err = ParseDuration(v)
	default:
		return 0, g.wrong("must be a timedelta, seconds or a text such as 7d, not %s", describe(g.value))
	}
	if err == nil && d < 0 {
		err = fmt.Errorf("a duration of %g seconds is out of range", d.Seconds())
	}
	if err != nil {
		return 0, g.wrong("is wrong: %v", err)
	}
	return d, nil
}

// optional reports whether the value is None (null or none in a variable).
func (g given) optional() bool {
	s, ok := g.value.(string)
	return g.value == nil || ok && g.text && slices.Contains([]string{"none", "null"}, strings.ToLower(strings.TrimSpace(s)))
}

// time reads a datetime, taken as UTC, a number of epoch seconds or
// milliseconds, or a text.
func (g given) time(now time.Time) (time.Time, error) {
	text := ""
	switch v := g.value.(type) {
	case pyfile.Datetime:
		return v.Time, nil
	case int64:
		text = strconv.FormatInt(v, 10)
	case float64:
		text = strconv.FormatFloat(v, 'f', -1, 64)
	case string:
		text = v
	default:
		return time.Time{}, g.wrong("must be a datetime or a text such as 2018-04-26, not %s", describe(g.value))
	}
	t, err := ParseTime(text, now)
	if err != nil {
		return time.Time{}, g.wrong("is wrong: %v", err)
	}
	return t, nil
}

// structured returns a list or dict; flags and variables hold JSON.
func (g given) structured(want string) (given, error) {
	s, ok := g.value.(string)
	if !ok || !g.text {
		return g, nil
	}
	dec := json.NewDecoder(strings.NewReader(s))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil || dec.More() {
		return g, g.wrong("must be a %s in JSON, not %q", want, clip(s))
	}
	g.value, g.text = numbers(v), false
	return g, nil
}

// numbers turns JSON's numbers into those of the files.
func numbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		if f, err := v.Float64(); err == nil && !math.IsInf(f, 0) {
			return f
		}
		return v.String()
	case []any:
		for i := range v {
			v[i] = numbers(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = numbers(v[k])
		}
	}
	return v
}

// strings reads a list of str; a single str stands for a list of one.
func (g given) strings() ([]string, error) {
	g, err := g.structured("list")
	if err != nil {
		return nil, err
	}
	if s, ok := g.value.(string); ok {
		return []string{s}, nil
	}
	list, ok := g.value.([]any)
	if !ok {
		return nil, g.wrong("must be a list of str, not %s", describe(g.value))
	}
	out := make([]string, len(list))
	for i, v := range list {
		s, ok := v.(string)
		if !ok {
			return nil, g.wrong("must be a list of str, but element %d is %s", i+1, describe(v))
		}
		out[i] = s
	}
	return out, nil
}

func (g given) dict() (map[string]any, error) {
	g, err := g.structured("dict")
	if err != nil {
		return nil, err
	}
	d, ok := g.value.(map[string]any)
	if !ok {
		return nil, g.wrong("must be a dict, not %s", describe(g.value))
	}
	return d, nil
}

// jsonable turns a value of a file into what encoding/json writes as Python's
// json module does; a timedelta becomes seconds, a datetime RFC 3339 text.
func jsonable(v any) (any, error) {
	switch v := v.(type) {
	case nil, bool, string, int64, *big.Int:
		return v, nil
	case float64:
		if math.IsInf(v, 0) || math.IsNaN(v) {
			return nil, fmt.Errorf("holds infinity, which JSON can't")
		}
		return v, nil
	case time.Duration:
		return v.Seconds(), nil
	case pyfile.Datetime:
		return v.Format(time.RFC3339Nano), nil
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			y, err := jsonable(x)
			if err != nil {
				return nil, err
			}
			out[i] = y
		}
		return out, nil
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, x := range v {
			y, err := jsonable(x)
			if err != nil {
				return nil, err
			}
			out[k] = y
		}
		return out, nil
	}
	return nil, fmt.Errorf("holds %s, which JSON can't", describe(v))
}
