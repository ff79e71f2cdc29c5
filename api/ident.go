package api

import (
	"strconv"
	"strings"
	"time"
)

// IntervalName writes an interval of whole seconds as idents do: "1s", "1m30s", "1d".
func IntervalName(d time.Duration) string {
	var b strings.Builder
	left := int64(d / time.Second)
	for _, u := range []struct {
		name    string
		seconds int64
	}{{"d", 86400}, {"h", 3600}, {"m", 60}, {"s", 1}} {
		if n := left / u.seconds; n > 0 {
			b.WriteString(strconv.FormatInt(n, 10))
			b.WriteString(u.name)
			left %= u.seconds
		}
	}
	if b.Len() == 0 {
		return "0s"
	}
	return b.String()
}

// identOf is the name under which the original API serves a metric at an interval; 0 for a metric without windows.
func identOf(metric string, interval time.Duration) string {
	if interval == 0 {
		return metric
	}
	return metric + "-" + IntervalName(interval)
}
