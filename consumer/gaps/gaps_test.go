package gaps

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/statscache/statscache/consumer/gaps/counter"
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
	got := l.Known(now)
	for i := range got {
		got[i].Ongoing = false
	}
	if !slices.Equal(got, gaps) {
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
	outages := []Gap{{From: 1010, To: 1030, Why: "endpoint a was down"}, {From: 1020, To: 1030, Why: "endpoint b was down"}}
	want(t, l, 1041, outages...)

	l = ledger(t, path) // it was killed
	want(t, l, 1500, append(slices.Clone(outages), Gap{From: 1040, To: 1500, Why: Stopped})...)
	must(t, l.Begin(1600))
	want(t, l, 1700, append(slices.Clone(outages), Gap{From: 1040, To: 1600, Why: Stopped})...)

	must(t, l.Close(1025, 1500))
	want(t, l, 1700, Gap{From: 1010, To: 1025, Why: "endpoint a was down"}, Gap{From: 1020, To: 1025, Why: "endpoint b was down"}, Gap{From: 1500, To: 1600, Why: Stopped})
	must(t, l.Close(0, 1600))
	want(t, l, 1700)
	want(t, ledger(t, path), 1600, Gap{From: 1600, To: 1601, Why: Stopped})
}

// TestLedger_WhatGoesOn: a gap that has no end yet ends now, whenever that is; it is noted now and then only.
func TestLedger_WhatGoesOn(t *testing.T) {
	l := ledger(t, filepath.Join(t.TempDir(), "gaps.json"))
	must(t, l.Begin(1000))
	must(t, l.Note(1010, []string{"a"}))
	must(t, l.Note(1020, []string{"a", "b"}))
	must(t, l.Note(1030, []string{"b"}))
	gone := Gap{From: 1000, To: 1020, Why: "endpoint a was down"}
	for _, now := range []int64{1030, 1037} {
		goesOn := Gap{From: 1010, To: now, Why: "endpoint b was down", Ongoing: true}
		if got := l.Known(now); !slices.Equal(got, []Gap{gone, goesOn}) {
			t.Errorf("at %d: %v", now, got)
		}
	}
	must(t, l.Note(1040, nil))
	want(t, l, 1050, gone, Gap{From: 1010, To: 1030, Why: "endpoint b was down"})
}

func TestLedger_ClosedWithoutADaemon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gaps.json")
	l := ledger(t, path)
	must(t, l.Begin(1000))
	l = ledger(t, path)
	must(t, l.Close(1000, 1400))
	want(t, l, 2000, Gap{From: 1400, To: 2000, Why: Stopped})
}

func TestLedger_OneEndpointThatComesAndGoesIsBounded(t *testing.T) {
	l := ledger(t, filepath.Join(t.TempDir(), "gaps.json"))
	for i := range int64(mostGaps + 50) {
		l.add(Gap{From: i * 100, To: i*100 + 10, Why: "x"})
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

// TestLedger_LostMessages: what counters tell is kept with how many are missing, taken back where it was wrong, and
// closed as other gaps are.
func TestLedger_LostMessages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gaps.json")
	l := ledger(t, path)
	must(t, l.Begin(1000))
	a, b := counter.Address{Name: "a", Address: "h:1"}, counter.Address{Name: "b", Address: "h:2"}
	lost := func(a counter.Address, losses ...counter.Loss) {
		t.Helper()
		must(t, l.Count([]counter.Report{{Address: a, Lost: losses}}))
	}
	gap := func(a counter.Address, from, to int64, missing uint64) Gap {
		return Gap{From: from, To: to, Why: "messages of endpoint " + a.Name + " at " + a.Address + " were lost", Lost: true, Missing: missing}
	}
	lost(a, counter.Loss{From: 1100, To: 1101, Missing: 3}, counter.Loss{From: 1105, To: 1110, Missing: 4}, counter.Loss{From: 1200, To: 1201, Missing: 1})
	lost(b, counter.Loss{From: 1102, To: 1103, Missing: 5})
	all := []Gap{gap(a, 1100, 1110, 7), gap(b, 1102, 1103, 5), gap(a, 1200, 1201, 1)}
	want(t, l, 1300, all...)
	want(t, ledger(t, path), 1300, append([]Gap{}, append(all, Gap{From: 1000, To: 1300, Why: Stopped})...)...)

	must(t, l.Count([]counter.Report{{Address: a, Arrived: []counter.Loss{{From: 1105, To: 1110, Missing: 2}, {From: 1200, To: 1201, Missing: 1}}}}))
	want(t, l, 1300, gap(a, 1100, 1110, 5), gap(b, 1102, 1103, 5))
	must(t, l.Close(1104, 1107))
	want(t, l, 1300, gap(a, 1100, 1104, 0), gap(b, 1102, 1103, 5), gap(a, 1107, 1110, 0))
	must(t, l.Count([]counter.Report{{Address: a, Arrived: []counter.Loss{{From: 1100, To: 1110, Missing: 5}}}}))
	want(t, l, 1300, gap(a, 1100, 1104, 0), gap(b, 1102, 1103, 5), gap(a, 1107, 1110, 0))
	must(t, l.Count([]counter.Report{{Address: a, Withdrawn: true, Since: 1105}}))
	want(t, l, 1300, gap(a, 1100, 1104, 0), gap(b, 1102, 1103, 5))
	must(t, l.Close(1000, 1200))
	want(t, l, 1300)
}

// TestLedger_AnEndpointThatNeverWasUp: a name in the configuration behind which nobody ever was is no gap; one that was, in
// an earlier life even, is.
func TestLedger_AnEndpointThatNeverWasUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gaps.json")
	l := ledger(t, path)
	missed := func(ever, down []string, want ...string) {
		t.Helper()
		if got := l.Missed(ever, down); !slices.Equal(got, want) {
			t.Errorf("of %v down, %v were ever up: %v are missed, want %v", down, ever, got, want)
		}
		must(t, l.Note(1000, nil))
	}
	missed([]string{"a", "b"}, []string{"b", "never"}, "b")
	l = ledger(t, path)
	missed(nil, []string{"a", "b", "never"}, "a", "b")
	missed([]string{"b"}, []string{"a", "never"}, "a")
	missed([]string{"b"}, nil) // a isn't listened to any more
	missed([]string{"b"}, []string{"a"})
}
