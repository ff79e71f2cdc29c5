package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestVerify_FindsAPlantedOffByOne changes one row of one table at a time: too much, too little, one in another bucket.
func TestVerify_FindsAPlantedOffByOne(t *testing.T) {
	t.Parallel()
	g := goldens(t)[0]
	s := newSite(t, nil)
	s.mustRun("import", g.file)
	s.verifyClean()
	counters := volumeTables(t, s.database(), "count_*")
	if len(counters) < len(g.expected) {
		t.Fatalf("only %d tables of counters for %d idents: %q", len(counters), len(g.expected), counters)
	}
	first := func(table string) string { return fmt.Sprintf("(SELECT k FROM %s ORDER BY k LIMIT 1)", table) }
	greatest := func(table string) string { return "(SELECT max(k) FROM " + table + ")" }
	// The twin of a day table in the order of its series is left out: verify compares the table that answers are made of.
	plain := slices.DeleteFunc(counters, func(table string) bool { return strings.HasSuffix(table, "_series") })
	middle, last := plain[len(plain)/2], plain[len(plain)-1]
	plants := []struct{ name, plant, undo string }{
		{"one too many", "UPDATE " + plain[0] + " SET n = n + 1 WHERE k = " + first(plain[0]), "UPDATE " + plain[0] + " SET n = n - 1 WHERE k = " + first(plain[0])},
		{"one too few", "UPDATE " + middle + " SET n = n - 1 WHERE k = " + first(middle), "UPDATE " + middle + " SET n = n + 1 WHERE k = " + first(middle)},
		{"in the wrong bucket", "UPDATE " + last + " SET k = k + (1 << 44) WHERE k = " + greatest(last), "UPDATE " + last + " SET k = k - (1 << 44) WHERE k = " + greatest(last)},
	}
	for _, p := range plants {
		t.Run(p.name, func(t *testing.T) {
			execute(t, s.database(), p.plant)
			r, rows, differences := s.verify()
			if r.code != 1 || rows == 0 || differences == 0 {
				t.Errorf("verify after %q: exit status %d, %d rows, %d differences; want 1 and some:\n%s%s", p.plant, r.code, rows, differences, r.stdout, r.stderr)
			}
			execute(t, s.database(), p.undo)
		})
	}
	s.verifyClean()
}
