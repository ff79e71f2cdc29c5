package cratetest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Cluster is a private CrateDB of several nodes. Tests that kill nodes launch one each.
type Cluster struct {
	Nodes []*Node
}

// LaunchCluster starts so many nodes that form a cluster, and stops them at the end of the test. The test is skipped
// where there is no command "crate": the nodes of somebody else's database are not to be killed.
func LaunchCluster(t testing.TB, nodes int) *Cluster {
	t.Helper()
	if _, err := exec.LookPath("crate"); err != nil {
		t.Skip("SKIPPED: needs the vendor's \"crate\" on PATH, whose nodes it kills (https://cratedb.com/download: the tarball has bin/crate)")
	}
	c := &Cluster{}
	t.Cleanup(c.stop)
	var seeds, names []string
	for i := range nodes {
		n, err := newNode()
		if err != nil {
			t.Fatal(err)
		}
		c.Nodes = append(c.Nodes, n)
		seeds, names = append(seeds, fmt.Sprintf("127.0.0.1:%d", n.ports[1])), append(names, fmt.Sprintf("n%d", i+1))
	}
	for i, n := range c.Nodes {
		n.args = []string{"-Cnode.name=" + names[i], "-Ccluster.name=statscache-test", "-Cdiscovery.seed_hosts=" + strings.Join(seeds, ","),
			"-Ccluster.initial_master_nodes=" + strings.Join(names, ","), fmt.Sprintf("-Cgateway.expected_data_nodes=%d", nodes),
			fmt.Sprintf("-Cgateway.recover_after_data_nodes=%d", nodes/2+1)}
		if err := n.begin(); err != nil {
			t.Fatal(err)
		}
	}
	deadline := time.Now().Add(startTime)
	for {
		err := within(patience, c.Whole)
		if err == nil {
			return c
		}
		if time.Now().After(deadline) {
			t.Fatalf("no cluster of %d nodes within %s (%v): %s", nodes, startTime, err, c.Nodes[0].lastWords())
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// stop ends all nodes at once.
func (c *Cluster) stop() {
	for _, n := range c.Nodes {
		if n.done != nil {
			n.unwatch()
			_ = n.cmd.Process.Kill() // nothing of their data is kept
		}
	}
	for _, n := range c.Nodes {
		n.Stop()
	}
}

// Whole is nil when all nodes are there and every table has all its copies.
func (c *Cluster) Whole(ctx context.Context) error {
	for _, n := range c.Nodes {
		select {
		case <-n.done:
			return errors.New("a node does not run: " + n.lastWords())
		default:
		}
	}
	u, err := url.Parse(c.Nodes[0].URL + "doc?sslmode=disable&connect_timeout=5")
	if err != nil {
		return err
	}
	conn, err := connect(ctx, u)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	var nodes, sick int
	if err := conn.QueryRow(ctx, "SELECT count(*) FROM sys.nodes").Scan(&nodes); err != nil {
		return err
	}
	if err := conn.QueryRow(ctx, "SELECT count(*) FROM sys.health WHERE health <> 'GREEN'").Scan(&sick); err != nil {
		return err
	}
	if nodes != len(c.Nodes) || sick > 0 {
		return fmt.Errorf("%d of %d nodes are there, %d tables lack copies", nodes, len(c.Nodes), sick)
	}
	return nil
}
