package host

import (
	"cmp"
	"slices"

	"github.com/statscache/statscache/store"
)

// sorter sorts and adds up deltas. It keeps its buffers; it is for one goroutine.
type sorter struct{ a, b []store.Delta }

// sum sorts deltas by cell and adds those of one cell up, in place.
func (s *sorter) sum(d []store.Delta) []store.Delta {
	s.sort(d)
	if len(d) == 0 {
		return d
	}
	w := 0
	for _, x := range d[1:] {
		if x.Cell == d[w].Cell {
			d[w].N += x.N
		} else {
			w++
			d[w] = x
		}
	}
	return d[:w+1]
}

// sort is a radix sort by 11 bits at a time that passes over digits in which all cells agree: cells of one commit lie
// close together.
func (s *sorter) sort(d []store.Delta) {
	if len(d) < 256 {
		slices.SortFunc(d, func(x, y store.Delta) int { return cmp.Compare(x.Cell, y.Cell) })
		return
	}
	if cap(s.a) < len(d) {
		s.a = make([]store.Delta, len(d)*5/4)
	}
	const bits, mask, sign = 11, 1<<11 - 1, 1 << 63 // the sign turned makes negative cells the smaller ones
	ones, all := uint64(0), ^uint64(0)
	for _, x := range d {
		ones, all = ones|uint64(x.Cell), all&uint64(x.Cell)
	}
	from, to := d, s.a[:len(d)]
	for shift := uint(0); shift < 64; shift += bits {
		if (ones^all)>>shift&mask == 0 {
			continue
		}
		var at [mask + 1]int
		for _, x := range from {
			at[(uint64(x.Cell)^sign)>>shift&mask]++
		}
		sum := 0
		for i := range at {
			at[i], sum = sum, sum+at[i]
		}
		for _, x := range from {
			digit := (uint64(x.Cell) ^ sign) >> shift & mask
			to[at[digit]] = x
			at[digit]++
		}
		from, to = to, from
	}
	if &from[0] != &d[0] {
		copy(d, from)
	}
}

// rollUp adds sorted deltas of fine buckets up to buckets factor times as wide. The fine buckets inside a coarse one
// are runs that are sorted by series already: they are merged, not sorted again.
func (s *sorter) rollUp(fine []store.Delta, factor int64) []store.Delta {
	out := make([]store.Delta, 0, len(fine))
	var runs []int // starts of the fine buckets inside the coarse one
	for i := 0; i < len(fine); {
		coarse := floorDiv(fine[i].Cell.Bucket(), factor)
		start := len(out)
		runs = runs[:0]
		for last := int64(0); i < len(fine); i++ {
			bucket := fine[i].Cell.Bucket()
			if floorDiv(bucket, factor) != coarse {
				break
			}
			if len(runs) == 0 || bucket != last {
				runs = append(runs, len(out)-start)
				last = bucket
			}
			out = append(out, store.Delta{Cell: store.MakeCell(coarse, fine[i].Cell.Series()), N: fine[i].N})
		}
		out = append(out[:start], s.mergeRuns(out[start:], runs)...)
	}
	return out
}

// mergeRuns merges sorted runs two by two until one is left, adding up equal cells. The answer may lie in d's memory.
func (s *sorter) mergeRuns(d []store.Delta, runs []int) []store.Delta {
	if len(runs) < 2 {
		return d
	}
	ends := make([]int, 0, len(runs)+1)
	ends = append(append(ends, runs[1:]...), len(d))
	src, dst := d, s.b[:0]
	for len(ends) > 1 {
		dst = slices.Grow(dst[:0], len(src))
		merged := ends[:0]
		from := 0
		for k := 0; k < len(ends); k += 2 {
			mid, end := ends[k], ends[k]
			if k+1 < len(ends) {
				end = ends[k+1]
			}
			dst = mergeTwo(dst, src[from:mid], src[mid:end])
			merged = append(merged, len(dst))
			from = end
		}
		ends = merged
		src, dst = dst, src
	}
	if len(src) > 0 && len(d) > 0 && &src[0] != &d[0] {
		s.b = src
		return d[:copy(d, src)]
	}
	s.b = dst
	return src
}

func mergeTwo(dst, a, b []store.Delta) []store.Delta {
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0].Cell < b[0].Cell:
			dst, a = append(dst, a[0]), a[1:]
		case a[0].Cell > b[0].Cell:
			dst, b = append(dst, b[0]), b[1:]
		default:
			dst = append(dst, store.Delta{Cell: a[0].Cell, N: a[0].N + b[0].N})
			a, b = a[1:], b[1:]
		}
	}
	return append(append(dst, a...), b...)
}

// intervals gives the summed deltas of a metric at each of its intervals, from deltas at its step in any order. It
// uses up d.
func (s *sorter) intervals(m *metric, d []store.Delta) [][]store.Delta {
	type level struct {
		step  int64
		cells []store.Delta
	}
	levels := []level{{m.step, s.sum(d)}}
	out := make([][]store.Delta, len(m.steps))
	for i, step := range m.steps {
		best := levels[0]
		for _, l := range levels[1:] { // the coarsest that divides it is the least work
			if step%l.step == 0 {
				best = l
			}
		}
		if best.step != step {
			best = level{step, s.rollUp(best.cells, step/best.step)}
			levels = append(levels, best)
		}
		out[i] = best.cells
	}
	return out
}
