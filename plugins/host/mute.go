package host

import "errors"

// maxMuteLives is how many lives in a row may fail over a batch, without an answer to any, before the plugin is shown
// as what it is: one that is only tried again and again.
const maxMuteLives = 2

// note counts the lives without an answer.
func (r *Runner) note(answered bool, err error) {
	var f *fault
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case answered:
		r.mute = 0
	case errors.As(err, &f) && f.blamed != nil:
		r.mute++
	}
}

// shownAs gives the state to show of a life that is in a state: one of a plugin that does not answer is part of its
// backing off until it does.
func (r *Runner) shownAs(s State) State {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mute >= maxMuteLives {
		return BackingOff
	}
	return s
}

// heard notes the first answer of a life and gives the state that follows.
func (r *Runner) heard() State {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mute = 0
	if r.shown.State == BackingOff || r.shown.State == Starting {
		return CatchingUp
	}
	return r.shown.State
}

// mistrust forgets that the plugin has ever answered.
func (r *Runner) mistrust() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trusted = false
}

// trust notes that the plugin answers: what it failed over was not its own doing alone.
func (r *Runner) trust() {
	r.mu.Lock()
	before := r.trusted
	r.trusted = true
	r.mu.Unlock()
	if before {
		return
	}
	for _, l := range r.open() {
		signal(l.changed)
	}
}

func (r *Runner) isTrusted() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.trusted
}
