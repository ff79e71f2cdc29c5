package config

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/consumer/fedmsg"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// scene is a folder with configuration files and the options to load them.
type scene struct {
	t   *testing.T
	dir string
	Options
}

func newScene(t *testing.T, files map[string]string) *scene {
	t.Helper()
	s := &scene{t: t, dir: t.TempDir()}
	for name, text := range files {
		path := filepath.Join(s.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s.Home = filepath.Join(s.dir, "home")
	s.WorkDir = filepath.Join(s.dir, "work")
	s.SystemDir = filepath.Join(s.dir, "etc")
	return s
}

// one is a scene with a single file that the options name.
func one(t *testing.T, source string) *scene {
	s := newScene(t, map[string]string{"c.py": source})
	s.Paths = []string{filepath.Join(s.dir, "c.py")}
	return s
}

func (s *scene) load() *Config {
	s.t.Helper()
	c, err := Load(s.Options)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func (c *Config) setting(t *testing.T, key string) Setting {
	t.Helper()
	for _, s := range c.Settings {
		if s.Key == key {
			return s
		}
	}
	t.Fatalf("%s is not listed", key)
	return Setting{}
}

func TestLoad_Defaults(t *testing.T) {
	s := newScene(t, nil)
	c := s.load()
	data := filepath.Join(s.Home, ".local/state/statscache")
	got := *c
	got.Settings, got.Warnings = nil, nil
	want := Config{
		DataDir: data, Store: StoreURL{Kind: "sqlite", Path: data + "/statscache.db", URL: "sqlite:"},
		ConsumerEnabled: true, Topics: []string{""}, MaxMessageBytes: 1 << 20, JournalMaxBytes: 1 << 30,
		CommitInterval: 100 * time.Millisecond,
		PluginsPath:    []string{data + "/plugins", "/usr/lib/statscache/plugins"}, PluginsDisabled: []string{},
		PluginsConfig: map[string]json.RawMessage{}, Rules: []fedmsg.Rule{},
		Retention: map[time.Duration]time.Duration{
			time.Second: 7 * day, 5 * time.Second: 30 * day, 15 * time.Second: 30 * day, time.Minute: 365 * day,
		},
		RetentionGiven: map[time.Duration]bool{},
		Listen:         "127.0.0.1:8840", AdminListen: "127.0.0.1:8841", DefaultRowsPerPage: 100, MaximumRowsPerPage: 100,
		TopicPrefix: "org.fedoraproject", Environment: "dev",
		KeepAlive:    KeepAlive{Enabled: true, Idle: 30 * time.Second, Interval: 5 * time.Second, Count: 3},
		ReconnectMax: time.Second, Raw: map[string]any{}, NoEndpoints: got.NoEndpoints,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}
	if !strings.Contains(c.NoEndpoints, "no configuration file was found") || len(c.Warnings) > 0 {
		t.Errorf("NoEndpoints = %q, Warnings = %q", c.NoEndpoints, c.Warnings)
	}
	for _, set := range c.Settings {
		if set.Origin != "default" {
			t.Errorf("%s comes from %s", set.Key, set.Origin)
		}
	}
}

func TestLoad_SearchPath_LaterFilesWinAndDictsMerge(t *testing.T) {
	file := func(n string) string {
		return "config = {'list': ['" + n + "'], 'last': '" + n + "', 'd': {'" + n + "': {'x': 1}, 'same': {'" + n + "': 1}}}\n"
	}
	order := []string{
		"etc/fedmsg.d/10.py", "etc/fedmsg.d/9.py", "etc/fedmsg.d/a.py", "home/.fedmsg.d/a.py", "work/fedmsg.d/B.py",
		"work/fedmsg.d/a.py", "venv/etc/fedmsg.d/a.py", "etc/fedmsg-config.py", "home/.fedmsg-config.py", "work/fedmsg-config.py",
	}
	files := map[string]string{"etc/fedmsg.d/a.pyc": "no", "etc/fedmsg.d/README": "no", "work/fedmsg.d/sub.py/x": "no"}
	for _, name := range order {
		files[name] = file(name)
	}
	s := newScene(t, files)
	s.Environ = []string{"VIRTUAL_ENV=" + s.dir + "/venv"}
	c := s.load()
	var got []string
	for _, f := range c.Files {
		rel, _ := filepath.Rel(s.dir, f)
		got = append(got, rel)
	}
	if !reflect.DeepEqual(got, order) {
		t.Errorf("read %q\nwant %q", got, order)
	}
	if c.Raw["last"] != "work/fedmsg-config.py" || !reflect.DeepEqual(c.Raw["list"], []any{"work/fedmsg-config.py"}) {
		t.Errorf("not the last file's values: %v, %v", c.Raw["last"], c.Raw["list"])
	}
	d := c.Raw["d"].(map[string]any)
	if len(d) != len(order)+1 || len(d["same"].(map[string]any)) != len(order) {
		t.Errorf("the dicts did not merge: %v", d)
	}
}

func TestLoad_PathsReplaceTheSearchPath(t *testing.T) {
	s := newScene(t, map[string]string{
		"work/fedmsg.d/a.py": "config = {'name': 'search'}",
		"one.py":             "config = {'name': 'one', 'topic_prefix': 'org.one'}",
		"dir/b.py":           "config = {'name': 'b'}",
		"dir/a.py":           "config = {'name': 'a', 'environment': 'a'}",
	})
	s.Paths = []string{s.dir + "/one.py", "../dir"}
	c := s.load()
	if c.Name != "b" || c.TopicPrefix != "org.one" || c.Environment != "a" || len(c.Files) != 3 {
		t.Errorf("%q %q %q %q", c.Name, c.TopicPrefix, c.Environment, c.Files)
	}
}

func TestLoad_FlagWinsOverVariableOverFileOverDefault(t *testing.T) {
	const key = "statscache.app.listen"
	s := one(t, "\n\nconfig = {\n  'x': 1,\n  '"+key+"': 'file:1',\n}\n")
	s.Environ = []string{"STATSCACHE_APP_LISTEN=env:2"}
	s.Flags = map[string]string{key: "flag:3"}
	for _, want := range []Setting{
		{key, `"flag:3"`, "flag"},
		{key, `"env:2"`, "env STATSCACHE_APP_LISTEN"},
		{key, `"file:1"`, s.Paths[0] + ":5"},
	} {
		if got := s.load().setting(t, key); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if s.Flags != nil {
			s.Flags = nil
		} else {
			s.Environ = nil
		}
	}
}

func TestLoad_OriginIsTheLineThatSetTheKeyLast(t *testing.T) {
	s := one(t, `config = {'statscache.app.listen': 'a:1'}
if True:
    config['statscache.app.listen'] = 'b:2'
config.update({
    'statscache.data_dir': '/d',
})
`)
	c := s.load()
	for key, line := range map[string]string{"statscache.app.listen": ":3", "statscache.data_dir": ":5"} {
		if got := c.setting(t, key).Origin; got != s.Paths[0]+line {
			t.Errorf("%s comes from %s, want line %s", key, got, line)
		}
	}
}

func TestLoad_Environment(t *testing.T) {
	s := newScene(t, nil)
	s.Environ = []string{
		"STATSCACHE_NO_SUCH_KEY=1", "STATSCACHE_APP_BASE_URL=", "STATSCACHE_DATA_DIR=state",
		"STATSCACHE_CONSUMER_ENABLED=no", "STATSCACHE_CONSUMER_TOPICS=[\"org.a.*\",\"org.b\"]",
		"STATSCACHE_CONSUMER_MAX_MESSAGE_BYTES=2048", "STATSCACHE_CONSUMER_EPOCH=2018-04-26",
		`STATSCACHE_RETENTION={"1s": "1d", "60": null, "1h": "4w"}`, "STATSCACHE_ARCHIVE_RETENTION=none",
		`STATSCACHE_PLUGINS_CONFIG={"p": {"n": 1, "f": 1.5, "s": "x"}}`, "STATSCACHE_COMMIT_INTERVAL=2s",
		`STATSCACHE_RULES=[{"topic": "org.a", "users": "/msg/user", "agent": ["/msg/x", "nvr /msg/y"]}]`,
		"STATSCACHE_STORE_URL=crate://u:geheim@h1:5432,h2:5433/doc?sslmode=disable",
	}
	c := s.load()
	if c.ConsumerEnabled || c.DataDir != s.WorkDir+"/state" || !reflect.DeepEqual(c.Topics, []string{"org.a.", "org.b"}) ||
		c.MaxMessageBytes != 2048 || !c.Epoch.Equal(time.Date(2018, 4, 26, 0, 0, 0, 0, time.UTC)) || c.CommitInterval != 2*time.Second {
		t.Errorf("%+v", c)
	}
	wantRetention := map[time.Duration]time.Duration{
		time.Second: day, 5 * time.Second: 30 * day, 15 * time.Second: 30 * day, time.Minute: 0, time.Hour: 28 * day,
	}
	wantGiven := map[time.Duration]bool{time.Second: true, time.Minute: true, time.Hour: true}
	if !reflect.DeepEqual(c.Retention, wantRetention) || !reflect.DeepEqual(c.RetentionGiven, wantGiven) {
		t.Errorf("retention %v, given %v", c.Retention, c.RetentionGiven)
	}
	if got := c.setting(t, "statscache.retention").Value; got != `{"1s":"1d","5s":"30d","15s":"30d","1m":null,"1h":"28d"}` {
		t.Errorf("retention is listed as %s", got)
	}
	if got := string(c.PluginsConfig["p"]); got != `{"f":1.5,"n":1,"s":"x"}` {
		t.Errorf("plugin configuration %s", got)
	}
	if len(c.Rules) != 1 || c.Rules[0].Topic != "org.a" || !reflect.DeepEqual(c.Rules[0].Agent, []string{"/msg/x", "nvr /msg/y"}) {
		t.Errorf("rules %+v", c.Rules)
	}
	if c.Store.Kind != "crate" || !strings.Contains(c.Store.URL, "geheim") {
		t.Errorf("store %+v", c.Store)
	}
	for _, set := range c.Settings {
		if strings.Contains(set.Value, "geheim") {
			t.Errorf("the password is listed: %+v", set)
		}
	}
}

func TestLoad_FileTypes(t *testing.T) {
	c := one(t, `
import datetime
from datetime import timedelta
config = {
    'statscache.consumer.epoch': datetime.datetime(2015, 6, 1, 12),
    'statscache.producer.frequency': timedelta(seconds=1),
    'statscache.sqlalchemy.uri': 'sqlite:////var/tmp/dev.sqlite',
    'statscache.retention': {1: timedelta(days=2), '5m': 3600.5},
    'statscache.archive.retention': '1y',
    'statscache.plugins.config': {'p': {'every': timedelta(minutes=1), 't': (1, None)}},
    'statscache.plugins.path': '~/plugins',
    'zmq_tcp_keepalive': '0', 'zmq_tcp_keepalive_idle': '60', 'zmq_reconnect_ivl_max': 5000.7, 'sign_messages': 'False',
}`).load()
	if c.Epoch.Year() != 2015 || c.CommitInterval != time.Second || c.ArchiveRetention != year || c.Store.Path != "/var/tmp/dev.sqlite" {
		t.Errorf("%+v", c)
	}
	if c.Retention[time.Second] != 48*time.Hour || c.Retention[5*time.Minute] != 3600500*time.Millisecond {
		t.Errorf("retention %v", c.Retention)
	}
	if got := string(c.PluginsConfig["p"]); got != `{"every":60,"t":[1,null]}` {
		t.Errorf("plugin configuration %s", got)
	}
	if c.KeepAlive.Enabled || c.KeepAlive.Idle != time.Minute || c.ReconnectMax != 5*time.Second || !strings.HasSuffix(c.PluginsPath[0], "/home/plugins") {
		t.Errorf("%+v %v %v", c.KeepAlive, c.ReconnectMax, c.PluginsPath)
	}
}

func TestLoad_Endpoints(t *testing.T) {
	s := one(t, `config = {'endpoints': {
    'z': 'tcp://*:3000',
    'a.b': ('tcp://h.example.org:1', 'tcp://[::1]:65535'),
    'local': ['tcp://localhost:9940'],
    'unused': ['ipc:///tmp/x'],
    'empty': [],
}, 'statscache.consumer.endpoints': ['z', 'local', 'a.b', 'empty']}`)
	c := s.load()
	want := []Endpoint{
		{"a.b", []string{"tcp://h.example.org:1", "tcp://[::1]:65535"}},
		{"local", []string{"tcp://127.0.0.1:9940"}},
		{"z", []string{"tcp://127.0.0.1:3000"}},
	}
	if !reflect.DeepEqual(c.Endpoints, want) || c.NoEndpoints != "" {
		t.Errorf("got %v (%s)", c.Endpoints, c.NoEndpoints)
	}
	if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], ":4: ") || !strings.Contains(c.Warnings[0], "localhost") {
		t.Errorf("warnings %q", c.Warnings)
	}
	for source, word := range map[string]string{
		"config = {}":                       "has no endpoints",
		"config = {'endpoints': {}}":        "has no endpoints",
		"config = {'endpoints': {'a': []}}": "none of the configured",
	} {
		if c := one(t, source).load(); !strings.Contains(c.NoEndpoints, word) {
			t.Errorf("%s: NoEndpoints = %q", source, c.NoEndpoints)
		}
	}
}

func TestLoad_Warnings(t *testing.T) {
	c := one(t, `config = {
    'validate_signatures': True,
    'srv_endpoints': ['example.org'],
    'statscache.store.url': 'sqlite:', 'statscache.sqlalchemy.uri': 'sqlite:////x',
    'statscache.app.default_rows_per_page': 500,
}`).load()
	all := strings.Join(c.Warnings, "\n")
	for _, word := range []string{":2: validate_signatures", ":3: srv_endpoints", ":4: statscache.sqlalchemy.uri", "default_rows_per_page"} {
		if !strings.Contains(all, word) {
			t.Errorf("no warning about %s in\n%s", word, all)
		}
	}
	if c.DefaultRowsPerPage != 100 || !c.ValidateSignatures {
		t.Errorf("%+v", c)
	}
}

func TestSampleFolder_LoadsWithoutAWord(t *testing.T) {
	c, err := Load(Options{Paths: []string{"../../fedmsg.d"}, Home: "/home/x"})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Warnings) > 0 || len(c.Endpoints) != 1 || c.Endpoints[0].Addresses[0] != "tcp://127.0.0.1:9940" {
		t.Errorf("warnings %q, endpoints %v", c.Warnings, c.Endpoints)
	}
	text, err := os.ReadFile("../../fedmsg.d/statscache.py")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range c.Settings {
		if !strings.Contains(string(text), `"`+s.Key+`":`) {
			t.Errorf("%s is not in the sample", s.Key)
		}
	}
	// With its comment signs taken away the sample is still valid.
	source := strings.ReplaceAll(strings.ReplaceAll(string(text), `    # "statscache.`, `    "statscache.`), "    #     ", "    ")
	source = strings.ReplaceAll(source, "    # ],", "    ],")
	source = strings.ReplaceAll(source, `"statscache.consumer.endpoints": ["gateway"],`, "")
	if c := one(t, source).load(); c.CatchUp || len(c.Rules) != 1 || c.DatagrepperEndpoint == "" {
		t.Errorf("the uncommented sample gives %+v", c)
	}
}

// TestRules_OfTheManual loads the example of docs/rules.md, and looks at how rules are listed.
func TestRules_OfTheManual(t *testing.T) {
	text, err := os.ReadFile("../../docs/rules.md")
	if err != nil {
		t.Fatal(err)
	}
	_, source, _ := strings.Cut(string(text), "```python\n")
	source, _, _ = strings.Cut(source, "```")
	s := one(t, source)
	c := s.load()
	if len(c.Rules) != 2 || !strings.HasSuffix(c.Rules[1].Origin, ".py:2: statscache.rules, rule 2") {
		t.Errorf("%+v", c.Rules)
	}
	want := `[{"topic":"org.example.*.build.**","users":["/msg/owner","email:example.org /msg/requested_by"],"packages":["nvr /msg/builds/nvr"],"agent":["/msg/owner"]},` +
		`{"topic":"org.example.*.chat.**","packages":[]}]`
	if got := c.setting(t, "statscache.rules").Value; got != want {
		t.Errorf("listed as %s, want %s", got, want)
	}
}
