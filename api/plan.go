package api

import (
	"slices"
	"sort"
)

// level is an interval at which a metric is counted, in seconds. Buckets that start before horizon are gone.
type level struct{ seconds, horizon int64 }

// levels are ascending, and each divides the next.
type levels []level

// newLevels leaves out intervals that don't fit into the others: what is cut at a bucket of one level must be cut at
// a bucket of every finer one.
func newLevels(all []level) levels {
	sort.Slice(all, func(i, j int) bool { return all[i].seconds < all[j].seconds })
	var out levels
	for _, l := range all {
		if n := len(out); n == 0 || l.seconds > out[n-1].seconds && l.seconds%out[n-1].seconds == 0 {
			out = append(out, l)
		}
	}
	return out
}

// grain is the finest level at which a time can be cut: its buckets are there all the way from the coarser one's that
// the time lies in.
func (ls levels) grain(t int64) int64 {
	g := ls[len(ls)-1].seconds
	for i := len(ls) - 2; i >= 0; i-- {
		if ls[i].horizon <= floorDiv(t, g)*g {
			g = ls[i].seconds
		}
	}
	return g
}

// kept is the time from which on there is any level.
func (ls levels) kept() int64 {
	first := ls[0].horizon
	for _, l := range ls {
		first = min(first, l.horizon)
	}
	return first
}

// point is one number of an answer: it is stamped with Time and End and adds up [from, to).
type point struct{ time, end, from, to int64 }

// read is a question to the store: buckets of an interval that start in [from, to), added up in steps from origin, or
// all together where step is 0.
type read struct{ interval, from, to, step, origin int64 }

// coarse says that between two times edges could be cut at buckets of an interval only.
type coarse struct{ from, to, interval int64 }

// plan is how a question is answered: the points, what to read for them and what is said about it.
type plan struct {
	points []point
	reads  []read
	coarse []coarse
}

// newPlan cuts [from, to) at edges, the first of which isn't after from and the last not before to. Every point is
// made of whole buckets, coarse ones in the middle and finer ones at the ends. Where an edge can't be cut it moves to
// the nearest time that can: a day of another zone is about the day of the coarse bucket. A question about a few series
// is put to the store as one: it finds them without reading buckets from end to end.
func newPlan(edges []int64, from, to, now int64, ls levels, few bool) *plan {
	p := &plan{}
	for i := 0; i+1 < len(edges); i++ {
		pt := point{time: edges[i], end: edges[i+1]}
		length := pt.end - pt.time
		pt.from, pt.to = p.snap(max(edges[i], from), length, ls, edges[i] <= from), p.snap(min(edges[i+1], to), length, ls, false)
		if i+2 == len(edges) {
			if high := p.snap(to, 0, ls, false); high > now {
				pt.to = high // the bucket that is open counts as far as it goes
			}
		}
		if i == 0 && len(edges) == 2 && pt.from >= pt.to {
			pt.from, pt.to = p.snap(from, 0, ls, true), p.snap(to, 0, ls, false)
		}
		if n := len(p.points); n > 0 && pt.from != p.points[n-1].to {
			pt.from = p.points[n-1].to // points of two lengths may move a common edge to two sides
		}
		if pt.from >= pt.to {
			// It lies within a bucket that counts for the point before.
			if n := len(p.points); n > 0 {
				p.points[n-1].end = pt.end
			}
			continue
		}
		p.points = append(p.points, pt)
	}
	p.readRuns(ls, few)
	return p
}

// snap moves an edge of a point of some length to where it can be cut: to the nearest such time, but where points are
// short against the buckets to the end of the bucket (which counts for the point that it starts in), or down to its
// start at the start of the window.
func (p *plan) snap(t, length int64, ls levels, down bool) int64 {
	if t < ls.kept() {
		return t // there is nothing to cut
	}
	g := ls.grain(t)
	low := floorDiv(t, g) * g
	if low == t {
		return t
	}
	p.note(coarse{low, low + g, g})
	if 2*length > g {
		down = 2*(t-low) < g
	}
	if down {
		return low
	}
	return low + g
}

func (p *plan) note(c coarse) {
	for i := range p.coarse {
		if old := &p.coarse[i]; old.interval == c.interval {
			old.from, old.to = min(old.from, c.from), max(old.to, c.to)
			return
		}
	}
	p.coarse = append(p.coarse, c)
}

// readRuns plans one read for points in a row that have the same length, where one level can do it.
func (p *plan) readRuns(ls levels, few bool) {
	for i := 0; i < len(p.points); {
		first := p.points[i]
		length, grain := first.to-first.from, ls.grain(first.from)
		n := i + 1
		for n < len(p.points) && p.points[n].to-p.points[n].from == length && p.points[n].from == p.points[n-1].to && ls.grain(p.points[n].from) == grain {
			n++
		}
		last := p.points[n-1].to
		best := int64(0)
		for _, l := range ls {
			if first.from%l.seconds == 0 && length%l.seconds == 0 && l.horizon <= first.from {
				best = l.seconds
			}
		}
		switch {
		case best == 0 || !few && n-i <= fewPoints && best < ls.coarsestIn(length):
			for _, pt := range p.points[i:n] {
				p.cover(pt.from, pt.to, ls)
			}
		case n-i == 1:
			p.reads = append(p.reads, read{interval: best, from: first.from, to: last})
		default:
			p.reads = append(p.reads, read{interval: best, from: first.from, to: last, step: length, origin: first.from})
		}
		i = n
	}
}

// fewPoints is up to where it is cheaper to read the fine buckets at both ends of each point and coarse ones between
// them than fine ones all along.
const fewPoints = 400

// coarsestIn is the longest interval of which a span surely holds two buckets, 0 for none.
func (ls levels) coarsestIn(length int64) int64 {
	for _, l := range slices.Backward(ls) {
		if 3*l.seconds <= length {
			return l.seconds
		}
	}
	return 0
}

// cover plans the reads of [a, b), both of which can be cut: the coarsest level that fits, and finer ones around it.
func (p *plan) cover(a, b int64, ls levels) {
	if a >= b || len(ls) == 0 {
		return
	}
	l, finer := ls[len(ls)-1], ls[:len(ls)-1]
	low, high := -floorDiv(-max(a, l.horizon), l.seconds)*l.seconds, floorDiv(b, l.seconds)*l.seconds
	if low >= high {
		p.cover(a, b, finer)
		return
	}
	p.cover(a, low, finer)
	p.reads = append(p.reads, read{interval: l.seconds, from: low, to: high})
	p.cover(high, b, finer)
}

// step gives the step that the points have: the one asked for, but where buckets that are longer than it are all there is.
func (p *plan) step(asked pointStep) pointStep {
	if asked.seconds == 0 || len(p.points) == 0 {
		return asked
	}
	least := p.points[0].end - p.points[0].time
	for _, pt := range p.points[1:] {
		least = min(least, pt.end-pt.time)
	}
	if least <= asked.seconds {
		return asked
	}
	return stepOf(least)
}

// pointAt gives the index of the point that a bucket counts for, -1 for none.
func (p *plan) pointAt(t int64) int {
	i := sort.Search(len(p.points), func(i int) bool { return p.points[i].from > t }) - 1
	if i >= 0 && t >= p.points[i].to {
		return -1
	}
	return i
}
