package consumer

import (
	"context"
	"sync/atomic"

	"github.com/statscache/statscache/api"
	"github.com/statscache/statscache/store"
	"github.com/statscache/statscache/store/sqlite"
)

// Answering is a process that tells operators how it does, also before its store has answered.
type Answering interface {
	Ready() []api.Check
	Status() api.Status
}

// waiting is the state of a process whose store has not answered yet.
type waiting struct {
	why   atomic.Pointer[string]
	inbox atomic.Pointer[string] // why nothing is received meanwhile, nil where it is
}

func (w *waiting) say(why error) {
	text := why.Error()
	w.why.Store(&text)
}

// noStore is called with the reason each time that the store has not answered at the start. The first time the process
// begins with what goes without one.
func (d *Daemon) noStore(o Options) func(error) {
	return func(err error) {
		if w := d.waiting.Load(); w != nil {
			w.say(err)
			return
		}
		w := &waiting{}
		w.say(err)
		d.waiting.Store(w)
		d.metrics.storeUp.Set(0)
		if d.roles.Consume {
			if err := d.receiveEarly(o); err != nil {
				d.log.Error("nothing is received before the store has answered", "error", err)
				text := err.Error()
				w.inbox.Store(&text)
			}
		}
		o.Waiting(d)
	}
}

// openAlive opens the store unless a part of the process that receives meanwhile gives up: then that is the error.
func (d *Daemon) openAlive(ctx context.Context, p patience, o Options) (store.Store, error) {
	ctx, cancel := d.alive(ctx)
	defer cancel()
	s, err := openEngine(ctx, d.config, p, sqlite.Options{Logger: o.Logger, Now: o.Now, Failpoint: o.Failpoint})
	if err != nil && d.life.Err() != nil {
		return nil, context.Cause(d.life)
	}
	return s, err
}

// ready answers the readiness checks of a process that waits.
func (w *waiting) ready(r Roles, e *early) (checks []api.Check) {
	why := *w.why.Load()
	if r.Consume {
		inbox := api.Check{Role: "consume", Name: "inbox", OK: true}
		stalled := w.inbox.Load()
		if stalled == nil && e != nil {
			stalled = e.ingest.stalled.Load()
		}
		if stalled != nil {
			inbox.OK, inbox.Reason = false, "the inbox takes nothing: "+*stalled
		}
		checks = append(checks, inbox, storeCheck("consume", "archive", "the store takes no events: ", why))
	}
	if r.Compute {
		checks = append(checks, storeCheck("compute", "leases", "leases can't be kept: ", why))
	}
	if r.Serve {
		checks = append(checks, storeCheck("serve", "store", "the store does not answer: ", why))
	}
	return checks
}
