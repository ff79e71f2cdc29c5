package gaps

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func ledger(t *testing.T, path string) *Ledger {
	t.Helper()
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, l *Ledger, now int64, gaps ...Gap) {
	t.Helper()
	if got := l.Known(now); !slices.Equal(got, gaps) {
		t.Fatalf("at %d the gaps are %v, want %v", now, got, gaps)
	}
}

func TestLedger_LivesAndOutages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gaps.json")
	l := ledger(t, path)
	want(t, l, 1000) // nobody ever listened: nothing is known to be missing
	must(t, l.Begin(1000))
	must(t, l.Note(1010, nil))
	must(t, l.Note(1020, []string{"a"}))
	must(t, l.Note(1030, []string{"a", "b"}))
	must(t, l.Note(1040, nil))
	outages := []Gap{{1010, 1030, "endpoint a was down"}, {1020, 1030, "endpoint b was down"}}
	want(t, l, 1041, outages...)

	l = ledger(t, path) // it was killed
	want(t, l, 1500, append(slices.Clone(outages), Gap{1040, 1500, Stopped})...)
	must(t, l.Begin(1600))
	want(t, l, 1700, append(slices.Clone(outages), Gap{1040, 1600, Stopped})...)

	must(t, l.Close(1025, 1500))
	want(t, l, 1700, Gap{1010, 1025, "endpoint a was down"}, Gap{1020, 1025, "endpoint b was down"}, Gap{1500, 1600, Stopped})
	must(t, l.Close(0, 1600))
	want(t, l, 1700)
	want(t, ledger(t, path), 1600, Gap{1600, 1601, Stopped})
}

func TestLedger_ClosedWithoutADaemon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gaps.json")
	l := ledger(t, path)
	must(t, l.Begin(1000))
	l = ledger(t, path)
	must(t, l.Close(1000, 1400))
	want(t, l, 2000, Gap{1400, 2000, Stopped})
}

func TestLedger_OneEndpointThatComesAndGoesIsBounded(t *testing.T) {
	l := ledger(t, filepath.Join(t.TempDir(), "gaps.json"))
	for i := range int64(mostGaps + 50) {
		l.add(Gap{i * 100, i*100 + 10, "x"})
	}
	got := l.Known(1)
	if len(got) != mostGaps || got[0].From != 0 || got[0].To != 50*100+10 {
		t.Fatalf("%d gaps, the first %v", len(got), got[0])
	}
}

func TestOpen_Damaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gaps.json")
	must(t, os.WriteFile(path, []byte("{"), 0o600))
	if _, err := Open(path); err == nil {
		t.Error("a damaged file is taken")
	}
}
