package host

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
	"github.com/statscache/statscache/store/sqlite"
)

// archived makes a store whose archive has the blocks.
func archived(t testing.TB, blocks []*block.Block) (db *sqlite.DB, ends map[string]uint64) {
	t.Helper()
	db, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "statscache.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if _, err := db.Attach(t.Context(), "s"); err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks {
		if _, err := db.Archive(t.Context(), "s", []*block.Block{b}); err != nil {
			t.Fatal(err)
		}
	}
	return db, map[string]uint64{"s": blocks[len(blocks)-1].Upto}
}

// buried gives the positions of a plugin's dead letters and their errors.
func buried(t testing.TB, db *sqlite.DB, plugin string) map[uint64]string {
	t.Helper()
	list, n, err := db.Buried(t.Context(), plugin, 1, store.Place{}, 10_000)
	if err != nil || n != len(list) {
		t.Fatalf("%d dead letters, %d listed: %v", n, len(list), err)
	}
	out := map[uint64]string{}
	for _, d := range list {
		out[d.Seq] = d.Error
	}
	return out
}

// poisoned makes a host with a plugin that has some dead letters, by what it dies of. mend writes the file that says
// what it still dies of.
func poisoned(t *testing.T, size int, words map[uint64]string) (h *Host, db *sqlite.DB, blocks []*block.Block, mend func(left string), o Options) {
	t.Helper()
	blocks = withTopics(31, 12, size, words)
	db, ends := archived(t, blocks)
	file := filepath.Join(t.TempDir(), "mended")
	limits := quick()
	limits.Deadline = 300 * time.Millisecond
	o = Options{Programs: []Program{program(t, "moody", "MENDED_FILE="+file)}, Store: db, Feed: archiveFeed{db}, Limits: limits}
	h, _ = runHost(t, o)
	waitCaughtUp(t, h, ends)
	return h, db, blocks, func(left string) {
		if err := os.WriteFile(file, []byte(left), 0o600); err != nil {
			t.Fatal(err)
		}
	}, o
}

func TestRequeue_OfAMendedPlugin_CountsEveryEventOnce(t *testing.T) {
	words := map[uint64]string{1: "panic", 2: "panic", 333: "exit", 334: "panic", 1150: "kill"}
	h, db, blocks, mend, _ := poisoned(t, 100, words)
	n := len(buried(t, db, "moody"))
	if n < 4 || statusOf(h, "moody").DeadLetters != n {
		t.Fatalf("%d dead letters to begin with, %+v", n, statusOf(h, "moody"))
	}
	mend("")
	before := db.Version("volume-by-category")
	var done, total int
	got, err := h.Requeue(soon(t), "moody", func(a, b int) { done, total = a, b })
	if err != nil || got != (Requeued{Taken: n}) || done != n || total != n {
		t.Fatalf("%+v, %v; progress %d of %d; want %d taken", got, err, done, total, n)
	}
	sameRows(t, stored(t, db), brute("moody", 1, blocks, nil))
	if left := buried(t, db, "moody"); len(left) > 0 {
		t.Errorf("dead letters are left: %v", left)
	}
	if after := db.Version("volume-by-category"); after <= before {
		t.Errorf("the metric's version is %d as before (%d): nobody would see the new numbers", after, before)
	}
	until(t, func() bool {
		s := statusOf(h, "moody")
		return s.State == Running && s.DeadLetters == 0 && s.GivenUp == n
	})
	if got, err = h.Requeue(soon(t), "moody", nil); err != nil || got != (Requeued{}) {
		t.Errorf("a second time: %+v, %v", got, err)
	}
	sameRows(t, stored(t, db), brute("moody", 1, blocks, nil))
}

