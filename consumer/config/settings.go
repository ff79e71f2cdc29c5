package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// find returns what the strongest layer says about a key: flag, environment,
// file. A variable that is set but empty counts as not set.
func (r *reader) find(key string) (given, bool) {
	r.known[key] = true
	if v, ok := r.opts.Flags[key]; ok {
		return given{key: key, origin: "flag", value: v, text: true}, true
	}
	name := variable(key)
	if v := r.env[name]; v != "" {
		return given{key: key, origin: "env " + name, value: v, text: true}, true
	}
	if v, ok := r.merged[key]; ok {
		return given{key: key, origin: r.origins[key], value: v}, true
	}
	return given{}, false
}

// variable is the name of the environment variable for a key.
func variable(key string) string {
	rest := strings.TrimPrefix(key, "statscache.")
	return "STATSCACHE_" + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(rest))
}

// setting resolves one key with a default, and records it for the listing.
// decode is only called if a layer gives the key.
func setting[T any](r *reader, key string, missing T, decode func(given) (T, error)) T {
	value, origin := missing, "default"
	if g, ok := r.find(key); ok {
		v, err := decode(g)
		if err != nil {
			r.problem(err)
			return missing
		}
		value, origin = v, g.origin
	}
	r.list(key, value, origin)
	return value
}

// list records a setting in printable form.
func (r *reader) list(key string, value any, origin string) {
	switch v := value.(type) {
	case time.Duration:
		value = FormatDuration(v)
		if v == 0 { // kept for ever
			value = nil
		}
	case time.Time:
		value = v.Format(time.RFC3339Nano)
		if v.IsZero() {
			value = nil
		}
	case StoreURL:
		value = v.String()
	}
	var text strings.Builder
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		r.problem(fmt.Errorf("%s: %s can't be printed: %w", origin, key, err))
	}
	r.cfg.Settings = append(r.cfg.Settings, Setting{Key: key, Value: strings.TrimSuffix(text.String(), "\n"), Origin: origin})
}

// settings resolves every statscache.* key, in the order of the manual.
func (r *reader) settings() {
	c := &r.cfg
	c.DataDir = setting(r, "statscache.data_dir", r.defaultDataDir(), r.path)
	r.store()
	c.ConsumerEnabled = setting(r, "statscache.consumer.enabled", true, given.boolean)
	c.Epoch = setting(r, "statscache.consumer.epoch", time.Time{}, func(g given) (time.Time, error) {
		if g.optional() {
			return time.Time{}, nil
		}
		return g.time(time.Now().UTC())
	})
	c.CatchUp = setting(r, "statscache.consumer.catch_up", false, given.boolean)
	c.Topics = prefixes(setting(r, "statscache.consumer.topics", []string{"*"}, topics))
	// statscache.consumer.endpoints is resolved with the endpoints themselves.
	r.known["statscache.consumer.endpoints"] = true
	c.MaxMessageBytes = setting(r, "statscache.consumer.max_message_bytes", 1<<20, whole(1<<10, maxMessage))
	c.JournalMaxBytes = setting(r, "statscache.journal.max_bytes", int64(1<<30), func(g given) (int64, error) {
		return g.integer(1<<20, math.MaxInt64)
	})
	r.commitInterval()
	r.plugins()
	r.rules()
	c.ArchiveRetention = setting(r, "statscache.archive.retention", 0, keep)
	r.retention()
	r.app()
	r.history()
}

// maxMessage bounds what statscache.consumer.max_message_bytes may be set to: one body must fit a frame of the archive
// and a batch for a plugin, with room.
const maxMessage = 32 << 20

// history says of settings that can't do what they promise why not.
func (r *reader) history() {
	if c := &r.cfg; c.CatchUp && c.DatagrepperEndpoint == "" {
		r.warn("statscache.consumer.catch_up has no effect: statscache.datagrepper.endpoint names no archive")
	}
}

