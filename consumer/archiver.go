package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
)

const (
	// archiveBytes bounds what one call to Archive gets, and leastBytes how little a slow store makes of it.
	archiveBytes = 8 << 20
	leastBytes   = 512 << 10
	// archiveAim is how long a call should take at most. A call has a cost of its own: many short ones would take longer.
	archiveAim = 5 * time.Second
	// gatherPause lets small live blocks gather before they are archived together: every call is a durable write.
	gatherPause = 10 * time.Millisecond
	// smallGroup is the number of events below which gathering is worth the pause.
	smallGroup = 2 * block.MaxEvents
	// archiveRetryMax bounds the pause between attempts while the store is away.
	archiveRetryMax = 5 * time.Second
	// unansweredAfter is how long a call to the store may take before the store is said to be away: one that waits for
	// another program's lock answers late, and operators should not.
	unansweredAfter = 3 * time.Second
)

// journalReader is what the archiver needs of consumer/journal.
type journalReader interface {
	ReadAfter(ctx context.Context, after uint64, maxBytes int) ([]*block.Block, error)
	Trim(to uint64) error
}

// archiveWriter is what the archiver needs of a store.
type archiveWriter interface {
	Archive(ctx context.Context, stream string, blocks []*block.Block) ([]store.Archived, error)
}

// heldArchive is an archive that takes nothing while it is held.
type heldArchive struct {
	archiveWriter
	mu  sync.RWMutex
	why error
}

func (h *heldArchive) Archive(ctx context.Context, stream string, blocks []*block.Block) ([]store.Archived, error) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if h.why != nil {
		return nil, h.why
	}
	return h.archiveWriter.Archive(ctx, stream, blocks)
}

// hold refuses what comes from now on, with a reason; nil lets it go on. A call under way ends first.
func (h *heldArchive) hold(why error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.why = why
}

// archiver moves events from the inbox to the archive and tells the feed. It trims the inbox at archived_to and
// nowhere else, after the store has said that everything up to there is durable.
type archiver struct {
	journal journalReader
	archive archiveWriter
	stream  string
	feed    *feed
	metrics *metrics
	tallies *tallies
	log     *slog.Logger
	// renew, where the store is shared, begins a new stream after the one of that name was retired by another process,
	// and gives the position that it goes on behind.
	renew func(ctx context.Context, retired string) (stream string, at uint64, err error)

	pace  pace
	owned atomic.Uint64          // of this stream, since the store was made
	down  atomic.Pointer[string] // why the store takes nothing at the moment
	inbox *unreadable            // nil without an inbox
}

// pace is how much one call to Archive gets: as much as a store takes in some seconds. What a call has done counts for
// nothing before its end, so on a slow store a process that is killed or fenced now and then would never get anywhere with
// long ones.
type pace struct{ bytes int }

func (p *pace) most() int { return max(p.bytes, leastBytes) }

// took notes how long a call with that much took.
func (p *pace) took(d time.Duration) {
	switch {
	case d > archiveAim:
		p.bytes = int(float64(p.most()) * archiveAim.Seconds() / d.Seconds())
	case d < archiveAim/4:
		p.bytes = min(2*p.most(), archiveBytes)
	}
}

// run goes on until ctx ends.
func (a *archiver) run(ctx context.Context) error {
	pos := a.feed.archivedTo()
	for {
		blocks, ok, err := a.read(ctx, pos)
		if err != nil || !ok {
			return err
		}
		began := time.Now()
		err = a.archiveAll(ctx, blocks)
		a.pace.took(time.Since(began))
		if errors.Is(err, errRenewed) {
			pos = a.feed.archivedTo()
			continue
		}
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
		pos = blocks[len(blocks)-1].Upto
		if err := a.journal.Trim(pos); err != nil {
			a.log.Error("the inbox could not be trimmed; it is tried again with the next events", "error", err)
		}
		if events(blocks) < smallGroup {
			select {
			case <-time.After(gatherPause):
			case <-ctx.Done():
			}
		}
	}
}

func events(blocks []*block.Block) (n int) {
	for _, b := range blocks {
		n += b.Len()
	}
	return n
}

// archiveAll repeats the call until the store has taken the blocks or ctx ends; only being fenced is final.
func (a *archiver) archiveAll(ctx context.Context, blocks []*block.Block) error {
	repeated := false
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, archiveRetryMax) {
		began := time.Now()
		done, err := a.attempt(ctx, blocks)
		if err == nil {
			a.metrics.archiveSeconds.Observe(time.Since(began).Seconds())
			if !repeated {
				a.took(blocks, counted(done))
				a.feed.offer(owned(done), blocks[len(blocks)-1].Upto)
				return nil
			}
			var all []fate
			if all, err = a.readBack(ctx, blocks, done); err == nil {
				a.took(blocks, all)
				a.feed.reach(blocks[len(blocks)-1].Upto)
				return nil
			}
		}
		repeated = true
		if errors.Is(err, store.ErrFenced) {
			if a.renew == nil {
				return fmt.Errorf("archive: %w", err)
			}
			if err = a.goOn(ctx); err == nil {
				return errRenewed
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		a.failed(err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// errRenewed says that what is not archived is now a new stream's.
var errRenewed = errors.New("the stream was renewed")

// goOn goes on with a new stream.
func (a *archiver) goOn(ctx context.Context) error {
	stream, at, err := a.renew(ctx, a.stream)
	if err != nil {
		return err
	}
	a.stream = stream
	a.log.Warn("another process took this one for dead and has finished its stream; what is not archived goes on as a new one", "stream", stream, "after", at)
	a.feed.renew(stream, at)
	return nil
}

// attempt calls the store once, and says that it is away while it does not answer.
func (a *archiver) attempt(ctx context.Context, blocks []*block.Block) ([]store.Archived, error) {
	said := make(chan struct{})
	late := time.AfterFunc(unansweredAfter, func() {
		defer close(said)
		a.failed(errUnanswered)
	})
	done, err := a.archive.Archive(ctx, a.stream, blocks)
	if !late.Stop() {
		<-said // what is said of the outcome must come last
	}
	return done, err
}

// errUnanswered is what is said of a store while a call to it takes too long.
var errUnanswered = fmt.Errorf("no answer for %s", unansweredAfter)

// failed notes why the store takes nothing; the log has the first reason of each outage.
func (a *archiver) failed(err error) {
	text := err.Error()
	if a.down.Swap(&text) == nil {
		a.metrics.storeUp.Set(0)
		a.log.Error("the store takes no events; the inbox keeps them until it does", "error", err)
	}
}

// took notes what the store has taken.
func (a *archiver) took(blocks []*block.Block, all []fate) {
	if a.down.Swap(nil) != nil {
		a.log.Info("the store takes events again")
	}
	a.metrics.storeUp.Set(1)
	for i, o := range all {
		a.tallies.archived(blocks[i].First, o)
		a.owned.Add(uint64(o.owned))
		a.metrics.owned.Add(float64(o.owned))
		a.metrics.duplicate.Add(float64(o.duplicates))
		a.metrics.expired.Add(float64(o.expired))
	}
}
