// Package host finds plugin programs, keeps a process of each running and fed with archived events, and commits what
// they answer.
package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/internal/failpoint"
	"github.com/statscache/statscache/store"
)

// maxStoreWait is the longest time between two attempts at a store that is unavailable.
const maxStoreWait = 2 * time.Second

// The defaults of some limits.
const (
	defaultStable = 30 * time.Second
	defaultMute   = 3 * time.Minute

	defaultLetters = 1_000_000
)

// Feed gives archived events, in order and never beyond what is durable.
type Feed interface {
	// Streams lists all streams with events, retired ones first.
	Streams(ctx context.Context) ([]string, error)
	// Next gives owned blocks of a stream after a position and how far they reach, waiting until there are some (or ctx
	// ends); bodies true: with frames. A block may begin before the position. Where there are only holes, blocks is
	// empty and upto lies behind the position.
	Next(ctx context.Context, stream string, after uint64, bodies bool) (blocks []*block.Block, upto uint64, err error)
}

// Store is what of a store the host needs.
type Store interface {
	store.Ledger
	store.Catalog
	Streams(ctx context.Context) ([]store.Stream, error)
	Read(ctx context.Context, r store.ReadRequest) (blocks []*block.Block, upto uint64, err error)
}

// Limits are the host's times and sizes; zero values take the defaults.
type Limits struct {
	CommitInterval time.Duration // 100 ms; stretches to about a second under load, to 2 s while history comes in
	MaxCells       int           // 1 Mi: what is accumulated per plugin and stream before feeding pauses
	Window         int           // 4 batches under way at once
	Start          time.Duration // 10 s for the start of a process, its description and its readiness: each
	Deadline       time.Duration // 10 s for a batch, where the plugin declares none
	MaxDeadline    time.Duration // 10 min: what a plugin may declare
	BackoffMin     time.Duration // 100 ms before the first restart, doubled each time
	BackoffMax     time.Duration // 2 min
	Stable         time.Duration // 30 s ready for batches make up for earlier failures
	StartFailures  int           // 8 in a row quarantine a plugin
	Mute           time.Duration // for how long batches may fail without an answer to any: 3 min, but 18 deadlines at least
	Poll           time.Duration // 500 ms between two looks at the streams
	Stop           time.Duration // 5 s for the last commit
	Watch          time.Duration // 1 s between two looks at the folders: a file must be the same at both
	Letters        int           // 1,000,000 dead letters: a plugin that has more is quarantined
	Memory         int64         // 512 MiB of resident memory for a plugin's process; one that takes more is killed
}

// Options are what a host needs.
type Options struct {
	Programs []Program                  // bundled ones, then those that Discover found: the first one with an id has it
	Store    Store                      //
	Feed     Feed                       //
	RunDir   string                     // for sockets, 0700; made where it does not exist
	Config   map[string]json.RawMessage // per plugin id: handed to the plugin
	Disabled []string                   // plugin ids, by the configuration: no Enable changes that
	Off      []string                   // plugin ids, by an earlier Disable
	Folders  []string                   // watched while Run runs: what is dropped in runs, what is replaced starts anew, what is removed stops
	Limits   Limits
	Logger   *slog.Logger
	// OnCommit, where given, hears of every attempt at a commit and what became of it.
	OnCommit func(took time.Duration, err error)
	// Share, where given, divides the work among processes; without it all is this one's.
	Share Share
	// Failpoint is for crash tests.
	Failpoint failpoint.Hook
	// OnReady, where given, hears of every plugin that is about to count: its program, what it says it is and the
	// generation that it goes on with. It must not wait.
	OnReady func(p Program, plugin store.Plugin, generation uint32)
	// Now is the clock, time.Now by default. It dates states, dead letters and backlogs.
	Now func() time.Time
}

// Host runs plugins.
type Host struct {
	Options
	now      func() time.Time
	launcher *launcher
	sharer   *sharer
	progress progress

	mu      sync.Mutex
	runners []*Runner          // in order
	claims  map[string]*Runner // by plugin id
	off     map[string]error   // by plugin id: why it is not run
	added   int                // runners ever
}

