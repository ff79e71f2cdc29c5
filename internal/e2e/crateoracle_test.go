package e2e

import (
	"strconv"
	"testing"

	"github.com/statscache/statscache/internal/cratetest"
)

// TestCrate_RandomStreamsEqualTheOracles takes generated streams into a CrateDB, imported, live, and a part of it both
// ways: the rows of every ident are the oracle's, and those of activity what a recount of the archived events gives.
func TestCrate_RandomStreamsEqualTheOracles(t *testing.T) {
	if !long() {
		t.Skip("takes minutes: set STATSCACHE_LONG=1, or run make e2e; TestCrate_GoldenRowsEqualTheOracles is the short form")
	}
	t.Parallel()
	needSharedTools(t)
	for way, args := range map[string][]string{
		"mixed":    {"--seed", "401", "--n", "5000", "--days", "2", "--start", "2018-12-31", "--dup", "0.05", "--late", "0.1"},
		"live":     {"--seed", "402", "--n", "4000", "--days", "0.5", "--start", "2018-10-28", "--dup", "0.1"},
		"imported": {"--seed", "403", "--n", "6000", "--days", "40", "--start", "2016-02-10", "--late", "0.2"},
	} {
		t.Run(way, func(t *testing.T) {
			g := generate(t, args...)
			d := takenIn(t, way, g.file, g.events, map[string]string{"statscache.store.url": strconv.Quote(cratetest.Start(t))})
			g.check(t, d, 10_000)
			g.checkLatest(t, d)
			events := d.archived()
			if int64(len(events)) != g.events {
				t.Fatalf("%d events archived, want %d", len(events), g.events)
			}
			d.checkActivity(events)
			d.checkPerson(events)
			d.stop()
			d.verifyClean()
		})
	}
}
