package storetest

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
)

// source is one stream of archiveRandom: what was given to it, and which events are its own.
type source struct {
	id    string
	at    uint64
	owned []string // lines of the owned events, in order
	last  []*block.Block
}

// archiveRandom plays streams with duplicates, reordering, both lanes and blocks of all sizes against a set of ids.
func archiveRandom(t *testing.T, open Open[Archiver], seed uint64) {
	r := rand.New(rand.NewPCG(seed, 99))
	a := opened(t, open)
	seen := map[string]bool{}
	var known []Event
	fresh := 0
	streams := []*source{{id: "a"}, {id: "b"}, {id: "c"}}
	for _, s := range streams {
		attach(t, a, s.id, 0)
	}
	for range 120 {
		s := streams[r.IntN(len(streams))]
		switch r.IntN(12) {
		case 0: // another life
			noError(t, a.Close())
			a = opened(t, open)
			for _, s := range streams {
				attach(t, a, s.id, s.at)
			}
		case 1: // the same call again
			if s.last != nil {
				for _, x := range archive(t, a, s.id, s.last...) {
					wantOwned(t, x, 0, 0, 0)
				}
			}
		default:
			s.last = nil
			at := s.at
			for range 1 + r.IntN(3) {
				var list []Event
				for range 1 + r.IntN([]int{4, 30, 700}[r.IntN(3)]) {
					if len(known) > 0 && r.IntN(3) == 0 {
						e := known[r.IntN(len(known))]
						if e.Untimed {
							e.Time += r.Int64N(1e12)
						}
						list = append(list, e)
						continue
					}
					e := Event{ID: fmt.Sprintf("id-%d", fresh), Time: int64(fresh)*1e6 + r.Int64N(600e6), Untimed: r.IntN(50) == 0, Bare: r.IntN(30) == 0}
					fresh++
					known, list = append(known, e), append(list, e)
				}
				s.last = append(s.last, Build(at+1, r.IntN(3) == 0, list))
				at += uint64(len(list))
			}
			for i, x := range archive(t, a, s.id, s.last...) {
				s.expect(t, x, s.last[i], seen)
			}
			s.at = at
		}
	}
	for _, s := range streams {
		got, end := readAll(t, a, s.id, 0, 1+r.IntN(2000), true)
		if end != s.at {
			t.Fatalf("stream %s read up to %d, want %d", s.id, end, s.at)
		}
		sameLines(t, Describe(t, got, true), s.owned)
	}
}

// expect compares an answer with what the set of ids says is new.
func (s *source) expect(t *testing.T, got store.Archived, given *block.Block, seen map[string]bool) {
	t.Helper()
	ids, err := given.IDs()
	noError(t, err)
	lines := Describe(t, []*block.Block{given}, true)
	var want []string
	for i, id := range ids {
		if !seen[id] {
			seen[id] = true
			want = append(want, lines[i])
		}
	}
	if got.Duplicates != given.Len()-len(want) || got.Expired != 0 {
		t.Fatalf("%d duplicates and %d expired, want %d and 0", got.Duplicates, got.Expired, given.Len()-len(want))
	}
	sameLines(t, Describe(t, []*block.Block{got.Owned}, true), want)
	s.owned = append(s.owned, want...)
}
