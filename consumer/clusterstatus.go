package consumer

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"

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
