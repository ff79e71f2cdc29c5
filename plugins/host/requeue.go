package host

import (
	"context"
	"errors"
	"fmt"
	"sync"

	pb "github.com/statscache/statscache/plugins/proto"
	"github.com/statscache/statscache/store"
)

// maxMute is how often in a row a requeue starts a process that ends without having been asked anything.
const maxMute = 3

var (
	// ErrNoRequeue is what Requeue answers where the store can't take dead letters back.
	ErrNoRequeue = errors.New("this store can't take dead letters back") // immutable

	errStopped = errors.New("the plugin is run no more") // immutable: why a requeue ends that nobody will work on
)

// Requeued is what became of a plugin's dead letters.
type Requeued struct {
	Taken   int `json:"taken"`   // their events are counted now
	Dead    int `json:"dead"`    // dead again
	Expired int `json:"expired"` // stay what they are: their events are not archived any more
	Left    int `json:"left"`    // were not tried, for an error came first
}

// requeue is an operator's wish to have a plugin's dead letters given to it again. It is worked on between two lives of
// the plugin, when nobody else has its checkpoints, by processes of its own. What was taken is committed batch by batch,
// so it may end at any time and be asked for again.
type requeue struct {
	ctx      context.Context // of whoever asked
	progress func(done, total int)
	done     chan struct{} // closed when result and err are settled
	result   Requeued
	err      error

	// For the runner's goroutine.
	begun       bool // under the runner's mu
	bound       bool
	generation  uint32
	total       int
	checkpoints map[string]store.Checkpoint // by stream
	sorter      sorter

	mu    sync.Mutex
	after store.Place // read up to here
	page  []store.StreamDeadLetter
	todo  []*letters          // to be asked before what is read next, the last one first
	asked map[*batch]*letters // under way
}

// Requeue gives the dead letters of a plugin's numbers as they are being made now to it again, each once, and has the
// plugin go on afterwards; it lifts a quarantine. Events that fail again are dead letters with the new error. progress,
// where given, is called by one goroutine at a time and must not block. What was taken before an error, or the end of ctx, stays
// taken.
func (h *Host) Requeue(ctx context.Context, id string, progress func(done, total int)) (Requeued, error) {
	r, err := h.findKnown(ctx, id)
	if err != nil {
		return Requeued{}, err
	}
	if why := h.isOff(id); why != nil {
		return Requeued{}, fmt.Errorf("plugin %s is %w: enable it first", id, why)
	}
	if _, ok := h.Store.(store.Requeuer); !ok {
		return Requeued{}, fmt.Errorf("plugin %s: %w", id, ErrNoRequeue)
	}
	q := &requeue{ctx: ctx, progress: progress, done: make(chan struct{}), checkpoints: map[string]store.Checkpoint{}, asked: map[*batch]*letters{}}
	if err := r.askRequeue(q); err != nil {
		return Requeued{}, fmt.Errorf("plugin %s: %w", id, err)
	}
	select {
	case <-q.done:
	case <-ctx.Done():
		if r.withdraw(q) {
			return Requeued{}, context.Cause(ctx)
		}
		<-q.done
	}
	return q.result, q.err
}

// findKnown finds a plugin once those that are only starting have said who they are.
func (h *Host) findKnown(ctx context.Context, id string) (*Runner, error) {
	r, err := h.find(id)
	if err == nil {
		return r, nil
	}
	for _, x := range h.list() {
		select {
		case <-x.known:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return h.find(id)
}

// askRequeue leaves a requeue to the next life, and has it begin.
func (r *Runner) askRequeue(q *requeue) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return errStopped
	}
	if r.requeue != nil {
		return errors.New("its dead letters are being given to it already")
	}
	r.requeue = q
	if r.endLife != nil {
		r.endLife(errAsked)
	}
	signal(r.asked)
	return nil
}

// withdraw takes back a requeue that nobody works on yet.
func (r *Runner) withdraw(q *requeue) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.requeue != q || q.begun {
		return false
	}
	r.requeue = nil
	return true
}

