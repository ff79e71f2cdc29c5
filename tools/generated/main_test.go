package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// module writes a module whose generator copies the text of source.txt to made.txt.
func module(t *testing.T, made string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":     "module example.com/x\n\ngo 1.26\n",
		"x.go":       "package x\n\n//go:generate cp source.txt made.txt\n",
		"source.txt": "new\n",
		"made.txt":   made,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestCheck_FreshIsAccepted(t *testing.T) {
	if stale, err := check(t.Context(), module(t, "new\n")); err != nil || len(stale) > 0 {
		t.Errorf("check = %v, %v; want nothing", stale, err)
	}
}

func TestCheck_StaleIsNamedAndLeftAlone(t *testing.T) {
	dir := module(t, "old\n")
	stale, err := check(t.Context(), dir)
	if err != nil || !slices.Equal(stale, []string{"made.txt"}) {
		t.Errorf("check = %v, %v; want made.txt", stale, err)
	}
	if left, err := os.ReadFile(filepath.Join(dir, "made.txt")); err != nil || string(left) != "old\n" {
		t.Errorf("made.txt is now %q, %v; the check must not touch the tree", left, err)
	}
}
