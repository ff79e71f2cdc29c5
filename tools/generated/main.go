// Command generated checks that every generated file is what `go generate` makes today, without touching the work tree.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	root := "."
	if len(os.Args) > 1 {
		root = os.Args[1]
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	stale, err := check(ctx, root)
	if err != nil {
		fmt.Fprintln(os.Stderr, "generated:", err)
		os.Exit(2)
	}
	for _, path := range stale {
		fmt.Fprintf(os.Stderr, "%s is not what go generate makes; run `make generate` and commit it\n", path)
	}
	if len(stale) > 0 {
		os.Exit(1)
	}
}

// check runs `go generate ./...` in a copy of the tree and lists the files that it changed, made or removed.
func check(ctx context.Context, root string) (stale []string, err error) {
	before, err := load(root)
	if err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp("", "statscache-generated-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	if err := save(work, before); err != nil {
		return nil, err
	}
	generate := exec.CommandContext(ctx, "go", "generate", "./...")
	generate.Dir = work
	if out, err := generate.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go generate ./...: %w\n%s", err, out)
	}
	after, err := load(work)
	if err != nil {
		return nil, err
	}
	for path, data := range after {
		if old, ok := before[path]; !ok || !bytes.Equal(old, data) {
			stale = append(stale, path)
		}
	}
	for path := range before {
		if _, ok := after[path]; !ok {
			stale = append(stale, path)
		}
	}
	slices.Sort(stale)
	return stale, nil
}

// load reads what a generator may read or write: everything but hidden folders and test data.
func load(root string) (map[string][]byte, error) {
	files := map[string][]byte{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); path != root && (strings.HasPrefix(name, ".") || name == "testdata") {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() || !source(d.Name()) {
			return nil
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		files[relative], err = os.ReadFile(path)
		return err
	})
	return files, err
}

// source says whether a file belongs to the source: a built binary lying about doesn't.
func source(name string) bool {
	switch filepath.Ext(name) {
	case ".go", ".mod", ".sum", ".proto", ".html", ".css", ".js", ".ts", ".svg", ".json", ".sql", ".py", ".md", ".tsv", ".txt":
		return true
	}
	return false
}

func save(root string, files map[string][]byte) error {
	for path, data := range files {
		target := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(target, data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
