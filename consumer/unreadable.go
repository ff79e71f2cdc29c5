package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/statscache/statscache/consumer/journal"
	"github.com/statscache/statscache/internal/block"
)

// unreadable says why the inbox can't be read at the moment, or for good.
type unreadable struct {
	why     atomic.Pointer[string]
	damaged chan struct{} // closed once it is for good: why stays
}

func newUnreadable() *unreadable { return &unreadable{damaged: make(chan struct{})} }

// reason gives why the inbox can't be read, "" where it can or where nothing reads one.
func (u *unreadable) reason() string {
	if u == nil {
		return ""
	}
	if why := u.why.Load(); why != nil {
		return *why
	}
	return ""
}

// forGood is closed when damage was found; nil where nothing reads an inbox.
func (u *unreadable) forGood() <-chan struct{} {
	if u == nil {
		return nil
	}
	return u.damaged
}

func (u *unreadable) err() error {
	return fmt.Errorf("nothing more can be archived: %s", u.reason())
}

// read gives what follows a position of an inbox. Errors of the disk are waited out; what is answered is damage, a position
// that is gone, or that ctx ended.
func (u *unreadable) read(ctx context.Context, from journalReader, pos uint64, most int, log *slog.Logger) ([]*block.Block, error) {
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, archiveRetryMax) {
		blocks, err := from.ReadAfter(ctx, pos, most)
		switch {
		case err == nil:
			if u.why.Swap(nil) != nil {
				log.Info("the inbox can be read again")
			}
			return blocks, nil
		case ctx.Err() != nil, errors.Is(err, journal.ErrTrimmed), errors.Is(err, journal.ErrClosed): // no disk's doing
			return nil, err
		}
		text := err.Error()
		before := u.why.Swap(&text)
		if errors.Is(err, journal.ErrDamaged) {
			close(u.damaged)
			return nil, err
		}
		if before == nil {
			log.Error("the inbox can't be read; that is tried again", "after", pos, "error", err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// read gives what follows a position. Behind damage nothing is read, for nothing may be left out: the daemon receives and
// serves without the archive, so that a restart by a supervisor doesn't take that away as well. ok is false where ctx ended.
func (a *archiver) read(ctx context.Context, pos uint64) (blocks []*block.Block, ok bool, err error) {
	blocks, err = a.inbox.read(ctx, a.journal, pos, a.pace.most(), a.log)
	switch {
	case err == nil:
		return blocks, true, nil
	case ctx.Err() != nil:
		return nil, false, nil
	case errors.Is(err, journal.ErrDamaged):
		a.log.Error("the inbox is damaged: what it holds from here on is archived once it is mended and the daemon is started again", "after", pos, "error", err)
		<-ctx.Done()
		return nil, false, nil
	}
	return nil, false, fmt.Errorf("read the inbox after %d: %w", pos, err)
}
