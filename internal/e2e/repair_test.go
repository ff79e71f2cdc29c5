package e2e

import (
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestVerify_RepairMendsWhatDiffers plants faults of every kind and has them mended: values, buckets, rows lost and rows
// too many.
func TestVerify_RepairMendsWhatDiffers(t *testing.T) {
	t.Parallel()
	g := goldens(t)[0]
	s := newSite(t, nil)
	s.mustRun("import", g.file)
	if r := s.mustRun("verify", "--repair"); strings.Contains(r.stdout, "mended") || !strings.Contains(r.stdout, " 0 differences\n") {
		t.Errorf("nothing to repair:\n%s", r.stdout)
	}
	counters := slices.DeleteFunc(volumeTables(t, s.database(), "count_*"), func(table string) bool { return strings.HasSuffix(table, "_series") })
	days := slices.DeleteFunc(slices.Clone(counters), func(table string) bool { return !strings.HasSuffix(table, "_86400") })
	if len(counters) < 5 || len(days) < 2 {
		t.Fatalf("tables %q", counters)
	}
	first := func(table string) string { return "(SELECT min(k) FROM " + table + ")" }
	execute(t, s.database(),
		"UPDATE "+counters[0]+" SET n = n + 7 WHERE k = "+first(counters[0]),
		"UPDATE "+counters[1]+" SET n = n - 1 WHERE k = "+first(counters[1]),
		"UPDATE "+counters[2]+" SET k = k + (1 << 44) WHERE k = (SELECT max(k) FROM "+counters[2]+")",
		"DELETE FROM "+days[0]+" WHERE k = "+first(days[0]),
		"INSERT INTO "+days[1]+" SELECT max(k) + (1 << 30), 5 FROM "+days[1],
		// the other order of the days, which answers about single series come from
		"UPDATE "+days[0]+"_series SET n = n + 2 WHERE k = (SELECT max(k) FROM "+days[0]+"_series)",
		"DELETE FROM "+days[1]+"_series WHERE k = (SELECT min(k) FROM "+days[1]+"_series)",
	)
	r, _, differences := s.verify()
	if r.code != 1 || differences < 8 || strings.Count(r.stdout, "in that of series") < 2 {
		t.Fatalf("verify found %d of the planted faults, exit status %d:\n%s", differences, r.code, r.stdout)
	}
	r = s.run("verify", "--repair")
	if r.code != 0 || !strings.Contains(r.stdout, "repair: "+strconv.Itoa(differences)+" numbers mended\n") || strings.Count(r.stdout, "mended: ") != differences || !strings.HasSuffix(r.stdout, " 0 differences\n") {
		t.Errorf("repair: exit status %d, want 0 and %d mended:\n%s%s", r.code, differences, r.stdout, r.stderr)
	}
	s.verifyClean()
	d := s.start()
	g.check(t, d, 1_000_000)
	d.stop()
}

// TestRecount_CountsAnew spoils every table beyond repair by hand and has the plugin's metrics counted anew.
func TestRecount_CountsAnew(t *testing.T) {
	t.Parallel()
	g := goldens(t)[0]
	s := newSite(t, nil)
	s.mustRun("import", g.file)
	for _, table := range volumeTables(t, s.database(), "count_*") {
		execute(t, s.database(), "UPDATE "+table+" SET n = n * 3 + 1")
	}
	if r := s.run("recount", "nothing"); r.code != 1 || !strings.Contains(r.stderr, "nothing") {
		t.Errorf("an unknown metric: exit status %d: %s", r.code, r.stderr)
	}
	if r := s.run("recount"); r.code != 2 {
		t.Errorf("no metric: exit status %d, want 2: %s", r.code, r.stderr)
	}
	if r, _, differences := s.verify(); r.code != 1 || differences == 0 {
		t.Fatalf("verify found none of what was spoilt:\n%s", r.stdout)
	}
	s.mustRun("recount", "volume", "volume-by-topic")
	s.verifyClean()
	d := s.start()
	g.check(t, d, 1_000_000)
	d.stop()
}

// TestRepair_BesideADaemonUnderLoad spoils numbers of a daemon that takes 1,000 events a second, old ones and those that
// are being added to, and has them mended and counted anew while it goes on: nothing is lost, nothing is counted twice.
func TestRepair_BesideADaemonUnderLoad(t *testing.T) {
	t.Parallel()
	b := newBus(t, 500_000, 100)
	s := newSite(t, map[string]string{"endpoints": endpoints(map[string][]int{"one": {b.port}})})
	d := s.start()
	b.waitSubscribed()
	var over atomic.Bool
	published := make(chan struct{})
	go func() {
		defer close(published)
		b.publish(1000, over.Load)
	}()
	defer func() { over.Store(true); <-published }()
	g := goldens(t)[0]
	s.mustRun("import", g.file)
	s.verifyClean()
	counters := slices.DeleteFunc(volumeTables(t, s.database(), "count_*"), func(table string) bool { return strings.HasSuffix(table, "_series") })
	days := slices.DeleteFunc(slices.Clone(counters), func(table string) bool { return !strings.HasSuffix(table, "_86400") })
	spoil := func() {
		execute(t, s.database(),
			"UPDATE "+counters[0]+" SET n = n + 7 WHERE k = (SELECT min(k) FROM "+counters[0]+")",
			"UPDATE "+counters[1]+" SET n = n - 1 WHERE k = (SELECT min(k) FROM "+counters[1]+")",
			"UPDATE "+days[0]+" SET n = n + 1000000 WHERE k = (SELECT max(k) FROM "+days[0]+")", // today's
			"DELETE FROM "+days[1]+" WHERE k = (SELECT min(k) FROM "+days[1]+")")
	}
	spoil()
	if r, _, differences := s.verify(); r.code != 1 || differences < 4 {
		t.Fatalf("verify beside the daemon found %d of the planted faults, exit status %d:\n%s", differences, r.code, r.stdout)
	}
	began := time.Now()
	r := s.mustRun("verify", "--repair")
	if !strings.Contains(r.stdout, "mended: ") || !strings.Contains(r.stdout, " 0 differences\n") {
		t.Errorf("repair beside the daemon:\n%s", r.stdout)
	}
	t.Logf("mended in %s beside 1,000 events a second", time.Since(began).Round(time.Millisecond))
	s.verifyClean()

	spoil()
	began = time.Now()
	if r := s.mustRun("recount", "volume"); !strings.Contains(r.stdout, "generation 2") {
		t.Errorf("recount says %q", r.stdout)
	}
	t.Logf("counted anew in %s beside 1,000 events a second", time.Since(began).Round(time.Millisecond))
	s.verifyClean()
	for _, x := range []struct {
		args []string
		want string
	}{{[]string{"recount", "nothing"}, "nothing"}, {[]string{"verify", "nothing", "--repair"}, "nothing"}} {
		oneSentence(t, s.run(x.args...), 1, x.want)
	}
	over.Store(true)
	<-published
	d.waitCounted(g.events+int64(b.sent), 30*time.Second)
	b.checkAmong(d, true)
	if lines := d.stderr.String(); strings.Contains(lines, "quarantined") || strings.Contains(lines, "level=ERROR") {
		t.Errorf("the daemon complains:\n%s", tail(lines))
	}
	d.stop()
	s.verifyClean()
}
