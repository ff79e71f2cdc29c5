package consumer

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
)

const (
	// feedBytes bounds the blocks that feed keeps in memory for plugins that are close behind.
	feedBytes = 12 << 20
	// blocksAtOnce bounds what one call to Next gives from memory.
	blocksAtOnce = 64
	// endedPause is how long Next waits at the end of a stream that is over: nothing will come.
	endedPause = time.Second
	// readEvents is how many events feed reads back from the archive at a time.
	readEvents = 8 * block.MaxEvents
)

// archiveReader is what feed needs of a store.
type archiveReader interface {
	Streams(ctx context.Context) ([]store.Stream, error)
	Read(ctx context.Context, r store.ReadRequest) (blocks []*block.Block, upto uint64, err error)
}

// feed hands archived events to plugins, in the order of a stream: what was just archived from memory, the rest read
// back. It is the one way that live, lagging, restarted and new plugins get their events.
type feed struct {
	archive archiveReader
	follow  *follower // of other processes' streams; nil where there are none

	mu      sync.Mutex
	stream  string         // the live one of this process; empty where it has none
	recent  []*block.Block // owned events of the live stream in (start, end]
	start   uint64
	end     uint64 // archived_to
	bytes   int
	changed chan struct{} // closed when end moves
}

func newFeed(archive archiveReader, stream string, archivedTo uint64) *feed {
	return &feed{archive: archive, stream: stream, start: archivedTo, end: archivedTo, changed: make(chan struct{})}
}

// offer tells of blocks that the archive owns now; together they cover (end, upto].
func (f *feed) offer(blocks []*block.Block, upto uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range blocks {
		if b.Len() > 0 {
			f.recent = append(f.recent, b)
			f.bytes += b.Bytes()
		}
	}
	drop := 0
	for f.bytes > feedBytes && drop < len(f.recent) {
		f.bytes -= f.recent[drop].Bytes()
		f.start = f.recent[drop].Upto
		f.recent[drop] = nil
		drop++
	}
	f.recent = f.recent[drop:]
	f.end = upto
	close(f.changed)
	f.changed = make(chan struct{})
}

// reach tells that everything up to a position is archived, without saying what: it is read back.
func (f *feed) reach(upto uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.recent)
	f.recent, f.bytes, f.start, f.end = f.recent[:0], 0, upto, upto
	close(f.changed)
	f.changed = make(chan struct{})
}

// renew says that the live stream goes on under another name behind a position.
func (f *feed) renew(stream string, at uint64) {
	f.mu.Lock()
	f.stream = stream
	f.mu.Unlock()
	f.reach(at)
}

// live names the live stream.
func (f *feed) live() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stream
}

// archivedTo is the end of the live stream.
func (f *feed) archivedTo() uint64 {
	end, _ := f.watch()
	return end
}

// watch gives the end of the live stream, and a channel that is closed when it moves.
func (f *feed) watch() (end uint64, moved <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.end, f.changed
}

// Streams lists the streams to compute, those that are over before the live one.
func (f *feed) Streams(ctx context.Context) ([]string, error) {
	list := f.archive.Streams
	if f.follow != nil {
		list = f.follow.streams
	}
	all, err := list(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	live := f.live()
	for _, s := range all {
		if s.ID != live {
			out = append(out, s.ID)
		}
	}
	if live == "" {
		return out, nil
	}
	return append(out, live), nil
}

// Ends gives the last archived position of every stream.
func (f *feed) Ends(ctx context.Context) (map[string]uint64, error) {
	all, err := f.archive.Streams(ctx)
	if err != nil {
		return nil, err
	}
	out := make(map[string]uint64, len(all))
	for _, s := range all {
		out[s.ID] = s.ArchivedTo
	}
	if live := f.live(); live != "" {
		out[live] = f.archivedTo()
	}
	return out, nil
}

// Next gives owned events of a stream after a position and how far they reach; the first block may begin before the
// position. For the live stream it waits until there are some; at the end of one that is over, upto is after.
func (f *feed) Next(ctx context.Context, stream string, after uint64, bodies bool) ([]*block.Block, uint64, error) {
	for stream == f.live() {
		blocks, upto, changed := f.fromMemory(after)
		if upto > after {
			return blocks, upto, nil
		}
		if changed == nil {
			break // further back than memory goes
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, after, ctx.Err()
		}
	}
	r := store.ReadRequest{Stream: stream, After: after, Events: readEvents, Bodies: bodies}
	if f.follow != nil && stream != f.live() {
		return f.follow.read(ctx, r)
	}
	blocks, upto, err := f.archive.Read(ctx, r)
	if err == nil && upto == after && stream != f.live() {
		select {
		case <-time.After(endedPause):
		case <-ctx.Done():
			return nil, after, ctx.Err()
		}
	}
	return blocks, upto, err
}

// fromMemory gives what follows a position, or a channel to wait on where nothing does yet; neither where memory
// doesn't reach back that far.
func (f *feed) fromMemory(after uint64) ([]*block.Block, uint64, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if after < f.start {
		return nil, after, nil
	}
	if after >= f.end {
		return nil, after, f.changed
	}
	for i, b := range f.recent {
		if b.Upto <= after {
			continue
		}
		rest := slices.Clone(f.recent[i:min(len(f.recent), i+blocksAtOnce)])
		upto := f.end
		if i+blocksAtOnce < len(f.recent) {
			upto = rest[len(rest)-1].Upto
		}
		return rest, upto, nil
	}
	return nil, f.end, nil // only holes up to the end
}
