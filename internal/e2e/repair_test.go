package e2e

import (
	"slices"
	"strconv"
	"strings"
	"testing"
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
	counters := slices.DeleteFunc(tables(t, s.database(), "count_*"), func(table string) bool { return strings.HasSuffix(table, "_series") })
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
	)
	r, _, differences := s.verify()
	if r.code != 1 || differences < 6 {
		t.Fatalf("verify found %d of the planted faults, exit status %d:\n%s", differences, r.code, r.stdout)
	}
	d := s.start()
	if r := s.run("verify", "--repair"); r.code != 1 || !strings.Contains(r.stderr, strconv.Itoa(d.pid())) {
		t.Errorf("beside a daemon: exit status %d, want 1 and its pid: %s", r.code, r.stderr)
	}
	d.stop()
	r = s.run("verify", "--repair")
	if r.code != 0 || !strings.Contains(r.stdout, "repair: "+strconv.Itoa(differences)+" numbers mended\n") || strings.Count(r.stdout, "mended: ") != differences || !strings.HasSuffix(r.stdout, " 0 differences\n") {
		t.Errorf("repair: exit status %d, want 0 and %d mended:\n%s%s", r.code, differences, r.stdout, r.stderr)
	}
	s.verifyClean()
	d = s.start()
	g.check(t, d, 1_000_000)
	d.stop()
}

// TestRecount_CountsAnew spoils every table beyond repair by hand and has the plugin's metrics counted anew.
func TestRecount_CountsAnew(t *testing.T) {
	t.Parallel()
	g := goldens(t)[0]
	s := newSite(t, nil)
	s.mustRun("import", g.file)
	for _, table := range tables(t, s.database(), "count_*") {
		execute(t, s.database(), "UPDATE "+table+" SET n = n * 3 + 1")
	}
	if r := s.run("recount", "nothing"); r.code != 1 || !strings.Contains(r.stderr, "nothing") {
		t.Errorf("an unknown metric: exit status %d: %s", r.code, r.stderr)
	}
	if r := s.run("recount"); r.code != 2 {
		t.Errorf("no metric: exit status %d, want 2: %s", r.code, r.stderr)
	}
	d := s.start()
	if r := s.run("recount", "volume"); r.code != 1 || !strings.Contains(r.stderr, strconv.Itoa(d.pid())) {
		t.Errorf("beside a daemon: exit status %d, want 1 and its pid: %s", r.code, r.stderr)
	}
	d.stop()
	if r, _, differences := s.verify(); r.code != 1 || differences == 0 {
		t.Fatalf("verify found none of what was spoilt:\n%s", r.stdout)
	}
	s.mustRun("recount", "volume", "volume-by-topic")
	s.verifyClean()
	d = s.start()
	g.check(t, d, 1_000_000)
	d.stop()
}
