package host

import (
	"encoding/json"
	"fmt"
	"strings"

	pb "github.com/statscache/statscache/plugins/proto"
	"github.com/statscache/statscache/store"
)

// The bounds of one answer. An author who needs more in one batch declares a shorter one by being slow.
const (
	maxRows       = 1 << 20 // additions, and as many puts
	maxNames      = 1 << 20
	maxValueBytes = 1 << 20
	maxCount      = 1 << 48 // of one addition, so that sums don't overflow
	maxErrorBytes = 4 << 10
)

// checkAnswer makes sure that an answer is one to this batch, so that nothing behind it needs to look. What it
// refuses is the plugin's fault and is treated as a crash.
func (d *definition) checkAnswer(b *batch, r *pb.Result) error {
	if r.GetBatchId() != b.id {
		return fmt.Errorf("wrong answer: result for batch %d, expected %d", r.GetBatchId(), b.id)
	}
	if len(r.Names) > maxNames {
		return fmt.Errorf("wrong answer: %d names", len(r.Names))
	}
	if len(r.Names) > 0 && r.Names[0] != "" {
		return fmt.Errorf("wrong answer: names[0] is %q", cut(r.Names[0]))
	}
	rows := 0
	for _, c := range r.Counters {
		if rows += len(c.GetN()); rows > maxRows {
			return fmt.Errorf("wrong answer: more than %d additions", maxRows)
		}
		if err := d.checkCounts(b, c, len(r.Names)); err != nil {
			return fmt.Errorf("wrong answer: %w", err)
		}
	}
	if len(r.Puts) > maxRows {
		return fmt.Errorf("wrong answer: %d puts", len(r.Puts))
	}
	for _, p := range r.Puts {
		if err := d.checkPut(b, p); err != nil {
			return fmt.Errorf("wrong answer: %w", err)
		}
	}
	if len(r.Errors) > b.len() {
		return fmt.Errorf("wrong answer: %d errors about %d events", len(r.Errors), b.len())
	}
	seen := make(map[uint32]bool, len(r.Errors))
	for _, e := range r.Errors {
		if int64(e.GetEvent()) >= int64(b.len()) || seen[e.GetEvent()] {
			return fmt.Errorf("wrong answer: error about event %d of %d", e.GetEvent(), b.len())
		}
		seen[e.GetEvent()] = true
	}
	return nil
}

func (d *definition) metric(index uint32, kind store.Kind) (*metric, error) {
	if int64(index) >= int64(len(d.metrics)) || d.metrics[index].kind != kind {
		return nil, fmt.Errorf("there is no %s metric %d", kind, index)
	}
	return &d.metrics[index], nil
}

func (d *definition) checkCounts(b *batch, c *pb.Counts, names int) error {
	m, err := d.metric(c.GetMetric(), store.Counter)
	if err != nil {
		return err
	}
	if len(c.TimeS) != len(c.N) || len(c.Dims) != len(c.N)*m.dims {
		return fmt.Errorf("metric %s: columns of different lengths", m.id)
	}
	lo, hi := floorDiv(b.lo, m.step)*m.step, (floorDiv(b.hi, m.step)+1)*m.step
	now := int64(0)
	for i, delta := range c.TimeS {
		now += delta // may wrap around: it is then outside the range, or not wrong
		if now < lo || now >= hi {
			return fmt.Errorf("metric %s: time %d lies outside the batch's, %d to %d", m.id, now, b.lo, b.hi)
		}
		if n := c.N[i]; n > maxCount || n < -maxCount {
			return fmt.Errorf("metric %s: count %d", m.id, n)
		}
	}
	for _, x := range c.Dims {
		if int64(x) >= int64(names) {
			return fmt.Errorf("metric %s: name %d of %d", m.id, x, names)
		}
	}
	return nil
}

func (d *definition) checkPut(b *batch, p *pb.Put) error {
	m, err := d.metric(p.GetMetric(), store.Latest)
	if err != nil {
		return err
	}
	if len(p.Key) != m.dims {
		return fmt.Errorf("metric %s: key of %d parts, expected %d", m.id, len(p.Key), m.dims)
	}
	if int64(p.GetEvent()) >= int64(b.len()) {
		return fmt.Errorf("metric %s: put for event %d of %d", m.id, p.GetEvent(), b.len())
	}
	if len(p.ValueJson) > maxValueBytes || !json.Valid(p.ValueJson) {
		return fmt.Errorf("metric %s: a value is no JSON or larger than 1 MiB", m.id)
	}
	return nil
}

// seriesKey joins dimension values to a key that the store takes: values too long for it are cut.
func seriesKey(values []string) string {
	key := store.JoinKey(values)
	for limit := store.MaxKeyBytes / max(1, len(values)); len(key) > store.MaxKeyBytes; limit = limit * 3 / 4 {
		short := make([]string, len(values))
		for i, v := range values {
			short[i] = strings.ToValidUTF8(v[:min(len(v), limit)], "")
		}
		key = store.JoinKey(short)
	}
	return key
}
