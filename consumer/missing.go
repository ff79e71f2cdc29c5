package consumer

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/statscache/statscache/api"
	"github.com/statscache/statscache/consumer/config"
	"github.com/statscache/statscache/consumer/gaps"
	"github.com/statscache/statscache/consumer/lease"
)

// sharedGaps bounds what a process tells the others of its gaps: that is written every second.
const sharedGaps = 50

// ledger gives the one that is written, or where nothing listens what the file says.
func (d *Daemon) ledger() (*gaps.Ledger, error) {
	if l := d.gaps.Load(); l != nil {
		return l, nil
	}
	return gaps.Open(filepath.Join(d.config.DataDir, gapsFile))
}

// fetching notes what is being fetched, nil for nothing. A note that fails is no reason not to fetch.
func (d *Daemon) fetching(what *gaps.Span) {
	l, err := d.ledger()
	if err == nil {
		err = l.Fetch(what)
	}
	if err != nil {
		d.log.Warn("it can't be noted what is being fetched", "error", err)
	}
}

// Gaps tells of what times events may be missing: as this process knows, and the others that share the store.
func (d *Daemon) Gaps() api.Gaps {
	var own api.Gaps
	if d.roles.Consume {
		l, err := d.ledger()
		if err != nil {
			d.gapsFault.say(d.log, err)
		} else {
			own = toldGaps(l, d.now())
		}
	}
	if d.cluster == nil {
		return own
	}
	return d.cluster.gaps(own, d.now())
}

// Gaps tells of what times events may be missing: as the daemon of the data dir notes it, or where the store is shared
// as those say that consume.
func (v *Server) Gaps() api.Gaps {
	if v.cluster != nil {
		return v.cluster.gaps(api.Gaps{}, time.Now())
	}
	g, err := KeptGaps(v.config, time.Now())
	if err != nil {
		v.gapsFault.say(v.log, err)
	}
	return g
}

// fault is an error that is asked about again and again and said once.
type fault struct{ said atomic.Pointer[string] }

func (f *fault) say(log *slog.Logger, err error) {
	text := err.Error()
	if old := f.said.Swap(&text); old == nil || *old != text {
		log.Warn("it can't be told what is missing", "error", err)
	}
}

// KeptGaps tells what the daemon of a data dir has noted, whether it runs or not.
func KeptGaps(c *config.Config, now time.Time) (api.Gaps, error) {
	l, err := gaps.Open(filepath.Join(c.DataDir, gapsFile))
	if err != nil {
		return api.Gaps{}, err
	}
	running, err := Running(c.DataDir)
	if err != nil {
		return api.Gaps{}, err
	}
	g := toldGaps(l, now)
	if !running {
		g.Backfilling = nil // whoever fetched was killed
	} else if n := len(g.Gaps); n > 0 && g.Gaps[n-1].Kind == api.GapStopped && !g.Gaps[n-1].To.Before(now.Truncate(time.Second)) {
		g.Gaps = g.Gaps[:n-1] // the daemon listens: it notes so now and then only
	}
	return g, nil
}

