package plugins

import (
	"encoding/binary"
	"time"

	pb "github.com/statscache/statscache/plugins/proto"
)

// tally sums what one counter adds over a batch, per bucket of its finest common interval.
type tally struct {
	step int64 // seconds
	dims int
	sums map[cell]int64
	// Counters of several dimensions: rows of indexes into the names, told apart by their bytes.
	rows    []uint32
	rowOf   map[string]uint32
	scratch []byte
}

type cell struct {
	time int64
	row  uint32
}

func newTally(c *Counter) tally {
	t := tally{dims: len(c.Dims), sums: map[cell]int64{}, rowOf: map[string]uint32{}}
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
	t.sums[cell{second - mod(second, t.step), row}] += n
}

// flush gives the sums and starts anew; nil where there are none.
func (t *tally) flush(metric uint32) *pb.Counts {
	if len(t.sums) == 0 {
		return nil
	}
	out := &pb.Counts{Metric: metric, TimeS: make([]int64, 0, len(t.sums)), N: make([]int64, 0, len(t.sums)), Dims: make([]uint32, 0, len(t.sums)*t.dims)}
	prev := int64(0)
	for c, n := range t.sums {
		out.TimeS = append(out.TimeS, c.time-prev)
		prev = c.time
		out.N = append(out.N, n)
		switch t.dims {
		case 0:
		case 1:
			out.Dims = append(out.Dims, c.row)
		default:
			out.Dims = append(out.Dims, t.rows[int(c.row)*t.dims:int(c.row+1)*t.dims]...)
		}
	}
	clear(t.sums)
	clear(t.rowOf)
	t.rows = t.rows[:0]
	return out
}

func mod(a, b int64) int64 {
	if r := a % b; r < 0 {
		return r + b
	} else {
		return r
	}
}

func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
