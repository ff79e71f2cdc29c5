package config

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/statscache/statscache/consumer/config/pyfile"
)

// lookupTimeout bounds what a file that asks for the full host name costs.
const lookupTimeout = 2 * time.Second

// read evaluates and merges the files.
func (r *reader) read(files []candidate) {
	r.merged = map[string]any{}
	host := r.host()
	for _, f := range files {
		src, err := readFile(f.path)
		if err != nil {
			if !f.asked && errors.Is(err, os.ErrPermission) {
				// fedmsg warns and goes on, too.
				r.warn("%s: the file can't be read and is left out (%v)", f.path, err)
				continue
			}
			r.problem(err)
			r.incomplete = true
			continue
		}
		res, err := pyfile.Eval(f.path, src, host)
		if err != nil {
			r.problem(err)
			r.incomplete = true
			continue
		}
		r.cfg.Files = append(r.cfg.Files, f.path)
		r.note(f.path, res)
		merge(r.merged, res.Config)
	}
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, pyfile.MaxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return src, nil
}

// note remembers where the keys of a file, and those one level below, were set.
func (r *reader) note(file string, res *pyfile.Result) {
	at := func(key, otherwise string) string {
		if line := res.Lines[key]; line > 0 {
			return fmt.Sprintf("%s:%d", file, line)
		}
		return otherwise
	}
	for key, v := range res.Config {
		origin := at(key, file)
		r.origins[key] = origin
		if inner, ok := v.(map[string]any); ok {
			for k := range inner {
				r.origins[nested(key, k)] = at(k, origin)
			}
		}
	}
}

// merge is fedmsg's _recursive_update: dicts merge, all else is replaced.
func merge(into, from map[string]any) {
	for k, v := range from {
		inner, ok := v.(map[string]any)
		if old, both := into[k].(map[string]any); ok && both {
			merge(old, inner)
			continue
		}
		into[k] = v
	}
}

// host is what the files may learn about this machine.
func (r *reader) host() pyfile.Host {
	hostname := func() string {
		name, err := os.Hostname()
		if err != nil {
			return "localhost"
		}
		return name
	}
	return pyfile.Host{
		Environ:  r.env,
		Home:     r.opts.Home,
		WorkDir:  r.workDir(),
		Hostname: hostname,
		FQDN:     sync.OnceValue(func() string { return fullName(hostname()) }),
		PathKind: func(path string) (exists, dir bool) {
			info, err := os.Stat(path)
			return err == nil, err == nil && info.IsDir()
		},
		Now: time.Now,
	}
}

// fullName is Python's socket.getfqdn: the first name of the host's address
// that has a dot in it, else the host name.
func fullName(hostname string) string {
	ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupHost(ctx, hostname)
	if err != nil || len(addrs) == 0 {
		return hostname
	}
	names, err := net.DefaultResolver.LookupAddr(ctx, addrs[0])
	if err != nil || len(names) == 0 {
		return hostname
	}
	for _, name := range names {
		if name = strings.TrimSuffix(name, "."); strings.Contains(name, ".") {
			return name
		}
	}
	return strings.TrimSuffix(names[0], ".")
}
