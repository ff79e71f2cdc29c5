package host

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/statscache/statscache/store"
)

// Share divides the work of plugins among processes that share a store. That no stream is counted twice rests on the
// store's fencing, never on this.
type Share interface {
	// Mine takes in which streams a plugin has work in and answers those that this process is to work on. What an
	// answer leaves out is put down before the next call. No streams: the plugin is not run here any more.
	Mine(plugin string, streams []string) []string
	// Lost says that another process has taken a stream that was this one's.
	Lost(plugin, stream string)
	// GenerationsOf gives the numbers of a plugin's generations that have a fingerprint, 0 for one that has another.
	GenerationsOf(ctx context.Context, plugin, fingerprint string) (store.Generations, error)
}

// othersEvery is how often a plugin looks at what other processes have committed, where it isn't waiting for it.
const othersEvery = 2 * time.Second

// aside is what a runner knows of the other processes.
type aside struct {
	looked time.Time // at their positions
}

func (r *Runner) shared() bool { return r.host.Share != nil }

// lookAside learns what other processes have done: how far they have come, and which generation is in the making.
func (r *Runner) lookAside(ctx context.Context, a *aside) error {
	if !r.shared() {
		return nil
	}
	if err := r.sameGeneration(ctx); err != nil {
		return err
	}
	r.mu.Lock()
	building := r.building
	r.mu.Unlock()
	if !building && time.Since(a.looked) < othersEvery {
		return nil
	}
	positions, err := r.host.Store.Positions(ctx, r.def.plugin.ID, r.generation)
	if err != nil {
		return fmt.Errorf("positions of plugin %s: %w", r.def.plugin.ID, err)
	}
	a.looked = time.Now()
	r.mu.Lock()
	for _, p := range positions {
		r.positions[p.Stream] = max(r.positions[p.Stream], p.Pos)
	}
	r.mu.Unlock()
	r.host.progress.notify()
	return nil
}

// sameGeneration follows what other processes do to the plugin's generations.
func (r *Runner) sameGeneration(ctx context.Context) error {
	id := r.def.plugin.ID
	g, err := r.host.Share.GenerationsOf(ctx, id, r.def.plugin.Fingerprint)
	if err != nil {
		return fmt.Errorf("generations of plugin %s: %w", id, err)
	}
	r.mu.Lock()
	building := r.building
	if building && g.Serving == r.generation {
		r.building = false
	}
	r.mu.Unlock()
	switch {
	case g.Serving == 0 && g.Building == 0:
		return &refusal{fmt.Errorf("another process runs another version of plugin %s, whose numbers have taken the place of this one's", id)}
	case g.Building != 0 && g.Building != r.generation || g.Building == 0 && g.Serving != r.generation:
		r.host.Logger.Info("another process has begun a new generation of the plugin's numbers", "plugin", id)
		r.ask(errAsked)
	case building && g.Serving == r.generation:
		r.host.Logger.Info("plugin's new generation is served", "plugin", id, "generation", r.generation)
		r.host.progress.notify()
	}
	return nil
}

// yield puts down the lanes that other processes have taken; the first other failure is an error.
func (r *Runner) yield(fed map[string]bool) error {
	for _, l := range r.open() {
		failed := l.failed()
		switch {
		case failed == nil:
		case r.shared() && errors.Is(failed, store.ErrFenced):
			r.host.Logger.Info("another process works on the stream now", "plugin", r.def.plugin.ID, "stream", l.stream)
			r.put(l, fed)
			r.host.Share.Lost(r.def.plugin.ID, l.stream)
		default:
			return failed
		}
	}
	return nil
}

// put closes a lane so that it may be opened again.
func (r *Runner) put(l *lane, fed map[string]bool) {
	l.close()
	r.mu.Lock()
	if r.lanes[l.stream] == l {
		delete(r.lanes, l.stream)
	}
	r.mu.Unlock()
	delete(fed, l.stream)
}

// dueHere gives the streams that this process is to feed now: of those that are over one after the other, the live
// ones side by side. Lanes of others are put down.
func (r *Runner) dueHere(streams []string, fed map[string]bool) []string {
	var work []string
	var done []*lane
	over := map[string]bool{}
	r.mu.Lock()
	for _, s := range streams {
		if end, known := r.ends[s]; r.retired[s] && known && r.positions[s] >= end {
			if l := r.lanes[s]; l != nil {
				done = append(done, l)
			}
			continue
		}
		work = append(work, s)
		over[s] = r.retired[s]
	}
	r.mu.Unlock()
	for _, l := range done {
		r.put(l, fed)
	}
	mine := r.host.Share.Mine(r.def.plugin.ID, work)
	for _, l := range r.open() {
		if !slices.Contains(mine, l.stream) {
			r.put(l, fed)
		}
	}
	var due []string
	waiting := false
	for _, s := range mine {
		if over[s] && waiting {
			continue
		}
		waiting = waiting || over[s]
		due = append(due, s)
	}
	return due
}

// unopened takes being fenced at the opening of a lane for what it is among processes; other errors it gives back.
func (r *Runner) unopened(stream string, err error) error {
	if !r.shared() || !errors.Is(err, store.ErrFenced) && !errors.Is(err, store.ErrUnknown) {
		return err
	}
	r.host.Share.Lost(r.def.plugin.ID, stream)
	return nil
}

// leave leaves the plugin's work to other processes, once nothing of it runs here.
func (r *Runner) leave() {
	if !r.shared() {
		return
	}
	r.closeLanes()
	r.host.mu.Lock()
	owner := r.host.claims[r.id()]
	r.host.mu.Unlock()
	if owner == r { // else the id is another program's
		r.host.Share.Mine(r.id(), nil)
	}
}
