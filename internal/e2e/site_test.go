package e2e

import (
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// keepForEver is the retention that historic streams need: their windows are years old.
const keepForEver = `{"1s": None, "5s": None, "15s": None, "1m": None}`

// site is one installation: a configuration folder, a data dir, a folder for temporary files, two addresses.
type site struct {
	t          testing.TB
	conf, data string
	temp       string
	api, admin string // host:port
	race       bool   // its daemons have the race detector where the tests have it
}

// newSite writes an installation. The settings are Python expressions by key; they are added to ones that a test
// needs (free ports, no signatures, everything kept, large pages) and win over them.
func newSite(t testing.TB, settings map[string]string) *site {
	t.Helper()
	dir := t.TempDir()
	s := &site{t: t, conf: filepath.Join(dir, "fedmsg.d"), data: filepath.Join(dir, "data"), temp: filepath.Join(dir, "tmp"),
		api: address(t), admin: address(t)}
	for _, folder := range []string{s.conf, s.temp} {
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.configure(settings)
	return s
}

// configure writes the configuration anew.
func (s *site) configure(settings map[string]string) {
	s.t.Helper()
	all := map[string]string{
		"endpoints":                            "{}",
		"topic_prefix":                         `"org.fedoraproject"`,
		"environment":                          `"dev"`,
		"validate_signatures":                  "False",
		"statscache.retention":                 keepForEver,
		"statscache.app.listen":                strconv.Quote(s.api),
		"statscache.app.admin_listen":          strconv.Quote(s.admin),
		"statscache.app.maximum_rows_per_page": "1000000",
	}
	maps.Copy(all, settings)
	var b strings.Builder
	b.WriteString("config = {\n")
	for _, key := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "    %q: %s,\n", key, all[key])
	}
	b.WriteString("}\n")
	if err := os.WriteFile(filepath.Join(s.conf, "base.py"), []byte(b.String()), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// env keeps a process from everything of the user's, and its temporary files where a test can look for what is left.
func (s *site) env() []string {
	return []string{"TMPDIR=" + s.temp, "HOME=" + s.temp, "XDG_STATE_HOME=", "STATE_DIRECTORY="}
}

func (s *site) flags() []string { return []string{"--config", s.conf, "--data-dir", s.data} }

// run runs a command of this installation to its end.
func (s *site) run(args ...string) result {
	s.t.Helper()
	return command(s.t, s.env(), append(args, s.flags()...)...)
}

// mustRun is run for a command that must succeed.
func (s *site) mustRun(args ...string) result {
	s.t.Helper()
	r := s.run(args...)
	if r.code != 0 {
		s.t.Fatalf("statscache %s: exit status %d\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r
}

// endpoints writes the Python dict of endpoints: name, then the ports on 127.0.0.1.
func endpoints(ports map[string][]int) string {
	var b strings.Builder
	b.WriteString("{")
	for _, name := range slices.Sorted(maps.Keys(ports)) {
		fmt.Fprintf(&b, "%q: [", name)
		for _, port := range ports[name] {
			fmt.Fprintf(&b, "\"tcp://127.0.0.1:%d\", ", port)
		}
		b.WriteString("], ")
	}
	return b.String() + "}"
}

// given remembers the ports handed out: the kernel may offer one again before its user has bound it.
var given = struct {
	ports map[int]bool
	lock  chan struct{}
}{map[int]bool{}, make(chan struct{}, 1)}

// port finds a free TCP port on the loopback.
func port(t testing.TB) int {
	t.Helper()
	given.lock <- struct{}{}
	defer func() { <-given.lock }()
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		p := l.Addr().(*net.TCPAddr).Port
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if !given.ports[p] {
			given.ports[p] = true
			return p
		}
	}
	t.Fatal("no free port")
	return 0
}

func address(t testing.TB) string { return fmt.Sprintf("127.0.0.1:%d", port(t)) }