// New makes a host. Close releases it where Run is not called or has returned.
func New(o Options) (*Host, error) {
	l := &o.Limits
	fill(&l.CommitInterval, 100*time.Millisecond)
	fill(&l.MaxCells, 1<<20)
	fill(&l.Window, 4)
	fill(&l.Start, 10*time.Second)
	fill(&l.Deadline, 10*time.Second)
	fill(&l.MaxDeadline, 10*time.Minute)
	fill(&l.BackoffMin, 100*time.Millisecond)
	fill(&l.BackoffMax, 2*time.Minute)
	fill(&l.Stable, defaultStable)
	fill(&l.StartFailures, 8)
	fill(&l.Poll, 500*time.Millisecond)
	fill(&l.Stop, 5*time.Second)
	fill(&l.Watch, time.Second)
	fill(&l.Memory, defaultMemory)
	fill(&l.Letters, defaultLetters)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Logger = o.Logger.With("component", "plugins")
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Folders = slices.Clone(o.Folders)
	home, err := openHome(o.RunDir)
	if err != nil {
		return nil, err
	}
	h := &Host{Options: o, now: o.Now, sharer: newSharer(new(batchID)), claims: map[string]*Runner{}, off: map[string]error{}}
	for _, id := range o.Off {
		h.off[id] = errSwitchedOff
	}
	for _, id := range o.Disabled {
		h.off[id] = errDisabled
	}
	h.launcher = &launcher{home: home, logger: o.Logger, timeout: o.Limits.Start, memory: o.Limits.Memory, now: o.Now}
	for i, folder := range h.Folders {
		if h.Folders[i], err = filepath.Abs(folder); err != nil {
			return nil, errors.Join(fmt.Errorf("plugin folder %s: %w", folder, err), home.close())
		}
	}
	for _, p := range o.Programs {
		p.Argv = slices.Clone(p.Argv) // the caller's may be another host's, too
		if len(p.Argv) > 0 && filepath.Base(p.Argv[0]) != p.Argv[0] {
			if p.Argv[0], err = filepath.Abs(p.Argv[0]); err != nil {
				return nil, errors.Join(fmt.Errorf("plugin %s: %w", p.ID, err), home.close())
			}
		}
		r := h.add(p)
		if _, taken := h.claims[p.ID]; p.Builtin && !taken {
			h.claims[p.ID] = r
		}
	}
	return h, nil
}

func fill[T int | int64 | time.Duration](v *T, by T) {
	if *v <= 0 {
		*v = by
	}
}

// Run runs all plugins until ctx ends; it returns when every process has gone and every answer is committed, as far as
// that goes quickly.
func (h *Host) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for _, r := range h.list() {
		all.Go(func() { r.keep(ctx) })
	}
	if len(h.Folders) > 0 {
		h.watch(ctx, &all)
	}
	<-ctx.Done()
	all.Wait()
	return nil
}

// Close removes the folder for sockets. Run must have returned.
func (h *Host) Close() error { return h.launcher.home.close() }

// Plugins gives the state of every plugin, in the order of the programs.
func (h *Host) Plugins() []Status {
	var out []Status
	for _, r := range h.list() {
		out = append(out, r.status())
	}
	return out
}

// claim gives a plugin id to a runner for good. Where two programs have one id, the first of them has it, whichever is
// faster: a later one waits until the earlier ones have said who they are.
func (h *Host) claim(ctx context.Context, r *Runner, id string) error {
	r.tell.Do(func() { defer close(r.known); h.note(r, id) })
	if !r.program.Builtin {
		for _, other := range h.list() {
			if other.order >= r.order {
				break
			}
			select {
			case <-other.known:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	owner := h.claims[id]
	if owner != nil && owner != r && owner.order < r.order {
		return &refusal{fmt.Errorf("plugin id %s belongs to %s already: %s is not run", id, owner.program.Argv[0], r.program.Argv[0])}
	}
	h.claims[id] = r
	return nil
}

// note remembers who wants an id; the first in order has it.
func (h *Host) note(r *Runner, id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if owner := h.claims[id]; owner == nil || r.order < owner.order {
		h.claims[id] = r
	}
}

func (h *Host) committed(took time.Duration, err error) {
	if h.OnCommit != nil {
		h.OnCommit(took, err)
	}
}

// WaitCaughtUp waits until every plugin that is neither quarantined nor disabled has committed up to the given
// positions, by stream, and serves them.
func (h *Host) WaitCaughtUp(ctx context.Context, to map[string]uint64) error {
	for {
		next := h.progress.next()
		late := ""
		for _, r := range h.list() {
			if !r.caughtUp(to) {
				late = r.id()
				break
			}
		}
		if late == "" {
			return nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return fmt.Errorf("plugin %s has not caught up: %w", late, ctx.Err())
		}
	}
}

func (r *Runner) caughtUp(to map[string]uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.shown.State == Quarantined || r.shown.State == Disabled {
		return true
	}
	for stream, upto := range to {
		if r.positions[stream] < upto {
			return false
		}
	}
	return !r.building && r.prepared
}

// progress wakes those who wait for something to change.
type progress struct {
	mu sync.Mutex
	c  chan struct{}
}

// next gives a channel that is closed at the next change.
func (p *progress) next() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.c == nil {
		p.c = make(chan struct{})
	}
	return p.c
}

func (p *progress) notify() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.c != nil {
		close(p.c)
		p.c = nil
	}
}
