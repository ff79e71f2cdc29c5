package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/statscache/statscache/consumer/fedmsg"
)

// retention resolves statscache.retention: the defaults, with what the
// configuration gives put in their place.
func (r *reader) retention() {
	const key = "statscache.retention"
	c := &r.cfg
	c.Retention = map[time.Duration]time.Duration{
		time.Second: 7 * day, 5 * time.Second: 30 * day, 15 * time.Second: 30 * day, time.Minute: year,
	}
	c.RetentionGiven = map[time.Duration]bool{}
	origin := "default"
	if g, ok := r.find(key); ok {
		own, err := intervals(g)
		if err != nil {
			r.problem(err)
			return
		}
		origin = g.origin
		for interval, d := range own {
			c.Retention[interval], c.RetentionGiven[interval] = d, true
		}
	}
	r.list(key, orderedDurations(c.Retention), origin)
}

func intervals(g given) (map[time.Duration]time.Duration, error) {
	d, err := g.dict()
	if err != nil {
		return nil, err
	}
	out := make(map[time.Duration]time.Duration, len(d))
	for _, name := range slices.Sorted(maps.Keys(d)) {
		interval, err := ParseDuration(name)
		if err != nil || interval < time.Second || interval%time.Second != 0 {
			return nil, g.wrong("has the interval %q, which is not a whole number of seconds such as 1s, 5m or 1d", clip(name))
		}
		if _, twice := out[interval]; twice {
			return nil, g.wrong("has the interval %s twice", FormatDuration(interval))
		}
		item := given{key: g.key + "[" + fmt.Sprintf("%q", clip(name)) + "]", origin: g.origin, value: d[name]}
		if out[interval], err = keep(item); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// orderedDurations keeps the intervals in their order in a listing, which the
// JSON object of a map would not.
type orderedDurations map[time.Duration]time.Duration

// MarshalJSON writes {"1s":"7d",...}, shortest interval first, null for ever.
func (m orderedDurations) MarshalJSON() ([]byte, error) {
	keys := slices.SortedFunc(maps.Keys(m), cmp.Compare[time.Duration])
	parts := make([]string, len(keys))
	for i, k := range keys {
		parts[i] = fmt.Sprintf("%q:null", FormatDuration(k))
		if m[k] != 0 {
			parts[i] = fmt.Sprintf("%q:%q", FormatDuration(k), FormatDuration(m[k]))
		}
	}
	return []byte("{" + strings.Join(parts, ",") + "}"), nil
}

// rules resolves statscache.rules.
func (r *reader) rules() {
	r.cfg.Rules = setting(r, "statscache.rules", []fedmsg.Rule{}, func(g given) ([]fedmsg.Rule, error) {
		g, err := g.structured("list")
		if err != nil {
			return nil, err
		}
		list, ok := g.value.([]any)
		if !ok {
			return nil, g.wrong("must be a list of dicts, not %s", describe(g.value))
		}
		out := make([]fedmsg.Rule, len(list))
		for i, v := range list {
			if out[i], err = rule(g, i+1, v); err != nil {
				return nil, err
			}
		}
		if _, err := fedmsg.CompileRules(out...); err != nil {
			return nil, err
		}
		return out, nil
	})
}

func rule(g given, number int, v any) (fedmsg.Rule, error) {
	out := fedmsg.Rule{Origin: fmt.Sprintf("%s: %s, rule %d", g.origin, g.key, number)}
	d, ok := v.(map[string]any)
	if !ok {
		return out, g.wrong("must be a list of dicts, but rule %d is %s", number, describe(v))
	}
	if _, ok := d["topic"].(string); !ok {
		return out, g.wrong("has no topic (a str) in rule %d", number)
	}
	for _, name := range slices.Sorted(maps.Keys(d)) {
		item := given{key: fmt.Sprintf("%s, rule %d, %s", g.key, number, name), origin: g.origin, value: d[name]}
		if name == "topic" {
			out.Topic = d[name].(string)
			continue
		}
		if item.value == nil {
			continue
		}
		list, err := item.strings()
		if err != nil {
			return out, err
		}
		switch name {
		case "users":
			out.Users = list
		case "packages":
			out.Packages = list
		case "agent":
			out.Agent = list
		default:
			hint := ""
			if near := nearest(name, []string{"agent", "packages", "topic", "users"}); near != "" {
				hint = "; did you mean " + near + "?"
			}
			return out, g.wrong("has the unknown part %q in rule %d%s", clip(name), number, hint)
		}
	}
	return out, nil
}
