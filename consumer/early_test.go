package consumer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
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
	d, delivered := fullEarly(t)
	if err := d.Start(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	handedOnWhole(t, d, delivered)
}

// An error of the disk passes: until it has, the inbox is said to be unreadable, and the deliveries wait.
func TestEarly_Full_IsHandedOnOnceItCanBeRead(t *testing.T) {
	d, delivered := fullEarly(t)
	segment := onlySegment(t, d.early.Load().dir)
	if err := os.Rename(segment, segment+".away"); err != nil {
		t.Fatal(err)
	}
	if err := d.Start(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	until(t, "the inbox can't be read", func() bool { return !d.Ready()[0].OK && strings.Contains(d.Ready()[0].Reason, segment) })
	if err := os.Rename(segment+".away", segment); err != nil {
		t.Fatal(err)
	}
	handedOnWhole(t, d, delivered)
	if ready := d.Ready()[0]; !ready.OK {
		t.Errorf("ready: %+v", ready)
	}
}

// Behind damage nobody makes room any more: what waits for some goes to the usual inbox, and the damage is said.
func TestEarly_Full_AndDamaged_HoldsUpNoSource(t *testing.T) {
	d, delivered := fullEarly(t)
	segment := onlySegment(t, d.early.Load().dir)
	f, err := os.OpenFile(segment, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("damage"), 300); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.Start(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if err := allDelivered(t, delivered); err != nil {
		t.Fatal(err)
	}
	if last, err := d.ingest.flush(t.Context()); err != nil || last == 0 {
		t.Errorf("the inbox reaches to %d, %v", last, err)
	}
	if ready := d.Ready()[0]; ready.OK || !strings.Contains(ready.Reason, segment) {
		t.Errorf("ready: %+v", ready)
	}
	if _, err := os.Stat(segment); err != nil {
		t.Errorf("what can be mended is gone: %v", err)
	}
}

// fullOf is more than the queues behind a full inbox hold.
const fullOf = 120_000

// fullEarly opens a daemon whose early inbox is full, with fullOf events on the way to it that wait for room. A delivery
// that is refused is made again, as by a source that dials again.
func fullEarly(t *testing.T) (d *Daemon, delivered <-chan error) {
	t.Helper()
	d, err := Open(t.Context(), Options{Config: testConfig(t), Bundled: testPrograms(t)})
	if err != nil {
		t.Fatal(err)
	}
	stopAtEnd(t, d)
	e := &early{dir: filepath.Join(d.config.DataDir, earlyFolder)}
	if e.inbox, err = journal.Open(journal.Options{Dir: e.dir, MaxBytes: 1, TailBytes: -1}); err != nil {
		t.Fatal(err)
	}
	if e.ingest, err = d.newIngest(e.inbox); err != nil {
		t.Fatal(err)
	}
	d.early.Store(e)
	e.decoding = d.launch("early decode", func(ctx context.Context) error { e.ingest.run(ctx); return nil })
	d.sink = newRelay(e.ingest)
	done := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < fullOf && err == nil; i += 100 {
			var batch [][][]byte
			for k := range 100 {
				batch = append(batch, message(i+k))
			}
			if err = d.sink.Deliver(t.Context(), peer("bus"), batch); errors.Is(err, errStopped) {
				err = d.sink.Deliver(t.Context(), peer("bus"), batch)
			}
		}
		done <- err
	}()
	until(t, "the early inbox is full", func() bool { // and the queues before it are
		return e.ingest.stalled.Load() != nil && len(e.ingest.blocks) == queuedBlocks && len(e.ingest.batches) == queuedBatches
	})
	return d, done
}

func onlySegment(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "0*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("segments %q, %v", files, err)
	}
	return files[0]
}

// allDelivered waits for the end of the deliveries.
func allDelivered(t *testing.T, delivered <-chan error) (err error) {
	t.Helper()
	until(t, "all is delivered", func() bool {
		select {
		case err = <-delivered:
			return true
		default:
			return false
		}
	})
	return err
}

// handedOnWhole waits until all of it has gone the whole way, once.
func handedOnWhole(t *testing.T, d *Daemon, delivered <-chan error) {
	t.Helper()
	if err := allDelivered(t, delivered); err != nil {
		t.Fatal(err)
	}
	until(t, "the early inbox is gone", func() bool {
		_, err := os.Stat(filepath.Join(d.config.DataDir, earlyFolder))
		return os.IsNotExist(err)
	})
	if _, err := d.ingest.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.waitArchived(t.Context(), d.journal.Next()-1); err != nil || d.owned() != fullOf {
		t.Errorf("%d events archived, %v; want %d", d.owned(), err, fullOf)
	}
}