func TestRequeue_WhatFailsAgain_IsDeadWithTheNewError(t *testing.T) {
	for _, word := range []string{"panic", "exit", "hang"} {
		t.Run(word, func(t *testing.T) {
			t.Parallel()
			other := map[string]string{"panic": "exit", "exit": "panic", "hang": "exit"}[word]
			words := map[uint64]string{10: other, 11: other, 12: word, 13: other, 30: word, 150: other}
			h, db, blocks, mend, _ := poisoned(t, 16, words)
			first := buried(t, db, "moody")
			mend(word)
			still := map[uint64]bool{}
			for seq := range present(blocks, 12, 30) {
				still[seq] = true
			}
			got, err := h.Requeue(soon(t), "moody", nil)
			if err != nil || got != (Requeued{Taken: len(first) - len(still), Dead: len(still)}) {
				t.Fatalf("%+v, %v; %d were dead, %v still", got, err, len(first), still)
			}
			left := buried(t, db, "moody")
			for seq, text := range left {
				if !still[seq] || text == "" {
					t.Errorf("dead letter %d: %s", seq, text)
				}
			}
			sameRows(t, stored(t, db), brute("moody", 1, blocks, still))
			until(t, func() bool { s := statusOf(h, "moody"); return s.State == Running && s.DeadLetters == len(still) })
		})
	}
}

func TestRequeue_SearchingForTheEventsThatFail_DoesNotBackOff(t *testing.T) {
	words := map[uint64]string{}
	for seq := uint64(1); seq <= 64; seq += 4 {
		words[seq] = "exit"
	}
	_, db, _, mend, o := poisoned(t, 64, words)
	left := len(buried(t, db, "moody"))
	mend("exit")
	o.Limits.BackoffMin, o.Limits.BackoffMax = 5*time.Millisecond, time.Hour // twenty doublings are an hour
	h, _ := runHost(t, o)
	got, err := h.Requeue(soon(t), "moody", nil)
	if err != nil && !strings.Contains(err.Error(), "given up") || got.Dead < min(left, maxPoison) || got.Dead+got.Left != left {
		t.Fatalf("%+v, %v; %d were dead", got, err, left)
	}
}

// slices30 is a store that reads single events with the 30 positions from theirs on, so that a requeue takes many batches.
type slices30 struct{ *sqlite.DB }

func (s slices30) Read(ctx context.Context, r store.ReadRequest) ([]*block.Block, uint64, error) {
	blocks, upto, err := s.DB.Read(ctx, r)
	for i, b := range blocks {
		keep := make([]bool, b.Len())
		for j := range keep {
			keep[j] = b.Seq(j) > r.After && b.Seq(j) <= r.After+30
		}
		if blocks[i], err = b.Keep(keep); err != nil {
			return nil, 0, err
		}
	}
	return blocks, upto, err
}

func TestRequeue_ProcessKilledAndRequestGivenUp_AnywhereAndOften_CountsOnce(t *testing.T) {
	words := map[uint64]string{}
	for seq := uint64(1); seq <= 1200; seq += 3 {
		words[seq] = "panic"
	}
	_, db, blocks, mend, o := poisoned(t, 100, words)
	n := len(buried(t, db, "moody"))
	mend("")
	o.Store = slices30{db}
	r := rand.New(rand.NewPCG(31, 3))
	struck, started := 0, time.Now()
	for round := 0; round < 12; round++ {
		h, stop := runHost(t, o)
		ctx, cancel := context.WithCancel(soon(t))
		// It strikes before the first batch, or with one or two of them taken.
		strike, told, at, over := round%3, 0, make(chan struct{}), make(chan struct{})
		progress := func(done, total int) {
			if told == strike && done < total {
				struck++
				close(at)
			}
			told++
		}
		go func() {
			defer close(over)
			_, _ = h.Requeue(ctx, "moody", progress)
		}()
		select {
		case <-at:
		case <-over:
		}
		time.Sleep(time.Duration(r.IntN(10)) * time.Millisecond) // so that it strikes anywhere in a batch
		if pid := statusOf(h, "moody").PID; pid != 0 && round%4 > 0 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if round%2 == 0 {
			stop()
		}
		cancel()
		<-over
		stop()
	}
	if struck < 6 {
		t.Errorf("only %d rounds struck in the middle", struck)
	}
	t.Logf("%d rounds struck in the middle, %s", struck, time.Since(started))
	t.Logf("%d of %d dead letters are left", len(buried(t, db, "moody")), n)
	h, _ := runHost(t, o)
	if got, err := h.Requeue(soon(t), "moody", nil); err != nil || got.Dead+got.Left+got.Expired > 0 {
		t.Fatalf("%+v, %v", got, err)
	}
	sameRows(t, stored(t, db), brute("moody", 1, blocks, nil))
}

