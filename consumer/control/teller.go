package control

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"
)

// tellEvery is how often progress is told.
const tellEvery = 100 * time.Millisecond

// errUnread is why an import ends whose client doesn't read what it is told.
var errUnread = errors.New("the client takes no answers")

// teller writes the events of an import. Whoever reports to it never waits: only the newest progress is kept, and so
// many refused lines as are told at all.
type teller struct {
	w       http.ResponseWriter
	control *http.ResponseController
	gone    context.CancelCauseFunc

	mu    sync.Mutex
	lines int
	told  int // refused lines
	queue []BadLine
	end   *Event
	wake  chan struct{}
	done  chan struct{}
}

func startTeller(w http.ResponseWriter, control *http.ResponseController, gone context.CancelCauseFunc) *teller {
	t := &teller{w: w, control: control, gone: gone, wake: make(chan struct{}, 2), done: make(chan struct{})}
	t.wake <- struct{}{} // the answer begins at once
	go t.run()
	return t
}

func (t *teller) progress(lines int) {
	t.mu.Lock()
	t.lines = lines
	t.mu.Unlock()
}

func (t *teller) bad(b BadLine) {
	b.Detail = b.Detail[:min(len(b.Detail), maxDetail)]
	t.mu.Lock()
	if t.told++; t.told <= maxBadTold {
		t.queue = append(t.queue, b)
	}
	t.mu.Unlock()
}

// finish tells the end and waits until it is written, or can't be.
func (t *teller) finish(e Event) {
	t.mu.Lock()
	t.end = &e
	t.mu.Unlock()
	t.wake <- struct{}{}
	<-t.done
}

func (t *teller) run() {
	defer close(t.done)
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	last := -1
	for {
		select {
		case <-tick.C:
		case <-t.wake:
		}
		t.mu.Lock()
		lines, queue, end := t.lines, t.queue, t.end
		t.queue = nil
		t.mu.Unlock()
		var events []Event
		for i := range queue {
			events = append(events, Event{Bad: &queue[i]})
		}
		if lines != last && lines > 0 {
			events, last = append(events, Event{Lines: lines}), lines
		}
		if end != nil {
			events = append(events, *end)
		}
		if err := t.write(events); err != nil {
			t.gone(errUnread)
			return
		}
		if end != nil {
			return
		}
	}
}

func (t *teller) write(events []Event) error {
	if err := t.control.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	enc := json.NewEncoder(t.w)
	for _, e := range events {
		if err := enc.Encode(e); err != nil {
			return err
		}
	}
	return t.control.Flush()
}
