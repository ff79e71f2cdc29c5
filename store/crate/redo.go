package crate

import (
	"bytes"
	"cmp"
	"compress/zlib"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/statscache/statscache/store"
)

const (
	planVersion = 1
	maxPlan     = 1 << 30 // bytes that a redo may unpack to
	// maxDelta keeps sums from the end of BIGINT: a commit that is durable but can never be applied would stop its
	// plugin for good.
	maxDelta = 1 << 53
)

// plan is a finished commit: everything that is sent to the rows, with no part left to be computed. It stands in the
// checkpoint's row as its redo (JSON, zlib, base64) while the rows are being written.
type plan struct {
	Version  int         `json:"v"`
	From     int64       `json:"from"`
	To       int64       `json:"to"`
	Counters []countPlan `json:"c,omitempty"`
	Latest   []putPlan   `json:"p,omitempty"`
	Dead     []deadPlan  `json:"d,omitempty"`
	Fixes    []fixPlan   `json:"f,omitempty"` // of a repair
}

// countPlan is the counts of a metric at an interval, a column each.
type countPlan struct {
	Metric     string   `json:"m"`
	Dimensions int      `json:"x"` // of the metric
	Gran       int64    `json:"g"` // seconds
	Buckets    []int64  `json:"b"` // starts, seconds since 1970
	Keys       []string `json:"k"`
	N          []int64  `json:"n"`
}

type putPlan struct {
	Metric string `json:"m"`
	Key    string `json:"k"`
	Time   int64  `json:"t"`
	ID     string `json:"i"`
	Value  string `json:"v"`
}

// fixPlan sets a latest value (removes it where Value is nil) as long as its row is at a version.
type fixPlan struct {
	Metric string  `json:"m"`
	Key    string  `json:"k"`
	Time   int64   `json:"t"`
	ID     string  `json:"i"`
	Value  *string `json:"v"`
	SeqNo  int64   `json:"s"`
	Term   int64   `json:"p"`
}

type deadPlan struct {
	Seq   int64  `json:"s"`
	ID    string `json:"i"`
	Error string `json:"e"`
	At    int64  `json:"a"`           // µs since 1970
	Gone  bool   `json:"g,omitempty"` // it was taken back
}

func (p *plan) empty() bool { return len(p.Counters)+len(p.Latest)+len(p.Dead)+len(p.Fixes) == 0 }

// metrics lists what the plan changes.
func (p *plan) metrics() []string {
	changed := map[string]bool{}
	for _, c := range p.Counters {
		changed[c.Metric] = true
	}
	for _, q := range p.Latest {
		changed[q.Metric] = true
	}
	for _, f := range p.Fixes {
		changed[f.Metric] = true
	}
	return slices.Sorted(maps.Keys(changed))
}

func (p *plan) encode() (string, error) {
	var b bytes.Buffer
	w, err := zlib.NewWriterLevel(&b, zlib.BestSpeed)
	if err != nil {
		return "", err
	}
	if err := json.NewEncoder(w).Encode(p); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(b.Bytes()), nil
}

// decodePlan takes a redo apart. It must fit the row it stands in.
func decodePlan(redo string, row checkpointRow) (*plan, error) {
	fail := func(err error) (*plan, error) {
		return nil, fmt.Errorf("%w: redo of %d to %d: %w", errGivenUp, row.pos, row.intent, err)
	}
	z, err := zlib.NewReader(base64.NewDecoder(base64.StdEncoding, strings.NewReader(redo)))
	if err != nil {
		return fail(err)
	}
	raw, err := io.ReadAll(io.LimitReader(z, maxPlan+1))
	if err != nil {
		return fail(err)
	}
	p := &plan{}
	if len(raw) > maxPlan {
		return fail(fmt.Errorf("more than %d bytes", maxPlan))
	}
	if err := json.Unmarshal(raw, p); err != nil {
		return fail(err)
	}
	if p.Version != planVersion || p.From != row.pos || p.To != row.intent {
		return fail(fmt.Errorf("it is of version %d, from %d to %d", p.Version, p.From, p.To))
	}
	for _, c := range p.Counters {
		if len(c.Buckets) != len(c.Keys) || len(c.Keys) != len(c.N) {
			return fail(fmt.Errorf("columns of %s are not of one length", c.Metric))
		}
	}
	return p, nil
}

