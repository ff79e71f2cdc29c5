package consumer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/statscache/statscache/consumer/journal"
	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
)

// failingJournal fails as often as there are errors, then gives one block and then nothing.
type failingJournal struct {
	fails []error
	calls int
}

func (f *failingJournal) ReadAfter(ctx context.Context, after uint64, _ int) ([]*block.Block, error) {
	f.calls++
	if n := f.calls - 1; n < len(f.fails) {
		return nil, f.fails[n]
	}
	if after == 0 {
		return []*block.Block{{First: 1, Upto: 1}}, nil
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

func (f *failingJournal) Trim(uint64) error { return nil }

// takesAll is an archive that owns whatever it is given.
type takesAll struct{}

func (takesAll) Archive(_ context.Context, _ string, blocks []*block.Block) (out []store.Archived, err error) {
	for _, b := range blocks {
		out = append(out, store.Archived{Owned: b})
	}
	return out, nil
}

func TestArchiver_WaitsOutErrorsOfTheDisk_AndStandsStillBeforeDamage(t *testing.T) {
	damaged := fmt.Errorf("%w: /x/7.journal at offset 9: bad", journal.ErrDamaged)
	for name, c := range map[string]struct {
		fails    []error
		says     string // a minute after the start
		archived uint64
		logged   int
		ends     bool
	}{
		"well":                      {archived: 1},
		"too many open files":       {fails: []error{syscall.EMFILE, syscall.EMFILE, syscall.EIO}, archived: 1, logged: 1},
		"damage":                    {fails: []error{damaged}, says: "/x/7.journal at offset 9", logged: 1},
		"damage after a bad moment": {fails: []error{syscall.EIO, damaged}, says: "/x/7.journal at offset 9", logged: 2},
		"a position that is gone":   {fails: []error{journal.ErrTrimmed}, ends: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				a := &archiver{journal: &failingJournal{fails: c.fails}, archive: takesAll{}, stream: "s", feed: newFeed(nil, "s", 0), inbox: newUnreadable(),
					metrics: newMetrics(prometheus.NewRegistry(), "test"), tallies: newTallies(), log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError}))}
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- a.run(ctx) }()
				time.Sleep(time.Minute)
				synctest.Wait()
				select {
				case err := <-ended:
					if !c.ends || !errors.Is(err, journal.ErrTrimmed) {
						t.Errorf("it ended: %v", err)
					}
				default:
					if c.ends {
						t.Error("it goes on")
					}
					defer func() { <-ended }()
				}
				if says := a.inbox.reason(); (says == "") != (c.says == "") || !strings.Contains(says, c.says) {
					t.Errorf("says %q, want %q", says, c.says)
				}
				if n := a.feed.archivedTo(); n != c.archived {
					t.Errorf("archived to %d, want %d", n, c.archived)
				}
				if n := strings.Count(log.String(), "\n"); n != c.logged {
					t.Errorf("%d errors logged, want %d:\n%s", n, c.logged, &log)
				}
				cancel()
			})
		})
	}
}

// TestDaemon_StaysUpOverADamagedInbox: the damage lies in a segment that is read only after the start.
func TestDaemon_StaysUpOverADamagedInbox(t *testing.T) {
	c := testConfig(t)
	dir := filepath.Join(c.DataDir, "journal")
	j, err := journal.Open(journal.Options{Dir: dir, SegmentBytes: 4 << 10})
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for n := uint64(1); n <= 40; n++ {
		body := make([]byte, 700) // that no compression makes small
		for i := range body {
			body[i] = byte(random.Uint32())
		}
		w := block.NewBuilder(func(string) string { return "a" })
		w.Add(&block.Event{ID: fmt.Appendf(nil, "id-%d", n), IDAt: -1, Topic: []byte("org.x.dev.a.b"), Time: int64(n) * 1e6, Source: "main", Body: body})
		if err := j.Append([]*block.Block{w.Build(n, 7, false)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "0*"))
	if err != nil || len(files) < 3 {
		t.Fatalf("%d segments, %v", len(files), err)
	}
	text, err := os.ReadFile(files[1])
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 0xff
	if err := os.WriteFile(files[1], text, 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := Open(t.Context(), Options{Config: c})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Stop(); err != nil {
			t.Error(err)
		}
	}()
	if err := d.Start(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if err := d.waitArchived(t.Context(), 40); err == nil || !strings.Contains(err.Error(), files[1]) {
		t.Fatalf("waiting for the archive ends with %v", err)
	}
	at := d.feed.archivedTo()
	if at == 0 || at >= 40 {
		t.Errorf("archived to %d: want what lies before the damage", at)
	}
	ready := d.Ready()[0]
	if ready.Role != "consume" || ready.OK || !strings.Contains(ready.Reason, files[1]) || !strings.Contains(ready.Reason, "restore the file") {
		t.Errorf("ready: %+v", ready)
	}
	select {
	case err := <-d.Failed():
		t.Errorf("the daemon gave up: %v", err)
	default:
	}
	message := [][]byte{[]byte("org.x.dev.a.b"), []byte(`{"topic":"org.x.dev.a.b","timestamp":1524739200,"msg_id":"1"}`)}
	if err := d.ingest.Deliver(t.Context(), peer("main"), [][][]byte{message}); err != nil {
		t.Fatal(err)
	}
	if last, err := d.ingest.flush(t.Context()); err != nil || last != 41 {
		t.Errorf("the inbox reaches to %d, %v", last, err)
	}
	if n := d.feed.archivedTo(); n != at {
		t.Errorf("archived to %d behind the damage", n)
	}
}
