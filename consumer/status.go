package consumer

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/statscache/statscache/api"
	"github.com/statscache/statscache/consumer/config"
	"github.com/statscache/statscache/consumer/source/zmq"
	"github.com/statscache/statscache/plugins/host"
)

// Status says how everything is doing.
func (d *Daemon) Status() api.Status {
	s := api.Status{Version: d.version, Started: d.started, Roles: d.roles.names(), EventsPerSecond: d.rate.perSecond(),
		Endpoints: []api.EndpointStatus{}, Store: api.StoreStatus{Kind: d.config.Store.Kind}, Plugins: []api.PluginStatus{}}
	running := d.waiting.Load() == nil // else there is neither a store nor what needs one
	if running {
		s.Owned, s.Store.Up, s.Plugins = d.owned(), d.archiver.down.Load() == nil, d.Plugins()
	}
	if running && d.journal != nil {
		s.Journal.Bytes, s.Journal.Limit = d.journal.Bytes()
	}
	if e := d.early.Load(); e != nil {
		used, _ := e.inbox.Bytes()
		s.Journal.Bytes, s.Journal.Limit = s.Journal.Bytes+used, d.config.JournalMaxBytes
	}
	for _, h := range d.health() {
		e := api.EndpointStatus{Name: h.Name, Address: h.Address, State: string(h.State), Received: h.Received,
			Rejected: h.WrongTopic + h.TooLarge + h.TooManyFrames, Reconnects: h.Reconnects}
		if !h.LastEvent.IsZero() {
			at := h.LastEvent.UTC()
			e.LastEvent = &at
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	for i := range s.Endpoints { // what the decoder refused is known by name only: an endpoint's addresses share it
		s.Endpoints[i].Rejected += d.metrics.refused.of(s.Endpoints[i].Name)
	}
	if running && d.cluster != nil {
		s.Cluster = d.cluster.status()
	}
	return s
}

// owned counts the events archived as ours, ever: by all processes where the store is shared.
func (d *Daemon) owned() (n uint64) {
	if d.cluster == nil {
		return d.archiver.owned.Load()
	}
	for _, s := range d.cluster.follow.known() {
		n += s.Owned
	}
	return n
}

// health is how the endpoints do.
func (d *Daemon) health() []zmq.Health {
	if source := d.source.Load(); source != nil {
		return source.Health()
	}
	return nil
}

// rejected counts what was refused by reason, by the decoder and by the sockets before it.
func (d *Daemon) rejected() map[string]uint64 {
	out := map[string]uint64{}
	for _, r := range reasons() {
		out[r] = d.metrics.rejected.of(r)
	}
	if source := d.source.Load(); source != nil {
		r := source.Refused()
		out["topic"] += r.WrongTopic
		out["size"] += r.TooLarge
		out["frames"] += r.TooManyFrames
	}
	return out
}

// Plugins says how the plugins are doing, elsewhere where this process runs none.
func (d *Daemon) Plugins() []api.PluginStatus {
	if d.cluster != nil && !d.roles.Compute {
		return d.cluster.plugins()
	}
	return d.ownPlugins()
}

func (d *Daemon) ownPlugins() []api.PluginStatus {
	out := []api.PluginStatus{}
	for _, p := range d.host.Plugins() {
		if p.State == host.Starting {
			p.Error = cmp.Or(p.Error, d.retaining())
		}
		st := api.PluginStatus{ID: p.ID, Version: p.Version, DataVersion: p.DataVersion, State: string(p.State), Builtin: p.Builtin,
			Metrics: p.Metrics, Lag: p.Lag, Restarts: uint64(p.Restarts), DeadLetters: uint64(p.DeadLetters), Error: cmp.Or(p.Error, d.changes.doubt(p.ID))}
		if b := p.Building; b != nil {
			st.Building = &api.BuildingStatus{Generation: b.Generation, Done: b.Done, Total: b.Total}
		}
		out = append(out, st)
	}
	return out
}

// Ready answers the readiness checks of the roles.
func (d *Daemon) Ready() (checks []api.Check) {
	if w := d.waiting.Load(); w != nil {
		return w.ready(d.roles, d.early.Load())
	}
	unable := "" // of the store
	if why := d.archiver.down.Load(); why != nil {
		unable = *why
	} else if d.cluster != nil {
		unable = d.cluster.unable()
	}
	if d.roles.Consume {
		inbox := api.Check{Role: "consume", Name: "inbox", OK: true}
		if why := d.ingest.stalled.Load(); why != nil {
			inbox.OK, inbox.Reason = false, "the inbox takes nothing: "+*why
		}
		if why := d.earlyUnread.reason(); why != "" {
			inbox.OK, inbox.Reason = false, "what was received before the store had answered can't be read: "+why
		}
		if why := d.archiver.inbox.reason(); why != "" {
			inbox.OK, inbox.Reason = false, "the inbox can't be read: "+why
		}
		checks = append(checks, inbox, storeCheck("consume", "archive", "the store takes no events: ", unable))
	}
	if why := d.retaining(); why != "" { // no check where there is nothing to wait for
		if d.roles.Consume {
			checks = append(checks, api.Check{Role: "consume", Name: "retention", Reason: why})
		}
		if d.roles.Compute {
			checks = append(checks, api.Check{Role: "compute", Name: "retention", Reason: why})
		}
	}
	if d.roles.Compute {
		checks = append(checks, d.pluginsCheck())
		if d.cluster != nil {
			checks = append(checks, storeCheck("compute", "leases", "leases can't be kept: ", unable))
		}
	}
	if d.roles.Serve {
		checks = append(checks, storeCheck("serve", "store", "the store takes no events: ", unable))
	}
	if d.stopping.Load() {
		for i := range checks {
			checks[i].OK, checks[i].Reason = false, "stopping"
		}
	}
	return checks
}

func storeCheck(role, name, said, why string) api.Check {
	if why == "" {
		return api.Check{Role: role, Name: name, OK: true}
	}
	return api.Check{Role: role, Name: name, Reason: said + why}
}

func (d *Daemon) pluginsCheck() api.Check {
	c := api.Check{Role: "compute", Name: "plugins", OK: true}
	for _, p := range d.host.Plugins() {
		switch s := string(p.State); s {
		case "backing-off", "quarantined", "starting":
			c.OK, c.Reason = false, fmt.Sprintf("plugin %s is %s", p.ID, s)
			if p.Error != "" {
				c.Reason += ": " + p.Error
			}
		}
	}
	return c
}

// Store is the open store, for the API to read from.
func (d *Daemon) Store() api.Store { return d.store }

// waitArchived waits until everything up to a position of the live stream is archived.
func (d *Daemon) waitArchived(ctx context.Context, to uint64) error {
	for {
		end, changed := d.feed.watch()
		if end >= to {
			return nil
		}
		select {
		case <-changed:
		case <-d.archiver.inbox.forGood():
			return d.archiver.inbox.err()
		case <-ctx.Done():
			return fmt.Errorf("wait for the archive: %w", context.Cause(ctx))
		}
	}
}

// waitComputed waits until every working plugin has counted all that is archived now.
func (d *Daemon) waitComputed(ctx context.Context) error {
	ends, err := d.feed.Ends(ctx)
	if err != nil {
		return fmt.Errorf("list streams: %w", err)
	}
	if d.cluster != nil && !d.roles.Compute {
		return d.waitElsewhere(ctx, ends)
	}
	return d.host.WaitCaughtUp(ctx, ends)
}

// rateMeter gives a rate over the last few seconds.
type rateMeter struct{ value atomic.Uint64 }

const rateSeconds = 5

func (m *rateMeter) run(total *atomic.Uint64) func(context.Context) error {
	return func(ctx context.Context) error {
		var past [rateSeconds + 1]uint64
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for n := 1; ; n++ {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
			now := total.Load()
			past[n%len(past)] = now
			seconds := min(n, rateSeconds)
			from := past[(n-seconds)%len(past)]
			m.value.Store((now - from) * 1000 / uint64(seconds))
		}
	}
}

func (m *rateMeter) perSecond() float64 { return float64(m.value.Load()) / 1000 }

// keepAlive translates fedmsg's TCP keepalive settings.
func keepAlive(k config.KeepAlive) net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: k.Enabled, Idle: k.Idle, Interval: k.Interval, Count: k.Count}
}
