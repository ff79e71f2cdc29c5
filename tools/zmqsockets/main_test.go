package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	tests := []struct {
		name, source string
		want         []string // a part of each sentence, in order
	}{
		{"open is fine", `import "github.com/go-zeromq/zmq4"` + "\nvar _ = zmq4.Open\nvar _ = zmq4.NewMsg", nil},
		{"a socket", `import "github.com/go-zeromq/zmq4"` + "\nvar _ = zmq4.NewSub", []string{"x.go:3:9: zmq4.NewSub is forbidden"}},
		{"renamed import", `import z "github.com/go-zeromq/zmq4"` + "\nvar _ = z.NewPub(nil)", []string{"zmq4.NewPub is forbidden"}},
		{"dot import", `import . "github.com/go-zeromq/zmq4"` + "\nvar _ = NewSub", []string{"dot import"}},
		{"another package's NewSub", `import "example.com/zmq4"` + "\nvar _ = zmq4.NewSub", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "x.go"), []byte("package x\n"+tt.source+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			found, err := check(dir)
			if err != nil || len(found) != len(tt.want) {
				t.Fatalf("check = %q, %v; want %q", found, err, tt.want)
			}
			for i, want := range tt.want {
				if !strings.Contains(found[i], want) {
					t.Errorf("sentence %q does not contain %q", found[i], want)
				}
			}
		})
	}
}

func TestCheck_BrokenFileIsNamed(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "broken.go"), []byte("package"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := check(dir); err == nil || !strings.Contains(err.Error(), "broken.go") {
		t.Errorf("check = %v, want an error that names the file", err)
	}
}
