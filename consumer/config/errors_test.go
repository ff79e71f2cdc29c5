package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// badSettings are files of which each line after the first is wrong.
const badSettings = `config = {
    'statscache.data_dri': '/x',
    'statscache.data_dir': 5,
    'statscache.store.url': 'postgres://u:geheim@h/db',
    'statscache.consumer.enabled': 1,
    'statscache.consumer.epoch': 'yesterday',
    'statscache.consumer.catch_up': 'perhaps',
    'statscache.consumer.topics': [],
    'statscache.consumer.endpoints': ['gatewya'],
    'statscache.consumer.max_message_bytes': 5,
    'statscache.journal.max_bytes': '1GiB',
    'statscache.commit.interval': '0.1 fortnights',
    'statscache.plugins.path': ['', 5],
    'statscache.plugins.disabled': {'a': 1},
    'statscache.plugins.config': {'p': [1]},
    'statscache.rules': [{'topic': 'a', 'user': 'x'}],
    'statscache.archive.retention': 0,
    'statscache.retention': {'1.5s': '7d'},
    'statscache.app.listen': '8840',
    'statscache.app.admin_listen': 'h:99999',
    'statscache.app.base_url': 'ftp://x',
    'statscache.app.default_rows_per_page': 0,
    'statscache.app.maximum_rows_per_page': 1.5,
    'statscache.datagrepper.endpoint': 'datagrepper',
    'statscache.datagrepper.profile': None,
    'statscache.': 1,
    'topic_prefix': b'org',
    'environment': 5,
    'io_threads': -1,
    'zmq_linger': 'long',
    'sign_messages': 'perhaps',
    'irc': {},
    'logging': [],
    'endpoints': {
        'gateway': ['tcp://h:0', 'ipc:///tmp/x'],
        'b': 5,
        'c': 'tcp://h',
        'd': ['tcp://:5', 'tcp://a b:5', 'udp://h:1', 'h:5', 'tcp://h:65536', 'tcp://h:5/x', None],
    },
}
`

// TestLoad_AllProblemsAreReportedTogether compares every message with a golden
// file; paths are shown relative to the scene.
func TestLoad_AllProblemsAreReportedTogether(t *testing.T) {
	cases := []struct {
		name  string
		files map[string]string
		opts  func(s *scene)
	}{
		{name: "every setting wrong", files: map[string]string{"work/fedmsg.d/bad.py": badSettings}},
		{name: "endpoint filter without the bad ones", files: map[string]string{"work/fedmsg.d/bad.py": strings.Replace(badSettings, "['gatewya']", "['b']", 1)}},
		{name: "files that are not understood", files: map[string]string{
			"work/fedmsg.d/a.py": "config = {}\nconfig['x'] = open('/etc/passwd').read()\n",
			"work/fedmsg.d/b.py": "x = 5\n",
			"work/fedmsg.d/c.py": "config = [\n",
			"work/fedmsg.d/d.py": "config = {}\nprint 'hello'\n",
			"work/fedmsg.d/e.py": "config = []\n",
			"work/fedmsg.d/f.py": "config = {}\n\nimport requests\n",
			"work/fedmsg.d/g.py": "config = {'endpoints': 'tcp://h:1'}\n",
		}},
		{name: "paths that are not there", opts: func(s *scene) { s.Paths = []string{"nofile.py", "emptydir"} },
			files: map[string]string{"work/emptydir/README": ""}},
		{name: "flags and variables", opts: func(s *scene) {
			s.Flags = map[string]string{"statscache.data_dir": "", "statscache.datadir": "/x", "statscache.consumer.enabled": "maybe"}
			s.Environ = []string{
				"STATSCACHE_RETENTION=7d", `STATSCACHE_CONSUMER_TOPICS=["a", 5]`, "STATSCACHE_RULES={}", "STATSCACHE_PLUGINS_CONFIG=[]",
				"STATSCACHE_COMMIT_INTERVAL=-1", "STATSCACHE_JOURNAL_MAX_BYTES=1e9", "STATSCACHE_STORE_URL=crate://u:geheim@h:5432,:1/doc",
				`STATSCACHE_PLUGINS_PATH=["a"] tail`,
			}
		}},
		{name: "rules", files: map[string]string{"work/fedmsg.d/a.py": `config = {
    'statscache.rules': [
        {'topic': 'org.*.a', 'users': 'emial /msg/user', 'packages': ['/msg/a[]', 'msg.b'], 'agent': '/crypto'},
        {'topic': 'org.a'},
        {'topic': 'org.a*', 'users': []},
        {'topic': 'org.b', 'users': ['sole-user', 'part:x /msg/a', '/msg/a[b]']},
    ],
}
`}},
		{name: "the original's keys", files: map[string]string{"work/fedmsg.d/a.py": `config = {
    'statscache.sqlalchemy.uri': 'postgresql://u:geheim@h/db',
    'statscache.producer.frequency': 'often',
    'statscache.producer.frequenzy': 1,
}
`}},
	}
	var got strings.Builder
	for _, c := range cases {
		s := newScene(t, c.files)
		if err := os.MkdirAll(s.WorkDir, 0o755); err != nil {
			t.Fatal(err)
		}
		if c.opts != nil {
			c.opts(s)
		}
		_, err := Load(s.Options)
		if err == nil {
			t.Fatalf("%s: no error", c.name)
		}
		got.WriteString("=== " + c.name + "\n" + strings.ReplaceAll(err.Error(), s.dir, "/scene") + "\n")
	}
	compareGolden(t, filepath.Join("testdata", "errors.golden"), got.String())
	if strings.Contains(got.String(), "geheim") {
		t.Error("a message shows a password")
	}
}

func compareGolden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the messages differ from %s (rewrite it with -update):\n%s", path, got)
	}
}
