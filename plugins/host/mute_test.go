package host

import (
	"strings"
	"testing"
	"time"
)

// mute runs the moody plugin over one block, all of whose events do something to it.
func mute(t *testing.T, word string, size int, limits Limits) (*Host, *memory) {
	t.Helper()
	words := map[uint64]string{}
	for seq := uint64(1); seq <= uint64(size); seq++ {
		words[seq] = word
	}
	m := newMemory()
	m.add("s", withTopics(8, 1, size, words)...)
	h, _ := runHost(t, Options{Programs: []Program{program(t, "moody")}, Store: m, Feed: feedOf{m}, Limits: limits})
	return h, m
}

// committed gives what the plugin has committed.
func (m *memory) committed() (dead, commits int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.dead), m.commits
}

func TestRunner_NeverAnswers_IsQuarantinedAndBlamesNoEvent(t *testing.T) {
	for _, word := range []string{"hang", "exit"} {
		t.Run(word, func(t *testing.T) {
			t.Parallel()
			limits, reason := quick(), "repeated failures"
			if word == "hang" {
				limits.Deadline, limits.Mute, reason = 200*time.Millisecond, 3*time.Second, "no batch was answered in 3s: no answer in time"
			}
			h, m := mute(t, word, 60, limits)
			until(t, func() bool { return h.Plugins()[0].State == Quarantined })
			s := h.Plugins()[0]
			if !strings.Contains(s.Error, reason) || s.DeadLetters != 0 || s.GivenUp != 0 || s.Lag == 0 {
				t.Errorf("%+v", s)
			}
			if dead, commits := m.committed(); dead+commits != 0 {
				t.Errorf("%d commits, %d dead letters: the cursor was to be kept", commits, dead)
			}
		})
	}
}

func TestRunner_FirstEventIsPoison_IsADeadLetterOnceThePluginAnswersOrStandsBy(t *testing.T) {
	t.Run("answers", func(t *testing.T) {
		t.Parallel()
		h, m := mute(t, "exit", 1, quick())
		until(t, func() bool { s := h.Plugins()[0]; return s.Restarts == 2 && s.PID != 0 })
		if dead, commits := m.committed(); dead+commits != 0 {
			t.Fatalf("%d commits, %d dead letters before it has answered", commits, dead)
		}
		good := withTopics(9, 2, 20, nil)[1:] // positions 21 to 40
		m.add("s", good...)
		waitCaughtUp(t, h, m.ends())
		if s := h.Plugins()[0]; s.DeadLetters != 1 || s.GivenUp != 1 {
			t.Errorf("%+v", s)
		}
		sameRows(t, m.counters, brute("moody", 1, good, nil))
	})
	t.Run("stands by", func(t *testing.T) {
		t.Parallel()
		limits := quick()
		limits.Mute = 5 * time.Second
		h, m := mute(t, "exit", 1, limits)
		waitCaughtUp(t, h, m.ends())
		if dead, _ := m.committed(); dead != 1 || h.Plugins()[0].DeadLetters != 1 {
			t.Errorf("%d dead letters; %+v", dead, h.Plugins()[0])
		}
	})
}