// addCounts takes over the deltas of a commit with the keys that their series numbers stand for.
// Buckets behind their horizon are left out; nil has none.
func (p *plan) addCounts(s *seriesSet, list []store.CounterDeltas, horizons map[horizonOf]int64) error {
	for _, in := range list {
		gran := int64(in.Interval / time.Second)
		keys, err := s.keys(in.Metric)
		if err != nil {
			return err
		}
		out := countPlan{Metric: in.Metric, Gran: gran, Dimensions: s.dimensions(in.Metric), Buckets: make([]int64, 0, len(in.Cells)),
			Keys: make([]string, 0, len(in.Cells)), N: make([]int64, 0, len(in.Cells))}
		if !s.hasInterval(in.Metric, in.Interval) {
			return fmt.Errorf("%w interval %s of metric %s", store.ErrUnknown, in.Interval, in.Metric)
		}
		for i, c := range in.Cells {
			switch {
			case i > 0 && c.Cell <= in.Cells[i-1].Cell:
				return fmt.Errorf("metric %s: cells are not ascending", in.Metric)
			case int(c.Cell.Series()) >= len(keys):
				return fmt.Errorf("metric %s: series %d was never given out", in.Metric, c.Cell.Series())
			case c.N > maxDelta || c.N < -maxDelta:
				return fmt.Errorf("metric %s: %d is too much for one cell", in.Metric, c.N)
			}
			start := c.Cell.Bucket() * gran
			if before, ok := horizons[horizonOf{in.Metric, gran}]; ok && start < before {
				continue
			}
			out.Buckets = append(out.Buckets, start)
			out.Keys = append(out.Keys, keys[c.Cell.Series()])
			out.N = append(out.N, c.N)
		}
		if len(out.N) > 0 {
			p.Counters = append(p.Counters, out)
		}
	}
	return nil
}

// addPuts takes over the newest put of each key.
func (p *plan) addPuts(s *seriesSet, list []store.Put) error {
	for _, in := range list {
		if !s.has(in.Metric) {
			return fmt.Errorf("%w metric %s", store.ErrUnknown, in.Metric)
		}
		if !utf8.Valid(in.Value) {
			return fmt.Errorf("metric %s: the value of event %s is not UTF-8", in.Metric, in.ID)
		}
		p.Latest = append(p.Latest, putPlan{in.Metric, keyText(in.Key), bounded(in.Time), strings.ToValidUTF8(in.ID, "\uFFFD"), string(in.Value)})
	}
	slices.SortStableFunc(p.Latest, func(a, b putPlan) int { // the newest of a key last
		return cmp.Or(cmp.Compare(a.Metric, b.Metric), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Time, b.Time), cmp.Compare(a.ID, b.ID))
	})
	kept := p.Latest[:0]
	for i, q := range p.Latest {
		if i+1 == len(p.Latest) || p.Latest[i+1].Metric != q.Metric || p.Latest[i+1].Key != q.Key {
			kept = append(kept, q)
		}
	}
	p.Latest = kept
	return nil
}

func (p *plan) addDead(list []store.DeadLetter) error {
	seen := map[uint64]bool{}
	for _, in := range list {
		seq, err := position(in.Seq)
		if err != nil {
			return err
		}
		if seen[in.Seq] {
			continue // one row is one letter; the count of rows written must come out
		}
		seen[in.Seq] = true
		p.Dead = append(p.Dead, deadPlan{Seq: seq, ID: strings.ToValidUTF8(in.ID, "\uFFFD"), Error: strings.ToValidUTF8(in.Error, "\uFFFD"), At: in.At.UnixMicro()})
	}
	return nil
}

// keyText is a series' key as the database keeps it.
func keyText(key string) string { return strings.ToValidUTF8(key, "\uFFFD") }
