package e2e

import (
	"strconv"
	"testing"

	"github.com/statscache/statscache/internal/cratetest"
)

// TestCrate_RandomStreamEqualsTheOracles takes a generated stream into a CrateDB, a part of it twice, imported and live:
// the rows of every ident are the oracle's, and those of activity what a recount of the archived events gives.
func TestCrate_RandomStreamEqualsTheOracles(t *testing.T) {
	if !long() {
		t.Skip("takes minutes: set STATSCACHE_LONG=1, or run make e2e; TestCrate_GoldenRowsEqualTheOracles is the short form")
	}
	t.Parallel()
	needSharedTools(t)
	server := cratetest.Start(t)
	g := generate(t, "--seed", "401", "--n", "5000", "--days", "2", "--start", "2018-12-31", "--dup", "0.05", "--late", "0.1")
	d := takenIn(t, "mixed", g.file, g.events, map[string]string{"statscache.store.url": strconv.Quote(server)})
	g.check(t, d, 10_000)
	g.checkLatest(t, d)
	events := d.archived()
	if int64(len(events)) != g.events {
		t.Fatalf("%d events archived, want %d", len(events), g.events)
	}
	d.checkActivity(events)
	d.stop()
	d.verifyClean()
}
