package e2e

import (
	"slices"
	"strconv"
	"testing"

	"github.com/statscache/statscache/internal/cratetest"
	"github.com/statscache/statscache/internal/failpoint"
)

// TestFailpoints_WalkOnCrate is the walk on a real CrateDB, at the steps that its engine does in its own way. The steps
// of inbox and plugins are the same code on both engines.
func TestFailpoints_WalkOnCrate(t *testing.T) {
	needLong(t, "takes minutes; it needs a crate launcher on PATH")
	g := goldens(t)[0]
	own := []failpoint.Step{failpoint.Migration, failpoint.ArchiveInsert, failpoint.ArchiveArchivedTo, failpoint.Commit, failpoint.Version,
		failpoint.RetentionHorizon, failpoint.RetentionCounters, failpoint.RetentionArchive, failpoint.GenerationSwap}
	for _, w := range walks() {
		if !slices.Contains(own, w.step) {
			continue
		}
		for _, point := range []string{w.step.Before(), w.step.After()} {
			for _, f := range faults()[:2] { // a crash, an error that passes
				t.Run(point+"/"+f.kind, func(t *testing.T) {
					fresh := cratetest.Reuse
					if w.step == failpoint.Migration {
						fresh = cratetest.Start // its tables are not made yet
					}
					store := map[string]string{"statscache.store.url": strconv.Quote(fresh(t))}
					s := newSite(t, volumeAlone(store))
					w.provoke(t, s, g, point, f, store)
					noteFault(t, "failpoint on CrateDB: "+f.kind, 1)
					w.mended(t, s, g)
				})
			}
		}
	}
}
