package pyfile

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/starlarkstruct"
)

// hasModule reports whether an import of the module succeeds.
func (m *machine) hasModule(name string) bool {
	switch name {
	case "__future__", "os", "os.path", "socket", "datetime", "logging", "sys", "random", "time", "getpass", "platform", "six",
		"moksha", "moksha.common", "moksha.common.lib", "moksha.common.lib.converters",
		"hashlib", "inspect", "traceback", "warnings", "re":
		return true
	}
	return false
}

// module returns a module, the same one for every import of its name.
func (m *machine) module(name string) starlark.Value {
	if v := m.modules[name]; v != nil {
		return v
	}
	v := m.newModule(name)
	m.modules[name] = v
	return v
}

func (m *machine) newModule(name string) starlark.Value {
	members := starlark.StringDict{}
	text := func(name string, fn func() string) {
		members[name] = function(name, 0, 0, func(starlark.Tuple) (starlark.Value, error) { return starlark.String(fn()), nil })
	}
	switch name {
	case "os":
		members = m.osModule()
	case "os.path":
		members = m.pathModule()
	case "socket":
		text("gethostname", m.host.Hostname)
		text("getfqdn", m.host.FQDN)
	case "datetime":
		members = m.datetimeModule()
	case "logging":
		members = loggingModule()
	case "sys":
		members["platform"] = starlark.String("linux")
		members["path"] = opaque{what: "sys.path"}
	case "random":
		members = randomModule()
	case "time":
		members["time"] = function("time", 0, 0, func(starlark.Tuple) (starlark.Value, error) {
			return starlark.Float(float64(m.host.Now().UnixMicro()) / 1e6), nil
		})
	case "getpass":
		text("getuser", func() string {
			for _, key := range []string{"LOGNAME", "USER", "LNAME", "USERNAME"} {
				if v := m.host.Environ[key]; v != "" {
					return v
				}
			}
			return "root"
		})
	case "platform":
		text("node", m.host.Hostname)
	case "six":
		members["PY2"], members["PY3"] = starlark.False, starlark.True
	case "moksha":
		members["common"] = m.module("moksha.common")
	case "moksha.common":
		members["lib"] = m.module("moksha.common.lib")
	case "moksha.common.lib":
		members["converters"] = m.module("moksha.common.lib.converters")
	case "moksha.common.lib.converters":
		members["asbool"] = function("asbool", 1, 1, func(a starlark.Tuple) (starlark.Value, error) { return asBool(a[0]) })
	default:
		return opaque{what: name}
	}
	return &starlarkstruct.Module{Name: name, Members: members}
}

// asBool is moksha's reading of a flag.
func asBool(v starlark.Value) (starlark.Value, error) {
	s, ok := v.(starlark.String)
	if !ok {
		return truth(v)
	}
	switch strings.ToLower(strings.TrimSpace(string(s))) {
	case "true", "yes", "on", "y", "t", "1":
		return starlark.True, nil
	case "false", "no", "off", "n", "f", "0":
		return starlark.False, nil
	}
	return nil, errors.New("the argument of asbool is neither true nor false")
}

func (m *machine) osModule() starlark.StringDict {
	environ := starlark.NewDict(len(m.host.Environ))
	for k, v := range m.host.Environ {
		_ = environ.SetKey(starlark.String(k), starlark.String(v)) // strings hash, and nothing iterates yet
	}
	return starlark.StringDict{
		"path": m.module("os.path"), "environ": environ,
		"sep": starlark.String("/"), "linesep": starlark.String("\n"), "pathsep": starlark.String(":"),
		"curdir": starlark.String("."), "pardir": starlark.String(".."), "name": starlark.String("posix"),
		"getcwd": function("getcwd", 0, 0, func(starlark.Tuple) (starlark.Value, error) {
			return starlark.String(m.host.WorkDir), nil
		}),
		"getenv": function("getenv", 1, 2, func(a starlark.Tuple) (starlark.Value, error) {
			v, found, err := m.getKey(environ, a[0])
			if err != nil || found {
				return v, err
			}
			if len(a) == 2 {
				return a[1], nil
			}
			return starlark.None, nil
		}),
		"uname": function("uname", 0, 0, func(starlark.Tuple) (starlark.Value, error) {
			rest := func(field string) starlark.Value { return opaque{what: "os.uname()." + field} }
			return starlark.Tuple{starlark.String("Linux"), starlark.String(m.host.Hostname()), rest("release"), rest("version"), rest("machine")}, nil
		}),
	}
}

