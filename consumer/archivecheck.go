package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"slices"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/statscache/statscache/consumer/config"
	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
	"github.com/statscache/statscache/store/sqlite"
)

// problemsKept bounds the problems that a check names.
const problemsKept = 100

// ArchiveStats says what the archive holds and occupies.
type ArchiveStats struct {
	Store   string        `json:"store"`
	Events  int64         `json:"events"`
	First   *time.Time    `json:"first,omitempty"` // of the events' times
	Last    *time.Time    `json:"last,omitempty"`
	Horizon *time.Time    `json:"horizon,omitempty"` // events before it are not kept
	Streams []StreamStats `json:"streams"`
	Sizes   *sqlite.Sizes `json:"sizes,omitempty"` // of a SQLite store
}

// StreamStats is a stream as the archive knows it.
type StreamStats struct {
	ID         string `json:"id"`
	ArchivedTo uint64 `json:"archived_to"`
	Owned      uint64 `json:"owned"` // events given to the archive, those that have expired since included
}

// ArchiveCheck is what a look at every archived event came to.
type ArchiveCheck struct {
	Events   int64    `json:"events"` // read and found whole
	Blocks   int64    `json:"blocks"`
	Problems []string `json:"problems"` // the first ones
}

// openArchive opens the store to read from; it must be there.
func openArchive(ctx context.Context, c *config.Config) (store.Store, error) {
	if _, err := os.Stat(c.Store.Path); c.Store.Kind == "sqlite" && err != nil {
		return nil, fmt.Errorf("there is no archive: %s: %w", c.Store.Path, unwrapPath(err))
	}
	return openStore(ctx, c, true, slog.New(slog.DiscardHandler), time.Now)
}

// MeasureArchive looks at the archive beside a running daemon or without one.
func MeasureArchive(ctx context.Context, c *config.Config) (out ArchiveStats, err error) {
	s, err := openArchive(ctx, c)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	out.Store = s.Kind()
	list, err := s.Streams(ctx)
	if err != nil {
		return out, fmt.Errorf("list streams: %w", err)
	}
	for _, x := range list {
		out.Streams = append(out.Streams, StreamStats{ID: x.ID, ArchivedTo: x.ArchivedTo, Owned: x.Owned})
		out.Events += int64(x.Owned)
	}
	at := func(us int64) *time.Time { t := time.UnixMicro(us).UTC(); return &t }
	measured, ok := s.(interface {
		Sizes(context.Context) (sqlite.Sizes, error)
	})
	if !ok {
		return out, nil
	}
	sizes, err := measured.Sizes(ctx)
	if err != nil {
		return out, err
	}
	out.Sizes, out.Events = &sizes, sizes.Events
	if sizes.Events > 0 {
		out.First, out.Last = at(sizes.First), at(sizes.Last)
	}
	if sizes.Horizon != math.MinInt64 {
		out.Horizon = at(sizes.Horizon)
	}
	return out, nil
}

// CheckArchive reads every archived event, beside a running daemon or without one: that it can be read, is what its hash
// says, and stands there once, and that there are as many as were counted in.
func CheckArchive(ctx context.Context, c *config.Config, progress func(events int)) (out ArchiveCheck, err error) {
	s, err := openArchive(ctx, c)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	k := &archiveCheck{ArchiveCheck: ArchiveCheck{Problems: []string{}}, perStream: map[string]int64{}, progress: progress}
	if c.Store.Kind == "sqlite" {
		problems, err := sqlite.Damaged(ctx, c.Store.Path)
		if err != nil {
			return out, fmt.Errorf("look at %s: %w", c.Store.Path, err)
		}
		for _, p := range problems {
			k.problem("%s: %s", c.Store.Path, p)
		}
	}
	before, err := s.Streams(ctx)
	if err == nil {
		err = s.Scan(ctx, store.ScanRequest{From: math.MinInt64, To: math.MaxInt64, Bodies: true}, k.block)
	}
	if err != nil {
		if ctx.Err() != nil {
			return out, ctx.Err()
		}
		k.problem("the archive can't be read to its end: %v", err) // a damaged block ends a scan
		return k.ArchiveCheck, nil
	}
	after, err := s.Streams(ctx)
	if err != nil {
		return out, fmt.Errorf("list streams: %w", err)
	}
	h, err := s.Horizons(ctx)
	if err != nil {
		return out, fmt.Errorf("read the horizon: %w", err)
	}
	k.duplicates()
	if h.Archive == math.MinInt64 {
		k.counts(before, after)
	}
	return k.ArchiveCheck, nil
}

// archiveCheck is a check under way.
type archiveCheck struct {
	ArchiveCheck
	perStream map[string]int64
	ids       []uint64 // hashes of the ids
	progress  func(int)
}

func (k *archiveCheck) problem(format string, args ...any) {
	if len(k.Problems) < problemsKept {
		k.Problems = append(k.Problems, fmt.Sprintf(format, args...))
	}
}

func (k *archiveCheck) block(stream string, b *block.Block) error {
	k.Blocks++
	ids, err := b.IDs()
	if err != nil {
		k.problem("stream %s, positions %d to %d: %v", stream, b.First, b.Upto, err)
		return nil
	}
	for i, id := range ids {
		if id == "" {
			k.problem("stream %s, position %d: an event without an id", stream, b.Seq(i))
		}
		k.ids = append(k.ids, xxh3.HashString(id))
	}
	k.perStream[stream] += int64(len(ids))
	k.Events += int64(len(ids))
	if k.progress != nil {
		k.progress(int(k.Events))
	}
	return nil
}

// duplicates looks for ids that stand there twice.
func (k *archiveCheck) duplicates() {
	slices.Sort(k.ids)
	twice := 0
	for i := 1; i < len(k.ids); i++ {
		if k.ids[i] == k.ids[i-1] {
			twice++
		}
	}
	if twice > 0 {
		k.problem("%d events stand in the archive more than once", twice)
	}
}

// counts holds what was read to what was counted in, before and after: the archive may have grown meanwhile.
func (k *archiveCheck) counts(before, after []store.Stream) {
	atLeast := map[string]int64{}
	for _, s := range before {
		atLeast[s.ID] = int64(s.Owned)
	}
	for _, s := range after {
		if n := k.perStream[s.ID]; n < atLeast[s.ID] || n > int64(s.Owned) {
			k.problem("stream %s: %d events were read, and %d were counted in", s.ID, n, s.Owned)
		}
	}
}
