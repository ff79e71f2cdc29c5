package journal

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/statscache/statscache/internal/failpoint"
)

// inboxPoints are the failpoints of this package.
func inboxPoints() (names []string) {
	for _, name := range failpoint.Names() {
		if strings.HasPrefix(name, "inbox.") {
			names = append(names, name)
		}
	}
	return names
}

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
	opt.Failpoint = func(name string) error {
		passed[name]++
		for range 4 {
			losses = append(losses, loss{name, d.lose(r), acked, archived})
		}
		return nil
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
	for _, name := range inboxPoints() {
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

// TestFailpoints_AnErrorAtEachOfThem fails every step once, and for a while: what was acknowledged is there, and what was
// not can be given again.
func TestFailpoints_AnErrorAtEachOfThem(t *testing.T) {
	injected := errors.New("injected")
	for _, name := range inboxPoints() {
		for _, times := range []int{1, 3} {
			left, hits := 0, 0
			opt := Options{Dir: "/d", Files: newDisk(), SegmentBytes: 4 << 10, TailBytes: -1}
			opt.Failpoint = func(at string) error {
				if at != name || left == 0 {
					return nil
				}
				left--
				hits++
				return injected
			}
			j := open(t, opt)
			left = times
			for round := range 12 {
				blocks := series(j.Next(), 2, 2, 300)
				for try := 0; ; try++ {
					err := j.Append(blocks)
					if err == nil {
						break
					}
					if try == times || !errors.Is(err, injected) {
						t.Fatalf("%s: append: %v", name, err)
					}
				}
				if round%3 == 2 {
					if err := j.Trim(j.Next() - 3); err != nil && !errors.Is(err, injected) {
						t.Fatalf("%s: trim: %v", name, err)
					}
				}
			}
			if hits != times {
				t.Errorf("%s failed %d times, want %d", name, hits, times)
			}
			archived, last := j.ArchivedTo(), j.Next()-1
			wantEvents(t, j, archived, last, 500)
			if err := j.Close(); err != nil {
				t.Fatalf("%s: close: %v", name, err)
			}
			wantEvents(t, open(t, opt), archived, last, 500)
		}
	}
}
