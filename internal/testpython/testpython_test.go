package testpython

import "testing"

func TestFind_NamedInterpreterIsUsed(t *testing.T) {
	path := Find(t)
	t.Setenv(Variable, path)
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	if got := Find(t); got != path {
		t.Errorf("Find = %s, want the named %s", got, path)
	}
}

func TestVenvPython_FollowsXDG(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", "/cache")
	if got, want := venvPython(), "/cache/statscache/venv/bin/python"; got != want {
		t.Errorf("venvPython = %s, want %s", got, want)
	}
}
