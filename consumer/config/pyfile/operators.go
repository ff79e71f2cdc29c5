package pyfile

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"
)

// binary is x op y.
func (m *machine) binary(op string, x, y starlark.Value) (starlark.Value, error) {
	if err := errors.Join(known(x), known(y)); err != nil {
		return nil, err
	}
	if v, ok, err := timeArithmetic(op, x, y); ok {
		return v, err
	}
	if err := m.chargeBinary(op, x, y); err != nil {
		return nil, err
	}
	var tok syntax.Token
	switch op {
	case "+":
		tok = syntax.PLUS
	case "-":
		tok = syntax.MINUS
	case "*":
		tok = syntax.STAR
	case "|":
		tok = syntax.PIPE
	case "&":
		tok = syntax.AMP
	case "^":
		tok = syntax.CIRCUMFLEX
	case "<<":
		tok = syntax.LTLT
	case ">>":
		tok = syntax.GTGT
	case "**":
		return power(x, y)
	case "/":
		return divide(x, y)
	case "//", "%":
		if format, ok := x.(starlark.String); ok && op == "%" {
			return m.percent(string(format), y)
		}
		return m.floorDivide(op, x, y)
	default:
		return nil, fmt.Errorf("the operator %s is not understood", op)
	}
	v, err := starlark.Binary(tok, x, y)
	if err != nil || v == nil {
		return nil, operandError(op, x, y)
	}
	if f, ok := v.(starlark.Float); ok && math.IsNaN(float64(f)) {
		return nil, errors.New("a computation ends in NaN")
	}
	return v, nil
}

func operandError(op string, x, y starlark.Value) error {
	return fmt.Errorf("%s between %s and %s is not understood", op, typeName(x), typeName(y))
}

// chargeBinary charges the size of the result, which for sequences and large
// integers is not bounded by the operands' own.
func (m *machine) chargeBinary(op string, x, y starlark.Value) error {
	if ix, ok := x.(starlark.Int); ok {
		if iy, ok := y.(starlark.Int); ok {
			return m.chargeInt(op, ix, iy)
		}
	}
	size := func(v starlark.Value) int {
		if n := starlark.Len(v); n > 0 {
			return n
		}
		return 0
	}
	total := size(x) + size(y)
	if op == "*" {
		n, isInt := y.(starlark.Int)
		if !isInt {
			n, isInt = x.(starlark.Int)
		}
		times, ok := n.Int64()
		if isInt && total > 0 {
			if !ok && n.Sign() > 0 || ok && times > int64(maxBytes/total) {
				return errors.New("a repetition grows too large")
			}
			total *= int(max(times, 0))
		}
	}
	if _, ok := starlark.AsString(x); ok {
		return m.chargeBytes(total)
	}
	if _, ok := starlark.AsString(y); ok {
		return m.chargeBytes(total)
	}
	return m.chargeElements(total)
}

func (m *machine) chargeInt(op string, x, y starlark.Int) error {
	bits := x.BigInt().BitLen() + y.BigInt().BitLen()
	switch op {
	case "<<":
		n, ok := y.Int64()
		if !ok || n > maxIntBits {
			return fmt.Errorf("a number grows beyond %d bits", maxIntBits)
		}
		bits = x.BigInt().BitLen() + int(max(n, 0))
	case "**":
		n, ok := y.Int64()
		if x.BigInt().BitLen() > 1 && (!ok || n > maxIntBits) {
			return fmt.Errorf("a number grows beyond %d bits", maxIntBits)
		}
		bits = x.BigInt().BitLen() * int(min(max(n, 1), maxIntBits))
	}
	if bits > maxIntBits {
		return fmt.Errorf("a number grows beyond %d bits", maxIntBits)
	}
	return m.charge(bits / 64)
}

func power(x, y starlark.Value) (starlark.Value, error) {
	ix, xInt := x.(starlark.Int)
	iy, yInt := y.(starlark.Int)
	if xInt && yInt && iy.Sign() >= 0 {
		return starlark.MakeBigInt(new(big.Int).Exp(ix.BigInt(), iy.BigInt(), nil)), nil
	}
	fx, xOK := starlark.AsFloat(x)
	exp, yOK := starlark.AsFloat(y)
	if !xOK || !yOK || exp != math.Trunc(exp) || math.Abs(exp) > 1024 || math.IsInf(fx, 0) || fx == 0 {
		return nil, operandError("**", x, y)
	}
	// Go's math.Pow differs from C's in the last digit: compute more digits.
	power := big.NewFloat(1).SetPrec(256)
	for range int(math.Abs(exp)) {
		power.Mul(power, big.NewFloat(fx))
	}
	if exp < 0 {
		power.Quo(big.NewFloat(1).SetPrec(256), power)
	}
	f, _ := power.Float64()
	if math.IsInf(f, 0) {
		return nil, errors.New("the result of ** is too large")
	}
	return starlark.Float(f), nil
}

