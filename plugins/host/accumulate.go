package host

import (
	"encoding/binary"
	"fmt"
	"time"

	pb "github.com/statscache/statscache/plugins/proto"
	"github.com/statscache/statscache/store"
)

// accumulator adds answers up between two commits, at each metric's step. It is for one goroutine at a time.
type accumulator struct {
	def   *definition
	cells [][]store.Delta // per metric, in any order, the same cell any number of times
	puts  map[putKey]store.Put
	dead  []store.DeadLetter
	size  int     // what it holds, in cells
	other []int64 // per metric: how much of it has no series of its own for the series limit
	live  bool    // there is something of events that came from the bus
}

type putKey struct {
	metric uint32
	key    string
}

func newAccumulator(def *definition) *accumulator {
	return &accumulator{def: def, cells: make([][]store.Delta, len(def.metrics)), puts: map[putKey]store.Put{}, other: make([]int64, len(def.metrics))}
}

// resolved is an answer whose names have become series numbers: all that can fail has been done.
type resolved struct {
	series [][]uint32 // per Counts: of each row; nil where all rows are of one series
	only   []uint32
	ids    []string // of the batch's events that puts are of
	other  []int64  // per Counts: the number of store.OtherKey's series, -1 where nothing can have gone there
}

// resolve asks for the series numbers of a checked answer.
func (d *definition) resolve(b *batch, r *pb.Result, number func(metric, key string) (uint32, error)) (*resolved, error) {
	out := &resolved{series: make([][]uint32, len(r.Counters)), only: make([]uint32, len(r.Counters)), other: make([]int64, len(r.Counters))}
	for k, c := range r.Counters {
		m := &d.metrics[c.Metric]
		var err error
		switch m.dims {
		case 0:
			out.only[k], err = number(m.id, "")
		case 1:
			out.series[k], err = resolveNames(m, c, r.Names, number)
		default:
			out.series[k], err = resolveRows(m, c, r.Names, number)
		}
		out.other[k] = -1
		if err == nil && m.dims > 0 && len(out.series[k]) > 0 {
			var n uint32
			n, err = number(m.id, store.OtherKey)
			out.other[k] = int64(n)
		}
		if err != nil {
			return nil, fmt.Errorf("series of metric %s: %w", m.id, err)
		}
	}
	if len(r.Puts) > 0 {
		var err error
		if out.ids, err = b.idsOf(r.Puts); err != nil {
			return nil, fmt.Errorf("ids of events: %w", err)
		}
	}
	return out, nil
}

// resolveNames is for metrics of one dimension: every name is looked up once.
func resolveNames(m *metric, c *pb.Counts, names []string, number func(metric, key string) (uint32, error)) ([]uint32, error) {
	const unknown = ^uint32(0)
	known := make([]uint32, len(names))
	for i := range known {
		known[i] = unknown
	}
	rows := make([]uint32, len(c.Dims))
	for i, x := range c.Dims {
		if known[x] == unknown {
			n, err := number(m.id, seriesKey(names[x:x+1]))
			if err != nil {
				return nil, err
			}
			known[x] = n
		}
		rows[i] = known[x]
	}
	return rows, nil
}

func resolveRows(m *metric, c *pb.Counts, names []string, number func(metric, key string) (uint32, error)) ([]uint32, error) {
	known := map[string]uint32{}
	rows := make([]uint32, len(c.N))
	values, scratch := make([]string, m.dims), make([]byte, 0, 4*m.dims)
	for i := range rows {
		scratch = scratch[:0]
		for k, x := range c.Dims[i*m.dims : (i+1)*m.dims] {
			values[k] = names[x]
			scratch = binary.LittleEndian.AppendUint32(scratch, x)
		}
		n, ok := known[string(scratch)]
		if !ok {
			var err error
			if n, err = number(m.id, seriesKey(values)); err != nil {
				return nil, err
			}
			known[string(scratch)] = n
		}
		rows[i] = n
	}
	return rows, nil
}

// add takes a resolved answer in, but for its errors.
func (a *accumulator) add(b *batch, r *pb.Result, s *resolved) {
	a.live = a.live || !b.block.Backfill
	for k, c := range r.Counters {
		m := &a.def.metrics[c.Metric]
		cells := a.cells[c.Metric]
		at := int64(0)
		for i, delta := range c.TimeS {
			at += delta
			series := s.only[k]
			if s.series[k] != nil {
				series = s.series[k][i]
			}
			if int64(series) == s.other[k] {
				a.other[c.Metric] += c.N[i]
			}
			cells = append(cells, store.Delta{Cell: store.MakeCell(floorDiv(at, m.step), series), N: c.N[i]})
		}
		a.cells[c.Metric] = cells
		a.size += len(c.TimeS)
	}
	for _, p := range r.Puts {
		a.put(p.Metric, store.Put{
			Metric: a.def.metrics[p.Metric].id, Key: seriesKey(p.Key), Time: b.time(int(p.Event)), ID: s.ids[p.Event], Value: p.ValueJson,
		})
	}
}

// put keeps the newest value per key: no more than the last one of a commit can win.
func (a *accumulator) put(metric uint32, p store.Put) {
	k := putKey{metric, p.Key}
	old, ok := a.puts[k]
	if ok && (old.Time > p.Time || old.Time == p.Time && old.ID >= p.ID) {
		return
	}
	a.size += 1 + len(p.Value)/64
	if ok {
		a.size -= 1 + len(old.Value)/64
	}
	a.puts[k] = p
}

// next makes an accumulator for what comes after this one, with room for as much.
func (a *accumulator) next() *accumulator {
	out := newAccumulator(a.def)
	for i, cells := range a.cells {
		out.cells[i] = make([]store.Delta, 0, len(cells))
	}
	return out
}

func (a *accumulator) bury(d store.DeadLetter) {
	a.dead = append(a.dead, d)
	a.size++
}

// commit turns what was added up into a commit and leaves the accumulator unusable.
func (a *accumulator) commit(to uint64, s *sorter) *store.Commit {
	c := &store.Commit{To: to, Dead: a.dead}
	for i := range a.def.metrics {
		m := &a.def.metrics[i]
		if len(a.cells[i]) == 0 {
			continue
		}
		for k, cells := range s.intervals(m, a.cells[i]) {
			c.Counters = append(c.Counters, store.CounterDeltas{Metric: m.id, Interval: time.Duration(m.steps[k]) * time.Second, Cells: cells})
		}
	}
	for _, p := range a.puts {
		c.Puts = append(c.Puts, p)
	}
	return c
}
