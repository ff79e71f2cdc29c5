package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
)

// Load reads a configuration. The error joins every problem that was found,
// one sentence each; the Config is nil then.
func Load(o Options) (*Config, error) {
	r := &reader{opts: o, env: environment(o.Environ), origins: map[string]string{}, known: map[string]bool{}}
	files := r.locate()
	if len(files) > maxFiles {
		r.problem(fmt.Errorf("%s: more than %d configuration files", files[0].path, maxFiles))
		files = nil
	}
	r.incomplete = len(r.problems) > 0
	r.read(files)
	r.settings()
	r.fedmsgSettings()
	r.endpoints()
	r.rejectUnknown()
	if len(r.problems) > 0 {
		return nil, errors.Join(r.problems...)
	}
	r.cfg.Raw = r.merged
	return &r.cfg, nil
}

// reader collects one configuration and all that is wrong with it.
type reader struct {
	opts   Options
	env    map[string]string
	merged map[string]any
	// origins says where a key of the merged dict was set, "file:line"; a key
	// of a nested dict is found by nested(outer, inner).
	origins map[string]string
	known   map[string]bool
	// incomplete tells that a file is missing from the merged dict.
	incomplete bool
	cfg        Config
	problems   []error
}

func (r *reader) problem(err error) { r.problems = append(r.problems, err) }

func (r *reader) warn(format string, args ...any) {
	r.cfg.Warnings = append(r.cfg.Warnings, fmt.Sprintf(format, args...))
}

// environment turns os.Environ's list into a map; of duplicates the first
// counts, as for getenv.
func environment(list []string) map[string]string {
	env := make(map[string]string, len(list))
	for _, kv := range list {
		if k, v, ok := strings.Cut(kv, "="); ok && k != "" {
			if _, twice := env[k]; !twice {
				env[k] = v
			}
		}
	}
	return env
}

// nested names a key inside a nested dict in reader.origins.
func nested(outer, inner string) string { return outer + "\x00" + inner }

// rejectUnknown reports keys of ours that no setting has. Keys of fedmsg's
// plugins are not ours to judge, and a variable may belong to anybody.
func (r *reader) rejectUnknown() {
	known := make([]string, 0, len(r.known))
	for key := range r.known {
		known = append(known, key)
	}
	sort.Strings(known)
	report := func(key, origin string) {
		hint := ""
		if near := nearest(key, known); near != "" {
			hint = fmt.Sprintf("; did you mean %s?", near)
		}
		r.problem(fmt.Errorf("%s: there is no setting %s%s", origin, key, hint))
	}
	var keys []string
	for key := range r.merged {
		if strings.HasPrefix(key, "statscache.") && !r.known[key] {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		report(key, r.origins[key])
	}
	for _, key := range slices.Sorted(maps.Keys(r.opts.Flags)) {
		if !r.known[key] {
			report(key, "flag")
		}
	}
}
