package consumer

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/statscache/statscache/consumer/journal"
	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store/storetest"
)

// What a process received before its store had answered, and left behind when it was killed, is counted by the next one:
// once, though the one before may have handed some of it on.
func TestEarly_LeftBehind_IsCountedOnce(t *testing.T) {
	c := testConfig(t)
	dir := filepath.Join(c.DataDir, earlyFolder)
	handedOn := func(d *Daemon, want uint64) {
		t.Helper()
		until(t, "the early inbox is gone", func() bool { _, err := os.Stat(dir); return os.IsNotExist(err) })
		if err := d.waitArchived(t.Context(), d.journal.Next()-1); err != nil || d.owned() != want {
			t.Errorf("%d events archived, %v; want %d", d.owned(), err, want)
		}
	}
	leaveEarly(t, dir, 0, 50)
	d := runDaemon(t, c)
	handedOn(d, 50)
	if err := d.Stop(); err != nil {
		t.Fatal(err)
	}
	leaveEarly(t, dir, 20, 60)
	handedOn(runDaemon(t, c), 80)
}

// leaveEarly leaves an inbox with so many events as a process does that is killed.
func leaveEarly(t *testing.T, dir string, from, n int) {
	t.Helper()
	j, err := journal.Open(journal.Options{Dir: dir})
	if err == nil {
		err = j.Append([]*block.Block{storetest.Block(1, storetest.Events("e", from, n))})
	}
	if err == nil {
		err = j.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A backup has all that was accepted, wherever it is by then.
func TestEarly_LeftBehind_IsInABackup(t *testing.T) {
	c := testConfig(t)
	leaveEarly(t, filepath.Join(c.DataDir, earlyFolder), 0, 50)
	sum, err := Backup(t.Context(), Options{Config: c}, filepath.Join(t.TempDir(), "saved"), nil)
	if err != nil || sum.Inbox != 50 {
		t.Errorf("%d events of the inbox in the backup, %v; want 50", sum.Inbox, err)
	}
}

// Deliveries that wait for a full early inbox get through when the store is there, and so does all that was queued.
func TestEarly_Full_IsHandedOnWhole(t *testing.T) {
	d, err := Open(t.Context(), Options{Config: testConfig(t), Bundled: testPrograms(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Stop(); err != nil {
			t.Error(err)
		}
	})
	e := &early{dir: filepath.Join(d.config.DataDir, earlyFolder)}
	if e.inbox, err = journal.Open(journal.Options{Dir: e.dir, MaxBytes: 1}); err != nil {
		t.Fatal(err)
	}
	if e.ingest, err = d.newIngest(e.inbox); err != nil {
		t.Fatal(err)
	}
	d.early.Store(e)
	e.decoding = d.launch("early decode", func(ctx context.Context) error { e.ingest.run(ctx); return nil })
	d.sink = newRelay(e.ingest)
	const n = 40_000
	delivered := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < n && err == nil; i += 100 {
			var batch [][][]byte
			for k := range 100 {
				batch = append(batch, message(i+k))
			}
			err = d.sink.Deliver(t.Context(), peer("bus"), batch)
		}
		delivered <- err
	}()
	until(t, "the early inbox is full", func() bool { return e.ingest.stalled.Load() != nil && len(e.ingest.batches) == queuedBatches })
	if err := d.Start(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if err := <-delivered; err != nil {
		t.Fatal(err)
	}
	until(t, "the early inbox is gone", func() bool { _, err := os.Stat(e.dir); return os.IsNotExist(err) })
	if _, err := d.ingest.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.waitArchived(t.Context(), d.journal.Next()-1); err != nil || d.owned() != n {
		t.Errorf("%d events archived, %v; want %d", d.owned(), err, n)
	}
}
