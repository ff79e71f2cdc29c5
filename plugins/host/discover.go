package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Discover lists the plugins in folders: every executable file that is complete, neither hidden nor a backup, and can
// be changed by nobody but its owner. What it passes over for the last reason comes back as an error beside the list,
// as does a folder that can't be read; one that does not exist is empty.
func Discover(folders []string) ([]Program, error) {
	var out []Program
	var problems []error
	for _, folder := range folders {
		entries, err := os.ReadDir(folder)
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				problems = append(problems, fmt.Errorf("plugin folder: %w", err))
			}
			continue
		}
		if err := onlyOwner(folder); err != nil {
			problems = append(problems, fmt.Errorf("plugin folder %s: %w", folder, err))
			continue
		}
		for _, e := range entries {
			path := filepath.Join(folder, e.Name())
			ok, err := candidate(path)
			if err != nil {
				problems = append(problems, fmt.Errorf("plugin %s: %w", path, err))
			}
			if ok {
				out = append(out, Program{ID: e.Name(), Argv: []string{path}})
			}
		}
	}
	return out, errors.Join(problems...)
}

// candidate says whether a file is a plugin. An error says why one that looks like it is not run.
func candidate(path string) (bool, error) {
	name := filepath.Base(path)
	if strings.HasPrefix(name, ".") || strings.HasPrefix(name, "#") {
		return false, nil
	}
	backups := []string{"~", ".bak", ".tmp", ".part", ".swp", ".orig", ".rpmnew", ".rpmsave", ".rpmorig", ".dpkg-new", ".dpkg-old", ".dpkg-dist", ".dpkg-tmp"}
	if slices.ContainsFunc(backups, func(suffix string) bool { return strings.HasSuffix(name, suffix) }) {
		return false, nil
	}
	info, err := os.Stat(path) // a link counts as what it leads to
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil // gone meanwhile, or a link to nothing
		}
		return false, err
	}
	if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 || info.Size() == 0 {
		return false, nil
	}
	if err := onlyOwner(path); err != nil {
		return false, err
	}
	return true, nil
}

// onlyOwner makes sure that nobody but its owner can change a file or folder: whoever can, decides what runs here.
func onlyOwner(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Mode()&0o022 != 0 {
		return fmt.Errorf("it can be changed by others than its owner (mode %04o): not run", info.Mode().Perm())
	}
	return nil
}
