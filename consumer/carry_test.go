package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
	"github.com/statscache/statscache/store/sqlite"
)

// carried is what the tests bring from one store into another.
var carried = store.Plugin{ID: "p", Version: "1", Fingerprint: "f", Metrics: []store.Metric{ // immutable
	{ID: "count", Kind: store.Counter, Intervals: []time.Duration{time.Second, 24 * time.Hour}, Dimensions: []store.Dimension{{Name: "user"}}},
	{ID: "news", Kind: store.Latest, Dimensions: []store.Dimension{{Name: "user"}}},
}}

func openCarried(t *testing.T, path string) *sqlite.DB {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Options{Path: path, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// grow archives n events of a stream behind a position, every third of them a hole, counts them, and leaves one of them
// a dead letter.
func grow(t *testing.T, s *sqlite.DB, stream string, n int) {
	t.Helper()
	at, err := s.Attach(t.Context(), stream)
	must(t, err)
	c, err := s.Checkpoint(t.Context(), store.CheckpointKey{Plugin: "p", Generation: 1, Stream: stream})
	must(t, err)
	for n > 0 {
		k := min(n, 700)
		n -= k
		w := block.NewBuilder(func(string) string { return "cat" })
		keep := make([]bool, k)
		x := &store.Commit{To: at + uint64(k)}
		seconds, days := map[store.Cell]int64{}, map[store.Cell]int64{}
		for i := range k {
			id := fmt.Sprintf("%s-%d", stream, at+uint64(i))
			w.Add(&block.Event{ID: []byte(id), IDAt: -1, Topic: []byte("a.b"), Time: int64(i) * 1e6, Body: []byte(`{"i":1}`)})
			keep[i] = i%3 != 1
			series, err := c.Series("count", fmt.Sprint("user", i%50))
			must(t, err)
			seconds[store.MakeCell(int64(i), series)]++
			days[store.MakeCell(0, series)]++
			x.Puts = append(x.Puts, store.Put{Metric: "news", Key: fmt.Sprint("user", i), Time: int64(at) + int64(i), ID: id, Value: []byte(`"v"`)})
		}
		b, err := w.Build(at+1, 5, false).Keep(keep)
		must(t, err)
		if _, err := s.Archive(t.Context(), stream, []*block.Block{b}); err != nil {
			t.Fatal(err)
		}
		x.Counters = []store.CounterDeltas{{Metric: "count", Interval: time.Second, Cells: sortedCells(seconds)}, {Metric: "count", Interval: 24 * time.Hour, Cells: sortedCells(days)}}
		x.Dead = []store.DeadLetter{{Seq: at + 1, ID: "dead", Error: "broken", At: time.UnixMicro(int64(at)).UTC()}}
		must(t, c.Commit(t.Context(), x))
		at += uint64(k)
	}
	must(t, c.Close())
}

func sortedCells(m map[store.Cell]int64) (out []store.Delta) {
	for cell := store.Cell(math.MinInt64); len(m) > 0; {
		cell = math.MaxInt64
		for k := range m {
			cell = min(cell, k)
		}
		out = append(out, store.Delta{Cell: cell, N: m[cell]})
		delete(m, cell)
	}
	return out
}

func TestMigration_StoppedAgainAndAgain_WhileTheSourceGoesOn_EndsComplete(t *testing.T) {
	dir := t.TempDir()
	source, target := openCarried(t, filepath.Join(dir, "a.db")), openCarried(t, filepath.Join(dir, "b.db"))
	_, err := source.Register(t.Context(), carried)
	must(t, err)
	grow(t, source, "one", 5000)
	grow(t, source, "two", 3000)
	stop := errors.New("stopped")
	stops := 0
	var sum MigrateSummary
	for limit := 100; ; limit += 3500 {
		ctx, cancel := context.WithCancelCause(t.Context())
		m := &migration{source: source, target: target, from: "a", log: slog.New(slog.DiscardHandler), progress: func(done int) {
			if done > limit {
				cancel(stop)
			}
		}}
		sum, err = m.run(ctx)
		cancel(nil)
		if err == nil {
			break
		}
		if ctx.Err() == nil {
			t.Fatal(err)
		}
		if list, err := target.Carriages(t.Context()); err != nil || len(list) != 1 || list[0].Done {
			t.Fatalf("carriages %+v, %v: want one that isn't done", list, err)
		}
		stops++
		if stops < 4 {
			grow(t, source, "one", 900)
		}
	}
	if stops < 4 {
		t.Errorf("it was stopped %d times only", stops)
	}
	t.Logf("stopped %d times; %+v", stops, sum)
	if sum.Streams != 2 || sum.Plugins != 1 || sum.Events == 0 || sum.Counts == 0 || sum.Latest != 700 || sum.DeadLetters == 0 {
		t.Errorf("summary %+v", sum)
	}
	// It goes on there as if nothing had been.
	must(t, target.ForgetCarriages(t.Context()))
	for _, s := range []*sqlite.DB{source, target} {
		grow(t, s, "one", 500)
	}
	for _, interval := range []time.Duration{time.Second, 24 * time.Hour} {
		want, total, err := source.Rows(t.Context(), store.RowQuery{Metric: "count", Interval: interval, From: -1, To: 1e6, Limit: 1e6})
		must(t, err)
		got, n, err := target.Rows(t.Context(), store.RowQuery{Metric: "count", Interval: interval, From: -1, To: 1e6, Limit: 1e6})
		must(t, err)
		if n != total || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("interval %s: %d rows, want %d, or others", interval, n, total)
		}
	}
	m := &migration{source: source, target: target, from: "a", log: slog.New(slog.DiscardHandler)}
	if _, err := m.run(t.Context()); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("a store that goes its own way is taken: %v", err)
	}
}

