package crate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
)

// The environment of a writer process: which stream it writes, where, and the file that says how far in the end.
const (
	writerEnv     = "STATSCACHE_CRATE_WRITER"
	writerURLEnv  = "STATSCACHE_CRATE_WRITER_URL"
	writerStopEnv = "STATSCACHE_CRATE_WRITER_STOP"

	exitFenced = 3
	shuffled   = 40 // the second stream has the events of each group of so many in another order
)

var crashIntervals = []time.Duration{time.Minute, 24 * time.Hour} // immutable

func crashPlugin() store.Plugin {
	return store.Plugin{ID: "crash", Version: "1", DataVersion: 1, Fingerprint: "f", Metrics: []store.Metric{
		{ID: "crash-count", Kind: store.Counter, Dimensions: []store.Dimension{{Name: "key"}}, Intervals: crashIntervals},
		{ID: "crash-latest", Kind: store.Latest, Dimensions: []store.Dimension{{Name: "key"}}},
	}}
}

// writerMain is one life of a stream's writer: what it does is the same in each, what it answers for an event is not.
func writerMain() int {
	err := writer(os.Getenv(writerEnv), os.Getenv(writerURLEnv))
	switch {
	case errors.Is(err, store.ErrFenced):
		return exitFenced
	case err != nil:
		fmt.Fprintln(os.Stderr, "writer:", err)
		return 1
	}
	return 0
}

func writer(stream, url string) error {
	ctx := context.Background()
	d, err := open(ctx, Options{URL: url, Shards: 2, Logger: slog.New(slog.DiscardHandler)}, func() time.Duration {
		if rand.IntN(100) < 3 { // about the time a statement takes: done or not, nobody knows
			return time.Duration(1+rand.IntN(12)) * time.Millisecond
		}
		return 20 * time.Second
	})
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	if _, err := d.Register(ctx, crashPlugin()); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return crashArchive(ctx, d, stream) })
	g.Go(func() error { return crashCompute(ctx, d, stream) })
	return g.Wait()
}

// target is where a stream ends: far away until the test has written the file.
func target() uint64 {
	raw, err := os.ReadFile(os.Getenv(writerStopEnv))
	if err != nil {
		return 1 << 40
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 64)
	if err != nil {
		return 1 << 40 // half written
	}
	return n
}

// crashEvent is what a stream has at a position: both have the same events, the second in another order.
func crashEvent(stream string, seq uint64) int {
	x := int(seq - 1)
	if stream == "b" {
		x = x/shuffled*shuffled + shuffled - 1 - x%shuffled
	}
	return x
}

func crashBlock(stream string, from, to uint64) *block.Block {
	w := block.NewBuilder(func(string) string { return "c" })
	for seq := from; seq <= to; seq++ {
		x := crashEvent(stream, seq)
		id := fmt.Sprintf("2018-%08d", x)
		w.Add(&block.Event{ID: []byte(id), IDAt: 0, Topic: fmt.Appendf(nil, "t%d", x%17), Time: crashTime(x), Untimed: x%50 == 0,
			Source: stream, Users: [][]byte{fmt.Appendf(nil, "u%d", x%7)}, Body: []byte(id + strings.Repeat(".", x%200))})
	}
	return w.Build(from, 1, false)
}

// crashTime spreads the events over minutes and months.
func crashTime(x int) int64 {
	return time.Date(2018, time.Month(1+x%3), 1, 0, 0, x/50, 0, time.UTC).UnixMicro()
}

func crashArchive(ctx context.Context, d *DB, stream string) error {
	at, err := d.Attach(ctx, stream)
	if err != nil {
		return err
	}
	for at < target() {
		var blocks []*block.Block
		end := at
		for range 1 + rand.IntN(3) {
			from := end + 1
			if end = min(end+1+rand.Uint64N(150), target()); end < from {
				end = from - 1
				break
			}
			blocks = append(blocks, crashBlock(stream, from, end))
		}
		if _, err := d.Archive(ctx, stream, blocks); err != nil {
			return err
		}
		at = end
	}
	return nil
}

func crashCompute(ctx context.Context, d *DB, stream string) error {
	c, err := d.Checkpoint(ctx, store.CheckpointKey{Plugin: "crash", Generation: 1, Stream: stream})
	if err != nil {
		return err
	}
	life := rand.IntN(1000)
	for pos := c.Pos(); pos < target(); {
		blocks, upto, err := d.Read(ctx, store.ReadRequest{Stream: stream, After: pos, Events: 1 + rand.IntN(600), Bodies: true})
		if errors.Is(err, store.ErrUnknown) || err == nil && upto == pos {
			time.Sleep(5 * time.Millisecond) // a real process waits for another one's events
			continue
		}
		if err != nil {
			return err
		}
		m, err := crashCommit(c, blocks, upto, life)
		if err != nil {
			return err
		}
		for range 1 + rand.IntN(2) { // repeats are allowed at any time
			if err := c.Commit(ctx, m); err != nil {
				return err
			}
		}
		pos = upto
	}
	return c.Close()
}

// crashCommit counts each event once under a key that depends on the life, so that an event counted by two lives shows
// in the sum, and one that is counted by one life in the minutes and by another in the days shows in their difference.
func crashCommit(c store.Checkpoint, blocks []*block.Block, upto uint64, life int) (*store.Commit, error) {
	m := &store.Commit{To: upto}
	sums := make([]map[store.Cell]int64, len(crashIntervals))
	for i := range sums {
		sums[i] = map[store.Cell]int64{}
	}
	for _, b := range blocks {
		ids, err := b.IDs()
		if err != nil {
			return nil, err
		}
		for i, id := range ids {
			if (len(id)+life+int(b.Seq(i)))%19 == 0 {
				m.Dead = append(m.Dead, store.DeadLetter{Seq: b.Seq(i), ID: id, Error: fmt.Sprint("life ", life), At: time.Unix(0, 0)})
				continue
			}
			key := fmt.Sprintf("%s/%d", b.Names[b.Topic[i]], life%5)
			s, err := c.Series("crash-count", key)
			if err != nil {
				return nil, err
			}
			for k, interval := range crashIntervals {
				sums[k][store.MakeCell(b.Time[i]/interval.Microseconds(), s)]++
			}
			m.Puts = append(m.Puts, store.Put{Metric: "crash-latest", Key: b.Names[b.Topic[i]], Time: b.Time[i], ID: id, Value: fmt.Appendf(nil, "%q", id)})
		}
	}
	for k, interval := range crashIntervals {
		d := store.CounterDeltas{Metric: "crash-count", Interval: interval}
		for cell, n := range sums[k] {
			d.Cells = append(d.Cells, store.Delta{Cell: cell, N: n})
		}
		slices.SortFunc(d.Cells, func(x, y store.Delta) int { return cmp.Compare(x.Cell, y.Cell) })
		m.Counters = append(m.Counters, d)
	}
	return m, nil
}
