package fedmsg

import (
	"math"
	"strconv"
)

// maxSeconds is the last whole second whose microseconds fit.
const maxSeconds = math.MaxInt64 / 1_000_000

// microseconds gives a timestamp as written (seconds since 1970, an integer or a float as JSON allows it) in whole
// microseconds, rounded as Python's int(round(ts * 1000000)). It is false for what is not a number, lies before 1970 or
// is too large.
func microseconds(raw []byte) (int64, bool) {
	if c := raw[0]; c != '-' && !isDigit(c) {
		return 0, false
	}
	if len(raw) > len("9223372036854") {
		return floatMicroseconds(raw)
	}
	var n int64
	for _, c := range raw {
		if !isDigit(c) {
			return floatMicroseconds(raw)
		}
		n = n*10 + int64(c-'0')
	}
	return n * 1_000_000, n <= maxSeconds
}

func floatMicroseconds(raw []byte) (int64, bool) {
	seconds, err := strconv.ParseFloat(string(raw), 64)
	if err != nil {
		return 0, false
	}
	us := math.RoundToEven(seconds * 1_000_000)
	if us < 0 || us >= math.MaxInt64 {
		return 0, false
	}
	return int64(us), true
}
