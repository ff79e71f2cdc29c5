package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"time"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
)

const (
	// carryEvents is how many events are read at once.
	carryEvents = 4 * block.MaxEvents
	// carryTries is how often a source that has changed meanwhile is gone through again.
	carryTries = 5
	// settleWithin is how long commits under way may take before they are finished by force.
	settleWithin = 10 * time.Second
)

// migration brings what one store holds into another. Everything in it can be done again: the archive goes on where the
// target's stands, of numbers the difference is added, and what is there is compared, not written. So a source that went
// on in between, or a life that was killed, costs time and nothing else.
type migration struct {
	source, target store.Store
	in, out        store.Carrier // target and source
	from           string
	progress       func(done int)
	log            *slog.Logger
	done           int
	duplicates     int // events that the target refused
	sum            MigrateSummary
}

// standing is where a store stands.
type standing struct {
	Streams   []store.Stream
	Serving   []store.Serving
	Positions map[string][]store.Position
	Horizons  store.Horizons
}

func (m *migration) run(ctx context.Context) (MigrateSummary, error) {
	var ok bool
	if m.out, ok = m.source.(store.Carrier); ok {
		m.in, ok = m.target.(store.Carrier)
	}
	if !ok {
		return m.sum, fmt.Errorf("a store of kind %s can't be brought into one of kind %s", m.source.Kind(), m.target.Kind())
	}
	if err := m.begin(ctx); err != nil {
		return m.sum, err
	}
	for try := 1; ; try++ {
		before, err := m.stand(ctx)
		if err != nil {
			return m.sum, err
		}
		m.sum, m.duplicates = MigrateSummary{Streams: len(before.Streams), Plugins: len(before.Serving)}, 0
		wrong := m.once(ctx, before)
		after, err := m.stand(ctx)
		if err != nil {
			return m.sum, errors.Join(wrong, err)
		}
		switch {
		case reflect.DeepEqual(before, after) && wrong != nil:
			return m.sum, wrong
		case reflect.DeepEqual(before, after):
			return m.sum, m.in.NoteCarriage(ctx, store.Carriage{From: m.from, Done: true})
		case try == carryTries || ctx.Err() != nil:
			return m.sum, errors.Join(fmt.Errorf("%s has changed while it was read", m.from), wrong, ctx.Err())
		}
		m.log.Info("the store has changed while it was copied; the rest follows", "try", try)
	}
}

// begin takes a target that is empty or holds a part of the same source.
func (m *migration) begin(ctx context.Context) error {
	list, err := m.in.Carriages(ctx)
	if err != nil {
		return err
	}
	for _, c := range list {
		if c.From != m.from {
			return fmt.Errorf("the target holds what was migrated from %s; choose an empty one", c.From)
		}
	}
	if len(list) == 0 {
		streams, err := m.target.Streams(ctx)
		if err != nil {
			return fmt.Errorf("list the target's streams: %w", err)
		}
		plugins, err := m.target.Plugins(ctx)
		if err != nil {
			return fmt.Errorf("list the target's plugins: %w", err)
		}
		if len(streams)+len(plugins) > 0 {
			return fmt.Errorf("the target is not empty: it has %d streams and %d plugins; choose an empty one", len(streams), len(plugins))
		}
	}
	return m.in.NoteCarriage(ctx, store.Carriage{From: m.from})
}

// stand reads where the source stands, once no commit is half done.
func (m *migration) stand(ctx context.Context) (s standing, err error) {
	for began := time.Now(); ; {
		unsettled, err := m.look(ctx, &s)
		if err != nil || len(unsettled) == 0 {
			return s, err
		}
		if time.Since(began) > settleWithin { // nobody does it: it was broken off
			for _, key := range unsettled {
				c, err := m.source.Checkpoint(ctx, key)
				if err == nil {
					err = c.Close()
				}
				if err != nil {
					return s, fmt.Errorf("finish a commit of plugin %s: %w", key.Plugin, err)
				}
			}
			continue
		}
		select {
		case <-time.After(answerPause):
		case <-ctx.Done():
			return s, ctx.Err()
		}
	}
}

func (m *migration) look(ctx context.Context, s *standing) (unsettled []store.CheckpointKey, err error) {
	*s = standing{Positions: map[string][]store.Position{}}
	if s.Serving, err = m.out.Serving(ctx); err != nil {
		return nil, fmt.Errorf("list plugins: %w", err)
	}
	if s.Streams, err = m.source.Streams(ctx); err != nil {
		return nil, fmt.Errorf("list streams: %w", err)
	}
	if s.Horizons, err = m.source.Horizons(ctx); err != nil {
		return nil, fmt.Errorf("read horizons: %w", err)
	}
	for _, p := range s.Serving {
		list, err := m.source.Positions(ctx, p.ID, p.Generation)
		if err != nil {
			return nil, fmt.Errorf("positions of plugin %s: %w", p.ID, err)
		}
		s.Positions[p.ID] = list
		for _, x := range list {
			if x.Pos != x.Intent {
				unsettled = append(unsettled, store.CheckpointKey{Plugin: p.ID, Generation: p.Generation, Stream: x.Stream})
			}
		}
	}
	return unsettled, nil
}

