package host

import (
	"context"
	"errors"
	"fmt"
	"sync"

	pb "github.com/statscache/statscache/plugins/proto"
	"github.com/statscache/statscache/store"
)

// maxRegister is how often a plugin tries to be registered.
const maxRegister = 3

// prepare makes the runner ready for what the plugin says it is: checked, the only one of its id, known to the store.
func (r *Runner) prepare(ctx context.Context, m *pb.Manifest) error {
	def, err := define(m)
	if err != nil {
		return &refusal{fmt.Errorf("manifest of plugin %s: %w", r.program.ID, err)}
	}
	if r.program.Builtin && def.plugin.ID != r.program.ID {
		return &refusal{fmt.Errorf("bundled plugin %s says that it is %s", r.program.ID, def.plugin.ID)}
	}
	if err := r.host.claim(ctx, r, def.plugin.ID); err != nil {
		return err
	}
	r.show(def)
	if err := r.host.isOff(def.plugin.ID); err != nil {
		return &refusal{err}
	}
	if r.def != nil && r.def.plugin.ID == def.plugin.ID && r.def.plugin.Version == def.plugin.Version && r.def.plugin.Fingerprint == def.plugin.Fingerprint {
		r.def.deadline, r.def.plugin = def.deadline, def.plugin
		return nil
	}
	r.closeLanes() // another program has taken the place of the one before
	r.def = nil
	generations, err := r.register(ctx, def)
	if err != nil {
		return err
	}
	generation := generations.Serving
	if generations.Building != 0 {
		generation = generations.Building
	}
	var positions []store.Position
	err = r.persist(ctx, func() (err error) {
		positions, err = r.host.Store.Positions(ctx, def.plugin.ID, generation)
		return err
	})
	if err != nil {
		return fmt.Errorf("positions of plugin %s: %w", def.plugin.ID, err)
	}
	dead, err := r.countDead(ctx, def.plugin.ID, generation)
	if err != nil {
		return err
	}
	r.def, r.generation = def, generation
	if r.host.OnReady != nil {
		r.host.OnReady(r.program, def.plugin, generation)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.prepared, r.building = true, generations.Building != 0
	if r.lettersOf = generation; dead >= 0 {
		r.shown.DeadLetters = dead
	}
	clear(r.positions)
	for _, p := range positions {
		r.positions[p.Stream] = p.Pos
	}
	return nil
}

// countDead gives how many dead letters a generation has, -1 where the store can't tell.
func (r *Runner) countDead(ctx context.Context, plugin string, generation uint32) (n int, err error) {
	s, ok := r.host.Store.(store.Requeuer)
	if !ok {
		return -1, nil
	}
	err = r.persist(ctx, func() (err error) {
		_, n, err = s.Buried(ctx, plugin, generation, store.Place{}, 0)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("count the dead letters of plugin %s: %w", plugin, err)
	}
	return n, nil
}

// register makes the plugin known to the store. What the store refuses again and again, it refuses for good: a metric
// that another plugin has.
func (r *Runner) register(ctx context.Context, def *definition) (g store.Generations, err error) {
	pause := newBackoff(r.host.Limits.BackoffMin, maxStoreWait)
	for attempt := 1; ; attempt++ {
		err = r.persist(ctx, func() (err error) {
			g, err = r.host.Store.Register(ctx, def.plugin)
			return err
		})
		if err == nil || ctx.Err() != nil {
			return g, err
		}
		if attempt == maxRegister {
			return g, &refusal{fmt.Errorf("register plugin %s: %w", def.plugin.ID, err)}
		}
		pause.wait(ctx)
	}
}

func (r *Runner) show(def *definition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shown.ID, r.shown.Version, r.shown.DataVersion = def.plugin.ID, def.plugin.Version, def.plugin.DataVersion
	r.shown.Metrics = r.shown.Metrics[:0]
	for _, m := range def.metrics {
		r.shown.Metrics = append(r.shown.Metrics, m.id)
	}
}

// survey looks again and again which streams there are, has them fed, and has the generation take its place when it
// has caught up. It ends with ctx or on an error that is none of the plugin's.
func (r *Runner) survey(ctx context.Context, to chan<- *batch, feeders *sync.WaitGroup) error {
	fed := map[string]bool{}
	var others aside
	for {
		err := r.lookAside(ctx, &others)
		reached := false
		if err == nil {
			reached, err = r.look(ctx)
		}
		if failed := r.yield(fed); failed != nil {
			return failed
		}
		if err == nil {
			err = r.feedAll(ctx, to, feeders, fed)
		}
		if err == nil && reached {
			err = r.promote(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, store.ErrUnavailable):
			r.complain(err)
		case err != nil:
			return err
		}
		r.settle()
		if !sleep(ctx, r.host.Limits.Poll) {
			return nil
		}
	}
}

// look learns how far the streams reach. reached says whether everything is committed that was there the last time:
// the ends of a busy stream are never reached as of now.
func (r *Runner) look(ctx context.Context) (reached bool, err error) {
	streams, err := r.host.Store.Streams(ctx)
	if err != nil {
		return false, fmt.Errorf("streams: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	reached = true
	for _, s := range streams {
		before, seen := r.ends[s.ID]
		if !seen && s.ArchivedTo > 0 || r.positions[s.ID] < before {
			reached = false
		}
		r.ends[s.ID] = s.ArchivedTo
		r.retired[s.ID] = s.Retired
	}
	return reached, nil
}

// feedAll opens the lanes that are due and has every one fed that is not yet: retired streams one after the other, then
// the live ones side by side.
func (r *Runner) feedAll(ctx context.Context, to chan<- *batch, feeders *sync.WaitGroup, fed map[string]bool) error {
	streams, err := r.host.Feed.Streams(ctx)
	if err != nil {
		return fmt.Errorf("streams of the feed: %w", err)
	}
	var due []string
	if r.shared() {
		due = r.dueHere(streams, fed)
	} else {
		var finished []*lane
		due, finished = r.due(streams)
		for _, l := range finished {
			l.close()
		}
	}
	for _, stream := range due {
		if fed[stream] {
			continue
		}
		l := r.laneOf(stream)
		if l == nil {
			if l, err = r.openLane(r.living, r.def, r.generation, stream); err != nil {
				if err = r.unopened(stream, err); err != nil {
					return err
				}
				continue
			}
			r.mu.Lock()
			r.lanes[stream] = l
			r.positions[stream] = l.checkpoint.Pos()
			r.mu.Unlock()
		}
		fed[stream] = true
		feeders.Go(func() {
			inner, cancel := context.WithCancel(ctx)
			defer cancel()
			defer context.AfterFunc(l.closing, cancel)()
			l.feed(inner, to)
		})
	}
	return nil
}

// due gives the streams to feed now, and the lanes of streams that are finished.
func (r *Runner) due(streams []string) (due []string, finished []*lane) {
	r.mu.Lock()
	defer r.mu.Unlock()
	waiting := false // for a retired stream
	for _, s := range streams {
		if !r.retired[s] {
			if !waiting {
				due = append(due, s)
			}
			continue
		}
		if end, known := r.ends[s]; known && r.positions[s] >= end {
			if l := r.lanes[s]; l != nil {
				finished = append(finished, l)
				delete(r.lanes, s)
			}
			continue
		}
		if !waiting {
			due = append(due, s)
			waiting = true
		}
	}
	return due, finished
}

// promote has a generation that was built beside another one take its place.
func (r *Runner) promote(ctx context.Context) error {
	r.mu.Lock()
	building := r.building
	r.mu.Unlock()
	if !building {
		return nil
	}
	if err := r.host.Store.Promote(ctx, r.def.plugin.ID, r.generation); err != nil {
		return fmt.Errorf("promote generation %d of plugin %s: %w", r.generation, r.def.plugin.ID, err)
	}
	r.host.Logger.Info("plugin's new generation is served", "plugin", r.def.plugin.ID, "generation", r.generation)
	r.mu.Lock()
	r.building = false
	r.mu.Unlock()
	r.host.progress.notify()
	return nil
}

// persist repeats a call of the store while the store is unavailable.
func (r *Runner) persist(ctx context.Context, call func() error) error {
	pause := newBackoff(r.host.Limits.BackoffMin, maxStoreWait)
	for {
		err := call()
		if !errors.Is(err, store.ErrUnavailable) || ctx.Err() != nil { // what was broken off says nothing of the store
			return err
		}
		r.complain(err)
		if !pause.wait(ctx) {
			return err
		}
	}
}

func (r *Runner) laneOf(stream string) *lane {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lanes[stream]
}

// open gives the open lanes.
func (r *Runner) open() []*lane {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]*lane, 0, len(r.lanes))
	for _, l := range r.lanes {
		out = append(out, l)
	}
	return out
}

// closeLanes commits what is answered and closes all lanes.
func (r *Runner) closeLanes() {
	lanes := r.open()
	for _, l := range lanes {
		l.cancel()
	}
	for _, l := range lanes {
		<-l.done
	}
	r.mu.Lock()
	clear(r.lanes)
	r.mu.Unlock()
}