func TestMigration_FindsWhatDiffers(t *testing.T) {
	for name, x := range map[string]struct {
		spoil func(t *testing.T, target *sqlite.DB)
		says  string
	}{
		"a count too many": {func(t *testing.T, target *sqlite.DB) {
			at, err := target.Positions(t.Context(), "p", 1)
			must(t, err)
			must(t, target.Repair(t.Context(), store.Repair{Plugin: "p", Generation: 1, At: at, Cells: []store.CellFix{{Metric: "count", Interval: time.Second, Time: 5000, Key: "user1", N: 1}}}))
		}, "counts"},
		"a latest value that is newer": {func(t *testing.T, target *sqlite.DB) {
			c, err := target.Checkpoint(t.Context(), store.CheckpointKey{Plugin: "p", Generation: 1, Stream: store.Loose})
			must(t, err)
			must(t, c.Commit(t.Context(), &store.Commit{To: c.Pos() + 1, Puts: []store.Put{{Metric: "news", Key: "user1", Time: 1e9, ID: "x", Value: []byte("1")}}}))
		}, "latest values"},
		"more of a stream": {func(t *testing.T, target *sqlite.DB) { grow(t, target, "one", 10) }, "the target has it up to"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			source, target := openCarried(t, filepath.Join(dir, "a.db")), openCarried(t, filepath.Join(dir, "b.db"))
			_, err := source.Register(t.Context(), carried)
			must(t, err)
			grow(t, source, "one", 300)
			run := func() error {
				m := &migration{source: source, target: target, from: "a", log: slog.New(slog.DiscardHandler)}
				_, err := m.run(t.Context())
				return err
			}
			must(t, run())
			x.spoil(t, target)
			if err := run(); err == nil || !strings.Contains(err.Error(), x.says) {
				t.Errorf("says %v; want %q", err, x.says)
			}
		})
	}
}

func TestTakeUp_RefusesAPart_AndForgetsAWhole(t *testing.T) {
	s := openCarried(t, filepath.Join(t.TempDir(), "a.db"))
	c := testConfig(t)
	must(t, s.NoteCarriage(t.Context(), store.Carriage{From: "x"}))
	if err := takeUp(t.Context(), s, c); err == nil || !strings.Contains(err.Error(), "only a part of x") {
		t.Errorf("a part is taken: %v", err)
	}
	must(t, s.NoteCarriage(t.Context(), store.Carriage{From: "x", Done: true}))
	must(t, takeUp(t.Context(), s, c))
	if list, err := s.Carriages(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("left: %v, %v", list, err)
	}
}