// once copies what the target lacks, then compares all of it.
func (m *migration) once(ctx context.Context, s standing) error {
	if len(s.Horizons.Counters) > 0 { // first: behind them nothing is read and nothing written
		if _, err := m.target.ExpireCounters(ctx, s.Horizons.Counters); err != nil {
			return fmt.Errorf("bring over retention: %w", err)
		}
	}
	for _, x := range s.Streams {
		if err := m.stream(ctx, x); err != nil {
			return fmt.Errorf("archive of stream %s: %w", x.ID, err)
		}
	}
	for _, p := range s.Serving {
		if err := m.plugin(ctx, p, s.Positions[p.ID]); err != nil {
			return fmt.Errorf("plugin %s: %w", p.ID, err)
		}
	}
	if err := m.compareStreams(ctx, s.Streams); err != nil {
		return err
	}
	if before := s.Horizons.Archive; before != noHorizon { // last: the target may refuse or remove more behind it than the source has
		if _, err := m.target.ExpireArchive(ctx, before); err != nil {
			return fmt.Errorf("bring over the archive's retention: %w", err)
		}
	}
	return nil
}

func (m *migration) tell(n int) {
	m.done += n
	if m.progress != nil {
		m.progress(m.done)
	}
}

// stream copies a stream's events at the positions that they have. Holes stay holes.
func (m *migration) stream(ctx context.Context, s store.Stream) error {
	at, err := m.target.Attach(ctx, s.ID)
	if err != nil {
		return err
	}
	if at > s.ArchivedTo {
		return fmt.Errorf("the target has it up to %d, the source up to %d", at, s.ArchivedTo)
	}
	for at < s.ArchivedTo {
		blocks, upto, err := m.source.Read(ctx, store.ReadRequest{Stream: s.ID, After: at, Events: carryEvents, Bodies: true})
		if err != nil {
			return fmt.Errorf("read after %d: %w", at, err)
		}
		if upto <= at {
			return fmt.Errorf("nothing is to be read after %d, though it is archived up to %d", at, s.ArchivedTo)
		}
		done, err := m.target.Archive(ctx, s.ID, cover(blocks, at, upto))
		if err != nil {
			return fmt.Errorf("write after %d: %w", at, err)
		}
		for _, x := range done {
			m.duplicates += x.Duplicates + x.Expired
			m.tell(x.Owned.Len())
		}
		at = upto
	}
	return m.in.AdoptOwned(ctx, s.ID, s.Owned)
}

// cover makes blocks follow each other from a position to another one, as Archive wants them.
func cover(blocks []*block.Block, after, upto uint64) []*block.Block {
	var out []*block.Block
	for _, b := range blocks {
		x := *b
		x.Seqs = make([]uint64, b.Len())
		for i := range x.Seqs {
			x.Seqs[i] = b.Seq(i)
		}
		x.First, x.Upto = after+1, min(b.Upto, upto)
		if x.Upto <= after {
			continue
		}
		if uint64(len(x.Seqs)) == x.Upto-after {
			x.Seqs = nil // no holes
		}
		out, after = append(out, &x), x.Upto
	}
	if after < upto {
		out = append(out, &block.Block{First: after + 1, Upto: upto, Names: []string{""}, Category: []uint32{0}, Seqs: []uint64{}})
	}
	return out
}

// streamSum is what a stream's events come to: their number, and their positions and times as one number.
type streamSum struct {
	events int
	digest uint64
}

// compareStreams compares what both archives hold, event by event.
func (m *migration) compareStreams(ctx context.Context, list []store.Stream) error {
	now, err := m.target.Streams(ctx)
	if err != nil {
		return fmt.Errorf("list the target's streams: %w", err)
	}
	there := map[string]store.Stream{}
	for _, s := range now {
		there[s.ID] = s
	}
	for _, s := range list {
		if t := there[s.ID]; t.ArchivedTo != s.ArchivedTo || t.Owned != s.Owned {
			return fmt.Errorf("stream %s: the target is at %d with %d events, the source at %d with %d", s.ID, t.ArchivedTo, t.Owned, s.ArchivedTo, s.Owned)
		}
		want, err := m.sumStream(ctx, m.source, s)
		if err != nil {
			return err
		}
		got, err := m.sumStream(ctx, m.target, s)
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("stream %s: the target holds %d events, the source %d, or others; %d were refused as copies or as too old", s.ID, got.events, want.events, m.duplicates)
		}
		m.sum.Events += want.events
	}
	return nil
}

func (m *migration) sumStream(ctx context.Context, from store.Store, s store.Stream) (sum streamSum, err error) {
	for at := uint64(0); at < s.ArchivedTo; {
		blocks, upto, err := from.Read(ctx, store.ReadRequest{Stream: s.ID, After: at, Events: carryEvents})
		if err != nil {
			return sum, fmt.Errorf("read stream %s after %d: %w", s.ID, at, err)
		}
		for _, b := range blocks {
			for i := range b.Len() {
				if seq := b.Seq(i); seq > at && seq <= upto {
					sum.events++
					sum.digest = (sum.digest^seq)*fnvPrime ^ uint64(b.Time[i])
				}
			}
			m.tell(b.Len())
		}
		if upto <= at {
			break
		}
		at = upto
	}
	return sum, nil
}

// fnvPrime is the 64-bit one of FNV.
const fnvPrime = 1099511628211
