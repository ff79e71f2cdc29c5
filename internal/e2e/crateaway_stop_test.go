package e2e

import (
	"testing"
	"time"

	"github.com/statscache/statscache/internal/cratetest"
)

// TestCrateAway_Stopped takes the database away from processes of every role, then stops them: they end in time and in
// order, and what a consumer had received is counted after the next start.
func TestCrateAway_Stopped(t *testing.T) {
	needLong(t, "starts a database of its own")
	for name, away := range map[string]struct{ take, give func(*cratetest.Node) error }{
		"hangs": {(*cratetest.Node).Pause, (*cratetest.Node).Resume},
		"gone":  {func(n *cratetest.Node) error { n.Kill(); return nil }, (*cratetest.Node).Start},
	} {
		t.Run(name, func(t *testing.T) {
			node := cratetest.LaunchCluster(t, 1).Nodes[0]
			b := newBus(t, 100_000, 64)
			c := &cluster{t: t, url: node.URL + "stopped?sslmode=disable", more: map[string]string{"endpoints": endpoints(map[string][]int{"bus": {b.port}})}}
			c.waitTables()
			consume := c.site()
			all := []*daemon{consume.launch("consume"), c.site().launch("compute"), c.site().launch("serve")}
			for _, d := range all {
				d.waitJoined()
			}
			b.waitSubscribers(1)
			b.publishFor(200, 2*time.Second)
			c.waitCounted(all[2], b.sent)
			if err := away.take(node); err != nil {
				t.Fatal(err)
			}
			b.publishFor(200, 2*time.Second)
			all[0].waitSign(20*time.Second, "the store takes no events")
			for _, d := range all {
				d.stop()
			}
			if err := away.give(node); err != nil {
				t.Fatal(err)
			}
			all = []*daemon{consume.launch("consume"), c.site().launch("compute"), c.site().launch("serve")}
			for _, d := range all {
				d.waitJoined()
			}
			c.waitCounted(all[2], b.sent)
			b.check(all[2])
			for _, d := range all {
				d.stop()
			}
			c.site().verifyClean()
		})
	}
}
