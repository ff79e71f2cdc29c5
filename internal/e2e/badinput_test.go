package e2e

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestRun_RefusesInOneSentence starts the daemon where it must not start: one clear sentence, status 1, nothing else.
func TestRun_RefusesInOneSentence(t *testing.T) {
	t.Parallel()
	write := func(t *testing.T, path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name     string
		settings map[string]string
		prepare  func(t *testing.T, s *site) (names []string)
	}{
		{"broken fedmsg.d", nil, func(t *testing.T, s *site) []string {
			write(t, filepath.Join(s.conf, "zz-broken.py"), "config = {\n    'endpoints': {} 5,\n}\n")
			return []string{"zz-broken.py:2"}
		}},
		{"no config in a file", nil, func(t *testing.T, s *site) []string {
			write(t, filepath.Join(s.conf, "zz-none.py"), "settings = {}\n")
			return []string{"zz-none.py", "config"}
		}},
		{"configuration that isn't there", nil, func(t *testing.T, s *site) []string {
			s.conf = filepath.Join(s.conf, "nowhere")
			return []string{"nowhere"}
		}},
		{"unknown key", map[string]string{"statscache.retenton": "None"}, func(*testing.T, *site) []string {
			return []string{"base.py", "statscache.retenton", "statscache.retention"}
		}},
		{"wrong type", map[string]string{"statscache.app.maximum_rows_per_page": `"many"`}, func(*testing.T, *site) []string {
			return []string{"base.py", "statscache.app.maximum_rows_per_page"}
		}},
		{"no endpoints", map[string]string{"endpoints": "5"}, func(*testing.T, *site) []string { return []string{"base.py", "endpoints"} }},
		{"port in use", nil, func(t *testing.T, s *site) []string {
			l, err := net.Listen("tcp", s.api)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() }) // nothing depends on it any more
			return []string{s.api, "in use"}
		}},
		{"admin port in use", nil, func(t *testing.T, s *site) []string {
			l, err := net.Listen("tcp", s.admin)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() }) // nothing depends on it any more
			return []string{s.admin, "in use"}
		}},
		{"a file where the data dir should be", nil, func(t *testing.T, s *site) []string {
			write(t, s.data, "")
			return []string{s.data}
		}},
		{"data dir not writable", nil, func(t *testing.T, s *site) []string {
			if os.Geteuid() == 0 {
				t.Skip("SKIPPED: root may write anywhere; run as another user")
			}
			if err := os.Mkdir(s.data, 0o500); err != nil {
				t.Fatal(err)
			}
			return []string{s.data}
		}},
		{"second daemon", nil, func(t *testing.T, s *site) []string {
			d := s.start()
			t.Cleanup(d.stop)
			s.api, s.admin = address(t), address(t)
			s.configure(nil)
			return []string{strconv.Itoa(d.pid()), s.data}
		}},
		{"another program's database", nil, func(t *testing.T, s *site) []string {
			if err := os.Mkdir(s.data, 0o700); err != nil {
				t.Fatal(err)
			}
			execute(t, s.database(), "CREATE TABLE address_book(name TEXT)", "INSERT INTO address_book VALUES('Ann')")
			return []string{s.database()}
		}},
		{"no database at all", nil, func(t *testing.T, s *site) []string {
			write(t, s.database(), strings.Repeat("this is not a database\n", 1000))
			return []string{s.database()}
		}},
		{"newer database", nil, func(t *testing.T, s *site) []string {
			s.mustRun("import", goldens(t)[0].file)
			execute(t, s.database(), "PRAGMA user_version = 10000")
			return []string{s.database(), "newer"}
		}},
		{"the original's database", nil, func(t *testing.T, s *site) []string {
			old := filepath.Join(s.temp, "original.db")
			t.Cleanup(func() { _ = os.Remove(old) }) // the folder goes too
			execute(t, old, "CREATE TABLE data_volume_1s(id INTEGER PRIMARY KEY, timestamp DATETIME, volume INTEGER)")
			s.configure(map[string]string{"statscache.sqlalchemy.uri": strconv.Quote("sqlite:///" + old)})
			return []string{old, "original"}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, tt.settings)
			names := tt.prepare(t, s)
			oneSentence(t, s.run("run", "--log-level", "error"), 1, names...)
		})
	}
}

func TestCommands_BadUsageIsStatusTwo(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		args []string
		says string
	}{
		{"unknown command", []string{"rum"}, "rum"},
		{"unknown flag", []string{"run", "--fast"}, "--fast"},
		{"surplus argument", []string{"run", "now"}, "now"},
		{"import of nothing", []string{"import"}, "import"},
		{"unknown log level", []string{"run", "--log-level", "loud"}, "loud"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			oneSentence(t, newSite(t, nil).run(tt.args...), 2, tt.says)
		})
	}
}

func TestCommands_WithoutArgumentsHelps(t *testing.T) {
	t.Parallel()
	r := command(t, nil)
	if r.code != 0 || !strings.Contains(r.stdout, "demo") || r.stderr != "" {
		t.Errorf("exit status %d; stdout %q; stderr %q; want help that names the demo", r.code, r.stdout, r.stderr)
	}
}

func TestImport_BadLinesAreRefusedAndCounted(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	good := `{"topic":"org.fedoraproject.dev.e2e.x","msg":{},"msg_id":"2018-%","timestamp":1524744000,"i":1}`
	lines := []string{strings.Replace(good, "%", "1", 1), "null", "not JSON", "", strings.Replace(good, "%", "2", 1), `{"topic":5}`}
	file := filepath.Join(t.TempDir(), "events.jsonl")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := s.run("import", file)
	said := r.stdout + r.stderr
	for _, line := range []string{":2", ":3", ":6"} {
		if !strings.Contains(said, "events.jsonl"+line) {
			t.Errorf("import doesn't name line %s: %q", line, said)
		}
	}
	d := s.start()
	d.waitCaughtUp(readyWithin)
	if got := d.total("volume-1m", ""); got != 2 {
		t.Errorf("%d events counted, want 2", got)
	}
	d.stop()
}

func TestImport_MissingFileIsNamed(t *testing.T) {
	t.Parallel()
	oneSentence(t, newSite(t, nil).run("import", "no-such-file.jsonl"), 1, "no-such-file.jsonl")
}

func TestCheck_PrintsEverySettingWithItsOrigin(t *testing.T) {
	t.Parallel()
	s := newSite(t, map[string]string{"statscache.app.maximum_rows_per_page": "123"})
	r := s.mustRun("check")
	for _, want := range []string{"statscache.app.maximum_rows_per_page", "123", "base.py", "statscache.journal.max_bytes", "statscache.data_dir"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("check doesn't print %q:\n%s", want, r.stdout)
		}
	}
	if _, err := os.Stat(s.data); err == nil {
		t.Error("check made the data dir; it must touch nothing")
	}
}