func (r *reader) app() {
	c := &r.cfg
	c.Listen = setting(r, "statscache.app.listen", "127.0.0.1:8840", hostPort)
	c.AdminListen = setting(r, "statscache.app.admin_listen", "127.0.0.1:8841", hostPort)
	c.BaseURL = setting(r, "statscache.app.base_url", "", webURL)
	c.DefaultRowsPerPage = setting(r, "statscache.app.default_rows_per_page", 100, whole(1, 1<<20))
	c.MaximumRowsPerPage = setting(r, "statscache.app.maximum_rows_per_page", 100, whole(1, 1<<20))
	if c.DefaultRowsPerPage > c.MaximumRowsPerPage {
		r.warn("statscache.app.default_rows_per_page is %d and is cut to statscache.app.maximum_rows_per_page, %d", c.DefaultRowsPerPage, c.MaximumRowsPerPage)
		c.DefaultRowsPerPage = c.MaximumRowsPerPage
	}
	// The listing masks a password in the URL; the value keeps it.
	key := "statscache.datagrepper.endpoint"
	c.DatagrepperEndpoint = setting(r, key, "", webURL)
	if last := len(c.Settings) - 1; c.DatagrepperEndpoint != "" && c.Settings[last].Key == key {
		c.Settings[last].Value = strings.ReplaceAll(c.Settings[last].Value, c.DatagrepperEndpoint, mask(c.DatagrepperEndpoint))
	}
	c.DatagrepperProfile = setting(r, "statscache.datagrepper.profile", false, given.boolean)
}

// path decodes a path; a relative one starts at the working directory.
func (r *reader) path(g given) (string, error) {
	s, err := g.str()
	if err == nil && (s == "" || strings.ContainsRune(s, 0)) {
		err = g.wrong("is not a path: %q", clip(s))
	}
	if err != nil {
		return "", err
	}
	return r.absolute(s), nil
}

// defaultDataDir follows systemd's and the XDG's conventions. Systemd gives a
// list if the unit has several directories.
func (r *reader) defaultDataDir() string {
	if dir, _, _ := strings.Cut(r.env["STATE_DIRECTORY"], ":"); dir != "" {
		return r.absolute(dir)
	}
	if dir := r.env["XDG_STATE_HOME"]; filepath.IsAbs(dir) {
		return filepath.Join(dir, "statscache")
	}
	if r.opts.Home == "" {
		return "/var/lib/statscache"
	}
	return r.absolute("~/.local/state/statscache")
}

// store resolves statscache.store.url and, in its absence, the original's
// statscache.sqlalchemy.uri.
func (r *reader) store() {
	c := &r.cfg
	file := filepath.Join(c.DataDir, "statscache.db")
	fallback := StoreURL{Kind: "sqlite", Path: file, URL: "sqlite:"}
	r.known["statscache.sqlalchemy.uri"] = true
	old, hasOld := r.find("statscache.sqlalchemy.uri")
	_, hasNew := r.find("statscache.store.url")
	if hasOld && !hasNew {
		uri, err := old.str()
		if err == nil {
			if fallback, err = sqlalchemyStore(uri, r.absolute); err != nil {
				err = old.wrong("is wrong: %v", err)
			}
		}
		if err != nil {
			r.problem(err)
			return
		}
		c.Store = fallback
		r.list("statscache.store.url", "sqlite://"+fallback.Path, "statscache.sqlalchemy.uri at "+old.origin)
		r.list("statscache.sqlalchemy.uri", fallback, old.origin)
		return
	}
	c.Store = setting(r, "statscache.store.url", fallback, func(g given) (StoreURL, error) {
		s, err := g.str()
		if err != nil {
			return StoreURL{}, err
		}
		u, err := parseStoreURL(s, file)
		if err != nil {
			return StoreURL{}, g.wrong("is wrong: %v", err)
		}
		return u, nil
	})
	if hasOld {
		r.warn("%s: statscache.sqlalchemy.uri is not used, because statscache.store.url is set", old.origin)
	}
	r.list("statscache.sqlalchemy.uri", nil, "default")
}

