package lease

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/statscache/statscache/store"
)

const (
	nodePrefix    = "node/"
	streamPrefix  = "stream/"
	computePrefix = "compute/"

	defaultTTL   = 8 * time.Second
	defaultEvery = time.Second
	// beats is how many chances a holder has to be seen within the time to live.
	beats = 4
	// forgotten is after how many times to live the row of a process that is gone is removed.
	forgotten = 30
)

// Store is what of a store leases need.
type Store interface {
	ListLeases(ctx context.Context, prefix string) ([]store.Lease, error)
	SwapLease(ctx context.Context, l store.Lease) (store.Lease, error)
	DropLease(ctx context.Context, l store.Lease) error
}

// Options are what a Keeper is made of. Store and Node are required.
type Options struct {
	Store   Store
	Node    string                 // of this process, random
	Compute bool                   // it takes its share of the work
	About   func() json.RawMessage // what it tells of itself; may be nil
	TTL     time.Duration          // how long a holder may be silent; 8 s
	Every   time.Duration          // between two looks; 1 s
	Now     func() time.Time       // its monotonic reading counts; time.Now
	Logger  *slog.Logger
}

// node is what the row of a process carries.
type node struct {
	Compute bool            `json:"compute"`
	Plugins []string        `json:"plugins,omitempty"` // that it has work for
	About   json.RawMessage `json:"about,omitempty"`
}

// Keeper holds a process's leases and watches everybody else's.
type Keeper struct {
	Options

	mu    sync.Mutex
	watch *watch
	held  map[string]*holding
	want  map[string][]string // streams to compute, by plugin
	down  error               // why the last look failed
	ended bool
}

// holding is a lease of ours.
type holding struct {
	store.Lease
	beaten time.Time
	leave  leave
}

// leave is how far a lease of ours is on its way to others.
type leave int

const (
	stays leave = iota
	asked       // it is to be put down
	told        // an answer of Mine has left it out
	left        // nothing works under it any more
)

// NewKeeper makes a Keeper; nothing is written before Join.
func NewKeeper(o Options) *Keeper {
	o.TTL, o.Every = cmp.Or(o.TTL, defaultTTL), cmp.Or(o.Every, defaultEvery)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Logger = o.Logger.With("component", "leases")
	return &Keeper{Options: o, watch: newWatch(o.TTL, o.Every), held: map[string]*holding{}, want: map[string][]string{}}
}

// Join makes the process known to the others.
func (k *Keeper) Join(ctx context.Context) error { return k.Hold(ctx, nodePrefix+k.Node) }

// StreamLease names the lease of a stream's consumer.
func StreamLease(stream string) string { return streamPrefix + stream }

// Hold takes a lease whoever has it: for what only this process can have, such as the stream of its own inbox.
func (k *Keeper) Hold(ctx context.Context, name string) error {
	for {
		rows, err := k.Store.ListLeases(ctx, name)
		if err != nil {
			return fmt.Errorf("take lease %s: %w", name, err)
		}
		l := store.Lease{Name: name}
		for _, r := range rows {
			if r.Name == name {
				l = r
			}
		}
		if err := k.swap(ctx, l, k.Node); !errors.Is(err, store.ErrFenced) {
			return err
		}
	}
}