// divide is Python's true division, which rounds the exact quotient.
func divide(x, y starlark.Value) (starlark.Value, error) {
	if ix, ok := x.(starlark.Int); ok {
		if iy, ok := y.(starlark.Int); ok {
			if iy.Sign() == 0 {
				return nil, errors.New("a division by zero")
			}
			f, _ := new(big.Rat).SetFrac(ix.BigInt(), iy.BigInt()).Float64()
			if math.IsInf(f, 0) {
				return nil, errors.New("the result of / is too large")
			}
			return starlark.Float(f), nil
		}
	}
	fx, fy, err := floats("/", x, y)
	if err != nil {
		return nil, err
	}
	return starlark.Float(fx / fy), nil
}

func floats(op string, x, y starlark.Value) (fx, fy float64, err error) {
	fx, xOK := starlark.AsFloat(x)
	fy, yOK := starlark.AsFloat(y)
	switch {
	case !xOK || !yOK:
		return 0, 0, operandError(op, x, y)
	case fy == 0:
		return 0, 0, errors.New("a division by zero")
	case math.IsInf(fx, 0) || math.IsInf(fy, 0):
		return 0, 0, errors.New("a division with infinity is not understood")
	}
	return fx, fy, nil
}

// floorDivide is // and % of numbers; on floats as CPython computes them,
// which is not the floor of the rounded quotient.
func (m *machine) floorDivide(op string, x, y starlark.Value) (starlark.Value, error) {
	_, xInt := x.(starlark.Int)
	_, yInt := y.(starlark.Int)
	if xInt && yInt {
		tok := syntax.Token(syntax.SLASHSLASH)
		if op == "%" {
			tok = syntax.PERCENT
		}
		v, err := starlark.Binary(tok, x, y)
		if err != nil {
			return nil, errors.New("a division by zero")
		}
		return v, nil
	}
	fx, fy, err := floats(op, x, y)
	if err != nil {
		return nil, err
	}
	mod := math.Mod(fx, fy)
	div := (fx - mod) / fy
	switch {
	case mod == 0:
		mod = math.Copysign(0, fy)
	case (fy < 0) != (mod < 0):
		mod += fy
		div--
	}
	if op == "%" {
		return starlark.Float(mod), nil
	}
	if div == 0 {
		return starlark.Float(math.Copysign(0, fx/fy)), nil
	}
	floor := math.Floor(div)
	if div-floor > 0.5 {
		floor++
	}
	return starlark.Float(floor), nil
}

func unary(op string, x starlark.Value) (starlark.Value, error) {
	if err := known(x); err != nil {
		return nil, err
	}
	if d, ok := x.(timedelta); ok && op == "-" {
		return d.negated()
	}
	tok := syntax.Token(syntax.MINUS)
	switch op {
	case "+":
		tok = syntax.PLUS
	case "~":
		tok = syntax.TILDE
	}
	v, err := starlark.Unary(tok, x)
	if err != nil || v == nil {
		return nil, fmt.Errorf("%s of a %s is not understood", op, typeName(x))
	}
	return v, nil
}

// inPlace is x op= y: lists grow and dicts and sets are merged in place.
func (m *machine) inPlace(op string, x, y starlark.Value) (starlark.Value, error) {
	switch x := x.(type) {
	case *starlark.List:
		if op != "+" {
			break
		}
		elems, err := m.elements(y)
		if err != nil {
			return nil, err
		}
		return x, m.extend(x, elems)
	case *starlark.Dict:
		if other, ok := y.(*starlark.Dict); ok && op == "|" {
			return x, m.merge(x, other)
		}
	case *starlark.Set:
		return nil, fmt.Errorf("%s= of a set is not understood", op)
	}
	return m.binary(op, x, y)
}

func (m *machine) extend(l *starlark.List, elems []starlark.Value) error {
	if err := m.chargeElements(l.Len() + len(elems)); err != nil {
		return err
	}
	for _, e := range elems {
		if err := l.Append(e); err != nil {
			return err
		}
	}
	return nil
}

// contains is x in container.
func (m *machine) contains(container, x starlark.Value) (bool, error) {
	switch c := container.(type) {
	case *starlark.Dict:
		_, found, err := m.getKey(c, x)
		return found, err
	case *starlark.Set:
		if err := m.key(x); err != nil {
			return false, err
		}
		if other := twin(x); other != nil {
			if clash, _ := c.Has(other); clash {
				return true, nil
			}
		}
		return c.Has(x)
	case starlark.String:
		part, ok := x.(starlark.String)
		if !ok {
			return false, operandError("in", x, c)
		}
		return strings.Contains(string(c), string(part)), m.chargeBytes(len(c) + len(part))
	case starlark.Bytes:
		return false, errors.New("in of bytes is not understood")
	}
	elems, err := m.elements(container)
	if err != nil {
		return false, err
	}
	for _, e := range elems {
		same, err := m.equal(x, e, 0)
		if same || err != nil {
			return same, err
		}
	}
	return false, nil
}