// KnownGaps is StoredGaps for who has no store open.
func KnownGaps(ctx context.Context, c *config.Config, log *slog.Logger) (g api.Gaps, err error) {
	if c.Store.Kind != "crate" {
		return KeptGaps(c, time.Now())
	}
	r, err := OpenReader(ctx, c, log)
	if err != nil {
		return g, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return StoredGaps(ctx, r, c)
}

// StoredGaps tells what is missing without being a daemon: as the data dir has it, and where the store is shared as those
// that consume tell of themselves.
func StoredGaps(ctx context.Context, r Reader, c *config.Config) (api.Gaps, error) {
	shared, ok := r.(sharedStore)
	if !ok {
		return KeptGaps(c, time.Now())
	}
	var own api.Gaps
	running, err := Running(c.DataDir)
	if err == nil && !running { // one that runs is among the others
		own, err = KeptGaps(c, time.Now())
	}
	if err != nil {
		return own, err
	}
	k := cluster{Keeper: lease.NewKeeper(lease.Options{Store: shared})}
	if err := k.Look(ctx); err != nil {
		return own, fmt.Errorf("list leases: %w", err)
	}
	return k.gaps(own, time.Now()), nil
}

func toldGaps(l *gaps.Ledger, now time.Time) (g api.Gaps) {
	for _, x := range l.Known(now.Unix()) {
		kind := api.GapDown
		switch {
		case x.Lost:
			kind = api.GapLost
		case x.Why == gaps.Stopped:
			kind = api.GapStopped
		}
		g.Gaps = append(g.Gaps, api.Gap{From: time.Unix(x.From, 0).UTC(), To: time.Unix(x.To, 0).UTC(), Kind: kind, Reason: x.Why, Missing: x.Missing, Ongoing: x.Ongoing})
	}
	if x, ok := l.Fetching(); ok {
		g.Backfilling = []api.Span{{From: time.Unix(x.From, 0).UTC(), To: time.Unix(x.To, 0).UTC()}}
	}
	return g
}

// gaps adds to what this process knows what the others that consume tell of themselves. What one of several consumers
// missed may have come by another: it is told all the same, since nobody knows.
func (c *cluster) gaps(own api.Gaps, now time.Time) api.Gaps {
	listening, silent := false, time.Duration(-1)
	nodes := c.Nodes()
	slices.SortStableFunc(nodes, func(a, b lease.Node) int { return cmp.Compare(oneIf(b.Alive), oneIf(a.Alive)) })
	// A process that was started again tells what it told before, for as long as that is remembered, if with another end.
	known := map[api.Gap]bool{}
	seen := func(g api.Gap) bool {
		k := api.Gap{From: g.From, Kind: g.Kind, Reason: g.Reason}
		was := known[k]
		known[k] = true
		return was
	}
	for _, g := range own.Gaps {
		seen(g)
	}
	for _, n := range nodes {
		var a nodeAbout
		if json.Unmarshal(n.About, &a) != nil || !slices.Contains(a.Roles, "consume") {
			continue
		}
		listening = listening || n.Alive
		if !n.Alive && (silent < 0 || n.Silent < silent) {
			silent = n.Silent
		}
		if n.ID == c.Node || a.Gaps == nil {
			continue
		}
		for _, g := range a.Gaps.Gaps {
			if seen(g) {
				continue
			}
			g.Ongoing = g.Ongoing && n.Alive
			g.Reason = fmt.Sprintf("%s: %s", n.ID, g.Reason)
			own.Gaps = append(own.Gaps, g)
		}
		if n.Alive {
			own.Backfilling = append(own.Backfilling, a.Gaps.Backfilling...)
		}
	}
	if !listening && silent >= 0 { // until the row of the last one is forgotten; it notes the time itself when it comes back
		own.Gaps = append(own.Gaps, api.Gap{From: now.Add(-silent).UTC(), To: now.UTC(), Kind: api.GapStopped, Reason: gaps.Stopped, Ongoing: true})
	}
	slices.SortStableFunc(own.Gaps, func(a, b api.Gap) int { return cmp.Compare(a.From.Unix(), b.From.Unix()) })
	return own
}

// shared is what this process tells the others of its gaps: the last ones, the first of them for all before.
func (d *Daemon) shared() *api.Gaps {
	l := d.gaps.Load()
	if l == nil {
		return nil
	}
	g := toldGaps(l, d.now())
	if n := len(g.Gaps) - sharedGaps; n > 0 {
		for _, x := range g.Gaps[:n] {
			if g.Gaps[n].From.After(x.From) {
				g.Gaps[n].From, g.Gaps[n].Missing = x.From, 0
			}
		}
		g.Gaps = g.Gaps[n:]
	}
	return &g
}
