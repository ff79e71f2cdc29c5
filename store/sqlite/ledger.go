package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/statscache/statscache/internal/failpoint"
	"github.com/statscache/statscache/store"
)

// ledger is what memory holds of the numbers: definitions and dictionaries, never counts.
type ledger struct {
	mu       sync.Mutex
	metrics  map[metricKey]*metric
	horizons map[horizonOf]int64
}

type metricKey struct {
	plugin     string
	generation uint32
	id         string
}

type horizonOf struct {
	metric  string
	seconds int64
}

// metric is a metric of one generation.
type metric struct {
	no        int64
	def       store.Metric
	intervals map[time.Duration]*counts
	series    *dictionary
}

// counts are the tables of a metric at an interval.
type counts struct {
	seconds int64
	table   string
	byKey   string // the same rows in the order of (series, day), for day tables; else ""
}

const (
	daySeconds = 86_400
	dayBits    = 32 // byKey: k = series << dayBits | day + dayZero
	dayZero    = 1 << (dayBits - 1)
	rowsAtOnce = 64 // of an upsert
)

func newLedger() ledger {
	return ledger{metrics: map[metricKey]*metric{}, horizons: map[horizonOf]int64{}}
}

func newMetric(no int64, def store.Metric) *metric {
	limit := def.SeriesLimit
	if limit <= 0 {
		limit = store.DefaultSeriesLimit
	}
	m := &metric{no: no, def: def, intervals: map[time.Duration]*counts{},
		series: newDictionary(no, len(def.Dimensions), uint32(min(limit, store.MaxSeries-1)))}
	for _, i := range def.Intervals {
		t := &counts{seconds: int64(i / time.Second), table: fmt.Sprintf("count_%d_%d", no, i/time.Second)}
		if t.seconds == daySeconds {
			t.byKey = t.table + "_series"
		}
		m.intervals[i] = t
	}
	return m
}

// reload reads definitions, dictionaries and horizons from the file. It runs in a transaction.
func (l *ledger) reload(c *conn) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	there := map[metricKey]bool{}
	err := c.each("SELECT m.no, m.plugin, m.generation, m.id, g.metrics FROM metric m JOIN generation g USING(plugin, generation)", func(s *sqlite.Stmt) error {
		key := metricKey{s.ColumnText(1), uint32(s.ColumnInt64(2)), s.ColumnText(3)}
		def, err := definition(s.ColumnText(4), key.id)
		if err != nil {
			return fmt.Errorf("metrics of plugin %s: %w", key.plugin, err)
		}
		there[key] = true
		fresh := newMetric(s.ColumnInt64(0), def)
		if old := l.metrics[key]; old != nil && old.no == fresh.no {
			if err := old.series.load(c); err != nil {
				return err
			}
			if !old.series.stale { // numbers that were given out stay
				old.series.setLimit(fresh.series.limit)
				fresh.series = old.series
			}
		}
		if err := fresh.series.load(c); err != nil {
			return err
		}
		l.metrics[key] = fresh
		return nil
	})
	if err != nil {
		return err
	}
	for key := range l.metrics {
		if !there[key] {
			delete(l.metrics, key)
		}
	}
	clear(l.horizons)
	return c.each("SELECT metric, seconds, before FROM horizon", func(s *sqlite.Stmt) error {
		l.horizons[horizonOf{s.ColumnText(0), s.ColumnInt64(1)}] = s.ColumnInt64(2)
		return nil
	})
}

func definition(list, id string) (store.Metric, error) {
	var all []store.Metric
	if err := json.Unmarshal([]byte(list), &all); err != nil {
		return store.Metric{}, err
	}
	for _, m := range all {
		if m.ID == id {
			return m, nil
		}
	}
	return store.Metric{}, fmt.Errorf("no definition of metric %s", id)
}

// of gives the metrics of a generation by id.
func (l *ledger) of(plugin string, generation uint32) map[string]*metric {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]*metric{}
	for key, m := range l.metrics {
		if key.plugin == plugin && key.generation == generation {
			out[key.id] = m
		}
	}
	return out
}

// Positions gives the progress of every stream of a generation.
func (d *DB) Positions(ctx context.Context, plugin string, generation uint32) (out []store.Position, err error) {
	err = d.read(ctx, "positions of plugin "+plugin, func(c *conn) error {
		return c.each("SELECT stream, pos FROM checkpoint WHERE plugin=? AND generation=? AND stream<>? ORDER BY stream", func(s *sqlite.Stmt) error {
			pos := uint64(s.ColumnInt64(1))
			out = append(out, store.Position{Stream: s.ColumnText(0), Pos: pos, Intent: pos})
			return nil
		}, plugin, generation, store.Loose)
	})
	return out, err
}

