package api

import (
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// The bounds of a query string.
const (
	maxQuery      = 4096 // bytes of the whole
	maxPairs      = 64
	maxValue      = 256 // bytes of a parameter that we use
	maxCallback   = 128
	minTime       = -62135596800 // 0001-01-01
	maxTime       = 253402300799 // 9999-12-31T23:59:59
	unlimited     = math.MaxInt
	maxWholeDigit = 18 // digits of a number that surely fits an int64
)

// pair is a parameter as it came, decoded.
type pair struct{ name, value string }

// parsePairs takes a query string apart, in its order. Bounded; bad escapes are an error.
func parsePairs(raw string) ([]pair, error) {
	if raw == "" {
		return nil, nil
	}
	if len(raw) > maxQuery {
		return nil, newProblem(http.StatusRequestURITooLong, "the query string is longer than "+strconv.Itoa(maxQuery)+" bytes")
	}
	var out []pair
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		if len(out) == maxPairs {
			return nil, newProblem(http.StatusBadRequest, "more than "+strconv.Itoa(maxPairs)+" parameters")
		}
		rawName, rawValue, _ := strings.Cut(part, "=")
		name, err := url.QueryUnescape(rawName)
		if err != nil {
			return nil, newProblem(http.StatusBadRequest, "the name of a parameter has a broken escape")
		}
		value, err := url.QueryUnescape(rawValue)
		if err != nil {
			return nil, badParameter(cut(name, 64), "has a broken escape")
		}
		out = append(out, pair{name, value})
	}
	return out, nil
}

func cut(s string, n int) string {
	if len(s) > n {
		return strings.ToValidUTF8(s[:n], "")
	}
	return strings.ToValidUTF8(s, "")
}

// rowParams are the original API's parameters.
type rowParams struct {
	asc         bool
	start, stop int64 // seconds, of the end of a window, inclusive
	stopGiven   bool
	limit       int // unlimited for none
	page        int
	rows        int
	callback    string
}

// parseRowParams reads the parameters of rows. Of a repeated one the first counts; unknown ones are nobody's business
// (scripts add their own against caches).
func parseRowParams(pairs []pair, defaultRows, maximumRows int) (rowParams, error) {
	p := rowParams{start: minTime, stop: maxTime, limit: unlimited, page: 1, rows: defaultRows}
	var seen [8]bool
	for _, kv := range pairs {
		i := rowParamIndex(kv.name)
		if i < 0 || seen[i] {
			continue
		}
		seen[i] = true
		if err := p.set(kv, maximumRows); err != nil {
			return rowParams{}, err
		}
	}
	return p, nil
}

func rowParamIndex(name string) int {
	switch name {
	case "order":
		return 0
	case "start":
		return 1
	case "stop":
		return 2
	case "limit":
		return 3
	case "page":
		return 4
	case "rows_per_page":
		return 5
	case "callback":
		return 6
	}
	return -1
}

func (p *rowParams) set(kv pair, maximumRows int) (err error) {
	if len(kv.value) > maxValue {
		return badParameter(kv.name, "is longer than "+strconv.Itoa(maxValue)+" bytes")
	}
	switch kv.name {
	case "order":
		switch kv.value {
		case "asc":
			p.asc = true
		case "desc":
			p.asc = false
		default:
			return badParameter(kv.name, "must be asc or desc")
		}
	case "start":
		var t float64
		t, err = parseEpoch(kv)
		p.start = int64(math.Ceil(t))
	case "stop":
		var t float64
		t, err = parseEpoch(kv)
		p.stop, p.stopGiven = int64(math.Floor(t)), true
	case "limit":
		p.limit, err = parseWhole(kv, 0)
	case "page":
		p.page, err = parseWhole(kv, 1)
	case "rows_per_page":
		p.rows, err = parseWhole(kv, 1)
		p.rows = min(p.rows, maximumRows)
	case "callback":
		p.callback = kv.value
		if !isCallback(kv.value) {
			return badParameter(kv.name, "must be an identifier, or several joined by dots, of at most "+
				strconv.Itoa(maxCallback)+" characters")
		}
	}
	return err
}

// parseEpoch reads seconds since 1970, possibly with a fraction.
func parseEpoch(kv pair) (float64, error) {
	for i := range len(kv.value) {
		if c := kv.value[i]; (c < '0' || c > '9') && !strings.ContainsRune("+-.eE", rune(c)) {
			return 0, badParameter(kv.name, "must be a time in seconds since 1970")
		}
	}
	t, err := strconv.ParseFloat(kv.value, 64)
	if err != nil {
		return 0, badParameter(kv.name, "must be a time in seconds since 1970")
	}
	if t < minTime || t > maxTime {
		return 0, badParameter(kv.name, "must lie in the years 1 to 9999, in seconds since 1970")
	}
	return t, nil
}

// parseWhole reads a whole number. One too large for the machine counts as the largest: what it bounds is bounded
// anyway.
func parseWhole(kv pair, least int) (int, error) {
	digits := strings.TrimLeft(kv.value, "0")
	if kv.value == "" || strings.Trim(kv.value, "0123456789") != "" {
		return 0, badParameter(kv.name, "must be a whole number from "+strconv.Itoa(least))
	}
	n := unlimited
	if digits == "" {
		n = 0
	} else if len(digits) <= maxWholeDigit {
		n, _ = strconv.Atoi(digits) // digits only, and few enough
	}
	if n < least {
		return 0, badParameter(kv.name, "must be a whole number from "+strconv.Itoa(least))
	}
	return n, nil
}

// isCallback allows identifiers joined by dots, of ASCII letters, digits, _ and $: nothing in them can end the call or
// start another one.
func isCallback(s string) bool {
	if s == "" || len(s) > maxCallback {
		return false
	}
	first := true
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_', c == '$':
			first = false
		case c >= '0' && c <= '9':
			if first {
				return false
			}
		case c == '.':
			if first {
				return false
			}
			first = true
		default:
			return false
		}
	}
	return !first
}

// window translates the inclusive bounds on a window's end into bounds [from, to) on its start. Without stop the last
// closed window is the last one, and until says when the next one closes.
func (p *rowParams) window(interval time.Duration, now time.Time) (from, to int64, until time.Time) {
	iv := int64(interval / time.Second)
	from, to = p.start-iv, p.stop-iv+1
	if !p.stopGiven {
		closed := floorDiv(now.Unix(), iv) * iv
		to, until = closed, time.Unix(closed+iv, 0)
	}
	return from, to, until
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b != 0 && (a < 0) != (b < 0) {
		q--
	}
	return q
}
