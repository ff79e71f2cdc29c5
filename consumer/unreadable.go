package consumer

import (
	"context"
	"errors"
	"fmt"
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

// read gives what follows a position. Errors of the disk are waited out. Behind damage nothing is read, for nothing may
// be left out: the daemon receives and serves without the archive, so that a restart by a supervisor doesn't take that
// away as well. ok is false where ctx ended.
func (a *archiver) read(ctx context.Context, pos uint64) (blocks []*block.Block, ok bool, err error) {
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, archiveRetryMax) {
		blocks, err = a.journal.ReadAfter(ctx, pos, a.pace.most())
		switch {
		case err == nil:
			if a.inbox.why.Swap(nil) != nil {
				a.log.Info("the inbox can be read again")
			}
			return blocks, true, nil
		case ctx.Err() != nil:
			return nil, false, nil
		case errors.Is(err, journal.ErrTrimmed), errors.Is(err, journal.ErrClosed): // no disk's doing
			return nil, false, fmt.Errorf("read the inbox after %d: %w", pos, err)
		}
		text := err.Error()
		before := a.inbox.why.Swap(&text)
		if errors.Is(err, journal.ErrDamaged) {
			a.log.Error("the inbox is damaged: what it holds from here on is archived once it is mended and the daemon is started again", "after", pos, "error", err)
			close(a.inbox.damaged)
			<-ctx.Done()
			return nil, false, nil
		}
		if before == nil {
			a.log.Error("the inbox can't be read; that is tried again", "after", pos, "error", err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, false, nil
		}
	}
}
