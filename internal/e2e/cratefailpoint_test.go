package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/failpoint"
)

// TestFailpoints_WalkOnCrate is the walk on a real CrateDB, at the steps that its engine does in its own way. The steps
// of inbox and plugins are the same code on both engines.
func TestFailpoints_WalkOnCrate(t *testing.T) {
	if !long() {
		t.Skip("SKIPPED: takes minutes: set STATSCACHE_LONG=1, or run `make e2e`; it needs a crate launcher on PATH")
	}
	g := goldens(t)[0]
	for _, step := range []failpoint.Step{failpoint.ArchiveInsert, failpoint.ArchiveArchivedTo, failpoint.Commit, failpoint.Version} {
		for _, point := range []string{step.Before(), step.After()} {
			for _, f := range faults()[:2] { // a crash, an error that passes
				t.Run(point+"/"+f.kind, func(t *testing.T) {
					s := onCrate(t)
					f.check(t, walk{step: step}, s.arm(fmt.Sprintf("%s=%s", point, f.action), f.enough, "import", g.file))
					noteFault(t, "failpoint on CrateDB: "+f.kind, 1)
					s.mustRun("import", g.file)
					s.verifyClean()
					d := s.start()
					d.waitCaughtUp(time.Minute)
					g.check(t, d, 1_000_000)
					d.stopBy(syscall.SIGTERM)
					if left := s.processesOf(); len(left) > 0 {
						t.Errorf("processes left behind: %s", strings.Join(left, " "))
					}
				})
			}
		}
	}
}
