package config

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
)

// endpoints resolves fedmsg's endpoints and which of them are consumed.
func (r *reader) endpoints() {
	const key, filterKey = "endpoints", "statscache.consumer.endpoints"
	c := &r.cfg
	raw, exists := r.merged[key]
	all, ok := raw.(map[string]any)
	if exists && !ok {
		r.problem(fmt.Errorf("%s: endpoints must be a dict, not %s", r.origins[key], describe(raw)))
		return
	}
	names := slices.Sorted(maps.Keys(all))
	wanted := setting(r, filterKey, names, func(g given) ([]string, error) {
		list, err := g.strings()
		if err != nil {
			return nil, err
		}
		for _, name := range list {
			// A file that failed may have held the endpoint.
			if _, ok := all[name]; !ok && !r.incomplete {
				hint := ""
				if near := nearest(name, names); near != "" {
					hint = fmt.Sprintf("; did you mean %q?", near)
				}
				return nil, g.wrong("names the endpoint %q, which endpoints doesn't have%s", clip(name), hint)
			}
		}
		return list, nil
	})
	for _, name := range slices.Compact(slices.Sorted(slices.Values(wanted))) {
		if addresses := r.addresses(name, all[name]); len(addresses) > 0 {
			c.Endpoints = append(c.Endpoints, Endpoint{Name: name, Addresses: addresses})
		}
	}
	switch {
	case len(c.Endpoints) > 0:
	case len(c.Files) == 0:
		c.NoEndpoints = "no configuration file was found, so there are no endpoints to consume: give --config, or put an endpoints dict into fedmsg.d"
	case len(all) == 0:
		c.NoEndpoints = "the configuration has no endpoints to consume: put an endpoints dict into fedmsg.d, such as {\"relay\": [\"tcp://127.0.0.1:9940\"]}"
	default:
		c.NoEndpoints = "none of the configured endpoints is consumed: statscache.consumer.endpoints names none with an address"
	}
	if list, ok := r.merged["srv_endpoints"].([]any); ok && len(list) > 0 {
		r.warn("%s: srv_endpoints is not looked up in the DNS; write the endpoints out", r.origins["srv_endpoints"])
	}
}

// addresses returns the addresses of one endpoint; a str is a list of one.
func (r *reader) addresses(name string, v any) []string {
	origin := r.origins[nested("endpoints", name)]
	if origin == "" {
		origin = r.origins["endpoints"]
	}
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	var out []string
	for _, item := range list {
		raw, ok := item.(string)
		if !ok {
			r.problem(fmt.Errorf("%s: endpoints[%q] must hold addresses (str), not %s", origin, clip(name), describe(item)))
			continue
		}
		address, note, err := parseAddress(raw)
		if err != nil {
			r.problem(fmt.Errorf("%s: endpoints[%q] holds %q, which %w", origin, clip(name), clip(raw), err))
			continue
		}
		if note != "" {
			r.warn("%s: endpoints[%q] holds %q, which %s", origin, clip(name), clip(raw), note)
		}
		out = append(out, address)
	}
	return out
}

// parseAddress checks tcp://host:port. As in fedmsg's hub the host * is
// 127.0.0.1. The hub refuses localhost, which may resolve to ::1 where the
// publisher doesn't listen; here it is 127.0.0.1 too, with a note.
func parseAddress(raw string) (address, note string, err error) {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok || scheme != "tcp" {
		return "", "", fmt.Errorf("is not tcp://host:port")
	}
	host, port, err := net.SplitHostPort(rest)
	if err != nil || host == "" || strings.ContainsAny(host, " \t\r\n/@;") {
		return "", "", fmt.Errorf("is not tcp://host:port")
	}
	if !validPort(port, 1) {
		return "", "", fmt.Errorf("has a port that is not between 1 and 65535")
	}
	switch strings.ToLower(host) {
	case "*":
		host = "127.0.0.1"
	case "localhost":
		host, note = "127.0.0.1", "is taken as 127.0.0.1; fedmsg's hub refuses localhost"
	}
	return "tcp://" + net.JoinHostPort(host, port), note, nil
}
