package config

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/statscache/statscache/internal/testpython"
)

// fedmsgLoads asks fedmsg itself for the merged configuration of a scene.
func fedmsgLoads(t *testing.T, s *scene, files ...string) map[string]any {
	t.Helper()
	python := testpython.Find(t)
	script, err := filepath.Abs("testdata/load_config.py")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, append([]string{script}, files...)...)
	cmd.Dir = s.WorkDir
	cmd.Env = append(s.Environ, "HOME="+s.Home, "PATH="+os.Getenv("PATH"))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("fedmsg: %v", err)
	}
	var config map[string]any
	if err := json.Unmarshal(out, &config); err != nil {
		t.Fatal(err)
	}
	return config
}

// plainConfig is Config.Raw as fedmsg returns it, endpoints as lists.
func plainConfig(t *testing.T, c *Config) map[string]any {
	t.Helper()
	if all, ok := c.Raw["endpoints"].(map[string]any); ok {
		for name, v := range all {
			if _, isList := v.([]any); !isList {
				all[name] = []any{v}
			}
		}
	}
	plain, err := jsonable(c.Raw)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(plain)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func sameAsFedmsg(t *testing.T, s *scene, files ...string) {
	t.Helper()
	want := fedmsgLoads(t, s, files...)
	if got := plainConfig(t, s.load()); !reflect.DeepEqual(got, want) {
		t.Errorf("\n   got %v\nfedmsg %v", got, want)
	}
}

func TestFedmsg_SearchPathAndMerge(t *testing.T) {
	file := func(n string) string {
		return `import socket, os
config = {
    'who': '` + n + `', 'list': ['` + n + `'], 'host': socket.gethostname(), 'full': socket.getfqdn(), 'cwd': os.getcwd(),
    'endpoints': {'` + n + `': 'tcp://127.0.0.1:3000', 'shared': ['tcp://h:1', '` + "tcp://127.0.0.1:2" + `']},
    'deep': {'a': {'b': {'` + n + `': 1, 'last': '` + n + `'}}, '` + n + `': ()},
    'topic_prefix': 'org.` + n[:1] + `',
}
`
	}
	files := map[string]string{
		"work/fedmsg.d/ignored.py.bak": "syntax error(",
		"work/fedmsg.d/.hidden.py":     "config = {'hidden': True}",
		"work/fedmsg.d/Z.py":           "config = {'deep': {'a': 5}}",
		"work/fedmsg.d/é.py":           "config = {'deep': {'a': {'replaced': 1}}}",
		"work/fedmsg.d/folder.py/x":    "",
	}
	for _, name := range []string{
		"home/.fedmsg.d/b.py", "home/.fedmsg.d/a.py", "work/fedmsg.d/10.py", "work/fedmsg.d/9.py",
		"venv/etc/fedmsg.d/v.py", "home/.fedmsg-config.py", "work/fedmsg-config.py",
	} {
		files[name] = file(name)
	}
	s := newScene(t, files)
	s.SystemDir = ""
	s.Environ = []string{"VIRTUAL_ENV=" + filepath.Join(s.dir, "venv")}
	sameAsFedmsg(t, s)
	s.Environ = nil
	sameAsFedmsg(t, s)
	named := []string{filepath.Join(s.dir, "work/fedmsg.d/9.py"), filepath.Join(s.dir, "home/.fedmsg.d/a.py")}
	s.Paths = named
	sameAsFedmsg(t, s, named...)
}

func TestFedmsg_ReadsTheSampleFolder(t *testing.T) {
	folder, err := filepath.Abs("../../fedmsg.d")
	if err != nil {
		t.Fatal(err)
	}
	files, err := pythonFiles(folder)
	if err != nil {
		t.Fatal(err)
	}
	s := newScene(t, map[string]string{"work/x": ""})
	s.Paths = []string{folder}
	sameAsFedmsg(t, s, files...)
}

func TestLoad_LogLevel(t *testing.T) {
	for text, want := range map[string]string{
		`config = {}`: "INFO",
		`config = {"logging": {"loggers": {"fedmsg": {"level": "DEBUG"}}}}`:       "INFO",
		`config = {"logging": {"loggers": {"statscache": {"level": "WARNING"}}}}`: "WARN",
		`config = {"logging": {"loggers": {"statscache": {"level": "loud"}}}}`:    "",
	} {
		file := filepath.Join(t.TempDir(), "a.py")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(Options{Paths: []string{file}, Home: t.TempDir()})
		switch {
		case want == "":
			if err == nil || !strings.Contains(err.Error(), "a.py:1") || !strings.Contains(err.Error(), `"loud"`) {
				t.Errorf("%s: %v; want an error that names file, line and level", text, err)
			}
		case err != nil || c.LogLevel.String() != want:
			t.Errorf("%s: %v, %v; want %s", text, c, err, want)
		}
	}
}
