package config

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// StoreURL says where events and counters are kept.
type StoreURL struct {
	// Kind is "sqlite" or "crate".
	Kind string
	// Path is the absolute path of the SQLite file.
	Path string
	// URL is the URL as configured, with its password.
	URL string
}

// String returns the URL with the password masked.
func (u StoreURL) String() string { return mask(u.URL) }

// mask replaces the password of a URL.
func mask(raw string) string {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return raw
	}
	authority, tail := rest, ""
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		authority, tail = rest[:end], rest[end:]
	}
	// A password with a raw slash moves the @ into what looks like the path.
	if !strings.Contains(authority, "@") && strings.Contains(tail, "@") && strings.Contains(authority, ":") {
		if at := strings.LastIndexByte(rest, '@'); at >= 0 {
			authority, tail = rest[:at+1], rest[at+1:]
		}
	}
	at := strings.LastIndexByte(authority, '@')
	if at < 0 {
		return raw
	}
	user, _, hasPassword := strings.Cut(authority[:at], ":")
	if hasPassword {
		user += ":***"
	}
	return scheme + "://" + user + authority[at:] + maskQuery(tail)
}

// maskQuery masks a password given as a parameter.
func maskQuery(tail string) string {
	head, query, ok := strings.Cut(tail, "?")
	if !ok {
		return tail
	}
	params := strings.Split(query, "&")
	for i, p := range params {
		if k, _, _ := strings.Cut(p, "="); strings.Contains(strings.ToLower(k), "password") {
			params[i] = k + "=***"
		}
	}
	return head + "?" + strings.Join(params, "&")
}

// ParseStore reads a store's URL that is not the configuration's; a bare sqlite: names no file.
func ParseStore(raw string) (StoreURL, error) {
	u, err := parseStoreURL(raw, "")
	if err == nil && u.Kind == "sqlite" && u.Path == "" {
		err = fmt.Errorf("%q names no file: want sqlite:///absolute/path", clip(raw))
	}
	return u, err
}

// parseStoreURL reads statscache.store.url.
func parseStoreURL(raw, defaultPath string) (StoreURL, error) {
	u := StoreURL{URL: raw}
	scheme, rest, _ := strings.Cut(raw, ":")
	switch scheme {
	case "sqlite":
		u.Kind, u.Path = "sqlite", defaultPath
		if rest == "" {
			return u, nil
		}
		path, ok := strings.CutPrefix(rest, "//")
		if !ok || !strings.HasPrefix(path, "/") || strings.Trim(path, "/") == "" || strings.ContainsAny(path, "?#\x00") {
			return u, fmt.Errorf("%q is not sqlite:///absolute/path", clip(raw))
		}
		unescaped, err := url.PathUnescape(path)
		if err != nil {
			return u, fmt.Errorf("the path of %q is not understood", clip(raw))
		}
		u.Path = "/" + strings.TrimLeft(unescaped, "/")
		return u, nil
	case "crate":
		u.Kind = "crate"
		return u, checkCrate(raw, rest)
	}
	return u, fmt.Errorf("%q is neither sqlite:///path nor crate://user:password@host:5432/schema", clip(mask(raw)))
}

// checkCrate checks crate://user:pw@h1:5432,h2:5432/schema?options. Messages
// never hold the URL itself, which may hold a password.
func checkCrate(raw, rest string) error {
	rest, ok := strings.CutPrefix(rest, "//")
	authority, tail := rest, ""
	if end := strings.IndexAny(rest, "/?"); end >= 0 {
		authority, tail = rest[:end], rest[end:]
	}
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		authority = authority[at+1:]
	}
	if !ok || authority == "" || strings.Contains(tail, "@") {
		return fmt.Errorf("%q is not crate://user:password@host:5432/schema (escape special characters of the password)", clip(mask(raw)))
	}
	for _, host := range strings.Split(authority, ",") {
		name, port, hasPort := strings.Cut(host, ":")
		if strings.HasPrefix(host, "[") {
			name, port, hasPort = strings.Cut(host[1:], "]:")
		}
		if name == "" || hasPort && !validPort(port, 1) {
			return fmt.Errorf("the host %q of %q is not host:port", clip(host), clip(mask(raw)))
		}
	}
	_, query, _ := strings.Cut(tail, "?")
	if _, err := url.ParseQuery(query); err != nil {
		return fmt.Errorf("the options of %q are not understood", clip(mask(raw)))
	}
	return nil
}

func validPort(s string, least int) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n >= least && n <= 65535 && strings.Trim(s, "0123456789") == ""
}

// sqlalchemyStore reads the original's key: sqlite:////absolute/path, or
// sqlite:///path relative to the working directory.
func sqlalchemyStore(raw string, absolute func(string) string) (StoreURL, error) {
	path, ok := strings.CutPrefix(raw, "sqlite:///")
	if !ok || path == "" || path == ":memory:" || strings.ContainsAny(path, "?\x00") {
		return StoreURL{}, fmt.Errorf("%q is not sqlite:////absolute/path; set statscache.store.url for anything else", clip(mask(raw)))
	}
	return StoreURL{Kind: "sqlite", Path: absolute(path), URL: raw}, nil
}
