package journal

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestFailpoints_PowerLossAtEachOfThem takes a power loss at every named point and looks at what is left; each name
// must be passed at least once.
func TestFailpoints_PowerLossAtEachOfThem(t *testing.T) {
	passed := map[string]int{}
	type loss struct {
		name            string
		image           *disk
		acked, archived uint64
	}
	var losses []loss
	r := rand.New(rand.NewPCG(4, 4))
	d := newDisk()
	acked, archived := uint64(0), uint64(0)
	opt := Options{Dir: "/d", Files: d, SegmentBytes: 4 << 10, TailBytes: -1}
	opt.Failpoint = func(name string) {
		passed[name]++
		if !slices.Contains(Failpoints(), name) {
			t.Errorf("%s is not listed", name)
		}
		for range 4 {
			losses = append(losses, loss{name, d.lose(r), acked, archived})
		}
	}
	j := open(t, opt)
	for range 12 {
		appendAll(t, j, series(j.Next(), 2, 2, 300)...)
		acked = j.Next() - 1
		if acked%3 == 0 {
			archived = acked - 2
			if acked%2 == 0 {
				archived = acked
			}
			if err := j.Trim(archived); err != nil {
				t.Fatal(err)
			}
		}
	}
	archived = acked + 50
	if err := j.SetStart(archived + 1); err != nil {
		t.Fatal(err)
	}
	for _, name := range Failpoints() {
		if passed[name] == 0 {
			t.Errorf("%s was never reached", name)
		}
	}
	for _, l := range losses {
		j, err := Open(Options{Dir: "/d", Files: l.image})
		if err != nil {
			t.Fatalf("%s: %v", l.name, err)
		}
		if j.Next() <= l.acked {
			t.Fatalf("%s: next is %d, acknowledged %d", l.name, j.Next(), l.acked)
		}
		if last := j.Next() - 1; last > l.archived {
			wantEvents(t, j, l.archived, last, 500)
		}
	}
}
