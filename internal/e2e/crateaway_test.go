package e2e

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/cratetest"
)

// lagGoneWithin is how soon after the return of a database everything that came meanwhile must be counted.
const lagGoneWithin = 2 * time.Minute

// TestCrateAway takes the database away for 20 seconds while events come in.
func TestCrateAway(t *testing.T) {
	if !long() {
		t.Skip("takes a minute: set STATSCACHE_LONG=1, or run make e2e")
	}
	crateAway(t, 20*time.Second, 500)
}

// TestSoak_CrateAway is the same for ten minutes.
func TestSoak_CrateAway(t *testing.T) {
	if os.Getenv("STATSCACHE_SOAK") == "" {
		t.Skip("SKIPPED: ten minutes and more; run `make soak`")
	}
	crateAway(t, 10*time.Minute, 500)
}

func crateAway(t *testing.T, away time.Duration, rate int) {
	node := cratetest.LaunchCluster(t, 1).Nodes[0]
	b := newBus(t, 100_000, 400)
	c := &cluster{t: t, url: node.URL + "away?sslmode=disable", more: map[string]string{"endpoints": endpoints(map[string][]int{"bus": {b.port}})}}
	c.waitTables()
	d := c.start("run")
	b.waitSubscribed()
	b.publishFor(rate, 5*time.Second)
	d.waitCounted(b.sent, time.Minute)
	before, largest, looked := b.sent, int64(0), time.Now()
	node.Kill()
	began := time.Now()
	b.publish(rate, func() bool {
		if time.Since(looked) > time.Second {
			looked = time.Now()
			largest = max(largest, rss(d.pid()))
		}
		return time.Since(began) > away
	})
	meanwhile := b.sent - before
	held := d.waitSign(20*time.Second, "the store takes no events") // long since
	if held.storeUp != 0 {
		t.Errorf("store_up is %v while there is no database", held.storeUp)
	}
	d.stillAlive()
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	b.publishFor(rate, 5*time.Second) // it goes on while what is behind is caught up
	b.recovered(d, 5*lagGoneWithin)   // whatever it takes, nothing is lost
	took := time.Since(back)
	if took > lagGoneWithin && !busy() {
		t.Errorf("the lag was gone %s after the database's return, want %s", took.Round(time.Second), lagGoneWithin)
	}
	noteFault(t, fmt.Sprintf("database away for %s at %d events/s", away, rate), 1)
	noteResult(t, "lag gone after the database's return", took.Round(time.Millisecond).String())
	noteResult(t, "events meanwhile, each counted once", strconv.FormatInt(meanwhile, 10))
	noteResult(t, "resident at most", fmt.Sprintf("%d MB", largest>>20))
	t.Logf("the database away for %s: %d events sent meanwhile, %.1f MB in the inbox, at most %d MB resident; all counted %s after its return",
		away, meanwhile, held.journal/1e6, largest>>20, took.Round(100*time.Millisecond))
	d.stop()
	c.site().verifyClean()
}
