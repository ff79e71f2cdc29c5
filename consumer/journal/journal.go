// Package journal is the inbox: what was received survives a crash until it is archived.
package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/internal/failpoint"
)

// What callers test for.
var (
	ErrFull    = errors.New("journal is full")                      // nothing was written; WaitRoom tells when to try again
	ErrClosed  = errors.New("journal is closed")                    // by Close
	ErrTrimmed = errors.New("position is no longer in the journal") // it is archived and was removed
	ErrDamaged = errors.New("journal is damaged")                   // acknowledged events can't be read
)

// Options says where the journal lives and how large it may become. Dir is required; zero values elsewhere take the
// defaults.
type Options struct {
	Dir          string // the data dir's journal/ folder; created with mode 0700
	MaxBytes     int64  // bound of all segments together; 1 GiB
	SegmentBytes int64  // a segment that would grow beyond is followed by a new one; 64 MiB, at most a quarter of MaxBytes
	TailBytes    int    // how much of what was just appended is kept in memory for ReadAfter (by Block.Bytes); 64 MiB, below 0 nothing
	ArchivedTo   uint64 // the store's archived_to of this stream: positions up to here may be missing or damaged
	Logger       *slog.Logger
	Files        Files          // the operating system's
	Failpoint    failpoint.Hook // at the inbox steps; for crash tests
}

const (
	defaultMaxBytes     = 1 << 30
	defaultSegmentBytes = 64 << 20
	defaultTailBytes    = 64 << 20
	minSegmentBytes     = 4 << 10
	// recycleBytes is how large a segment must be before Trim replaces it though it is still being written. Smaller
	// ones wait: at a few events a second everything is archived all the time, and each replacement costs five syncs.
	recycleBytes = 4 << 20
)

// Journal is an append-only log of blocks in segment files, trimmed from the front. One goroutine appends; any number
// read, trim and wait beside it.
//
// Locks are taken in the order write, disk, mu; scanning before mu and with no other. Nothing touches a file under mu.
type Journal struct {
	opt    Options
	stream string // in every file

	write sync.Mutex // the writing end: file, buf; held over an append's write and sync
	file  File       // of the last segment while it is being written; nil: the next append starts a segment
	buf   []byte

	disk sync.Mutex // removals and the state file

	scanning sync.Mutex // one segment is scanned at a time

	mu       sync.Mutex
	segs     []*segment // in order; the last one may be the one being written. Their fields change under mu only
	writing  bool       // the last of segs is being written (file is open)
	used     int64
	next     uint64
	archived uint64
	renewed  string // the stream's id where it isn't that of the files any more
	base     uint64 // positions up to here were the former stream's
	need     int64  // bytes of the append that was refused last
	tail     []tailBlock
	tailSize int
	closed   bool
	changed  chan struct{} // closed and replaced at each change that somebody may wait for
}

// tailBlock is a block in memory and what it occupies.
type tailBlock struct {
	b    *block.Block
	size int
}

// Open opens the journal in opt.Dir, or begins one with a new stream id. What a crash left half written at the end
// is cut off: it was never acknowledged. Damage to acknowledged events is ErrDamaged, with file, offset and what to
// do, unless they are archived (Options.ArchivedTo); in segments before the last ReadAfter finds it, since Open doesn't
// read them. The numbering starts above opt.ArchivedTo in any case.
func Open(opt Options) (*Journal, error) {
	if opt.Dir == "" {
		return nil, errors.New("open journal: no folder given")
	}
	opt.MaxBytes = max(cmp.Or(opt.MaxBytes, defaultMaxBytes), minSegmentBytes)
	opt.SegmentBytes = max(min(cmp.Or(opt.SegmentBytes, defaultSegmentBytes), opt.MaxBytes/4), minSegmentBytes)
	opt.TailBytes = cmp.Or(opt.TailBytes, defaultTailBytes)
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	opt.Logger = opt.Logger.With("component", "journal")
	if opt.Files == nil {
		opt.Files = osFiles{}
	}
	j := &Journal{opt: opt, changed: make(chan struct{})}
	if err := j.load(); err != nil {
		if j.file != nil {
			err = errors.Join(err, j.file.Close())
		}
		return nil, err
	}
	return j, nil
}

// Stream is the random id of this journal's stream: 26 lower-case base32 characters.
func (j *Journal) Stream() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return cmp.Or(j.renewed, j.stream)
}

// Base is the position up to which the numbering was another stream's, before Renew; 0 where there was none. Positions
// up to it are no business of the stream that Stream names.
func (j *Journal) Base() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.base
}

// Next is the position that the next block must start at; the first one ever is 1.
func (j *Journal) Next() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.next
}

// ArchivedTo is the highest position known to be archived, from Trim, SetStart or Options.
func (j *Journal) ArchivedTo() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.archived
}

// Bytes is what the segments occupy and what they may occupy. Up to a segment of it can be archived already.
func (j *Journal) Bytes() (used, limit int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.used, j.opt.MaxBytes
}

// Close waits for an append that is under way, wakes up everyone who waits and closes the files. Blocks that were not
// archived are there again after Open.
func (j *Journal) Close() error {
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return nil
	}
	j.closed = true
	j.wake()
	j.mu.Unlock()

	j.write.Lock()
	defer j.write.Unlock()
	j.disk.Lock()
	defer j.disk.Unlock()
	j.mu.Lock()
	last := j.state()
	j.tail, j.tailSize = nil, 0
	j.mu.Unlock()
	// With the end of the numbering on record the next Open can tell a last record that went bad later from one that
	// was never finished.
	err := j.saveState(last)
	if j.file != nil {
		err = errors.Join(err, j.file.Close())
		j.file = nil
	}
	if err != nil {
		return fmt.Errorf("close journal: %w", err)
	}
	return nil
}

// wake lets everyone who waits look again; under mu.
func (j *Journal) wake() {
	close(j.changed)
	j.changed = make(chan struct{})
}

// wait sleeps until something changes; changed was taken under mu together with the look that found nothing.
func wait(ctx context.Context, changed <-chan struct{}) error {
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
