package host

import (
	"errors"
	"testing"
)

func TestHost_Configure_StopsAndStartsOnlyWhatChanged(t *testing.T) {
	m := newMemory()
	h, _ := runHost(t, Options{Programs: []Program{program(t, "volume"), program(t, "latest")}, Store: m, Feed: feedOf{m}, Limits: quick()})
	running := func(id string) { t.Helper(); until(t, func() bool { return statusOf(h, id).State == Running }) }
	stopped := func(id string) { t.Helper(); until(t, func() bool { return statusOf(h, id).State == Disabled }) }
	running("volume")
	running("latest")
	lives := func(i int) int {
		r := h.list()[i]
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.lives
	}
	other := lives(1)

	h.Configure([]string{"volume", "nobody"}, nil)
	stopped("volume")
	if err := h.Enable(soon(t), "volume"); !errors.Is(err, ErrConfigured) {
		t.Errorf("enabled over the configuration: %v", err)
	}
	stays := lives(0)
	h.Configure([]string{"volume"}, nil) // the same again
	h.Configure(nil, nil)
	running("volume")
	if n := lives(0); n != stays+1 {
		t.Errorf("%d lives, want %d: one more for being enabled", n, stays+1)
	}

	h.Configure([]string{"volume"}, nil)
	stopped("volume")
	h.Configure(nil, []string{"volume"}) // the operator has disabled it meanwhile
	stopped("volume")
	if err := h.Enable(soon(t), "volume"); err != nil {
		t.Error(err)
	}
	running("volume")
	if n := lives(1); n != other {
		t.Errorf("the plugin that did not change was started anew: %d lives, then %d", other, n)
	}
}