// pathModule is posixpath.
func (m *machine) pathModule() starlark.StringDict {
	d := starlark.StringDict{"sep": starlark.String("/")}
	for name, fn := range map[string]func(string) (starlark.Value, error){
		"dirname":  func(p string) (starlark.Value, error) { head, _ := splitPath(p); return starlark.String(head), nil },
		"basename": func(p string) (starlark.Value, error) { _, tail := splitPath(p); return starlark.String(tail), nil },
		"split": func(p string) (starlark.Value, error) {
			head, tail := splitPath(p)
			return starlark.Tuple{starlark.String(head), starlark.String(tail)}, nil
		},
		"isabs":    func(p string) (starlark.Value, error) { return starlark.Bool(strings.HasPrefix(p, "/")), nil },
		"normpath": func(p string) (starlark.Value, error) { return starlark.String(normPath(p)), nil },
		"abspath": func(p string) (starlark.Value, error) {
			return starlark.String(normPath(joinPath(m.host.WorkDir, p))), nil
		},
		"expanduser": func(p string) (starlark.Value, error) {
			if p != "~" && !strings.HasPrefix(p, "~/") {
				if strings.HasPrefix(p, "~") {
					return nil, errors.New("the home of another user is not known")
				}
				return starlark.String(p), nil
			}
			return starlark.String(strings.TrimRight(m.host.Home, "/") + p[1:]), nil
		},
		"exists": func(p string) (starlark.Value, error) { exists, _ := m.pathKind(p); return starlark.Bool(exists), nil },
		"isdir":  func(p string) (starlark.Value, error) { _, dir := m.pathKind(p); return starlark.Bool(dir), nil },
		"isfile": func(p string) (starlark.Value, error) {
			exists, dir := m.pathKind(p)
			return starlark.Bool(exists && !dir), nil
		},
	} {
		d[name] = function(name, 1, 1, func(a starlark.Tuple) (starlark.Value, error) {
			p, ok := a[0].(starlark.String)
			if !ok {
				return nil, fmt.Errorf("os.path.%s of a %s is an error", name, typeName(a[0]))
			}
			if err := m.chargeBytes(len(p)); err != nil {
				return nil, err
			}
			return fn(string(p))
		})
	}
	d["join"] = function("join", 1, maxArguments, func(a starlark.Tuple) (starlark.Value, error) {
		out := ""
		for i, v := range a {
			p, ok := v.(starlark.String)
			if !ok {
				return nil, fmt.Errorf("os.path.join of a %s is an error", typeName(v))
			}
			if err := m.chargeBytes(len(out) + len(p)); err != nil {
				return nil, err
			}
			if i == 0 {
				out = string(p)
			} else {
				out = joinPath(out, string(p))
			}
		}
		return starlark.String(out), nil
	})
	return d
}

func (m *machine) pathKind(p string) (exists, dir bool) {
	if !strings.HasPrefix(p, "/") {
		p = joinPath(m.host.WorkDir, p)
	}
	return m.host.PathKind(p)
}

func joinPath(head, tail string) string {
	switch {
	case strings.HasPrefix(tail, "/"):
		return tail
	case head == "" || strings.HasSuffix(head, "/"):
		return head + tail
	}
	return head + "/" + tail
}

// splitPath is posixpath.split.
func splitPath(p string) (head, tail string) {
	at := strings.LastIndexByte(p, '/') + 1
	head, tail = p[:at], p[at:]
	if strings.Trim(head, "/") != "" {
		head = strings.TrimRight(head, "/")
	}
	return head, tail
}

// normPath is posixpath.normpath, which keeps exactly two leading slashes.
func normPath(p string) string {
	clean := path.Clean(p)
	if strings.HasPrefix(p, "//") && !strings.HasPrefix(p, "///") {
		return "/" + clean
	}
	return clean
}

func (m *machine) datetimeModule() starlark.StringDict {
	now := func(name string, local bool) *starlark.Builtin {
		return function(name, 0, 0, func(starlark.Tuple) (starlark.Value, error) {
			t := m.host.Now()
			if !local {
				t = t.UTC()
			}
			return newDatetime(starlark.Tuple{
				starlark.MakeInt(t.Year()), starlark.MakeInt(int(t.Month())), starlark.MakeInt(t.Day()),
				starlark.MakeInt(t.Hour()), starlark.MakeInt(t.Minute()), starlark.MakeInt(t.Second()), starlark.MakeInt(t.Nanosecond() / 1000),
			}, nil)
		})
	}
	build := func(name string, fn func(starlark.Tuple, []starlark.Tuple) (starlark.Value, error)) *starlark.Builtin {
		return starlark.NewBuiltin(name, func(_ *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
			return fn(args, kwargs)
		})
	}
	return starlark.StringDict{
		"timedelta": build("timedelta", newTimedelta),
		"datetime": class{Builtin: build("datetime", newDatetime), members: starlark.StringDict{
			"now": now("now", true), "today": now("today", true), "utcnow": now("utcnow", false),
		}},
	}
}

func loggingModule() starlark.StringDict {
	d := starlark.StringDict{}
	for name, level := range map[string]int{
		"NOTSET": 0, "DEBUG": 10, "INFO": 20, "WARN": 30, "WARNING": 30, "ERROR": 40, "CRITICAL": 50, "FATAL": 50,
	} {
		d[name] = starlark.MakeInt(level)
	}
	for _, name := range []string{"getLogger", "basicConfig", "debug", "info", "warning", "error"} {
		d[name] = opaque{what: "logging." + name}
	}
	return d
}

func randomModule() starlark.StringDict {
	return starlark.StringDict{
		"randint": function("randint", 2, 2, func(a starlark.Tuple) (starlark.Value, error) {
			low, err1 := starlark.AsInt32(a[0])
			high, err2 := starlark.AsInt32(a[1])
			if err1 != nil || err2 != nil || high < low {
				return nil, errors.New("the arguments of randint are not understood")
			}
			return starlark.MakeInt64(int64(low) + rand.Int64N(int64(high)-int64(low)+1)), nil
		}),
		"choice": function("choice", 1, 1, func(a starlark.Tuple) (starlark.Value, error) {
			seq, ok := a[0].(starlark.Indexable)
			if !ok || seq.Len() == 0 {
				return nil, errors.New("the argument of choice is not understood")
			}
			if _, text := a[0].(starlark.String); text {
				return nil, errors.New("choice of text is not understood")
			}
			return seq.Index(rand.IntN(seq.Len())), nil
		}),
	}
}
