package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const maxFiles = 1000

// candidate is a file to be read. One that was asked for must be readable;
// one that was found may be missing, as for fedmsg.
type candidate struct {
	path  string
	asked bool
}

// locate returns the files to read, in order.
func (r *reader) locate() []candidate {
	if len(r.opts.Paths) == 0 {
		return r.searchPath()
	}
	var out []candidate
	for _, path := range r.opts.Paths {
		path = r.absolute(path)
		info, err := os.Stat(path)
		switch {
		case err != nil:
			r.problem(fmt.Errorf("read the configuration: %w", err))
		case info.IsDir():
			files, err := pythonFiles(path)
			if err == nil && len(files) == 0 {
				err = fmt.Errorf("%s: the folder holds no .py file", path)
			}
			if err != nil {
				r.problem(err)
			}
			for _, f := range files {
				out = append(out, candidate{path: f, asked: true})
			}
		default:
			out = append(out, candidate{path: path, asked: true})
		}
	}
	return out
}

// searchPath is fedmsg's: the folders first, then the single files.
func (r *reader) searchPath() []candidate {
	system := r.opts.SystemDir
	if system == "" {
		system = "/etc"
	}
	folders := []string{filepath.Join(system, "fedmsg.d")}
	files := []string{filepath.Join(system, "fedmsg-config.py")}
	if r.opts.Home != "" {
		folders = append(folders, filepath.Join(r.opts.Home, ".fedmsg.d"))
		files = append(files, filepath.Join(r.opts.Home, ".fedmsg-config.py"))
	}
	folders = append(folders, r.absolute("fedmsg.d"))
	files = append(files, r.absolute("fedmsg-config.py"))
	if venv, ok := r.env["VIRTUAL_ENV"]; ok {
		folders = append(folders, r.absolute(filepath.Join(venv, "etc/fedmsg.d")))
	}
	var out []candidate
	for _, folder := range folders {
		found, err := pythonFiles(folder)
		if err != nil && !os.IsNotExist(err) {
			r.warn("%s: the folder can't be read and is left out (%v)", folder, err)
		}
		for _, f := range found {
			out = append(out, candidate{path: f})
		}
	}
	for _, f := range files {
		out = append(out, candidate{path: f})
	}
	return slices.DeleteFunc(out, func(c candidate) bool {
		info, err := os.Stat(c.path)
		return err != nil || !info.Mode().IsRegular()
	})
}

// pythonFiles returns the *.py files of a folder in byte order.
func pythonFiles(folder string) ([]string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".py") {
			out = append(out, filepath.Join(folder, e.Name()))
		}
	}
	slices.Sort(out)
	return out, nil
}

// absolute resolves a leading ~ and makes a path absolute.
func (r *reader) absolute(path string) string {
	if path == "~" || strings.HasPrefix(path, "~/") {
		path = filepath.Join(r.opts.Home, path[1:])
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(r.workDir(), path)
	}
	return filepath.Clean(path)
}

func (r *reader) workDir() string {
	if r.opts.WorkDir != "" {
		return r.opts.WorkDir
	}
	dir, err := os.Getwd()
	if err != nil {
		return "/"
	}
	return dir
}
