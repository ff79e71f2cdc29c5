// Command zmqsockets refuses the use of zmq4's own sockets: they crash, hang or silently lose endpoints where a
// connection made with zmq4.Open behind our frame guard survives, and nothing in their signatures tells.
package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// library is the import path whose sockets are forbidden.
const library = "github.com/go-zeromq/zmq4"

// sockets are its constructors of sockets; the other New* functions make messages.
var sockets = []string{
	"NewDealer", "NewPair", "NewPub", "NewPull", "NewPush", "NewRep", "NewReq", "NewRouter", "NewSub", "NewXPub", "NewXSub",
}

func main() {
	root := "."
	if len(os.Args) > 1 {
		root = os.Args[1]
	}
	found, err := check(root)
	if err != nil {
		fmt.Fprintln(os.Stderr, "zmqsockets:", err)
		os.Exit(2)
	}
	for _, use := range found {
		fmt.Fprintln(os.Stderr, use)
	}
	if len(found) > 0 {
		os.Exit(1)
	}
}

// check gives one sentence for every use in the Go files below root, in the order of the files.
func check(root string) ([]string, error) {
	var found []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "vendor") {
				return fs.SkipDir
			}
			return nil
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		uses, err := checkFile(path)
		found = append(found, uses...)
		return err
	})
	return found, err
}

func checkFile(path string) ([]string, error) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", path, err)
	}
	var found []string
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil || imported != library {
			continue
		}
		name := "zmq4"
		if spec.Name != nil {
			name = spec.Name.Name
		}
		if name == "." {
			found = append(found, fmt.Sprintf("%s: dot import of %s hides the use of its sockets; import it by name",
				set.Position(spec.Pos()), library))
			continue
		}
		ast.Inspect(file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok || !slices.Contains(sockets, sel.Sel.Name) {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == name {
				found = append(found, fmt.Sprintf("%s: zmq4.%s is forbidden: it loses endpoints, hangs and panics on hostile input; "+
					"use zmq4.Open on a guarded connection, as consumer/source/zmq does", set.Position(sel.Pos()), sel.Sel.Name))
			}
			return true
		})
	}
	return found, nil
}
