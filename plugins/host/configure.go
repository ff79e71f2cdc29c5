package host

// Configure changes which plugins the configuration disables while the host runs. Those that it disables from now on
// stop after their last commit; those that it no longer does start and go on where they stopped, but for those in off,
// which the operator has disabled. Others are not touched. It doesn't wait for any of them.
func (h *Host) Configure(disabled, off []string) {
	h.mu.Lock()
	next, changed := map[string]error{}, map[string]bool{}
	for _, id := range disabled {
		next[id] = errDisabled
	}
	for id, why := range h.off {
		if why == errDisabled && next[id] == nil {
			delete(h.off, id)
			changed[id] = true
		}
	}
	for _, id := range off {
		if changed[id] {
			h.off[id] = errSwitchedOff
			delete(changed, id)
		}
	}
	for id, why := range next {
		if h.off[id] == nil {
			changed[id] = true
		}
		h.off[id] = why
	}
	h.mu.Unlock()
	for _, r := range h.list() {
		if changed[r.program.ID] || changed[r.id()] {
			r.ask(errAsked)
		}
	}
}
