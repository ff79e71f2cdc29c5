package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/statscache/statscache/consumer/fedmsg"
	"github.com/statscache/statscache/consumer/journal"
	"github.com/statscache/statscache/consumer/rejects"
	"github.com/statscache/statscache/consumer/source/zmq"
	"github.com/statscache/statscache/internal/block"
)

// fakeInbox takes blocks in memory; while full or failing is set it takes none.
type fakeInbox struct {
	mu     sync.Mutex
	blocks []*block.Block
	next   uint64
	err    error
	room   chan struct{}
}

func newFakeInbox() *fakeInbox { return &fakeInbox{next: 1, room: make(chan struct{}, 1)} }

func (f *fakeInbox) Next() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.next
}

func (f *fakeInbox) Append(blocks []*block.Block) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	for _, b := range blocks {
		if b.First != f.next {
			return fmt.Errorf("block at %d, want %d", b.First, f.next)
		}
		f.next = b.Upto + 1
		f.blocks = append(f.blocks, b)
	}
	return nil
}

func (f *fakeInbox) WaitRoom(ctx context.Context) error {
	select {
	case <-f.room:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *fakeInbox) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *fakeInbox) taken() []*block.Block {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]*block.Block(nil), f.blocks...)
}

func message(i int) [][]byte {
	topic := fmt.Sprintf("org.x.prod.cat%d.thing", i%3)
	return [][]byte{[]byte(topic), fmt.Appendf(nil, `{"topic":%q,"msg_id":"2026-%d","timestamp":5,"msg":{}}`, topic, i)}
}

// startIngest runs an ingest over a fake inbox until the test ends.
func startIngest(t *testing.T, in *fakeInbox) (*ingest, context.Context, context.CancelFunc) {
	t.Helper()
	keeper, err := rejects.Open(rejects.Options{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	g := newIngest(in, keeper, newMetrics(prometheus.NewRegistry(), "test"), slog.New(slog.DiscardHandler), time.Now, 1<<20)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); g.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
		if err := keeper.Close(); err != nil {
			t.Error(err)
		}
	})
	return g, ctx, cancel
}

func TestIngest_GathersEventsForTheLingerAndNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := newFakeInbox()
		g, ctx, _ := startIngest(t, in)
		for i := range 10 {
			if err := g.Deliver(ctx, peer("ep"), [][][]byte{message(i)}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if n := len(in.taken()); n != 0 {
			t.Fatalf("%d blocks before the linger is over", n)
		}
		time.Sleep(linger) // the bubble's clock: nobody waits
		synctest.Wait()
		blocks := in.taken()
		if len(blocks) != 1 || blocks[0].Len() != 10 || blocks[0].First != 1 {
			t.Fatalf("got %d blocks", len(blocks))
		}
	})
}

