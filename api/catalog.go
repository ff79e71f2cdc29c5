package api

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"sort"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/statscache/statscache/store"
)

// directoryLife is how long a list of metrics is believed. A new plugin or generation shows after this at the latest;
// an ident that isn't in the list is looked for again after directoryMiss.
const (
	directoryLife = time.Second
	directoryMiss = 50 * time.Millisecond
	directoryWait = 100 * time.Millisecond // for a newer one, when there is one
)

// directory is the list of served metrics at one moment, immutable.
type directory struct {
	read    time.Time
	metrics []store.ServedMetric // by id
	byID    map[string]*store.ServedMetric
	idents  map[string]target
	names   []string // all idents, sorted
	// shape changes with everything but versions: definitions, generations, layouts. Answers of another shape don't
	// hold any more, even if a new generation's version happens to be the old one's.
	shape uint64
}

// target is what an ident stands for.
type target struct {
	dir      *directory
	metric   *store.ServedMetric
	interval time.Duration // 0 for latest values
}

// catalog keeps the last directory.
type catalog struct {
	current atomic.Pointer[directory]
	refresh singleflight.Group
}

// directory gives the metrics, at most maxAge old. While the store is away or slow an older list is given, where there
// is one: kept answers go on being served.
func (s *Server) directory(ctx context.Context, maxAge time.Duration) (*directory, error) {
	old := s.catalog.current.Load()
	if old.fresh(s.now(), maxAge) {
		return old, nil
	}
	// The call serves everybody who waits for it, so it doesn't end with this one request.
	detached := context.WithoutCancel(ctx)
	done := s.catalog.refresh.DoChan("", func() (any, error) { return s.readDirectory(detached, maxAge) })
	var enough <-chan time.Time // never, where there is nothing else to give
	if old != nil {
		t := time.NewTimer(directoryWait)
		defer t.Stop()
		enough = t.C
	}
	select {
	case r := <-done:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*directory), nil
	case <-enough:
		return old, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *Server) readDirectory(ctx context.Context, maxAge time.Duration) (d *directory, err error) {
	old := s.catalog.current.Load()
	if old.fresh(s.now(), maxAge) {
		return old, nil // somebody was faster
	}
	defer recovered(&err)
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	list, err := s.store.Metrics(ctx)
	if err != nil {
		if old == nil {
			return nil, fmt.Errorf("list metrics: %w", err)
		}
		s.complain("the list of metrics could not be read; an older one is used", "error", err)
		list = old.metrics
	}
	d = newDirectory(list, s.now())
	s.catalog.current.Store(d)
	return d, nil
}

func (d *directory) fresh(now time.Time, maxAge time.Duration) bool {
	return d != nil && now.Sub(d.read) < maxAge
}

func newDirectory(list []store.ServedMetric, now time.Time) *directory {
	d := &directory{
		read: now, metrics: list, byID: make(map[string]*store.ServedMetric, len(list)), idents: make(map[string]target),
	}
	h := fnv.New64a()
	for i := range list {
		m := &list[i]
		d.byID[m.ID] = m
		shape := *m
		shape.Version = 0
		_ = json.NewEncoder(h).Encode(shape) // a hash takes everything; an unusable layout only makes it less telling
		if m.Kind == store.Latest {
			d.idents[m.ID] = target{dir: d, metric: m}
		}
		if m.Kind == store.Counter {
			for _, iv := range m.Intervals {
				d.idents[identOf(m.ID, iv)] = target{d, m, iv}
			}
		}
	}
	d.shape = h.Sum64()
	for name := range d.idents {
		d.names = append(d.names, name)
	}
	sort.Strings(d.names)
	return d
}

// find gives what an ident stands for.
func (s *Server) find(ctx context.Context, ident string) (target, error) {
	d, err := s.directoryWith(ctx, func(d *directory) bool { return d.idents[ident].metric != nil })
	if err != nil {
		return target{}, err
	}
	t, ok := d.idents[ident]
	if !ok {
		return target{}, notFound("no such metric: " + cut(ident, maxValue))
	}
	return t, nil
}

// directoryWith gives a list that has something, where there is one: what is unknown may have appeared just now.
func (s *Server) directoryWith(ctx context.Context, has func(*directory) bool) (*directory, error) {
	d, err := s.directory(ctx, directoryLife)
	if err != nil || has(d) {
		return d, err
	}
	return s.directory(ctx, directoryMiss)
}

// version sums up the versions of all metrics: it changes when any of them does.
func (d *directory) version(version func(string) uint64) uint64 {
	var sum uint64
	for i := range d.metrics {
		sum += version(d.metrics[i].ID)
	}
	return sum
}