// pending gives the requeue that is to be worked on.
func (r *Runner) pending() *requeue {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.requeue != nil {
		r.requeue.begun = true
	}
	return r.requeue
}

// endRequeue settles the requeue, where there is one.
func (r *Runner) endRequeue(err error) {
	r.mu.Lock()
	q := r.requeue
	r.requeue = nil
	r.mu.Unlock()
	if q == nil {
		return
	}
	q.close()
	q.result.Left = max(0, q.total-q.result.Taken-q.result.Dead-q.result.Expired)
	q.err = err
	r.host.Logger.Info("plugin's dead letters were given to it again", "plugin", r.id(), "taken", q.result.Taken, "dead", q.result.Dead,
		"expired", q.result.Expired, "left", q.result.Left, "error", err)
	close(q.done)
}

// close releases the checkpoints: the lanes will open them.
func (q *requeue) close() {
	for stream, c := range q.checkpoints {
		_ = c.Close()
		delete(q.checkpoints, stream)
	}
}

// requeueAll works on a requeue until it is settled or the life ends; then it goes on with the next one.
func (r *Runner) requeueAll(life context.Context, q *requeue) {
	ctx, cancel := context.WithCancel(life)
	defer cancel()
	defer context.AfterFunc(q.ctx, cancel)()
	defer q.close()
	pause := newBackoff(r.host.Limits.BackoffMin, r.host.Limits.BackoffMax)
	mute, poison := 0, 0
	for {
		answered, buried, err := r.requeueLife(ctx, q)
		r.setPID(0)
		var f *fault
		switch {
		case q.ctx.Err() != nil:
			r.endRequeue(context.Cause(q.ctx))
			return
		case life.Err() != nil:
			return
		case err == nil || !errors.As(err, &f):
			r.endRequeue(err)
			return
		}
		if answered {
			mute, poison = 0, 0
		}
		switch {
		case f.blamed == nil:
			mute++
		case buried:
			mute, poison = 0, poison+1
		}
		if mute >= maxMute || poison >= maxPoison {
			r.endRequeue(fmt.Errorf("given up after repeated failures: %w", err))
			return
		}
		if f.blamed != nil {
			pause.reset() // every restart over a batch narrows it down, and what the bus sends is not counted meanwhile
		}
		r.restart(err)
		pause.wait(ctx)
	}
}

// requeueLife gives dead letters to one process until none is left or it fails. buried says that it failed over a
// single event, which is dead again.
func (r *Runner) requeueLife(ctx context.Context, q *requeue) (answered, buried bool, err error) {
	session, err := r.begin(ctx)
	if err != nil {
		return false, false, err
	}
	defer session.Close()
	if err := q.bind(ctx, r); err != nil {
		return false, false, err
	}
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	batches, fed := make(chan *batch), make(chan struct{})
	var readErr error
	go func() {
		defer close(fed)
		defer close(batches)
		readErr = q.feed(inner, r, batches)
	}()
	p := &pump{
		session: session, def: r.def, deadline: r.def.limit(r.host.Limits), source: batches, most: 1, window: func() int { return 1 },
		answered: func(b *batch, result *pb.Result) error {
			answered = answered || result != nil
			return q.answered(inner, r, b, result)
		},
	}
	err = p.run(inner)
	cancel()
	<-fed
	var f *fault
	if errors.As(err, &f) && f.broken {
		f.err = session.explain(f.err)
	}
	if ctx.Err() != nil {
		f = nil // it was made to end: the next process is asked again
	}
	blamed := q.putBack(f)
	switch {
	case ctx.Err() != nil:
		return answered, false, ctx.Err()
	case blamed != nil:
		buried, failed := q.blame(ctx, r, f, blamed)
		if failed != nil {
			err = failed // none of the plugin's
		}
		return answered, buried, err
	case err == nil:
		err = readErr
	}
	if err == nil {
		session.Stop()
	}
	return answered, false, err
}