func TestIngest_FullBlocksFollowEachOtherWithoutGaps(t *testing.T) {
	in := newFakeInbox()
	g, ctx, _ := startIngest(t, in)
	var batch [][][]byte
	for i := range 3000 {
		batch = append(batch, message(i))
	}
	if err := g.Deliver(ctx, peer("ep"), batch); err != nil {
		t.Fatal(err)
	}
	last, err := g.flush(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if last != 3000 || in.Next() != 3001 {
		t.Fatalf("flush answered %d, the inbox is at %d", last, in.Next())
	}
	for i, b := range in.taken() {
		if want := min(block.MaxEvents, 3000-i*block.MaxEvents); b.Len() != want {
			t.Fatalf("block %d has %d events, want %d", i, b.Len(), want)
		}
	}
}

func TestIngest_HistoryAndLiveEventsNeverShareABlock(t *testing.T) {
	in := newFakeInbox()
	g, ctx, _ := startIngest(t, in)
	for i := range 6 {
		b := batch{source: "ep", messages: [][][]byte{message(i)}, received: 1}
		if b.backfill = i%2 == 1; b.backfill {
			b.messages = [][][]byte{message(i)[1:]}
		}
		if err := g.submit(ctx, b); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := g.flush(ctx); err != nil {
		t.Fatal(err)
	}
	blocks := in.taken()
	if len(blocks) != 6 {
		t.Fatalf("%d blocks, want 6", len(blocks))
	}
	for i, b := range blocks {
		if b.Backfill != (i%2 == 1) {
			t.Fatalf("block %d: backfill is %v", i, b.Backfill)
		}
	}
}

func TestIngest_FullInboxStopsTheSourceAndLosesNothing(t *testing.T) {
	in := newFakeInbox()
	in.set(journal.ErrFull)
	g, ctx, _ := startIngest(t, in)
	short, cancel := context.WithCancel(ctx)
	defer cancel()
	sent := 0
	for g.stalled.Load() == nil || len(g.batches) < cap(g.batches) {
		if err := g.Deliver(ctx, peer("ep"), [][][]byte{message(sent)}); err != nil {
			t.Fatal(err)
		}
		sent++
	}
	cancel()
	if err := g.Deliver(short, peer("ep"), [][][]byte{message(sent)}); err == nil {
		sent++ // a place had become free meanwhile
	} else if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	in.set(nil)
	in.room <- struct{}{}
	last, err := g.flush(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if int(last) != sent {
		t.Fatalf("%d events in the inbox, %d were taken from the source", last, sent)
	}
	if g.stalled.Load() != nil {
		t.Fatal("still said to be stalled")
	}
}

func TestIngest_FailedAppendIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := newFakeInbox()
		in.set(errors.New("no space left on device"))
		g, ctx, _ := startIngest(t, in)
		if err := g.Deliver(ctx, peer("ep"), [][][]byte{message(1)}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * retryPause)
		synctest.Wait()
		if why := g.stalled.Load(); why == nil || !strings.Contains(*why, "no space") {
			t.Fatal("nobody is told that the inbox fails")
		}
		in.set(nil)
		time.Sleep(2 * retryPause)
		synctest.Wait()
		if len(in.taken()) != 1 || g.stalled.Load() != nil {
			t.Fatal("the event was not appended once the inbox worked again")
		}
	})
}

func TestIngest_RejectsAreCountedKeptAndTold(t *testing.T) {
	in := newFakeInbox()
	g, ctx, _ := startIngest(t, in)
	bad := [][][]byte{
		{[]byte("org.x.prod.a.b"), []byte("null")},
		{[]byte("org.x.prod.a.b"), []byte(`{"topic":`)},
		{[]byte("org.x.prod.a.b"), []byte("{\"topic\":\"org.x.prod.a.\xff\"}")},
		{[]byte("org.x.prod.a.b"), []byte(`{"topic":"org.x.prod.other"}`)},
		{[]byte("a"), []byte("b"), []byte("c")},
		message(7),
	}
	told, details := map[int]fedmsg.Reason{}, map[int]string{}
	err := g.submit(ctx, batch{source: "ep", messages: bad, received: time.Now().UnixMicro(), bad: func(i int, r fedmsg.Reason, detail string) { told[i], details[i] = r, detail }})
	if err != nil {
		t.Fatal(err)
	}
	if last, err := g.flush(ctx); err != nil || last != 1 {
		t.Fatalf("%d events, %v: the good one must pass", last, err)
	}
	want := map[string]uint64{"json": 1, "encoding": 1, "topic": 1, "frames": 1, "envelope": 1}
	for reason, n := range want {
		if got := g.metrics.rejected.of(reason); got != n {
			t.Errorf("%s: %d, want %d (told %v)", reason, got, n, told)
		}
	}
	if want := "3 frames instead of topic and body"; details[4] != want {
		t.Errorf("detail %q, want %q", details[4], want)
	}
	if len(told) != 5 || g.metrics.refused.of("ep") != 5 {
		t.Errorf("told of %d, counted %d for the endpoint", len(told), g.metrics.refused.of("ep"))
	}
}

func TestDirLock_NamesWhoHasTheDataDir(t *testing.T) {
	dir := t.TempDir()
	l, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if on, err := Running(dir); err != nil || !on {
		t.Fatalf("running: %v, %v", on, err)
	}
	if _, err := lockDir(dir); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprintf("pid %d", os.Getpid())) {
		t.Fatalf("second lock: %v", err)
	}
	if err := l.release(); err != nil {
		t.Fatal(err)
	}
	if on, err := Running(dir); err != nil || on {
		t.Fatalf("running after release: %v, %v", on, err)
	}
}

// peer is an endpoint that messages come from.
func peer(name string) zmq.Peer {
	return zmq.Peer{Endpoint: zmq.Endpoint{Name: name, Address: "host:1"}}
}
