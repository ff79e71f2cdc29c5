package pyfile

import (
	"errors"
	"fmt"
	"math"
	"time"

	"go.starlark.net/starlark"
)

// timedelta is datetime.timedelta, in microseconds as Python keeps it.
type timedelta struct{ d time.Duration }

func (t timedelta) String() string { return t.d.String() }

// Type implements starlark.Value.
func (t timedelta) Type() string { return "datetime.timedelta" }

// Freeze implements starlark.Value.
func (t timedelta) Freeze() {}

// Truth implements starlark.Value.
func (t timedelta) Truth() starlark.Bool { return t.d != 0 }

// Hash implements starlark.Value.
func (t timedelta) Hash() (uint32, error) {
	return 0, errors.New("a timedelta as a key is not understood")
}

func (t timedelta) negated() (starlark.Value, error) {
	if t.d == math.MinInt64 {
		return nil, errors.New("a timedelta is too large")
	}
	return timedelta{-t.d}, nil
}

// Datetime is a naive datetime.datetime: Time holds its fields as if they were
// UTC.
type Datetime struct{ time.Time }

// Type implements starlark.Value.
func (t Datetime) Type() string { return "datetime.datetime" }

// Freeze implements starlark.Value.
func (t Datetime) Freeze() {}

// Truth implements starlark.Value.
func (t Datetime) Truth() starlark.Bool { return true }

// Hash implements starlark.Value.
func (t Datetime) Hash() (uint32, error) {
	return 0, errors.New("a datetime as a key is not understood")
}

// isoformat is Python's default text of a datetime with the given separator.
func (t Datetime) isoformat(sep string) string {
	layout := "2006-01-02" + sep + "15:04:05"
	if t.Nanosecond() != 0 {
		layout += ".000000"
	}
	return t.Format(layout)
}

// microseconds turns a float number of seconds into a timedelta.
func microseconds(us float64) (starlark.Value, error) {
	us = math.RoundToEven(us)
	if math.IsNaN(us) || math.Abs(us) > math.MaxInt64/1000 {
		return nil, errors.New("a timedelta is too large")
	}
	return timedelta{time.Duration(us) * time.Microsecond}, nil
}

// newTimedelta is datetime.timedelta(...).
func newTimedelta(args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	order := []string{"days", "seconds", "microseconds", "milliseconds", "minutes", "hours", "weeks"}
	unit := map[string]float64{
		"days": 86400e6, "seconds": 1e6, "microseconds": 1, "milliseconds": 1e3,
		"minutes": 60e6, "hours": 3600e6, "weeks": 604800e6,
	}
	if len(args) > len(order) {
		return nil, errors.New("timedelta has too many arguments")
	}
	given := map[string]starlark.Value{}
	for i, a := range args {
		given[order[i]] = a
	}
	for _, kv := range kwargs {
		name := string(kv[0].(starlark.String))
		if _, twice := given[name]; twice || unit[name] == 0 {
			return nil, fmt.Errorf("the argument %s of timedelta is not understood", name)
		}
		given[name] = kv[1]
	}
	total := 0.0
	for _, name := range order {
		if given[name] == nil {
			continue
		}
		n, ok := number(given[name])
		f, isNumber := 0.0, false
		if ok {
			f, isNumber = starlark.AsFloat(n)
		}
		if !isNumber {
			return nil, fmt.Errorf("the argument %s of timedelta is a %s", name, typeName(given[name]))
		}
		total += f * unit[name]
	}
	return microseconds(total)
}

// newDatetime is datetime.datetime(year, month, day, ...).
func newDatetime(args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	field := []int{-1, -1, -1, 0, 0, 0, 0}
	var dst [7]*int
	for i := range field {
		dst[i] = &field[i]
	}
	if err := starlark.UnpackArgs("datetime", args, kwargs, "year", dst[0], "month", dst[1], "day", dst[2],
		"hour?", dst[3], "minute?", dst[4], "second?", dst[5], "microsecond?", dst[6]); err != nil {
		return nil, fmt.Errorf("the arguments of datetime are not understood: %w", err)
	}
	t := time.Date(field[0], time.Month(field[1]), field[2], field[3], field[4], field[5], field[6]*1000, time.UTC)
	same := t.Year() == field[0] && int(t.Month()) == field[1] && t.Day() == field[2] && t.Hour() == field[3] &&
		t.Minute() == field[4] && t.Second() == field[5] && t.Nanosecond() == field[6]*1000
	if !same || field[0] < 1 || field[0] > 9999 {
		return nil, errors.New("the arguments of datetime are no date and time")
	}
	return Datetime{t}, nil
}

