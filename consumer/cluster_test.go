package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/statscache/statscache/consumer/journal"
	"github.com/statscache/statscache/consumer/lease"
	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
)

// sharedArchive is as much of a shared store as streams need: what is archived, by stream, and who is fenced.
type sharedArchive struct {
	store.Store
	mu       sync.Mutex
	to       map[string]uint64
	retired  map[string]bool
	attached map[string]bool
	events   map[uint64]string // stream by position
	leases   map[string]store.Lease
	fail     int          // so many calls fail
	orphans  *block.Block // nil where there are none
}

func newSharedArchive() *sharedArchive {
	return &sharedArchive{to: map[string]uint64{}, retired: map[string]bool{}, attached: map[string]bool{}, events: map[uint64]string{}, leases: map[string]store.Lease{}}
}

var errAway = fmt.Errorf("%w: away", store.ErrUnavailable)

func (s *sharedArchive) failing() error {
	if s.fail > 0 {
		s.fail--
		return errAway
	}
	return nil
}

func (s *sharedArchive) Attach(_ context.Context, stream string) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.failing(); err != nil {
		return 0, err
	}
	if s.retired[stream] {
		return 0, store.ErrFenced
	}
	s.attached[stream] = true
	return s.to[stream], nil
}

func (s *sharedArchive) Archive(_ context.Context, stream string, blocks []*block.Block) ([]store.Archived, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []store.Archived
	switch err := s.failing(); {
	case err != nil:
		return nil, err
	case s.retired[stream]:
		return nil, store.ErrFenced
	case !s.attached[stream]:
		return nil, store.ErrUnknown
	}
	for _, b := range blocks {
		if b.First > s.to[stream]+1 {
			return nil, fmt.Errorf("block at %d does not follow %d", b.First, s.to[stream])
		}
		for i := range b.Len() {
			if seq := b.Seq(i); seq > s.to[stream] {
				if was := s.events[seq]; was != "" {
					return nil, fmt.Errorf("position %d is archived twice, by %s and %s", seq, was, stream)
				}
				s.events[seq] = stream
			}
		}
		s.to[stream] = max(s.to[stream], b.Upto)
		out = append(out, store.Archived{Owned: b})
	}
	return out, nil
}

func (s *sharedArchive) Retire(_ context.Context, stream string) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retired[stream] = true
	return s.to[stream], s.failing()
}

func (s *sharedArchive) Streams(context.Context) ([]store.Stream, error) { return nil, nil }

func (s *sharedArchive) ListLeases(context.Context, string) (out []store.Lease, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.leases {
		out = append(out, l)
	}
	return out, nil
}

func (s *sharedArchive) SwapLease(_ context.Context, l store.Lease) (store.Lease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leases[l.Name].Beat != l.Beat {
		return l, store.ErrFenced
	}
	l.Beat++
	s.leases[l.Name] = l
	return l, nil
}

func (s *sharedArchive) DropLease(_ context.Context, l store.Lease) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.leases, l.Name)
	return nil
}

func (s *sharedArchive) GenerationsOf(context.Context, string, string) (g store.Generations, err error) {
	return g, nil
}

func (s *sharedArchive) Orphans(_ context.Context, f func(string, *block.Block) error) error {
	if s.orphans == nil {
		return nil
	}
	return f("old", s.orphans)
}

// consuming is a Daemon's receiving side on a data dir.
func consuming(t *testing.T, dir string, s *sharedArchive) *Daemon {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	d := &Daemon{store: s, log: log, metrics: newMetrics(prometheus.NewRegistry(), "test"), roles: Roles{Consume: true}}
	d.config = loaded(t, dir, "")
	d.cluster = &cluster{sharedStore: s, Keeper: lease.NewKeeper(lease.Options{Store: s, Node: "n"}), follow: newFollower(s), log: log}
	if err := d.openJournal(t.Context(), Options{Logger: log}); err != nil {
		t.Fatal(err)
	}
	d.archiver.tallies = newTallies()
	t.Cleanup(func() { _ = d.journal.Close() })
	return d
}