// swap writes a lease with an owner; where that is us, it is held from then on.
func (k *Keeper) swap(ctx context.Context, l store.Lease, owner string) error {
	l.Owner, l.Info = owner, k.info(l.Name)
	began := k.Now()
	l, err := k.Store.SwapLease(ctx, l)
	if err != nil {
		return fmt.Errorf("lease %s: %w", l.Name, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if h := k.held[l.Name]; h != nil && owner == k.Node {
		h.Lease, h.beaten = l, began
	} else if owner == k.Node {
		k.held[l.Name] = &holding{Lease: l, beaten: began}
	} else {
		delete(k.held, l.Name)
	}
	return nil
}

// info is what our lease of a name carries: only the process's own row says anything.
func (k *Keeper) info(name string) string {
	if name != nodePrefix+k.Node {
		return ""
	}
	n := node{Compute: k.Compute}
	if k.About != nil {
		n.About = k.About()
	}
	k.mu.Lock()
	n.Plugins = slices.Sorted(maps.Keys(k.want))
	k.mu.Unlock()
	text, err := json.Marshal(n)
	if err != nil || len(text) > store.MaxLeaseInfo {
		n.About = nil
		text, _ = json.Marshal(n) // plain strings: it can't fail
	}
	return string(text)
}

// Run looks, beats, takes and gives back until ctx ends. What fails because the store is away is done once it is back.
func (k *Keeper) Run(ctx context.Context) error {
	tick := time.NewTicker(k.Every)
	defer tick.Stop()
	for {
		inner, cancel := context.WithTimeout(ctx, k.TTL)
		err := k.round(inner)
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		k.note(err)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (k *Keeper) note(err error) {
	k.mu.Lock()
	before := k.down
	k.down = err
	k.mu.Unlock()
	switch {
	case err != nil && before == nil:
		k.Logger.Warn("leases can't be kept at the moment", "error", err)
	case err == nil && before != nil:
		k.Logger.Info("leases are kept again")
	}
}

// Look takes in the rows as they are now and does nothing about them.
func (k *Keeper) Look(ctx context.Context) error {
	rows, err := k.Store.ListLeases(ctx, "")
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.watch.look(rows, k.Now())
	return nil
}

// round is one look at the rows and what follows from it.
func (k *Keeper) round(ctx context.Context) error {
	rows, err := k.Store.ListLeases(ctx, "")
	if err != nil {
		return err
	}
	k.mu.Lock()
	k.watch.look(rows, k.Now())
	lost := k.reconcile()
	due := k.due()
	k.mu.Unlock()
	for _, name := range lost {
		k.Logger.Info("a lease was taken by another process", "lease", name)
	}
	var errs []error
	for _, l := range due {
		errs = append(errs, k.unlessFenced(k.swap(ctx, l, k.Node), l.Name))
	}
	if k.Compute {
		errs = append(errs, k.shareOut(ctx))
	}
	errs = append(errs, k.tidy(ctx))
	return errors.Join(errs...)
}

// reconcile compares what we hold with the rows; under mu. The row of the process itself is made anew where it is gone.
func (k *Keeper) reconcile() (lost []string) {
	for name, h := range k.held {
		s := k.watch.rows[name]
		switch {
		case s != nil && !s.absent && s.Owner == k.Node:
			h.Beat = max(h.Beat, s.Beat) // an attempt to beat may have gone through without an answer
		case name == nodePrefix+k.Node:
			h.Lease, h.beaten = store.Lease{Name: name}, time.Time{}
			if s != nil && !s.absent {
				h.Lease = s.Lease
			}
		case s != nil && !s.absent && s.Beat >= h.Beat || s == nil || s.absent:
			delete(k.held, name)
			lost = append(lost, name)
		}
	}
	return lost
}

// due gives the leases of ours whose next beat is due; under mu.
func (k *Keeper) due() (out []store.Lease) {
	now := k.Now()
	for _, h := range k.held {
		if now.Sub(h.beaten) >= k.TTL/beats && !k.ended {
			out = append(out, h.Lease)
		}
	}
	slices.SortFunc(out, func(a, b store.Lease) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// unlessFenced takes being fenced for an answer: the lease is another one's.
func (k *Keeper) unlessFenced(err error, name string) error {
	if !errors.Is(err, store.ErrFenced) {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if name != nodePrefix+k.Node {
		delete(k.held, name)
	}
	return nil
}

// tidy removes rows of processes and of work that have been gone for long.
func (k *Keeper) tidy(ctx context.Context) error {
	var gone []store.Lease
	k.mu.Lock()
	for name, s := range k.watch.rows {
		_, ours := k.held[name]
		dead := s.still >= forgotten*k.TTL && kind(name) != streamPrefix || k.finished(name) && k.watch.expired(s)
		if !s.absent && !ours && dead && !k.wants(name) {
			gone = append(gone, s.Lease)
		}
	}
	k.mu.Unlock()
	var errs []error
	for _, l := range gone {
		errs = append(errs, k.unlessFenced(k.Store.DropLease(ctx, l), l.Name))
	}
	return errors.Join(errs...)
}

// Silent says whether the holder of a lease is gone, so that whatever it did is for others to finish: it is dead, or it
// has given the lease back at least as long ago as grace, or there has been no lease for as long as a holder may be
// silent.
func (k *Keeper) Silent(name string, grace time.Duration) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ours := k.held[name]; ours {
		return false
	}
	s := k.watch.of(name)
	if !s.absent && s.Owner == "" {
		return s.still >= grace
	}
	return s.still >= k.TTL
}

// Drop removes a lease that nobody will need again.
func (k *Keeper) Drop(ctx context.Context, name string) error {
	k.mu.Lock()
	s, h := k.watch.rows[name], k.held[name]
	k.watch.forget(name)
	var l store.Lease
	switch {
	case h != nil:
		l = h.Lease
		delete(k.held, name)
	case s != nil && !s.absent:
		l = s.Lease
	}
	k.mu.Unlock()
	if l.Name == "" {
		return nil
	}
	return k.unlessFenced(k.Store.DropLease(ctx, l), name)
}

// TryHold takes a lease if it is free, and says whether it is ours now.
func (k *Keeper) TryHold(ctx context.Context, name string) (bool, error) {
	k.mu.Lock()
	_, ours := k.held[name]
	s := k.watch.of(name)
	l, free := s.Lease, k.watch.expired(s) && !k.watch.last.IsZero() && !k.ended
	k.mu.Unlock()
	if ours || !free {
		return ours, nil
	}
	err := k.swap(ctx, l, k.Node)
	if errors.Is(err, store.ErrFenced) {
		return false, nil
	}
	return err == nil, err
}

// Close gives everything back, so that others take over at once.
func (k *Keeper) Close(ctx context.Context) error {
	k.mu.Lock()
	k.ended = true
	var all []store.Lease
	for _, h := range k.held {
		all = append(all, h.Lease)
	}
	k.mu.Unlock()
	var errs []error
	for _, l := range all {
		if l.Name == nodePrefix+k.Node {
			errs = append(errs, k.unlessFenced(k.Store.DropLease(ctx, l), l.Name))
			continue
		}
		errs = append(errs, k.unlessFenced(k.swap(ctx, l, ""), l.Name))
	}
	return errors.Join(errs...)
}
