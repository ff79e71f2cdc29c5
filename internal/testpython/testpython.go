// Package testpython finds the Python interpreter with real fedmsg and pyzmq that interoperability tests talk to.
package testpython

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Variable is the environment variable that names the interpreter.
const Variable = "STATSCACHE_TEST_PYTHON"

// probeTimeout bounds the look whether the interpreter has the modules.
const probeTimeout = 30 * time.Second

// Find gives the path of a Python that has zmq and fedmsg: the one named by STATSCACHE_TEST_PYTHON, else the
// one of the virtual environment that the Makefile makes in the user's cache folder. Where there is none the test is
// skipped with a sentence that says how to get it; a named one that doesn't work fails the test.
func Find(t testing.TB) string {
	t.Helper()
	if named := os.Getenv(Variable); named != "" {
		if err := probe(t, named); err != nil {
			t.Fatalf("%s=%s has no zmq and fedmsg: %v", Variable, named, err)
		}
		return named
	}
	path := venvPython()
	if path == "" {
		t.Skipf("SKIPPED: no cache folder to look for a test Python in; set %s to one with fedmsg and pyzmq", Variable)
	}
	if _, err := os.Stat(path); err != nil {
		t.Skipf("SKIPPED: no Python with fedmsg and pyzmq at %s; make one with `python3 -m venv` there and\n"+
			"  pip install 'setuptools<81' 'fedmsg[commands,consumers,crypto_ng]' pyzmq 'pyOpenSSL<24.3' 'cryptography<44'\n"+
			"or set %s", path, Variable)
	}
	if err := probe(t, path); err != nil {
		t.Skipf("SKIPPED: %s has no zmq and fedmsg (%v); remove the folder and make it anew", path, err)
	}
	return path
}

// venvPython is where the Makefile puts the interpreter; "" where the user has no home.
func venvPython() string {
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		cache = filepath.Join(home, ".cache")
	}
	return filepath.Join(cache, "statscache", "venv", "bin", "python")
}

// probe looks for the modules without importing them: that takes seconds on a busy machine, and every test asks.
func probe(t testing.TB, python string) error {
	ctx, cancel := context.WithTimeout(t.Context(), probeTimeout)
	defer cancel()
	const look = "import importlib.util as u, sys; sys.exit(not (u.find_spec('zmq') and u.find_spec('fedmsg')))"
	return exec.CommandContext(ctx, python, "-c", look).Run()
}
