package consumer

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/plugins/host"
	"github.com/statscache/statscache/store"
)

const (
	// followEvery is how often a process looks how far the streams of others reach.
	followEvery = 250 * time.Millisecond
	// followShare is how many times longer than a look itself the time to the next one is at least.
	followShare = 3
	// followWait bounds one look.
	followWait = 5 * time.Second
	// recallBytes bounds what was read of others' streams and is kept for the next plugin that comes by.
	recallBytes = 24 << 20
)

// follower knows the streams of a store that several processes share, with one question to it for all plugins.
type follower struct {
	archive archiveReader

	mu      sync.Mutex
	list    []store.Stream
	err     error         // of the last look
	looked  bool          // once at least
	changed chan struct{} // closed at every look

	flights singleflight.Group
	recall  recall
}

func newFollower(a archiveReader) *follower {
	return &follower{archive: a, changed: make(chan struct{})}
}

// run looks until ctx ends.
func (f *follower) run(ctx context.Context) error {
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-next.C:
		case <-ctx.Done():
			return nil
		}
		began := time.Now()
		f.look(ctx)
		next.Reset(max(followEvery, followShare*time.Since(began))) // a store that has too much to do is not given more
	}
}

func (f *follower) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, followWait)
	defer cancel()
	list, err := f.archive.Streams(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err = err; err == nil {
		f.list, f.looked = list, true
	}
	close(f.changed)
	f.changed = make(chan struct{})
}

// streams gives the streams as they were at the last look.
func (f *follower) streams(ctx context.Context) ([]store.Stream, error) {
	for {
		f.mu.Lock()
		list, looked, err, changed := f.list, f.looked, f.err, f.changed
		f.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if looked {
			return slices.Clone(list), nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("list streams: %w", ctx.Err())
		}
	}
}

// known gives what was seen last, though the store may be away since.
func (f *follower) known() []store.Stream {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.list)
}

// wait returns when a stream is archived beyond a position, after endedPause at the latest.
func (f *follower) wait(ctx context.Context, stream string, after uint64) {
	late := time.NewTimer(endedPause)
	defer late.Stop()
	for {
		f.mu.Lock()
		i := slices.IndexFunc(f.list, func(s store.Stream) bool { return s.ID == stream })
		there, changed := i >= 0 && f.list[i].ArchivedTo > after, f.changed
		f.mu.Unlock()
		if there {
			return
		}
		select {
		case <-changed:
		case <-late.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// read reads events of another process's stream, once for all plugins that are at the same place.
func (f *follower) read(ctx context.Context, r store.ReadRequest) ([]*block.Block, uint64, error) {
	f.wait(ctx, r.Stream, r.After)
	if b, upto, ok := f.recall.find(r); ok {
		return b, upto, nil
	}
	type result struct {
		blocks []*block.Block
		upto   uint64
	}
	x, err, _ := f.flights.Do(fmt.Sprint(r), func() (any, error) {
		blocks, upto, err := f.archive.Read(ctx, r)
		if err == nil {
			f.recall.keep(r, blocks, upto)
		}
		return result{blocks, upto}, err
	})
	if err != nil { // it may be the context of another plugin that has ended
		return nil, r.After, err
	}
	got := x.(result) // what the function above gives
	return slices.Clone(got.blocks), got.upto, nil
}

// recall keeps what was read last. Archived events don't change.
type recall struct {
	mu    sync.Mutex
	list  []recalled // oldest first
	bytes int
}

type recalled struct {
	request store.ReadRequest
	blocks  []*block.Block
	upto    uint64
	bytes   int
}

func (c *recall) find(r store.ReadRequest) ([]*block.Block, uint64, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, x := range c.list {
		if x.request == r {
			return slices.Clone(x.blocks), x.upto, true
		}
	}
	return nil, 0, false
}

func (c *recall) keep(r store.ReadRequest, blocks []*block.Block, upto uint64) {
	if upto == r.After {
		return // there will be more to read from here
	}
	x := recalled{r, slices.Clone(blocks), upto, 0}
	for _, b := range blocks {
		x.bytes += b.Bytes()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, x)
	for c.bytes += x.bytes; c.bytes > recallBytes; c.list = c.list[1:] {
		c.bytes -= c.list[0].bytes
	}
}

// followedStore is a store of which the plugin host asks for the streams again and again.
type followedStore struct {
	host.Store
	follow *follower
}

func (s followedStore) Streams(ctx context.Context) ([]store.Stream, error) {
	return s.follow.streams(ctx)
}
