package crate

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestParseURL(t *testing.T) {
	for raw, want := range map[string]string{ // user password database hosts, or part of the error
		"crate://h/stats": "crate  stats h:5432",
		"crate://me:p%40ss@h:1234/stats?sslmode=disable": "me p@ss stats h:1234",
		"crate://crate@[::1]:5432/s":                     "crate  s ::1:5432",
		"postgres://h/stats":                             "does not begin with crate://",
		"crate://h/":                                     `schema ""`,
		"crate://h/Stats":                                `schema "Stats"`,
		"crate://h/sys":                                  `schema "sys"`,
		"crate://h/s?statement_timeout=1":                `unknown parameter "statement_timeout"`,
		"crate://:5432/s":                                "empty host",
		"crate://me:secret@h/S":                          "crate://...@h/S",
		"":                                               "does not begin",
	} {
		c, err := parseURL(raw, time.Second)
		if err != nil {
			if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: %v, want %s", raw, err, want)
			}
			continue
		}
		k := c.ConnConfig
		got := strings.Join([]string{k.User, k.Password, k.Database, k.Host}, " ") + ":" + strconv.Itoa(int(k.Port))
		if got != want {
			t.Errorf("%s: %q, want %q", raw, got, want)
		}
		if o := k.RuntimeParams["options"]; !strings.Contains(o, "insert_select_fail_fast=true") {
			t.Errorf("%s: options %q", raw, o)
		}
	}
	c, err := parseURL("crate://a:1,b:2,c/s", time.Second)
	if err != nil || len(c.ConnConfig.Fallbacks) < 2 {
		t.Errorf("three hosts: %v, %+v", err, c)
	}
}
