package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
	"github.com/statscache/statscache/store/sqlite"
)

// slowArchive is a store that takes its time for each call, and then answers.
type slowArchive struct {
	takes []time.Duration
	fails []error
	calls int
}

func (s *slowArchive) Archive(_ context.Context, _ string, blocks []*block.Block) ([]store.Archived, error) {
	i := s.calls
	s.calls++
	time.Sleep(s.takes[i])
	if err := s.fails[i]; err != nil {
		return nil, err
	}
	return []store.Archived{{Owned: blocks[0]}}, nil
}

// nothingArchived is an archive in which nothing can be read.
type nothingArchived struct{ archiveReader }

func (nothingArchived) Read(_ context.Context, r store.ReadRequest) ([]*block.Block, uint64, error) {
	return nil, r.After, nil
}

// forgetful is a SQLite archive that takes some of the blocks and then says that it failed: at the first call.
type forgetful struct {
	*sqlite.DB
	take  int
	calls int
}

func (f *forgetful) Archive(ctx context.Context, stream string, blocks []*block.Block) ([]store.Archived, error) {
	if f.calls++; f.calls > 1 || f.take == 0 {
		if f.calls == 1 {
			return nil, errors.New("not taken")
		}
		return f.DB.Archive(ctx, stream, blocks)
	}
	if _, err := f.DB.Archive(ctx, stream, blocks[:f.take]); err != nil {
		return nil, err
	}
	return nil, errors.New("the answer was lost")
}

func TestArchiver_CountsWhatAFailedAttemptHadTaken(t *testing.T) {
	for _, take := range []int{0, 1, 2, 3} {
		t.Run(fmt.Sprintf("%d of 3 blocks", take), func(t *testing.T) {
			db, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "x.db")})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := db.Close(); err != nil {
					t.Error(err)
				}
			}()
			if _, err := db.Attach(t.Context(), "s"); err != nil {
				t.Fatal(err)
			}
			blocks := []*block.Block{idBlock(1, "a", "b", "c"), idBlock(4, "d", "a"), idBlock(6, "e", "d", "f")}
			tally := &importTally{}
			a := &archiver{archive: &forgetful{DB: db, take: take}, stream: "s", feed: newFeed(db, "s", 0), metrics: newMetrics(prometheus.NewRegistry(), "test"),
				tallies: newTallies(), log: slog.New(slog.DiscardHandler)}
			for _, b := range blocks {
				a.tallies.expect(b.First, tally)
			}
			if err := a.archiveAll(t.Context(), blocks); err != nil {
				t.Fatal(err)
			}
			if o, d, x := tally.owned.Load(), tally.duplicates.Load(), tally.expired.Load(); o != 6 || d != 2 || x != 0 || a.owned.Load() != 6 {
				t.Errorf("%d owned (%d by the metric), %d duplicates, %d expired; want 6, 2, 0", o, a.owned.Load(), d, x)
			}
			if n := a.feed.archivedTo(); n != 8 {
				t.Errorf("archived to %d", n)
			}
		})
	}
}

// idBlock gives a block of events with some ids.
func idBlock(first uint64, ids ...string) *block.Block {
	w := block.NewBuilder(func(string) string { return "a" })
	for _, id := range ids {
		w.Add(&block.Event{ID: []byte(id), IDAt: -1, Topic: []byte("org.x.dev.a.b"), Time: 1e15, Source: "main", Body: []byte(id)})
	}
	return w.Build(first, 7, false)
}

func TestArchiver_SaysThatTheStoreIsAway_AlsoWhileItDoesNotAnswer(t *testing.T) {
	locked := errors.New("database is locked")
	for name, c := range map[string]struct {
		takes time.Duration // of the first call; the second is quick and good
		fails error
		at    time.Duration // after the start
		says  string
	}{
		"quick":                        {time.Second, nil, 500 * time.Millisecond, ""},
		"slow, not yet late":           {10 * time.Second, locked, 2 * time.Second, ""},
		"slow, no answer":              {10 * time.Second, locked, 4 * time.Second, "no answer for 3s"},
		"slow, answered with an error": {10 * time.Second, locked, 10*time.Second + 20*time.Millisecond, "database is locked"},
		"slow, taken in the end":       {10 * time.Second, nil, 11 * time.Second, ""},
		"taken at the second attempt":  {10 * time.Second, locked, 11 * time.Second, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reg := prometheus.NewRegistry()
				m := newMetrics(reg, "test")
				a := &archiver{archive: &slowArchive{takes: []time.Duration{c.takes, 0}, fails: []error{c.fails, nil}}, stream: "s",
					feed: newFeed(nothingArchived{}, "s", 0), metrics: m, tallies: newTallies(), log: slog.New(slog.DiscardHandler)}
				ended := make(chan error, 1)
				go func() { ended <- a.archiveAll(t.Context(), []*block.Block{{First: 1, Upto: 1}}) }()
				time.Sleep(c.at)
				synctest.Wait()
				says := ""
				if why := a.down.Load(); why != nil {
					says = *why
				}
				if (c.says == "") != (says == "") || !strings.Contains(says, c.says) {
					t.Errorf("says %q, want %q", says, c.says)
				}
				if up := gauge(t, reg, "statscache_store_up"); (up == 1) != (c.says == "") {
					t.Errorf("store_up is %v", up)
				}
				if err := <-ended; err != nil || a.down.Load() != nil || gauge(t, reg, "statscache_store_up") != 1 {
					t.Errorf("in the end: %v, down %v", err, a.down.Load())
				}
			})
		})
	}
}

// gauge reads a metric without labels.
func gauge(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func TestPace_FollowsTheStore(t *testing.T) {
	var p pace
	for range 20 {
		p.took(10 * time.Millisecond)
	}
	if p.most() != archiveBytes {
		t.Errorf("a fast store gets %d bytes at once, want %d", p.most(), archiveBytes)
	}
	p.took(4 * archiveAim)
	if p.most() != archiveBytes/4 {
		t.Errorf("one that took four times too long gets %d bytes, want %d", p.most(), archiveBytes/4)
	}
	p.took(archiveAim / 2)
	if p.most() != archiveBytes/4 {
		t.Errorf("one that is about right gets %d bytes, want as before", p.most())
	}
	p.took(time.Hour)
	if p.most() != leastBytes {
		t.Errorf("one that was away gets %d bytes, want %d", p.most(), leastBytes)
	}
}
