package crate

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/statscache/statscache/store"
)

// seriesSet numbers the series of a checkpoint's metrics. The numbers live as long as the checkpoint: in the database a
// series is its key.
//
// A metric's limit is kept approximately. While keys in the table when the checkpoint was opened and numbers given
// since make less than the limit together, every key is taken. Once they reach it, the keys of the table are read once:
// those and the ones numbered before go on, every other one is OtherKey. Checkpoints of other streams that add keys at
// the same time are not seen.
type seriesSet struct {
	load func(context.Context, store.Metric) (map[string]bool, error)

	mu      sync.Mutex
	metrics map[string]*metricSeries
}

type metricSeries struct {
	def    store.Metric
	limit  int
	stored int             // keys in the table when the checkpoint was opened
	known  map[string]bool // the keys in the table, read when the limit was reached
	number map[string]uint32
	keys   []string
}

func newSeriesSet(metrics []store.Metric, load func(context.Context, store.Metric) (map[string]bool, error)) *seriesSet {
	s := &seriesSet{load: load, metrics: map[string]*metricSeries{}}
	for _, m := range metrics {
		s.metrics[m.ID] = &metricSeries{def: m, limit: seriesLimit(m), number: map[string]uint32{}}
	}
	return s
}

func seriesLimit(m store.Metric) int {
	if m.SeriesLimit <= 0 {
		return store.DefaultSeriesLimit
	}
	return min(m.SeriesLimit, store.MaxSeries-1)
}

func (s *seriesSet) has(metric string) bool { return s.metrics[metric] != nil } // the map itself never changes

func (s *seriesSet) hasInterval(metric string, interval time.Duration) bool {
	m := s.metrics[metric]
	return m != nil && slices.Contains(m.def.Intervals, interval)
}

// dimensions gives how many dimensions a metric has.
func (s *seriesSet) dimensions(metric string) int {
	if m := s.metrics[metric]; m != nil {
		return len(m.def.Dimensions)
	}
	return 0
}

// keys gives the keys by number. The slice only ever grows behind what is given here.
func (s *seriesSet) keys(metric string) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.metrics[metric]
	if m == nil {
		return nil, fmt.Errorf("%w metric %s", store.ErrUnknown, metric)
	}
	return m.keys, nil
}

// give gives a key's number.
func (s *seriesSet) give(metric, key string) (uint32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.metrics[metric]
	if m == nil {
		return 0, fmt.Errorf("%w metric %s", store.ErrUnknown, metric)
	}
	if n, ok := m.number[key]; ok {
		return n, nil
	}
	if len(key) > store.MaxKeyBytes {
		return 0, fmt.Errorf("metric %s: a key of %d bytes, want at most %d", metric, len(key), store.MaxKeyBytes)
	}
	key = keyText(key)
	if n, ok := m.number[key]; ok {
		return n, nil
	}
	if key != store.OtherKey {
		free, err := s.free(m, key)
		if err != nil {
			return 0, err
		}
		if !free {
			key = store.OtherKey
		}
	}
	n, ok := m.number[key]
	if !ok {
		n = uint32(len(m.keys))
		m.number[key] = n
		m.keys = append(m.keys, key)
	}
	return n, nil
}

// free says whether a key without a number may have one of its own.
func (s *seriesSet) free(m *metricSeries, key string) (bool, error) {
	if m.known == nil {
		if m.stored+len(m.keys) < m.limit {
			return true, nil
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		known, err := s.load(ctx, m.def)
		if err != nil {
			return false, err
		}
		for _, k := range m.keys {
			known[k] = true
		}
		delete(known, store.OtherKey)
		m.known = known
	}
	if !m.known[key] {
		if len(m.known) >= m.limit {
			return false, nil
		}
		m.known[key] = true
	}
	return true, nil
}

// ofSeries chooses the rows that have every series of a metric: those of the coarsest interval, which are the fewest.
// Its parameters are metric, generation and interval.
const ofSeries = " FROM counters WHERE metric = $1 AND generation = $2 AND gran = $3 AND dkey <> '" + store.OtherKey + "'"

func coarsest(m store.Metric) int64 { return int64(slices.Max(m.Intervals) / time.Second) }

// countSeries counts the keys that a generation's metric has in the table, as last refreshed. (CrateDB 6.4.3 refuses to
// count(DISTINCT dkey) of six million rows with 1 GB of heap: it takes memory for each row.)
func (d *DB) countSeries(ctx context.Context, m store.Metric, generation uint32) (n int, err error) {
	if len(m.Intervals) == 0 {
		return 0, nil
	}
	err = d.query(ctx, "count the series of "+m.ID, func() {}, func(r pgx.Rows) error { return r.Scan(&n) },
		"SELECT count(*) FROM (SELECT DISTINCT dkey"+ofSeries+") AS t", m.ID, int64(generation), coarsest(m))
	return n, err
}

// loadSeries reads the keys that a generation's metric has in the table.
func (d *DB) loadSeries(ctx context.Context, m store.Metric, generation uint32) (map[string]bool, error) {
	if err := d.refresh(ctx, "counters"); err != nil || len(m.Intervals) == 0 {
		return map[string]bool{}, err
	}
	var keys map[string]bool
	err := d.query(ctx, "read the series of "+m.ID, func() { keys = map[string]bool{} }, func(r pgx.Rows) error {
		var k string
		err := r.Scan(&k)
		keys[k] = true
		return err
	}, "SELECT DISTINCT dkey"+ofSeries, m.ID, int64(generation), coarsest(m))
	return keys, err
}
