package host

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
)

func yieldAll(blocks []*block.Block) func(yield func(*block.Block, error) bool) {
	return func(yield func(*block.Block, error) bool) {
		for _, b := range blocks {
			if !yield(b, nil) {
				return
			}
		}
	}
}

func TestAttribute_NamesTheEventsOfACount(t *testing.T) {
	blocks := sample(rand.New(rand.NewPCG(19, 1)), 6, 700)
	h, _ := runHost(t, Options{Limits: quick(), Store: newMemory(), Feed: feedOf{newMemory()}})
	def, _, err := h.Definition(t.Context(), program(t, "volume"))
	if err != nil {
		t.Fatal(err)
	}
	rows := brute("volume", 1, blocks, nil)
	var largest []row // of every metric and interval
	best := map[row]row{}
	for r, n := range rows {
		k := row{metric: r.metric, interval: r.interval}
		if old, ok := best[k]; !ok || n > rows[old] {
			best[k] = r
		}
	}
	largest = slices.Collect(maps.Values(best))
	if len(largest) < 3 {
		t.Fatalf("only %d tables to ask about", len(largest))
	}
	for _, r := range largest {
		for _, limit := range []int{100_000, 3, 0} {
			seconds := int64(r.interval / time.Second)
			a := Attribution{Plugin: "volume", Metric: r.metric, From: r.bucket * seconds, To: (r.bucket + 1) * seconds, Limit: limit,
				Match: func(key string) bool { return key == r.key }}
			sum, seen := int64(0), map[uint64]bool{}
			a.Found = func(c Contribution) {
				sum += c.N
				at, seq := floorDiv(c.Block.Time[c.Event], 1e6), c.Block.Seq(c.Event)
				if seen[seq] || at < a.From || at >= a.To || c.ID == "" || len(c.Body) == 0 {
					t.Errorf("event %d (%q) at %d is named for [%d, %d)", seq, c.ID, at, a.From, a.To)
				}
				seen[seq] = true
			}
			total, err := h.Attribute(t.Context(), program(t, "volume"), def.Fingerprint, yieldAll(blocks), a)
			if err != nil || total != rows[r] {
				t.Fatalf("%+v: %d, %v; want %d", r, total, err, rows[r])
			}
			if limit > 3 && sum != total || len(seen) > limit || limit == 3 && len(seen) == 0 {
				t.Fatalf("%+v, limit %d: %d events named that add up to %d of %d", r, limit, len(seen), sum, total)
			}
		}
	}
}

func TestAttribute_SaysWhyNot(t *testing.T) {
	blocks := withTopics(2, 3, 100, map[uint64]string{150: "exit", 151: "exit"})
	h, _ := runHost(t, Options{Limits: quick(), Store: newMemory(), Feed: feedOf{newMemory()}})
	a := Attribution{Plugin: "volume", Metric: "volume", To: 1 << 40, Match: func(string) bool { return true }, Limit: 5, Found: func(Contribution) {}}
	def, _, err := h.Definition(t.Context(), program(t, "volume"))
	if err != nil {
		t.Fatal(err)
	}
	ask := func(ctx context.Context, name, fingerprint string, blocks func(func(*block.Block, error) bool), a Attribution) error {
		_, err := h.Attribute(ctx, program(t, name), fingerprint, blocks, a)
		return err
	}
	if err := ask(t.Context(), "volume", "other", yieldAll(blocks), a); !errors.Is(err, ErrOtherPlugin) {
		t.Errorf("another fingerprint: %v", err)
	}
	if err := ask(t.Context(), "latest", def.Fingerprint, yieldAll(blocks), a); !errors.Is(err, ErrOtherPlugin) {
		t.Errorf("another program: %v", err)
	}
	unknown := a
	unknown.Metric = "nothing"
	if err := ask(t.Context(), "volume", def.Fingerprint, yieldAll(blocks), unknown); !errors.Is(err, store.ErrUnknown) {
		t.Errorf("an unknown metric: %v", err)
	}
	gone := errors.New("disk is gone")
	if err := ask(t.Context(), "volume", def.Fingerprint, func(yield func(*block.Block, error) bool) { yield(nil, gone) }, a); !errors.Is(err, gone) {
		t.Errorf("a broken archive: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ask(ended, "volume", def.Fingerprint, yieldAll(blocks), a); err == nil {
		t.Error("what was called off gives an answer")
	}
	moody, _, err := h.Definition(t.Context(), program(t, "moody"))
	if err != nil {
		t.Fatal(err)
	}
	a.Plugin, a.Metric = moody.ID, moody.Metrics[0].ID
	if err := ask(t.Context(), "moody", moody.Fingerprint, yieldAll(blocks), a); err == nil {
		t.Error("a plugin that dies gives an answer")
	}
}
