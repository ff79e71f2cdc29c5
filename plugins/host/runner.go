package host

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	pb "github.com/statscache/statscache/plugins/proto"
	"github.com/statscache/statscache/store"
)

// maxPoison is how many events in a row a plugin may die of, without an answer in between, before it is stopped.
const maxPoison = 10

// errDisabled is why a plugin is not run that the operator does not want.
var errDisabled = errors.New("disabled by the configuration")

// refusal is an error that no restart mends.
type refusal struct{ err error }

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// Runner runs one plugin: it keeps a process of it alive and fed, and its numbers committed.
type Runner struct {
	host    *Host
	program Program
	order   int           // among the programs: the first one with an id has it
	known   chan struct{} // closed when its id is known or it has failed to tell
	tell    sync.Once
	abort   context.CancelCauseFunc

	// For the goroutine of run, and the survey that it waits for.
	file       signature // of the program, for watch
	def        *definition
	generation uint32
	living     context.Context // of run: lanes outlive processes

	asked chan struct{} // somebody wants a new life to begin

	mu        sync.Mutex
	endLife   context.CancelCauseFunc // of the current life
	lives     int
	removed   bool
	over      bool             // there will be no other life: nobody is left to do what is asked for
	lanes     map[string]*lane // by stream
	shown     Status
	prepared  bool // registered: building and positions are known
	building  bool
	positions map[string]uint64 // committed, by stream
	ends      map[string]uint64 // archived, by stream
	retired   map[string]bool   // by stream
	holds     []chan struct{}   // commits wait until all are closed
	changes   []*change         // to be made before the next life
	mute      int               // lives in a row that failed over a batch without an answer to any
	others    map[string]int64  // counts without a series of their own, by metric, since the host started
	trusted   bool              // it has answered something since it was last started by hand or with the host
	readied   time.Time         // when the current life was ready for batches; zero before
	requeue   *requeue          // waits for the next life, or is worked on
	refusals  refusals
	lettersOf uint32     // the generation whose dead letters are shown
	reviving  sync.Mutex // while dead letters are committed
}

func newRunner(h *Host, p Program, order int) *Runner {
	r := &Runner{
		host: h, program: p, order: order, known: make(chan struct{}), asked: make(chan struct{}, 1), lanes: map[string]*lane{},
		positions: map[string]uint64{}, ends: map[string]uint64{}, retired: map[string]bool{},
		shown: Status{ID: p.ID, State: Starting, Builtin: p.Builtin, Since: h.now()},
	}
	return r
}

// run keeps the plugin going until ctx ends or there is no point in it.
func (r *Runner) run(ctx context.Context) {
	ctx, r.abort = context.WithCancelCause(ctx)
	r.living = ctx
	defer r.abort(nil)
	defer r.closeLanes()
	defer r.tell.Do(func() { close(r.known) })
	if err := r.host.isOff(r.program.ID); err != nil {
		r.enter(Disabled, err)
		r.leave()
		r.endRequeue(fmt.Errorf("plugin %s is %w: enable it first", r.id(), err))
		return
	}
	r.mistrust()
	if q := r.pending(); q != nil {
		r.requeueAll(ctx, q)
	}
	pause := newBackoff(r.host.Limits.BackoffMin, r.host.Limits.BackoffMax)
	record := record{limits: r.host.Limits}
	for {
		began := time.Now()
		answered, err := r.live(ctx)
		r.tell.Do(func() { close(r.known) })
		r.setPID(0)
		if ctx.Err() != nil {
			if cause := context.Cause(ctx); errors.Is(cause, store.ErrFenced) {
				r.enter(Quarantined, cause)
				r.host.Logger.Error("plugin stopped", "plugin", r.id(), "error", cause)
			}
			return
		}
		end := r.ending(began, answered, err)
		if end.blamed || record.stable(end) {
			pause.reset() // every restart over a batch narrows it down: there is no need to wait longer each time
		}
		r.note(answered, err)
		if r.anyFailed() { // its lanes start over from what is committed
			r.closeLanes()
			r.def = nil
		}
		var f *fault
		var no *refusal
		buried := false
		switch {
		case errors.As(err, &no):
			r.closeLanes() // what is answered is committed by the time the quarantine shows
			r.refuse(no.err)
			return
		case errors.Is(err, store.ErrFenced) && !r.shared():
			r.refuse(err)
			return
		case end.blamed && r.def != nil && errors.As(err, &f):
			buried = f.blamed.lane.blame(ctx, f.blamed, f.err)
		}
		if why := record.after(end, buried); why != nil {
			r.refuse(why)
			return
		}
		r.restart(err)
		if !pause.wait(ctx) {
			return
		}
	}
}

