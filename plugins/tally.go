package plugins

import (
	"encoding/binary"
	"time"

	pb "github.com/statscache/statscache/plugins/proto"
)

// tally sums what one counter adds over a batch, per bucket of its finest common interval. Sums stand in the order in
// which they began; a hash table finds them.
type tally struct {
	step int64 // seconds
	dims int
	sums []sum
	// slots holds positions in sums + 1. A slot counts as empty where its sum is another batch's: nothing need be
	// cleared between batches.
	slots []slot
	batch uint32
	// Counters of several dimensions: rows of indexes into the names, told apart by their bytes.
	rows    []uint32
	rowOf   map[string]uint32
	scratch []byte
}

type sum struct {
	time int64
	row  uint32
	n    int64
}

type slot struct{ batch, at uint32 }

const leastSlots = 1 << 10

func newTally(c *Counter) tally {
	t := tally{dims: len(c.Dims), rowOf: map[string]uint32{}, slots: make([]slot, leastSlots), batch: 1}
	for _, d := range c.Every {
		t.step = gcd(t.step, int64(d/time.Second))
	}
	return t
}

// combine gives the number of a row of several values.
func (t *tally) combine(d *names, values []string) uint32 {
	t.scratch = t.scratch[:0]
	for _, v := range values {
		t.scratch = binary.LittleEndian.AppendUint32(t.scratch, d.of(v))
	}
	if row, ok := t.rowOf[string(t.scratch)]; ok {
		return row
	}
	row := uint32(len(t.rowOf))
	t.rowOf[string(t.scratch)] = row
	for i := range values {
		t.rows = append(t.rows, binary.LittleEndian.Uint32(t.scratch[4*i:]))
	}
	return row
}

func (t *tally) count(second int64, row uint32, n int64) {
	second -= mod(second, t.step)
	s := t.find(second, row)
	if s.batch == t.batch {
		t.sums[s.at].n += n
		return
	}
	*s = slot{t.batch, uint32(len(t.sums))}
	t.sums = append(t.sums, sum{second, row, n})
	if 2*len(t.sums) > len(t.slots) {
		t.grow()
	}
}

// find gives the slot of a sum, or the empty one where it belongs.
func (t *tally) find(second int64, row uint32) *slot {
	mask := uint64(len(t.slots) - 1)
	h := (uint64(second)*0x9e3779b97f4a7c15 ^ uint64(row)) * 0xff51afd7ed558ccd
	for i := h >> 32; ; i++ {
		s := &t.slots[i&mask]
		if s.batch != t.batch || t.sums[s.at].time == second && t.sums[s.at].row == row {
			return s
		}
	}
}

func (t *tally) grow() {
	t.slots = make([]slot, 2*len(t.slots))
	for i := range t.sums {
		*t.find(t.sums[i].time, t.sums[i].row) = slot{t.batch, uint32(i)}
	}
}

// flush gives the sums and starts anew; nil where there are none.
func (t *tally) flush(metric uint32) *pb.Counts {
	if len(t.sums) == 0 {
		return nil
	}
	out := &pb.Counts{Metric: metric, TimeS: make([]int64, len(t.sums)), N: make([]int64, len(t.sums)), Dims: make([]uint32, 0, len(t.sums)*t.dims)}
	prev := int64(0)
	for i, s := range t.sums {
		out.TimeS[i], out.N[i] = s.time-prev, s.n
		prev = s.time
		switch t.dims {
		case 0:
		case 1:
			out.Dims = append(out.Dims, s.row)
		default:
			out.Dims = append(out.Dims, t.rows[int(s.row)*t.dims:int(s.row+1)*t.dims]...)
		}
	}
	t.sums = t.sums[:0]
	if t.batch++; t.batch == 0 || len(t.slots) > 64*leastSlots { // numbers start over, or one batch was far larger than most
		t.slots, t.batch = make([]slot, leastSlots), 1
	}
	clear(t.rowOf)
	t.rows = t.rows[:0]
	return out
}

func mod(a, b int64) int64 {
	r := a % b
	if r < 0 {
		r += b
	}
	return r
}

func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
