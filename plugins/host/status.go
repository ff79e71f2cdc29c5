package host

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/statscache/statscache/store"
)

// State is what a plugin is doing.
type State string

// The states of a plugin.
const (
	Starting    State = "starting"
	CatchingUp  State = "catching-up"
	Running     State = "running"
	BackingOff  State = "backing-off"
	Quarantined State = "quarantined"
	Disabled    State = "disabled"
)

// Status is a plugin as the API and the metrics show it.
type Status struct {
	ID          string
	Version     string
	DataVersion uint32
	State       State
	Builtin     bool
	Metrics     []string         // ids
	Lag         uint64           // events that are archived but not committed
	Restarts    int              // of the process, since the host started
	DeadLetters int              // there are now, of the numbers that are being made
	GivenUp     int              // events that became dead letters, since the host started
	Error       string           // the last one, or what is odd; empty where all is well
	Others      map[string]int64 // by metric: what was counted under (other) for the series limit, since the host started
	PID         int              // 0 where no process runs
	Since       time.Time        // when the state was entered
	Building    *Building        // the generation of its numbers that is being made anew; nil where none is
}

// Building is how far a new generation of a plugin's numbers has come. The old one is shown meanwhile.
type Building struct {
	Generation  uint32
	Done, Total uint64 // events
}

// The lags at which a plugin is said to catch up, and to have done so. They lie apart so that the state is calm.
const (
	lagBehind   = 200_000
	lagCaughtUp = 10_000
)

// status gives a copy.
func (r *Runner) status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.shown
	s.Metrics = append([]string(nil), s.Metrics...)
	s.Lag = r.lag()
	s.Others = maps.Clone(r.others)
	s.Building = r.built(s.Lag)
	if s.Error == "" {
		s.Error = r.refusals.said(r.host.now())
	}
	if s.Error == "" {
		s.Error = limited(r.others)
	}
	return s
}

// built says how far a new generation has come. The caller holds mu.
func (r *Runner) built(lag uint64) *Building {
	if !r.building || !r.prepared {
		return nil
	}
	b := &Building{Generation: r.lettersOf}
	for _, end := range r.ends {
		b.Total += end
	}
	b.Done = b.Total - min(lag, b.Total)
	return b
}

// lag adds up how far the streams' ends are ahead. The caller holds mu.
func (r *Runner) lag() uint64 {
	var sum uint64
	for stream, end := range r.ends {
		if at := r.positions[stream]; at < end {
			sum += end - at
		}
	}
	return sum
}

// enter changes the state.
func (r *Runner) enter(s State, err error) {
	r.mu.Lock()
	changed := r.shown.State != s
	if changed {
		r.shown.State, r.shown.Since = s, r.host.now()
	}
	if err != nil {
		r.shown.Error = err.Error()
	}
	id := r.shown.ID
	r.mu.Unlock()
	if changed {
		r.host.Logger.Info("plugin state", "plugin", id, "state", s)
		r.host.progress.notify()
	}
}

// settle chooses between running and catching up by the lag.
func (r *Runner) settle() {
	r.mu.Lock()
	state, lag, building := r.shown.State, r.lag(), r.building
	r.mu.Unlock()
	switch {
	case state == Starting || state == BackingOff || state == Quarantined || state == Disabled:
	case state == CatchingUp && lag < lagCaughtUp && !building:
		r.enter(Running, nil)
		r.clearError()
	case state == Running && lag > lagBehind:
		r.enter(CatchingUp, nil)
	}
}

// complain shows an error that is being waited out.
func (r *Runner) complain(err error) {
	r.mu.Lock()
	fresh := r.shown.Error != err.Error()
	r.shown.Error = err.Error()
	id := r.shown.ID
	r.mu.Unlock()
	if fresh {
		r.host.Logger.Warn("plugin waits", "plugin", id, "error", err)
	}
}

func (r *Runner) buried(n int) {
	if n == 0 {
		return
	}
	r.mu.Lock()
	r.shown.DeadLetters += n
	r.shown.GivenUp += n
	id := r.shown.ID
	r.mu.Unlock()
	r.host.Logger.Warn("plugin could not take events: they are dead letters now", "plugin", id, "events", n)
}

// unburied notes that dead letters were taken back.
func (r *Runner) unburied(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shown.DeadLetters = max(0, r.shown.DeadLetters-n)
}

// advance notes a commit.
func (r *Runner) advance(stream string, to uint64) {
	r.mu.Lock()
	r.positions[stream] = to
	r.mu.Unlock()
	r.clearError()
	r.settle()
	r.host.progress.notify()
}

// end is how far a stream is known to reach.
func (r *Runner) end(stream string) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ends[stream]
}

// overflow notes what a commit has counted under store.OtherKey.
func (r *Runner) overflow(def *definition, other []int64) {
	for i, n := range other {
		if n == 0 {
			continue
		}
		id := def.metrics[i].id
		r.mu.Lock()
		if r.others == nil {
			r.others = map[string]int64{}
		}
		_, before := r.others[id]
		r.others[id] += n
		r.mu.Unlock()
		if !before {
			r.host.Logger.Warn("metric has reached its series limit: further values are counted under "+store.OtherKey, "plugin", r.id(), "metric", id)
		}
	}
}

// limited says which metrics have reached their series limit, "" for none.
func limited(others map[string]int64) string {
	for _, id := range slices.Sorted(maps.Keys(others)) {
		return fmt.Sprintf("metric %s has reached its series limit: %d counts of further values went to %s", id, others[id], store.OtherKey)
	}
	return ""
}
