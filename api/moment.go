package api

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// units of spans of time; a year has 365 days.
const (
	day  = 24 * time.Hour
	week = 7 * day
	year = 365 * day
)

func unitOf(name string) (time.Duration, bool) {
	switch name {
	case "s":
		return time.Second, true
	case "m":
		return time.Minute, true
	case "h":
		return time.Hour, true
	case "d":
		return day, true
	case "w":
		return week, true
	case "y":
		return year, true
	}
	return 0, false
}

// parseStep reads a span of whole seconds: 90s, 15m, 1m30s, 1d, or a number of seconds.
func parseStep(text string) (time.Duration, error) {
	bad := fmt.Errorf("%q is not a span of time such as 90s, 15m or 1d", cut(text, maxValue))
	if text == "" || len(text) > 32 {
		return 0, bad
	}
	total, rest := time.Duration(0), text
	for rest != "" {
		n := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		count, err := strconv.ParseInt(rest[:n], 10, 32)
		if err != nil {
			return 0, bad
		}
		unit, ok := time.Second, n == len(rest) && n == len(text)
		if n < len(rest) {
			unit, ok = unitOf(rest[n : n+1])
			n++
		}
		if !ok || count > int64(200*year/unit) {
			return 0, bad
		}
		total, rest = total+time.Duration(count)*unit, rest[n:]
	}
	if total <= 0 || total > 200*year {
		return 0, bad
	}
	return total, nil
}

// parseMoment reads a time: RFC 3339, a date or a date and time (of the zone), epoch seconds or milliseconds (from 1e11
// on), now, now-6h or -6h, and each of the last three cut to a unit: now/d, midnight in the zone.
func parseMoment(text string, now time.Time, loc *time.Location) (time.Time, error) {
	bad := errors.New("must be a time such as 2018-04-26, 2018-04-26T12:00:00Z, 1524744000, now-6h or now/d")
	if text == "" || len(text) > 64 {
		return time.Time{}, bad
	}
	if f, err := strconv.ParseFloat(text, 64); err == nil && strings.Trim(text, "0123456789.-") == "" && text[0] != '-' {
		if f >= 1e11 {
			f /= 1000
		}
		if f > maxTime {
			return time.Time{}, bad
		}
		return time.UnixMicro(int64(f * 1e6)).UTC(), nil
	}
	if rest, ok := strings.CutPrefix(text, "now"); ok || text[0] == '-' {
		return fromNow(rest, now, loc, bad)
	}
	if t, err := time.Parse(time.DateOnly, text); err == nil {
		return time.Unix(dayStart(civilDay(t), loc), 0).UTC(), nil // a day may have no midnight
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04"} {
		if t, err := time.ParseInLocation(layout, text, loc); err == nil && t.Unix() >= minTime && t.Unix() <= maxTime {
			return t.UTC(), nil
		}
	}
	return time.Time{}, bad
}

// fromNow reads what follows now: nothing, -span, /unit, or both.
func fromNow(rest string, now time.Time, loc *time.Location, bad error) (time.Time, error) {
	now = now.UTC()
	back, unit, cutTo := strings.Cut(rest, "/")
	if back != "" {
		d, err := parseStep(strings.TrimPrefix(back, "-"))
		if err != nil || back[0] != '-' {
			return time.Time{}, bad
		}
		now = now.Add(-d)
	}
	if !cutTo {
		return now, nil
	}
	switch unit {
	case "d":
		return time.Unix(pointStep{days: 1}.floor(now.Unix(), loc), 0).UTC(), nil
	case "w":
		return time.Unix(pointStep{days: 7}.floor(now.Unix(), loc), 0).UTC(), nil
	case "mo":
		return time.Unix(pointStep{months: 1}.floor(now.Unix(), loc), 0).UTC(), nil
	case "y":
		return time.Unix(pointStep{months: 12}.floor(now.Unix(), loc), 0).UTC(), nil
	case "s", "m", "h":
		d, _ := unitOf(unit) // one of these
		return time.Unix(pointStep{seconds: int64(d / time.Second)}.floor(now.Unix(), loc), 0).UTC(), nil
	}
	return time.Time{}, bad
}
