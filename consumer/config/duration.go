package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

const (
	day  = 24 * time.Hour
	week = 7 * day
	year = 365 * day
)

// ParseDuration reads 90s, 15m, 36h, 7d, 4w, 1y (365 days), a sequence of
// them (1m30s), or a bare number of seconds. 100ms is understood, too. A
// duration is never negative.
func ParseDuration(s string) (time.Duration, error) {
	text := strings.TrimSpace(s)
	if f, err := plainNumber(text); err == nil {
		return seconds(f)
	}
	total := 0.0
	for rest := text; rest != ""; {
		n := strings.IndexFunc(rest, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
		if n <= 0 {
			return 0, badDuration(s)
		}
		value, err := plainNumber(rest[:n])
		if err != nil {
			return 0, badDuration(s)
		}
		rest = rest[n:]
		n = strings.IndexFunc(rest, func(r rune) bool { return r >= '0' && r <= '9' || r == '.' })
		if n < 0 {
			n = len(rest)
		}
		unit := unitOf(rest[:n])
		if unit == 0 {
			return 0, badDuration(s)
		}
		total += value * unit.Seconds()
		rest = rest[n:]
	}
	if text == "" {
		return 0, badDuration(s)
	}
	return seconds(total)
}

func badDuration(s string) error {
	return fmt.Errorf("%q is not a duration such as 90s, 15m, 36h, 7d, 4w or 1y", clip(s))
}

// plainNumber reads digits with at most one point.
func plainNumber(s string) (float64, error) {
	if s == "" || strings.Trim(s, "0123456789.") != "" {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseFloat(s, 64)
}

func unitOf(s string) time.Duration {
	switch s {
	case "ms":
		return time.Millisecond
	case "s":
		return time.Second
	case "m":
		return time.Minute
	case "h":
		return time.Hour
	case "d":
		return day
	case "w":
		return week
	case "y":
		return year
	}
	return 0
}

func seconds(f float64) (time.Duration, error) {
	if f < 0 || math.IsNaN(f) || f > math.MaxInt64/1e9/2 {
		return 0, fmt.Errorf("a duration of %g seconds is out of range", f)
	}
	// Microseconds are exact for every duration somebody writes down.
	return time.Duration(math.Round(f*1e6)) * time.Microsecond, nil
}

// FormatDuration writes a duration as ParseDuration reads it: 90s, 1m30s, 7d.
func FormatDuration(d time.Duration) string {
	if d == 0 {
		return "0s"
	}
	for _, u := range []struct {
		size time.Duration
		name string
	}{{year, "y"}, {day, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}, {time.Millisecond, "ms"}} {
		if d%u.size == 0 {
			return strconv.FormatInt(int64(d/u.size), 10) + u.name
		}
		if d > u.size && d%time.Second == 0 {
			return strconv.FormatInt(int64(d/u.size), 10) + u.name + FormatDuration(d%u.size)
		}
	}
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "s"
}

// ParseTime reads a time as the command line takes it: RFC 3339, a date
// (midnight UTC), a date and time without zone (UTC), epoch seconds, epoch
// milliseconds (from 1e11 on), now, or a time before now such as -7d.
func ParseTime(s string, now time.Time) (time.Time, error) {
	text := strings.TrimSpace(s)
	if text == "now" {
		return now, nil
	}
	if ago, ok := strings.CutPrefix(text, "-"); ok {
		if d, err := ParseDuration(ago); err == nil && strings.Trim(ago, "0123456789.") != "" {
			return now.Add(-d), nil
		}
	}
	if f, err := plainNumber(text); err == nil {
		if f >= 1e11 {
			f /= 1000
		}
		if f > 253402300799 { // the end of the year 9999
			return time.Time{}, fmt.Errorf("the time %q is too far in the future", clip(s))
		}
		return time.UnixMicro(int64(math.Round(f * 1e6))).UTC(), nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", "2006-01-02T15:04", "2006-01-02 15:04"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is not a time such as 2018-04-26, 2018-04-26T12:00:00Z, 1524744000, -7d or now", clip(s))
}

// clip shortens what is quoted in a message.
func clip(s string) string {
	const longest = 80
	if r := []rune(s); len(r) > longest {
		return string(r[:longest]) + "..."
	}
	return s
}