// timeArithmetic handles the operators of datetime and timedelta; ok tells
// whether an operand was one of them.
func timeArithmetic(op string, x, y starlark.Value) (v starlark.Value, ok bool, err error) {
	dx, xDelta := x.(timedelta)
	dy, yDelta := y.(timedelta)
	tx, xTime := x.(Datetime)
	ty, yTime := y.(Datetime)
	if !xDelta && !yDelta && !xTime && !yTime {
		return nil, false, nil
	}
	switch {
	case xTime && yDelta && (op == "+" || op == "-"):
		if op == "-" {
			dy.d = -dy.d
		}
		v, err = shifted(tx, dy)
	case xDelta && yTime && op == "+":
		v, err = shifted(ty, dx)
	case xTime && yTime && op == "-":
		// Sub saturates; Python's datetimes can be further apart.
		us := float64(tx.UnixMicro()) - float64(ty.UnixMicro())
		v, err = microseconds(us)
	case xDelta && yDelta && op == "+":
		v, err = microseconds(float64(dx.d.Microseconds()) + float64(dy.d.Microseconds()))
	case xDelta && yDelta && op == "-":
		v, err = microseconds(float64(dx.d.Microseconds()) - float64(dy.d.Microseconds()))
	case xDelta && yDelta && op == "/" && dy.d != 0:
		v = starlark.Float(float64(dx.d) / float64(dy.d))
	case xDelta && (op == "*" || op == "/"):
		v, err = scaled(op, dx, y)
	case yDelta && op == "*":
		v, err = scaled(op, dy, x)
	default:
		err = operandError(op, x, y)
	}
	return v, true, err
}

func shifted(t Datetime, d timedelta) (starlark.Value, error) {
	t.Time = t.Add(d.d)
	if t.Year() < 1 || t.Year() > 9999 {
		return nil, errors.New("a date is out of range")
	}
	return t, nil
}

func scaled(op string, d timedelta, by starlark.Value) (starlark.Value, error) {
	n, ok := number(by)
	if !ok {
		return nil, operandError(op, d, by)
	}
	f, _ := starlark.AsFloat(n)
	if op == "*" {
		return microseconds(float64(d.d.Microseconds()) * f)
	}
	if f == 0 {
		return nil, errors.New("a division by zero")
	}
	return microseconds(float64(d.d.Microseconds()) / f)
}

func timedeltaAttr(d timedelta, name string) starlark.Value {
	us := d.d.Microseconds()
	days := us / 86400e6
	if us%86400e6 < 0 {
		days--
	}
	us -= days * 86400e6
	switch name {
	case "total_seconds":
		return function(name, 0, 0, func(starlark.Tuple) (starlark.Value, error) {
			return starlark.Float(float64(d.d.Microseconds()) / 1e6), nil
		})
	case "days":
		return starlark.MakeInt64(days)
	case "seconds":
		return starlark.MakeInt64(us / 1e6)
	case "microseconds":
		return starlark.MakeInt64(us % 1e6)
	}
	return nil
}

func datetimeAttr(t Datetime, name string) starlark.Value {
	switch name {
	case "year":
		return starlark.MakeInt(t.Year())
	case "month":
		return starlark.MakeInt(int(t.Month()))
	case "day":
		return starlark.MakeInt(t.Day())
	case "hour":
		return starlark.MakeInt(t.Hour())
	case "minute":
		return starlark.MakeInt(t.Minute())
	case "second":
		return starlark.MakeInt(t.Second())
	case "microsecond":
		return starlark.MakeInt(t.Nanosecond() / 1000)
	case "isoformat":
		return function(name, 0, 0, func(starlark.Tuple) (starlark.Value, error) {
			return starlark.String(t.isoformat("T")), nil
		})
	}
	return nil
}
