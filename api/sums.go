package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/statscache/statscache/store"
)

// What one answer may cost.
const (
	maxReads   = 3000      // questions to the store
	maxScan    = 4_000_000 // counts read by each
	maxSums    = 300_000   // numbers that each gives
	maxNumbers = 500_000   // numbers of the answer
	countTime  = 8 * time.Second
)

// tally is what reads add up to: counts by group and point.
type tally struct {
	keys   [][]string // of the groups, in the order of their first count
	counts [][]int64
	index  map[string]int
}

func newTally() *tally { return &tally{index: map[string]int{}} }

// group gives the counts of a group, all zero at first.
func (t *tally) group(values []string, points int) []int64 {
	key := store.JoinKey(values)
	i, ok := t.index[key]
	if !ok {
		i = len(t.keys)
		t.index[key] = i
		t.keys, t.counts = append(t.keys, values), append(t.counts, make([]int64, points))
	}
	return t.counts[i]
}

func (t *tally) has(values []string) bool {
	_, ok := t.index[store.JoinKey(values)]
	return ok
}

// total of a group.
func (t *tally) total(i int) (n int64) {
	for _, c := range t.counts[i] {
		n += c
	}
	return n
}

// order gives the groups in code-point order, or the largest first.
func (t *tally) order(largest bool) []int {
	order, totals := make([]int, len(t.keys)), make([]int64, len(t.keys))
	for i := range order {
		order[i], totals[i] = i, t.total(i)
	}
	slices.SortFunc(order, func(x, y int) int {
		if largest && totals[x] != totals[y] {
			if totals[x] > totals[y] {
				return -1
			}
			return 1
		}
		return slices.Compare(t.keys[x], t.keys[y])
	})
	return order
}

// summing is what is added up for an answer.
type summing struct {
	by    []int
	where []store.Match
	whole bool // one number for the whole window, whatever the points
	top   int  // only so many groups are needed, the largest; more may come
}

// sum reads what a plan says.
func (s *Server) sum(ctx context.Context, a *asking, p *plan, what summing) (*tally, error) {
	if len(p.reads) > maxReads {
		return nil, costly("too-many-reads", "step", fmt.Sprintf("the points lie so that %d pieces would have to be read, more than %d: ask with a longer step, in another zone or for a shorter window", len(p.reads), maxReads))
	}
	ctx, cancel := context.WithTimeout(ctx, countTime)
	defer cancel()
	t, points := newTally(), len(p.points)
	if what.whole {
		points = min(points, 1)
	}
	for _, r := range p.reads {
		q := store.SumQuery{Metric: a.metric.ID, Interval: time.Duration(r.interval) * time.Second, From: r.from, To: r.to, Where: what.where, By: what.by,
			Step: r.step, Origin: r.origin, MaxSums: maxSums, MaxScan: maxScan}
		if what.whole {
			q.Step, q.Origin = 0, 0
			if len(p.reads) == 1 {
				q.Top = what.top
			}
		}
		sums, err := s.store.Sums(ctx, q)
		if err != nil {
			return nil, sumError(ctx, a, err)
		}
		for _, x := range sums {
			at := 0
			if !what.whole {
				at = p.pointAt(x.Time)
			}
			if at < 0 {
				return nil, fmt.Errorf("sums of %s: one at %s lies in no point", a.metric.ID, clock(x.Time))
			}
			t.group(x.Values, points)[at] += x.N
			if len(t.keys)*points > maxNumbers {
				return nil, costly("too-many-numbers", "group_by", fmt.Sprintf("more than %d numbers: ask for the largest groups only (top=20), with a filter, with a longer step or for a shorter window", maxNumbers))
			}
		}
	}
	return t, nil
}

// sumError translates what went wrong into what to ask instead.
func sumError(ctx context.Context, a *asking, err error) error {
	switch {
	case errors.Is(err, store.ErrTooCostly):
		return costly(manyCounts, "", fmt.Sprintf("more than %d counts of %s would have to be read or %d sums kept: ask for a shorter window, with a filter or with top", maxScan, a.metric.ID, maxSums))
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return costly("too-slow", "", fmt.Sprintf("adding up took longer than %s: ask for a shorter window, with a filter or with a longer step", countTime))
	}
	return fmt.Errorf("sums of %s: %w", a.metric.ID, err)
}

// asOf gives since when a metric's numbers are as they are: the time of the commit, where the store keeps it, else when
// this process first saw it.
func (s *Server) asOf(ctx context.Context, metric string, version uint64) (time.Time, error) {
	s.commits.mu.Lock()
	c, ok := s.commits.seen[metric]
	s.commits.mu.Unlock()
	if ok && c.version == version {
		return c.at, nil
	}
	c = commit{version, s.now().UTC().Truncate(time.Millisecond)}
	if from, ok := s.store.(store.Committer); ok {
		v, at, err := from.Committed(ctx, metric)
		if err != nil {
			return time.Time{}, fmt.Errorf("as of: %w", err)
		}
		if !at.IsZero() {
			c.at = at
		}
		if v != version {
			return c.at, nil // a commit came between
		}
	}
	s.commits.mu.Lock()
	defer s.commits.mu.Unlock()
	if s.commits.seen == nil {
		s.commits.seen = map[string]commit{}
	}
	s.commits.seen[metric] = c
	return c.at, nil
}
