package consumer

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
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
					feed: newFeed(nil, "s", 0), metrics: m, tallies: newTallies(), log: slog.New(slog.DiscardHandler)}
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