func TestRequeue_Quarantined_IsLifted(t *testing.T) {
	words := map[uint64]string{}
	for seq := uint64(101); seq <= 1200; seq++ { // the first ones are answered: the plugin can
		words[seq] = "exit"
	}
	blocks := withTopics(32, 12, 100, words)
	db, ends := archived(t, blocks)
	file := filepath.Join(t.TempDir(), "mended")
	h, _ := runHost(t, Options{Programs: []Program{program(t, "moody", "MENDED_FILE="+file)}, Store: db, Feed: archiveFeed{db}, Limits: quick()})
	until(t, func() bool { return statusOf(h, "moody").State == Quarantined })
	got, err := h.Requeue(soon(t), "moody", nil) // not mended: as much is tried as the plugin is worth
	if err != nil && !strings.Contains(err.Error(), "given up") || got.Taken != 0 || got.Dead+got.Left < maxPoison-1 || got.Dead == 0 {
		t.Fatalf("%+v, %v", got, err)
	}
	until(t, func() bool { return statusOf(h, "moody").State == Quarantined })
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	total := len(buried(t, db, "moody"))
	if got, err := h.Requeue(soon(t), "moody", nil); err != nil || got.Taken != total {
		t.Fatalf("%+v, %v", got, err)
	}
	waitCaughtUp(t, h, ends)
	sameRows(t, stored(t, db), brute("moody", 1, blocks, nil))
}

func TestRequeue_EventsThatExpired_StayDeadLetters(t *testing.T) {
	h, db, blocks, mend, _ := poisoned(t, 100, map[uint64]string{5: "panic", 1190: "panic"})
	n := len(buried(t, db, "moody"))
	mend("")
	hi := int64(-1 << 62)
	for _, b := range blocks {
		_, x := b.TimeRange()
		hi = max(hi, x)
	}
	if _, err := db.ExpireArchive(t.Context(), hi+1); err != nil {
		t.Fatal(err)
	}
	got, err := h.Requeue(soon(t), "moody", nil)
	if err != nil || got.Taken+got.Expired != n || got.Expired == 0 || got.Dead+got.Left > 0 {
		t.Fatalf("%+v, %v; want some of %d expired", got, err, n)
	}
	if left := len(buried(t, db, "moody")); left != got.Expired {
		t.Errorf("%d dead letters, want %d", left, got.Expired)
	}
}

func TestRequeue_IsRefused(t *testing.T) {
	m := newMemory()
	h, stop := runHost(t, Options{Programs: []Program{program(t, "volume")}, Store: m, Feed: feedOf{m}, Limits: quick()})
	waitCaughtUp(t, h, m.ends())
	if _, err := h.Requeue(soon(t), "volume", nil); !errors.Is(err, ErrNoRequeue) {
		t.Errorf("by a store that can't: %v", err)
	}
	if _, err := h.Requeue(soon(t), "nobody", nil); !errors.Is(err, ErrUnknownPlugin) {
		t.Errorf("of nobody: %v", err)
	}
	if err := h.Disable(soon(t), "volume"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Requeue(soon(t), "volume", nil); err == nil || !strings.Contains(err.Error(), "enable it first") {
		t.Errorf("of a disabled plugin: %v", err)
	}
	stop()
}
