package e2e

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/cratetest"
)

// onCrate is an installation that keeps everything in a CrateDB.
func onCrate(t testing.TB) *site {
	t.Helper()
	return newSite(t, map[string]string{"statscache.store.url": strconv.Quote(cratetest.Start(t))})
}

// TestCrate_GoldenRowsEqualTheOracles takes a stream through the binary into a CrateDB: the same rows come out as from
// SQLite, byte for byte, and a recount of the archive agrees.
func TestCrate_GoldenRowsEqualTheOracles(t *testing.T) {
	g := goldens(t)[0]
	s := onCrate(t)
	s.mustRun("import", g.file)
	s.verifyClean()
	d := s.start()
	d.waitCaughtUp(60 * time.Second)
	g.check(t, d, 1_000_000)
	d.stop()
	s.mustRun("import", g.file) // all of it is there already
	s.verifyClean()
}

// TestCrate_SaysWhatIsWrong holds what a user meets at the start to one sentence.
func TestCrate_SaysWhatIsWrong(t *testing.T) {
	for name, x := range map[string]struct {
		url, says string
		commands  []string
	}{
		"no such host": {"crate://crate@no-such-host.invalid:5432/stats", "no host is named no-such-host.invalid", []string{"verify", "run", "consume", "compute", "serve"}},
		"nobody there": {"crate://crate@127.0.0.1:1/stats", "nothing listens at 127.0.0.1:1", []string{"verify"}}, // the others wait
	} {
		for _, command := range x.commands {
			t.Run(name+"/"+command, func(t *testing.T) {
				if testing.Short() {
					t.Skip("waits ten seconds for the database: run without -short")
				}
				t.Parallel()
				s := newSite(t, map[string]string{"statscache.store.url": strconv.Quote(x.url)})
				r := s.run(command)
				lines := strings.Split(strings.TrimSpace(r.stderr), "\n") // before the last one the log says that it tries again
				if last := lines[len(lines)-1]; r.code != 1 || !strings.Contains(last, x.says) {
					t.Errorf("exit status %d, %q; want 1 and %q", r.code, last, x.says)
				}
			})
		}
	}
}