// checkpoint is a writer of a plugin's generation over one stream.
type checkpoint struct {
	d       *DB
	key     store.CheckpointKey
	metrics map[string]*metric // as they were when it was opened
	epoch   int64
	pos     atomic.Uint64
	shut    atomic.Bool
}

// Checkpoint opens the one writer of a key.
func (d *DB) Checkpoint(ctx context.Context, key store.CheckpointKey) (store.Checkpoint, error) {
	p := &checkpoint{d: d, key: key}
	err := d.write(ctx, fmt.Sprintf("open checkpoint of plugin %s", key.Plugin), func(c *conn) error {
		found, err := c.has("SELECT 1 FROM generation WHERE plugin=? AND generation=?", key.Plugin, key.Generation)
		if err != nil {
			return err
		}
		if !found {
			return fmt.Errorf("generation %d: %w", key.Generation, store.ErrUnknown)
		}
		p.metrics = d.ledger.of(key.Plugin, key.Generation)
		return c.each(`INSERT INTO checkpoint VALUES(?,?,?,0,1) ON CONFLICT DO UPDATE SET epoch=epoch+1 RETURNING pos, epoch`, func(s *sqlite.Stmt) error {
			p.pos.Store(uint64(s.ColumnInt64(0)))
			p.epoch = s.ColumnInt64(1)
			return nil
		}, key.Plugin, key.Generation, key.Stream)
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Pos is the last position committed.
func (p *checkpoint) Pos() uint64 { return p.pos.Load() }

// Close releases the checkpoint.
func (p *checkpoint) Close() error {
	p.shut.Store(true)
	return nil
}

// Series gives the number of a series.
func (p *checkpoint) Series(metric, key string) (uint32, error) {
	m := p.metrics[metric]
	if m == nil {
		return 0, fmt.Errorf("metric %s of plugin %s: %w", metric, p.key.Plugin, store.ErrUnknown)
	}
	n, err := m.series.number(p.d, key)
	if err != nil {
		return 0, fmt.Errorf("series of metric %s: %w", metric, err)
	}
	return n, nil
}

// Commit adds what a range of events adds up to, in one transaction.
func (p *checkpoint) Commit(ctx context.Context, x *store.Commit) error {
	op := fmt.Sprintf("commit plugin %s to %d of stream %s", p.key.Plugin, x.To, p.key.Stream)
	if p.shut.Load() {
		return fmt.Errorf("%s: checkpoint is closed", op)
	}
	if x.To <= p.pos.Load() {
		return nil
	}
	if err := p.check(x); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	w := commitment{p: p, x: x, written: map[*dictionary]bool{}, versions: map[string]uint64{}}
	at := x.To
	if err := p.d.around(failpoint.Commit, func() error {
		return p.d.write(ctx, op, func(c *conn) (err error) {
			at, err = w.run(c)
			return err
		})
	}); err != nil {
		return err
	}
	p.pos.Store(at)
	p.d.publish(w.versions)
	return nil
}

// check refuses a commit that cannot be meant.
func (p *checkpoint) check(x *store.Commit) error {
	for _, d := range x.Counters {
		m := p.metrics[d.Metric]
		if m == nil || m.intervals[d.Interval] == nil {
			return fmt.Errorf("metric %s at interval %s: %w", d.Metric, d.Interval, store.ErrUnknown)
		}
		top := uint32(0)
		for i, cell := range d.Cells {
			if i > 0 && cell.Cell <= d.Cells[i-1].Cell {
				return fmt.Errorf("metric %s at interval %s: cells are not in ascending order", d.Metric, d.Interval)
			}
			top = max(top, cell.Cell.Series())
		}
		if !m.series.knows(top) {
			return fmt.Errorf("metric %s: nobody was given series %d", d.Metric, top)
		}
	}
	for _, put := range x.Puts {
		if p.metrics[put.Metric] == nil {
			return fmt.Errorf("metric %s: %w", put.Metric, store.ErrUnknown)
		}
	}
	return nil
}

// commitment is one commit under way.
type commitment struct {
	p        *checkpoint
	x        *store.Commit
	written  map[*dictionary]bool // whose new series this transaction has written
	versions map[string]uint64
}

// run does the commit and gives the position afterwards.
func (w *commitment) run(c *conn) (uint64, error) {
	pos, err := w.owned(c)
	if err != nil {
		return 0, err
	}
	if pos >= w.x.To { // an earlier call got through although it seemed to fail
		return pos, w.p.d.loadVersions(c) // those that it raised
	}
	if err := w.apply(c); err != nil {
		return 0, err
	}
	k := w.p.key
	return w.x.To, c.exec("UPDATE checkpoint SET pos=? WHERE plugin=? AND generation=? AND stream=?", w.x.To, k.Plugin, k.Generation, k.Stream)
}

// raise counts up the versions of what changed, where this generation is the one that is shown.
func (w *commitment) raise(c *conn, changed map[string]bool) error {
	serving, err := c.has("SELECT 1 FROM plugin WHERE id=? AND serving=?", w.p.key.Plugin, w.p.key.Generation)
	if err != nil || !serving {
		return err
	}
	for id, yes := range changed {
		if yes {
			if w.versions[id], err = w.p.d.raiseVersion(c, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// put proposes a latest value and says whether it won.
func (w *commitment) put(c *conn, x store.Put) (bool, error) {
	err := c.exec(`INSERT INTO latest(metric, key, time, event, value) VALUES(?,?,?,?,?)
		ON CONFLICT DO UPDATE SET time=excluded.time, event=excluded.event, value=excluded.value
		WHERE (excluded.time, excluded.event) > (time, event)`, w.p.metrics[x.Metric].no, x.Key, x.Time, x.ID, x.Value)
	return c.c.Changes() > 0, err
}

// counters adds deltas to a metric at an interval, except in buckets that are gone.
func (w *commitment) counters(c *conn, d store.CounterDeltas, changed map[string]bool) error {
	m := w.p.metrics[d.Metric]
	t := m.intervals[d.Interval]
	cells := w.p.d.ledger.kept(d.Metric, t.seconds, d.Cells)
	if len(cells) == 0 {
		return nil
	}
	changed[d.Metric] = true
	if !w.written[m.series] {
		if m.series.stale {
			return fmt.Errorf("%w: another process numbered series of it", store.ErrFenced)
		}
		n, err := m.series.write(c)
		if err != nil {
			return fmt.Errorf("new series: %w", err)
		}
		w.written[m.series] = true
		c.committed = append(c.committed, func() { m.series.settle(n) })
	}
	if err := upsert(c, t.table, cells); err != nil || t.byKey == "" {
		return err
	}
	return upsert(c, t.byKey, byKeyCells(cells))
}

// kept leaves out the cells whose buckets lie behind the horizon.
func (l *ledger) kept(metric string, seconds int64, cells []store.Delta) []store.Delta {
	l.mu.Lock()
	before, ok := l.horizons[horizonOf{metric, seconds}]
	l.mu.Unlock()
	if !ok {
		return cells
	}
	first := store.MakeCell(ceilDiv(before, seconds), 0)
	i, _ := slices.BinarySearchFunc(cells, first, func(d store.Delta, c store.Cell) int {
		if d.Cell < c {
			return -1
		}
		return 1
	})
	return cells[i:]
}

// floorDiv rounds down, also below 0; by is positive.
func floorDiv(x, by int64) int64 {
	q := x / by
	if x%by < 0 {
		q--
	}
	return q
}

// ceilDiv is x / by rounded up: the first bucket that starts at or after x.
func ceilDiv(x, by int64) int64 {
	q := x / by
	if x%by > 0 {
		q++
	}
	return q
}

// byKeyCells gives the keys of a day table's twin, in its order.
func byKeyCells(cells []store.Delta) []store.Delta {
	out := make([]store.Delta, len(cells))
	for i, x := range cells {
		out[i] = store.Delta{Cell: store.Cell(byKey(x.Cell)), N: x.N}
	}
	slices.SortFunc(out, func(a, b store.Delta) int {
		if a.Cell < b.Cell {
			return -1
		}
		return 1
	})
	return out
}

func byKey(c store.Cell) int64 { return int64(c.Series())<<dayBits | (c.Bucket() + dayZero) }

// upsert adds to rows of a table, many at a time: a statement costs more than a row.
func upsert(c *conn, table string, cells []store.Delta) error {
	many, err := c.prepare(upsertQuery(table, rowsAtOnce))
	if err != nil {
		return err
	}
	for ; len(cells) >= rowsAtOnce; cells = cells[rowsAtOnce:] {
		for i, x := range cells[:rowsAtOnce] {
			many.s.BindInt64(2*i+1, int64(x.Cell))
			many.s.BindInt64(2*i+2, x.N)
		}
		if err := many.step(); err != nil {
			return err
		}
	}
	one, err := c.prepare(upsertQuery(table, 1))
	if err != nil {
		return err
	}
	for _, x := range cells {
		one.s.BindInt64(1, int64(x.Cell))
		one.s.BindInt64(2, x.N)
		if err := one.step(); err != nil {
			return err
		}
	}
	return nil
}
