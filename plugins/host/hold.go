package host

import (
	"context"
	"fmt"
)

// Hold keeps a plugin from committing until release is called: what it answers meanwhile waits, and where too much of it
// does, so do the events. A commit that is under way ends as it would. It says nothing about a plugin that is stopped
// meanwhile: its last commit is not held.
func (h *Host) Hold(id string) (release func(), err error) {
	r, err := h.find(id)
	if err != nil {
		return nil, err
	}
	until := make(chan struct{})
	r.mu.Lock()
	r.holds = append(r.holds, until)
	r.mu.Unlock()
	r.reviving.Lock() // dead letters that are being taken back move no position: nobody could see it
	defer r.reviving.Unlock()
	return func() { close(until) }, nil
}

// unheld waits until nobody holds the plugin's commits. It is false where ctx ended.
func (r *Runner) unheld(ctx context.Context) bool {
	for {
		r.mu.Lock()
		var until chan struct{}
		if len(r.holds) > 0 {
			until = r.holds[0]
		}
		r.mu.Unlock()
		if until == nil {
			return true
		}
		select {
		case <-until:
		case <-ctx.Done():
			return false
		}
		r.mu.Lock()
		if len(r.holds) > 0 && r.holds[0] == until { // another lane may have taken it out
			r.holds = r.holds[1:]
		}
		r.mu.Unlock()
	}
}

// change is something to do between two lives of a plugin.
type change struct {
	do   func(context.Context) error
	done chan error // room for one
}

// Renew ends the plugin's process after its last commit, calls do while nothing of the plugin runs, and starts a new
// process, which registers anew: it goes on with the generation that the store then names. It lifts a quarantine.
func (h *Host) Renew(ctx context.Context, id string, do func(context.Context) error) error {
	r, err := h.find(id)
	if err != nil {
		return err
	}
	if why := h.isOff(id); why != nil {
		return fmt.Errorf("plugin %s is %w: enable it first", id, why)
	}
	c := &change{do: do, done: make(chan error, 1)}
	r.mu.Lock()
	if r.over {
		r.mu.Unlock()
		return fmt.Errorf("plugin %s: %w", id, errStopped)
	}
	r.changes = append(r.changes, c)
	r.mu.Unlock()
	r.ask(errAsked)
	select {
	case err := <-c.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("plugin %s: %w", id, context.Cause(ctx))
	}
}

// change does what was asked for between two lives. What the runner knew of the store is forgotten.
func (r *Runner) change(ctx context.Context) {
	r.mu.Lock()
	list := r.changes
	r.changes = nil
	if len(list) > 0 {
		r.prepared = false
	}
	r.mu.Unlock()
	for _, c := range list {
		c.done <- c.do(ctx)
	}
}

// WaitServing waits until the generation that a plugin builds is served, or the plugin is stopped for good.
func (h *Host) WaitServing(ctx context.Context, id string) error {
	r, err := h.find(id)
	if err != nil {
		return err
	}
	for {
		next := h.progress.next()
		r.mu.Lock()
		over := r.prepared && !r.building || r.shown.State == Quarantined || r.shown.State == Disabled || r.removed
		r.mu.Unlock()
		if over {
			return nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return fmt.Errorf("plugin %s has not caught up: %w", id, context.Cause(ctx))
		}
	}
}