// TestStream_RetiredByOthers_WhatIsReceivedGoesOnAsANewOne takes the stream away at every stage: between blocks, while
// the process is down, before the new one has begun, again and again, with a store that is away in between.
func TestStream_RetiredByOthers_WhatIsReceivedGoesOnAsANewOne(t *testing.T) {
	dir, s := t.TempDir(), newSharedArchive()
	next := uint64(1)
	receive := func(d *Daemon) {
		for range 3 {
			if err := d.journal.Append([]*block.Block{blockOf(next, 10, 10)}); err != nil {
				t.Fatal(err)
			}
			next += 10
		}
	}
	streams := map[string]bool{}
	for round := range 12 {
		d := consuming(t, dir, s)
		stream := d.journal.Stream()
		streams[stream] = true
		if s.leases[lease.StreamLease(stream)].Owner != "n" {
			t.Fatalf("round %d: no lease of %s", round, stream)
		}
		receive(d)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- d.archiver.run(ctx) }()
		wait := func() {
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			if err := d.waitArchived(ctx, next-1); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
		if round%3 != 0 {
			wait()
			if _, err := s.Retire(ctx, d.journal.Stream()); err != nil { // it was thought dead
				t.Fatal(err)
			}
			s.mu.Lock()
			s.fail = round % 4
			s.mu.Unlock()
			receive(d)
			wait()
			streams[d.journal.Stream()] = true
			if live := d.feed.live(); live != d.journal.Stream() || live == stream {
				t.Fatalf("round %d: feeds %s, the inbox is %s, was %s", round, live, d.journal.Stream(), stream)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if round%2 == 0 { // while it is down, with more in the inbox than is archived
			receive(d)
			if _, err := s.Retire(t.Context(), d.journal.Stream()); err != nil && !errors.Is(err, store.ErrUnavailable) {
				t.Fatal(err)
			}
		}
		if err := d.journal.Close(); err != nil {
			t.Fatal(err)
		}
	}
	d := consuming(t, dir, s)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { _ = d.archiver.run(ctx) }()
	if err := d.waitArchived(ctx, next-1); err != nil {
		t.Fatal(err)
	}
	for seq := uint64(1); seq < next; seq++ {
		if s.events[seq] == "" {
			t.Fatalf("position %d of %d is lost", seq, next-1)
		}
	}
	if len(streams) < 10 {
		t.Fatalf("only %d streams: the test takes none away", len(streams))
	}
}

func TestStream_ACrashBetweenNameAndBeginning_IsMadeUpFor(t *testing.T) {
	dir, s := t.TempDir(), newSharedArchive()
	d := consuming(t, dir, s)
	if err := d.journal.Append([]*block.Block{blockOf(1, 10, 10), blockOf(11, 10, 10)}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Archive(t.Context(), d.journal.Stream(), []*block.Block{blockOf(1, 10, 10)}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Retire(t.Context(), d.journal.Stream()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.journal.Renew(10); err != nil { // and the process dies before the store hears of it
		t.Fatal(err)
	}
	if err := d.journal.Close(); err != nil {
		t.Fatal(err)
	}
	if again := consuming(t, dir, s); again.feed.archivedTo() != 10 || s.to[again.journal.Stream()] != 10 {
		t.Fatalf("goes on behind %d, in the store %d", again.feed.archivedTo(), s.to[again.journal.Stream()])
	}
	if stream, err := journal.StreamOf(nil, filepath.Join(dir, "journal")); err != nil || s.retired[stream] {
		t.Fatalf("%s, %v", stream, err)
	}
}

// TestSweep_LateEvents_ComeOnceUntilTheyAreArchived: a store that is slow is not given them again at every look.
func TestSweep_LateEvents_ComeOnceUntilTheyAreArchived(t *testing.T) {
	s := newSharedArchive()
	d := consuming(t, t.TempDir(), s)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := d.journal.Append([]*block.Block{blockOf(1, 10, 10)}); err != nil {
		t.Fatal(err)
	}
	d.ingest = newIngest(d.journal, nil, d.metrics, d.log, time.Now, 1<<20)
	go d.ingest.run(ctx)
	if err := d.cluster.Look(ctx); err != nil {
		t.Fatal(err)
	}
	s.orphans = blockOf(500, 5, 10)
	late := &sweeper{Daemon: d, until: d.journal.Next() - 1}
	look := func(want uint64) {
		t.Helper()
		late.last = time.Time{}
		if err := late.sweep(ctx); err != nil {
			t.Fatal(err)
		}
		if n := d.journal.Next() - 1; n != want {
			t.Fatalf("%d events in the inbox, want %d", n, want)
		}
	}
	archived := func() {
		t.Helper()
		ctx, cancel := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- d.archiver.run(ctx) }()
		err := d.waitArchived(ctx, d.journal.Next()-1)
		cancel()
		if err := errors.Join(err, <-done); err != nil {
			t.Fatal(err)
		}
	}
	look(10) // what is in the inbox comes first
	archived()
	look(15)
	look(15)
	archived()
	look(20)
}

func TestIngest_EventsOfADeadConsumerAreNumberedAnew(t *testing.T) {
	in := newFakeInbox()
	g, ctx, cancel := startIngest(t, in)
	defer cancel()
	b := blockOf(500, 4, 10)
	holes := *b
	holes.First, holes.Upto, holes.Seqs = 500, 520, []uint64{500, 503, 510, 519}
	if err := g.Deliver(ctx, peer("ep"), [][][]byte{message(1)}); err != nil {
		t.Fatal(err)
	}
	if err := g.submit(ctx, batch{ready: &holes}); err != nil {
		t.Fatal(err)
	}
	if err := g.Deliver(ctx, peer("ep"), [][][]byte{message(2)}); err != nil {
		t.Fatal(err)
	}
	if to, err := g.flush(ctx); err != nil || to != 6 {
		t.Fatalf("up to %d, %v", to, err)
	}
	var seqs []uint64
	for _, x := range in.taken() {
		for i := range x.Len() {
			seqs = append(seqs, x.Seq(i))
		}
	}
	if !slices.Equal(seqs, []uint64{1, 2, 3, 4, 5, 6}) {
		t.Fatalf("positions %v", seqs)
	}
	if holes.First != 500 || len(holes.Seqs) != 4 {
		t.Fatal("a block that others share was changed")
	}
}
