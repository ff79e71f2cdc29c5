package consumer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/statscache/statscache/consumer/journal"
	"github.com/statscache/statscache/consumer/source/zmq"
)

const (
	// earlyFolder is the inbox in a data dir for what comes before the store has answered.
	earlyFolder = "journal-early"
	// earlyRead is how much of it is handed on at once.
	earlyRead = 8 << 20
)

// early is an inbox of its own for what is received while the store is away that a process starts on: up to where the
// stream of the usual inbox is archived, and so where its numbering goes on, that store alone can say. Once it has, the
// events go on into the usual inbox as if they had just been received. What a crash leaves in both counts once, as all
// copies do.
type early struct {
	dir   string
	inbox *journal.Journal
	// ingest fills the inbox; nil where a former life has left it.
	ingest   *ingest
	decoding part
}

// relay is a sink whose target can be changed under way.
type relay struct {
	mu    sync.Mutex
	to    zmq.Sink
	under *sync.WaitGroup // deliveries to it
}

func newRelay(to zmq.Sink) *relay { return &relay{to: to, under: &sync.WaitGroup{}} }

// Deliver hands on to the target of this moment.
func (r *relay) Deliver(ctx context.Context, from zmq.Peer, batch [][][]byte) error {
	r.mu.Lock()
	to, under := r.to, r.under
	under.Add(1)
	r.mu.Unlock()
	defer under.Done()
	return to.Deliver(ctx, from, batch)
}

// turn gives all further deliveries to another target, and those to wait for that the old one still gets.
func (r *relay) turn(to zmq.Sink) *sync.WaitGroup {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.under
	r.to, r.under = to, &sync.WaitGroup{}
	return old
}

// openEarly opens the early inbox. It has the room that the usual one leaves of the bound, so both keep to it together while
// the store is away. Once they are being joined the usual one takes what is new up to the whole bound, whatever is still to
// be handed on: if the store then fails or is slow, both may have almost twice of it, rather than that nothing new is received.
func (d *Daemon) openEarly(o Options) (*early, error) {
	used, err := folderBytes(filepath.Join(d.config.DataDir, "journal"))
	if err != nil {
		return nil, fmt.Errorf("read the inbox's folder: %w", unwrapPath(err))
	}
	e := &early{dir: filepath.Join(d.config.DataDir, earlyFolder)}
	e.inbox, err = journal.Open(journal.Options{Dir: e.dir, MaxBytes: max(d.config.JournalMaxBytes-used, 1), TailBytes: tailBytes, Logger: o.Logger, Failpoint: o.Failpoint})
	if err != nil {
		return nil, err
	}
	d.onStop("early inbox", e.inbox.Close)
	return e, nil
}

func folderBytes(dir string) (n int64, err error) {
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	for _, x := range list {
		if info, gone := x.Info(); gone == nil {
			n += info.Size()
		}
	}
	return n, err
}

// receiveEarly has the sources deliver to the early inbox.
func (d *Daemon) receiveEarly(o Options) error {
	e, err := d.openEarly(o)
	if err != nil {
		return err
	}
	d.early.Store(e)
	if e.ingest, err = d.newIngest(e.inbox); err != nil {
		return err
	}
	d.sink = newRelay(e.ingest)
	e.decoding = d.launch("early decode", func(ctx context.Context) error { e.ingest.run(ctx); return nil })
	d.stopWith("early decode", e.decoding)
	d.runSource(d.sink)
	if err := d.startGaps(); err != nil {
		d.fail(err)
	}
	return nil
}

// takeUpEarly finds what a former life received before its store had answered and could not hand on.
func (d *Daemon) takeUpEarly(o Options) {
	if d.early.Load() != nil {
		return
	}
	if _, err := os.Stat(filepath.Join(d.config.DataDir, earlyFolder)); errors.Is(err, fs.ErrNotExist) {
		return
	}
	e, err := d.openEarly(o)
	if err != nil {
		d.leaveEarly(err)
		return
	}
	d.early.Store(e)
}

// leaveEarly says why what was received before the store had answered can't be read in this life.
func (d *Daemon) leaveEarly(why error) {
	text := why.Error()
	d.earlyUnread.why.Store(&text)
	d.log.Error("what was received before the store had answered stays where it is until it can be read; the next start tries again", "folder", earlyFolder, "error", why)
}

var errNothingMore = errors.New("nothing more comes into the early inbox")

// handOn moves what the early inbox has into the usual one, which gets everything new from here on. What it has not
// moved when ctx ends is moved by the next life.
func (d *Daemon) handOn(ctx context.Context) error {
	e := d.early.Load()
	reading, settled := context.WithCancelCause(ctx)
	defer settled(nil)
	var settling sync.WaitGroup
	defer settling.Wait()
	settling.Go(func() {
		if e.ingest == nil {
			settled(errNothingMore)
		} else if e.settle(ctx, d.sink.turn(d.ingest)) {
			settled(errNothingMore)
		}
	})
	for pos, over := e.inbox.ArchivedTo(), false; ; {
		if over && pos+1 >= e.inbox.Next() {
			break
		}
		blocks, err := d.earlyUnread.read(reading, e.inbox, pos, earlyRead, d.log.With("folder", earlyFolder))
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && reading.Err() != nil:
			over, reading = true, ctx
			continue
		case err != nil:
			d.leaveEarly(err)
			if e.ingest != nil {
				e.decoding.cancel() // sources that wait for room, which nobody makes any more, go on with the usual inbox
			}
			return nil
		}
		for _, b := range blocks {
			if err := d.ingest.submit(ctx, batch{ready: b}); err != nil {
				return nil // stopping
			}
			pos = b.Upto
		}
		if _, err := d.ingest.flush(ctx); err != nil {
			return nil // stopping
		}
		if err := e.inbox.Trim(pos); err != nil {
			d.log.Warn("the early inbox could not be trimmed", "error", err)
		}
	}
	return d.removeEarly(e)
}

// settle waits until all that was delivered is in the early inbox; false where ctx ended before.
func (e *early) settle(ctx context.Context, under *sync.WaitGroup) bool {
	under.Wait()
	if _, err := e.ingest.flush(ctx); err != nil {
		return false
	}
	e.decoding.cancel()
	<-e.decoding.done // it has nothing to do any more
	return true
}

// removeEarly removes the early inbox. Its file of state says that it is empty before anything goes.
func (d *Daemon) removeEarly(e *early) error {
	d.log.Info("what was received before the store had answered is in the inbox", "events", e.inbox.ArchivedTo())
	d.early.Store(nil)
	if err := errors.Join(e.inbox.Close(), os.RemoveAll(e.dir)); err != nil {
		d.log.Warn("the early inbox could not be removed", "error", err)
	}
	return nil
}
