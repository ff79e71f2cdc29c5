package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestPlugin_AChangedProgramIsCheckedAgainstHistory replaces a plugin by one that counts otherwise under the same
// data_version: it runs on, but everybody is told, until its metrics are counted anew.
func TestPlugin_AChangedProgramIsCheckedAgainstHistory(t *testing.T) {
	t.Parallel()
	needLong(t, "links three programs")
	s := newSite(t, nil)
	build := func(flags string) {
		t.Helper()
		folder, beside := filepath.Join(s.data, "plugins"), filepath.Join(t.TempDir(), "weigher")
		if out, err := exec.CommandContext(t.Context(), "go", "build", "-ldflags", flags, "-o", beside, "./testdata/plugins/weigher").CombinedOutput(); err != nil {
			t.Fatalf("build: %v\n%s", err, out)
		}
		if err := errors.Join(os.MkdirAll(folder, 0o700), os.Rename(beside, filepath.Join(folder, "weigher"))); err != nil {
			t.Fatal(err)
		}
	}
	build("-X main.weight=1")
	s.mustRun("import", goldens(t)[0].file)
	d := s.start()
	d.waitCaughtUp(30 * time.Second)
	said := func(want string, differs float64) {
		t.Helper()
		d.waitFor(60*time.Second, "a word on the changed program: "+want, func() error {
			list, err := d.plugins()
			if err != nil {
				return err
			}
			if p := list["weigher"]; p.State != "running" && p.State != "catching-up" || !strings.Contains(p.Error, want) || want == "" && p.Error != "" {
				return errors.New(p.State + ": " + p.Error)
			}
			n, err := d.metric("statscache_plugin_program_differs", `plugin="weigher"`)
			if err == nil && n != differs {
				err = errors.New("the metric says something else")
			}
			return err
		})
	}
	logged := func(want string) {
		t.Helper()
		d.waitFor(60*time.Second, "the log to say "+want, func() error {
			if !strings.Contains(d.stderr.String(), want) {
				return errors.New("nothing")
			}
			return nil
		})
	}
	build("-X main.weight=1 -s") // another file that counts the same
	logged("counts a sample of the archive as before")
	said("", 0)
	build("-X main.weight=2")
	said("counts otherwise than before", 1)
	logged("level=ERROR")
	d.stop()
	if r := s.mustRun("plugin", "list"); !strings.Contains(r.stdout+r.stderr, "counts otherwise") {
		t.Errorf("plugin list without a daemon:\n%s", r.stdout)
	}
	d = s.start()
	said("counts otherwise than before", 1)
	s.mustRun("recount", "weight")
	said("", 0)
	s.verifyClean()
	d.stop()
}
