package fedmsg

import (
	"encoding/binary"
	"math/bits"
)

// The functions here pass over JSON that is known to be valid: they take the index to go on at and return the one
// behind what they passed.

func skipSpace(b []byte, i int) int {
	for isSpace(b[i]) {
		i++
	}
	return i
}

// skipText passes over a string; i is behind the opening quote. It looks at eight bytes together, as pass.text does.
func skipText(b []byte, i int) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for {
		for i+8 <= len(b) {
			w := binary.LittleEndian.Uint64(b[i:])
			q, e := w^(ones*'"'), w^(ones*'\\')
			m := (((q - ones) &^ q) | ((e - ones) &^ e)) & highs
			if m != 0 {
				i += bits.TrailingZeros64(m) >> 3
				break
			}
			i += 8
		}
		for b[i] != '"' && b[i] != '\\' { // the last bytes of the body
			i++
		}
		if b[i] == '"' {
			return i + 1
		}
		i += 2
	}
}

func skipValue(b []byte, i int) int {
	switch b[i] {
	case '"':
		return skipText(b, i+1)
	case '{', '[':
		depth := 0
		for {
			switch b[i] {
			case '"':
				i = skipText(b, i+1)
				continue
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
			i++
		}
	}
	for i < len(b) && b[i] != ',' && b[i] != '}' && b[i] != ']' && !isSpace(b[i]) {
		i++
	}
	return i
}
