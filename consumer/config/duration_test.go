package config

import (
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"90s": 90 * time.Second, "15m": 15 * time.Minute, "36h": 36 * time.Hour, "7d": 7 * day, "4w": 28 * day, "1y": year,
		"1m30s": 90 * time.Second, "100ms": 100 * time.Millisecond, "0.1": 100 * time.Millisecond, "5": 5 * time.Second, "1.5h": 90 * time.Minute,
	} {
		got, err := ParseDuration(text)
		if err != nil || got != want {
			t.Errorf("%q gives %v, %v", text, got, err)
		}
		if back, err := ParseDuration(FormatDuration(got)); err != nil || back != got {
			t.Errorf("%v is written as %q", got, FormatDuration(got))
		}
	}
	for _, text := range []string{"", "d", "-1d", "1x", "1d-", "1.2.3s", "1e3s", "999999y", "NaN", "١d"} {
		if d, err := ParseDuration(text); err == nil {
			t.Errorf("%q gives %v", text, d)
		}
	}
}

func TestParseTime(t *testing.T) {
	now := time.Date(2020, 1, 8, 0, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"2018-04-26": "2018-04-26T00:00:00Z", "2018-04-26T12:00:00+02:00": "2018-04-26T10:00:00Z", "1524700800": "2018-04-26T00:00:00Z",
		"1524700800000": "2018-04-26T00:00:00Z", "-7d": "2020-01-01T00:00:00Z", "now": "2020-01-08T00:00:00Z",
	} {
		if got, err := ParseTime(text, now); err != nil || got.Format(time.RFC3339) != want {
			t.Errorf("%q gives %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "yesterday", "2018-13-01", "-7", "99999999999999999999", "--7d"} {
		if got, err := ParseTime(text, now); err == nil {
			t.Errorf("%q gives %v", text, got)
		}
	}
}