// ending describes a life that began at some time and is over now.
func (r *Runner) ending(began time.Time, answered bool, err error) ending {
	e := ending{lasted: time.Since(began), answered: answered, innocent: r.storeTrouble(err), err: err}
	var f *fault
	e.blamed = errors.As(err, &f) && f.blamed != nil
	if r.def != nil {
		e.deadline = r.def.limit(r.host.Limits)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.readied.After(began) {
		e.ready = time.Since(r.readied)
	}
	return e
}

// storeTrouble says whether an error is none of the plugin's.
func (r *Runner) storeTrouble(err error) bool {
	var f *fault
	var s *startFailure
	return !errors.As(err, &f) && !errors.As(err, &s)
}

// startFailure is a failure between the start of the process and its readiness.
type startFailure struct{ err error }

func (s *startFailure) Error() string { return s.err.Error() }
func (s *startFailure) Unwrap() error { return s.err }

// live runs one process from its start to its end. answered says whether it answered any batch.
func (r *Runner) live(ctx context.Context) (answered bool, err error) {
	session, err := r.begin(ctx)
	if err != nil {
		return false, err
	}
	defer session.Close()
	answered, err = r.work(ctx, session)
	if err == nil {
		session.Stop()
		return answered, nil
	}
	var f *fault
	if errors.As(err, &f) && f.broken {
		f.err = session.explain(f.err)
	}
	return answered, err
}

// begin starts a process and makes it ready for batches. The caller closes the session.
func (r *Runner) begin(ctx context.Context) (*Session, error) {
	r.enter(r.shownAs(Starting), nil)
	session, err := r.host.launcher.start(ctx, r.program)
	if err != nil {
		return nil, &startFailure{err}
	}
	r.setPID(session.Pid())
	manifest, err := session.Describe(ctx)
	if err != nil {
		err = &startFailure{err}
	} else if err = r.prepare(ctx, manifest); err == nil {
		if err = session.Open(ctx, r.host.Config[r.def.plugin.ID]); err != nil {
			err = &startFailure{err}
		}
	}
	if err != nil {
		session.Close()
		return nil, err
	}
	r.mu.Lock()
	r.readied = time.Now()
	r.mu.Unlock()
	r.enter(r.shownAs(CatchingUp), nil)
	return session, nil
}

// work feeds a ready session until ctx ends or something fails.
func (r *Runner) work(ctx context.Context, session *Session) (answered bool, err error) {
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	batches := make(chan *batch)
	var feeders sync.WaitGroup
	var surveyErr error
	feeders.Go(func() {
		defer cancel()
		surveyErr = r.survey(inner, batches, &feeders)
	})
	p := &pump{
		session: session, def: r.def, deadline: r.def.limit(r.host.Limits), source: batches, most: r.host.Limits.Window, window: r.window, points: r.host.Failpoint,
		answered: func(b *batch, result *pb.Result) error {
			if result != nil && !answered {
				answered = true
				r.trust()
				r.enter(r.heard(), nil)
				r.clearError()
			}
			return b.lane.answered(inner, b, result)
		},
	}
	err = p.run(inner)
	cancel()
	feeders.Wait()
	if err == nil || errors.Is(err, context.Canceled) {
		err = surveyErr
	}
	return answered, err
}

// window is how many batches may be under way: one while an event is being searched for.
func (r *Runner) window() int {
	for _, l := range r.open() {
		if l.suspicious() {
			return 1
		}
	}
	return r.host.Limits.Window
}

func (r *Runner) anyFailed() bool {
	return slices.ContainsFunc(r.open(), func(l *lane) bool { return l.failed() != nil })
}

// restart notes that a process ended and another one will be started.
func (r *Runner) restart(err error) {
	r.mu.Lock()
	r.shown.Restarts++
	id := r.shown.ID
	r.mu.Unlock()
	r.host.Logger.Warn("plugin restarts", "plugin", id, "error", err)
	r.enter(BackingOff, err)
}

// refuse stops the plugin until the operator looks at it. Its position is kept.
func (r *Runner) refuse(err error) {
	state := Quarantined
	if errors.Is(err, errDisabled) || errors.Is(err, errSwitchedOff) {
		state = Disabled
	} else {
		r.host.Logger.Error("plugin is quarantined", "plugin", r.id(), "error", err)
	}
	r.enter(state, err)
	r.leave()
}

func (r *Runner) setPID(pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shown.PID = pid
}

// clearError forgets an error once things go on: what stopped the plugin stays until it is started again.
func (r *Runner) clearError() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.shown.State; s == CatchingUp || s == Running {
		r.shown.Error = ""
	}
}

func (r *Runner) id() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.shown.ID
}
