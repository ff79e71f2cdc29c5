package consumer

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/statscache/statscache/api"
	"github.com/statscache/statscache/consumer/lease"
)

// unable says why leases can't be kept, empty where they can.
func (c *cluster) unable() string {
	if err := c.Down(); err != nil {
		return err.Error()
	}
	return ""
}

// status tells what this process knows of the others.
func (c *cluster) status() *api.ClusterStatus {
	s := &api.ClusterStatus{Node: c.Node, Nodes: []api.NodeStatus{}, Streams: []api.StreamStatus{}, Leases: []api.LeaseStatus{}, Health: []api.HealthStatus{}}
	for _, n := range c.Nodes() {
		var a nodeAbout
		_ = json.Unmarshal(n.About, &a) // of another version perhaps: then it is known by its id
		s.Nodes = append(s.Nodes, api.NodeStatus{ID: n.ID, Alive: n.Alive, Silent: n.Silent.Seconds(), Version: a.Version, Host: a.Host, PID: a.PID,
			Roles: append([]string{}, a.Roles...), Started: a.Started, Listen: a.Listen, Admin: a.Admin,
			EventsPerSecond: a.EventsPerSecond, JournalBytes: a.JournalBytes})
	}
	owners := map[string]string{}
	for _, l := range c.Leases() {
		s.Leases = append(s.Leases, api.LeaseStatus{Name: l.Name, Node: l.Owner, Alive: l.Alive})
		if l.Alive {
			owners[l.Name] = l.Owner
		}
	}
	for _, x := range c.follow.known() {
		s.Streams = append(s.Streams, api.StreamStatus{ID: x.ID, ArchivedTo: x.ArchivedTo, Owned: x.Owned, Retired: x.Retired, Node: owners[lease.StreamLease(x.ID)]})
	}
	if h := c.health.Load(); h != nil {
		s.Health = append(s.Health, *h...)
	}
	return s
}

// plugins tells how the plugins do in the processes that run them: each by the one that does best with it.
func (c *cluster) plugins() []api.PluginStatus {
	best := map[string]api.PluginStatus{}
	for _, n := range c.Nodes() {
		var a nodeAbout
		if !n.Alive || json.Unmarshal(n.About, &a) != nil {
			continue
		}
		for _, p := range a.Plugins {
			b, known := best[p.ID]
			if !known {
				best[p.ID] = p
				continue
			}
			if fitness(p.State) < fitness(b.State) {
				b, p = p, b
			}
			b.Restarts += p.Restarts
			b.Lag, b.DeadLetters = min(b.Lag, p.Lag), max(b.DeadLetters, p.DeadLetters)
			b.Error = cmp.Or(b.Error, p.Error)
			best[p.ID] = b
		}
	}
	out := []api.PluginStatus{}
	for _, p := range best {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b api.PluginStatus) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// fitness orders the states of plugins, the best first.
func fitness(state string) int {
	return slices.Index([]string{"running", "catching-up", "starting", "backing-off", "quarantined", "disabled"}, state)
}

// elsewherePause is the time between two looks at how far other processes have counted.
const elsewherePause = 500 * time.Millisecond

// errNobodyComputes ends a wait that could last for ever.
var errNobodyComputes = errors.New("everything is archived, but no process computes at the moment: the numbers follow when one does (`statscache compute`)")

// waitElsewhere waits until the working plugins of other processes have counted up to the given positions, by stream.
func (d *Daemon) waitElsewhere(ctx context.Context, to map[string]uint64) error {
	for {
		late, err := d.lateElsewhere(ctx, to)
		if err != nil || late == "" {
			return err
		}
		select {
		case <-time.After(elsewherePause):
		case <-ctx.Done():
			return fmt.Errorf("plugin %s has not caught up: %w", late, context.Cause(ctx))
		}
	}
}

// lateElsewhere names a plugin that works and has not come as far, empty where there is none.
func (d *Daemon) lateElsewhere(ctx context.Context, to map[string]uint64) (string, error) {
	served, err := d.store.Metrics(ctx)
	if err != nil {
		return "", fmt.Errorf("list metrics: %w", err)
	}
	working := d.cluster.plugins()
	if len(working) == 0 {
		return "", errNobodyComputes
	}
	for _, p := range working {
		if p.State == "quarantined" || p.State == "disabled" {
			continue
		}
		positions, err := d.store.Positions(ctx, p.ID, generationOf(served, p.ID))
		if err != nil {
			return "", fmt.Errorf("positions of %s: %w", p.ID, err)
		}
		at := map[string]uint64{}
		for _, x := range positions {
			at[x.Stream] = x.Pos
		}
		for stream, upto := range to {
			if at[stream] < upto {
				return p.ID, nil
			}
		}
	}
	return "", nil
}
