package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// execute runs statements in a cluster's database behind statscache's back.
func (c *cluster) execute(statements ...string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, strings.Replace(c.url, "crate://", "postgres://", 1))
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			c.t.Fatalf("%s: %v", sql, err)
		}
	}
}

// TestCluster_CommandsOfOperators_BesideRoles: dead letters are taken back, wrong numbers are found and mended and a
// number is explained while the three roles run apart.
func TestCluster_CommandsOfOperators_BesideRoles(t *testing.T) {
	needLong(t, "takes a minute")
	c := newCluster(t, nil)
	consume, compute := c.site(), c.site()
	compute.buildPlugins("picky")
	all := []*daemon{consume.launch("consume"), compute.launch("compute"), c.site().launch("serve")}
	web := all[2]
	for _, i := range []int{0, 2} {
		all[i].waitJoined()
	}
	picky := func(dead int) {
		t.Helper()
		web.waitFor(2*time.Minute, fmt.Sprintf("picky has %d dead letters", dead), func() error {
			lines, err := web.plugins()
			if p := lines["picky"]; err == nil && (p.State != "running" || p.DeadLetters != int64(dead) || p.Lag > 0) {
				err = fmt.Errorf("%+v", p)
			}
			return err
		})
	}
	picky(0)
	file, bad := pickyEvents(t, 1200, 200, "crash", "error")
	consume.mustRun("import", file)
	picky(bad["crash"] + bad["error"])
	if r := consume.run("plugin", "requeue", "picky"); r.code != 1 || !strings.Contains(r.stderr, "it has no plugins") {
		t.Errorf("requeue beside a consumer: exit status %d: %s", r.code, r.stderr)
	}
	compute.mend("crash")
	if r := compute.requeue(); r != (requeued{Taken: bad["error"], Dead: bad["crash"]}) {
		t.Errorf("requeue beside a compute node: %+v; want %v", r, bad)
	}
	picky(bad["crash"])
	if n := web.pickyTotal(); n != int64(1200-bad["crash"]) {
		t.Errorf("%d counted, want %d", n, 1200-bad["crash"])
	}

	compute.verifyClean()
	c.execute("REFRESH TABLE counters", "UPDATE counters SET n = n + 7 WHERE metric = 'volume' AND gran = 86400",
		"DELETE FROM counters WHERE metric = 'volume-by-topic' AND gran = 60 AND bucket = (SELECT min(bucket) FROM counters WHERE metric = 'volume-by-topic' AND gran = 60)", "REFRESH TABLE counters")
	r, _, differences := compute.verify()
	if r.code != 1 || differences < 2 {
		t.Errorf("verify found %d of the planted faults, exit status %d:\n%s", differences, r.code, r.stdout)
	}
	if r := compute.run("verify", "--repair"); r.code != 0 || !strings.Contains(r.stdout, fmt.Sprintf("repair: %d numbers mended\n", differences)) || !strings.HasSuffix(r.stdout, " 0 differences\n") {
		t.Errorf("repair: exit status %d, want 0 and %d mended:\n%s%s", r.code, differences, r.stdout, r.stderr)
	}
	compute.verifyClean()
	if r := web.run("explain", "volume", "1700000000"); r.code != 0 || !strings.Contains(r.stdout, "2026-picky-0") {
		t.Errorf("explain: exit status %d:\n%s%s", r.code, r.stdout, r.stderr)
	}
	for _, d := range all {
		d.stop()
	}
	compute.mend("")
	if r := compute.requeue(); r != (requeued{Taken: bad["crash"]}) {
		t.Errorf("requeue while no process runs: %+v, want %d taken", r, bad["crash"])
	}
	compute.verifyClean()
}