// commitInterval resolves statscache.commit.interval or the original's name.
func (r *reader) commitInterval() {
	const key, oldKey = "statscache.commit.interval", "statscache.producer.frequency"
	interval := func(g given) (time.Duration, error) {
		d, err := g.duration()
		if err == nil && (d < time.Millisecond || d > time.Hour) {
			err = g.wrong("must be between 1ms and 1h, not %s", FormatDuration(d))
		}
		return d, err
	}
	_, hasNew := r.find(key)
	old, hasOld := r.find(oldKey)
	switch {
	case hasOld && !hasNew:
		d, err := interval(old)
		if err != nil {
			r.problem(err)
			return
		}
		r.cfg.CommitInterval = d
		r.list(key, d, oldKey+" at "+old.origin)
		r.list(oldKey, d, old.origin)
		return
	case hasOld:
		r.warn("%s: %s is not used, because %s is set", old.origin, oldKey, key)
	}
	r.cfg.CommitInterval = setting(r, key, 100*time.Millisecond, interval)
	r.list(oldKey, nil, "default")
}

func (r *reader) plugins() {
	c := &r.cfg
	folders := []string{filepath.Join(c.DataDir, "plugins"), "/usr/lib/statscache/plugins"}
	c.PluginsPath = setting(r, "statscache.plugins.path", folders, func(g given) ([]string, error) {
		list, err := g.strings()
		for i, p := range list {
			if p == "" || strings.ContainsRune(p, 0) {
				return nil, g.wrong("holds an empty path")
			}
			list[i] = r.absolute(p)
		}
		return list, err
	})
	c.PluginsDisabled = setting(r, "statscache.plugins.disabled", []string{}, given.strings)
	c.PluginsConfig = setting(r, "statscache.plugins.config", map[string]json.RawMessage{}, func(g given) (map[string]json.RawMessage, error) {
		d, err := g.dict()
		if err != nil {
			return nil, err
		}
		out := make(map[string]json.RawMessage, len(d))
		for _, id := range slices.Sorted(maps.Keys(d)) {
			v := d[id]
			if _, ok := v.(map[string]any); !ok {
				return nil, g.wrong("must hold a dict for %q, not %s", clip(id), describe(v))
			}
			plain, err := jsonable(v)
			if err != nil {
				return nil, g.wrong("for %q %v", clip(id), err)
			}
			if out[id], err = json.Marshal(plain); err != nil {
				return nil, g.wrong("for %q can't be written as JSON: %v", clip(id), err)
			}
		}
		return out, nil
	})
}

// whole decodes an int within bounds.
func whole(least, most int64) func(given) (int, error) {
	return func(g given) (int, error) {
		n, err := g.integer(least, most)
		return int(n), err
	}
}

// keep decodes how long something is kept; None is 0, for ever.
func keep(g given) (time.Duration, error) {
	if g.optional() {
		return 0, nil
	}
	d, err := g.duration()
	if err == nil && d == 0 {
		err = g.wrong("is 0; None keeps for ever")
	}
	return d, err
}

func hostPort(g given) (string, error) {
	s, err := g.str()
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(s)
	if err != nil || !validPort(port, 0) {
		return "", g.wrong("must be host:port, not %q", clip(s))
	}
	return s, nil
}

// webURL decodes the URL of a web service; "" and None mean none.
func webURL(g given) (string, error) {
	if g.optional() {
		return "", nil
	}
	s, err := g.str()
	if err != nil || s == "" {
		return "", err
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Fragment != "" {
		var parse *url.Error
		if errors.As(err, &parse) {
			return "", g.wrong("is not a URL: %v", parse.Err)
		}
		return "", g.wrong("must be an http or https URL, not %q", clip(mask(s)))
	}
	return strings.TrimRight(s, "/"), nil
}

func topics(g given) ([]string, error) {
	list, err := g.strings()
	if err == nil && len(list) == 0 {
		err = g.wrong("names no topic; [\"*\"] means all")
	}
	return list, err
}

// prefixes deletes every * as fedmsg does; an empty prefix makes the others
// pointless.
func prefixes(list []string) []string {
	out := make([]string, len(list))
	for i, t := range list {
		out[i] = strings.ReplaceAll(t, "*", "")
	}
	slices.Sort(out)
	if len(out) > 0 && out[0] == "" {
		return []string{""}
	}
	return slices.Compact(out)
}
