package host

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

var (
	// ErrUnknownPlugin is what the methods for operators answer to an id that nobody has.
	ErrUnknownPlugin = errors.New("no such plugin") // immutable
	// ErrConfigured is what Enable answers for a plugin that the configuration disables.
	ErrConfigured = errors.New("disabled by the configuration") // immutable

	errSwitchedOff = errors.New("disabled by the operator")   // immutable: why a plugin is not run
	errAsked       = errors.New("started anew")               // immutable: why a life ends
	errRemoved     = errors.New("the program was taken away") // immutable: likewise
)

// keep gives the plugin one life after the other until ctx ends or its program is removed. A life that ended by itself,
// in quarantine or because the plugin is disabled, is followed by the next one when somebody asks for it.
func (r *Runner) keep(ctx context.Context) {
	defer r.finish()
	for ctx.Err() == nil {
		life, end := context.WithCancelCause(ctx)
		r.mu.Lock()
		r.endLife = end
		r.lives++
		removed := r.removed
		r.shown.State, r.shown.Since, r.shown.Error = Starting, r.host.now(), ""
		r.mu.Unlock()
		if removed {
			end(nil)
			r.tell.Do(func() { close(r.known) })
			r.leave()
			return
		}
		r.change(ctx)
		r.def = nil
		r.run(life)
		end(nil)
		if errors.Is(context.Cause(life), errRemoved) {
			r.leave()
			return
		}
		select {
		case <-r.asked:
		case <-ctx.Done():
		}
	}
}

// finish refuses what was asked for and will not be done any more, and all that comes later.
func (r *Runner) finish() {
	r.mu.Lock()
	r.over = true
	changes := r.changes
	r.changes = nil
	r.mu.Unlock()
	for _, c := range changes {
		c.done <- errStopped
	}
	r.endRequeue(errStopped)
	r.host.progress.notify()
}

// ask ends the current life, after its last commit, and has the next one begin. It gives the number of the current one.
func (r *Runner) ask(cause error) (life int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.endLife != nil {
		r.endLife(cause)
	}
	signal(r.asked)
	return r.lives
}

// remove ends the runner for good.
func (r *Runner) remove() {
	r.mu.Lock()
	r.removed = true
	r.mu.Unlock()
	r.ask(errRemoved)
}

// list gives the runners in order.
func (h *Host) list() []*Runner {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.runners)
}

// add makes a runner behind all others.
func (h *Host) add(p Program) *Runner {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := newRunner(h, p, h.added)
	if !p.Builtin && len(p.Argv) > 0 {
		r.file = signatureOf(p.Argv[0])
	}
	h.added++
	h.runners = append(h.runners, r)
	return r
}

func (h *Host) isOff(id string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.off[id]
}

// find gives the runner that has an id.
func (h *Host) find(id string) (*Runner, error) {
	h.mu.Lock()
	r := h.claims[id]
	h.mu.Unlock()
	if r != nil {
		return r, nil
	}
	var ids []string
	for _, r := range h.list() {
		if r.id() == id {
			return r, nil
		}
		ids = append(ids, r.id())
	}
	return nil, fmt.Errorf("%w: %q (there are: %s)", ErrUnknownPlugin, id, strings.Join(ids, ", "))
}

// Disable stops a plugin after its last commit; its numbers stay. It is not started again before Enable.
func (h *Host) Disable(ctx context.Context, id string) error {
	r, err := h.find(id)
	if err != nil {
		return err
	}
	h.mu.Lock()
	if h.off[id] == nil {
		h.off[id] = errSwitchedOff
	}
	h.mu.Unlock()
	return r.await(ctx, r.ask(errAsked), func(s State) bool { return s == Disabled })
}

// Enable takes a Disable back: the plugin starts and goes on where it stopped.
func (h *Host) Enable(ctx context.Context, id string) error {
	r, err := h.find(id)
	if err != nil {
		return err
	}
	h.mu.Lock()
	why := h.off[id]
	if errors.Is(why, errSwitchedOff) {
		delete(h.off, id)
	}
	h.mu.Unlock()
	switch {
	case errors.Is(why, errDisabled):
		return fmt.Errorf("plugin %s: %w", id, ErrConfigured)
	case why == nil:
		return nil // it runs, or has other reasons not to
	}
	return r.await(ctx, r.ask(errAsked), begun)
}

// Restart ends the plugin's process after its last commit and starts a new one. It lifts a quarantine.
func (h *Host) Restart(ctx context.Context, id string) error {
	r, err := h.find(id)
	if err != nil {
		return err
	}
	if why := h.isOff(id); why != nil {
		return fmt.Errorf("plugin %s is %w: enable it first", id, why)
	}
	return r.await(ctx, r.ask(errAsked), begun)
}

func begun(s State) bool { return s != Starting }

// await waits until a life after the given one is in a state that ok likes.
func (r *Runner) await(ctx context.Context, life int, ok func(State) bool) error {
	for {
		next := r.host.progress.next()
		r.mu.Lock()
		there, over := r.lives > life && ok(r.shown.State), r.over
		id := r.shown.ID
		r.mu.Unlock()
		switch {
		case there:
			return nil
		case over:
			return fmt.Errorf("plugin %s: %w", id, errStopped)
		}
		select {
		case <-next:
		case <-ctx.Done():
			return fmt.Errorf("plugin %s: %w", id, context.Cause(ctx))
		}
	}
}
