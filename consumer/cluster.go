package consumer

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/statscache/statscache/api"
	"github.com/statscache/statscache/consumer/config"
	"github.com/statscache/statscache/consumer/lease"
	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store"
)

const (
	// tendEvery is how often a process looks for streams whose consumers are gone.
	tendEvery = time.Second
	// returnWithin is how long the stream of a consumer that went in order waits for it: most come back.
	returnWithin = 5 * time.Minute
	// tendWait bounds one round of all that.
	tendWait = 30 * time.Second
	// leaveWithin bounds giving leases back at the end.
	leaveWithin = time.Second
)

// sharedStore is what a store offers on top that several processes share.
type sharedStore interface {
	store.Leases
	// Orphans gives events that were inserted for retired streams above their archived_to.
	Orphans(ctx context.Context, f func(stream string, b *block.Block) error) error
}

// cluster is a process's place among others on one store.
type cluster struct {
	sharedStore
	*lease.Keeper
	follow *follower
	health atomic.Pointer[[]api.HealthStatus] // of the database, nil before the first look
	log    *slog.Logger
}

// nodeID names a process. It is new with every start: what an earlier one held is not this one's.
func nodeID(host string) string { return host + "-" + rand.Text()[:8] }

func hostName() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "host"
	}
	return name
}

// joinCluster makes the process known where the store is shared; nil where it is not.
func joinCluster(ctx context.Context, s store.Store, compute bool, about func() json.RawMessage, log *slog.Logger) (*cluster, error) {
	shared, ok := s.(sharedStore)
	if !ok {
		return nil, nil
	}
	k := lease.NewKeeper(lease.Options{Store: shared, Node: nodeID(hostName()), Compute: compute, About: about, Logger: log})
	if err := k.Join(ctx); err != nil {
		return nil, err
	}
	return &cluster{sharedStore: shared, Keeper: k, follow: newFollower(s), log: log.With("component", "cluster")}, nil
}

// leave gives all leases back, as far as the store takes that.
func (c *cluster) leave() error {
	ctx, cancel := context.WithTimeout(context.Background(), leaveWithin)
	defer cancel()
	if err := c.Close(ctx); err != nil {
		c.log.Warn("leases could not be given back; others take them when they have run out", "error", err)
	}
	return nil
}

// attach takes a stream for this process. One that goes on with positions of a former stream begins behind them: they
// are covered by nothing, as duplicates are.
func (d *Daemon) attach(ctx context.Context, stream string, base uint64) (archivedTo uint64, err error) {
	if d.cluster != nil { // first, so that nobody sees a stream without an owner
		if err := d.cluster.Hold(ctx, lease.StreamLease(stream)); err != nil {
			return 0, err
		}
	}
	if archivedTo, err = d.store.Attach(ctx, stream); err != nil {
		return 0, fmt.Errorf("attach stream %s: %w", stream, err)
	}
	if archivedTo >= base {
		return archivedTo, nil
	}
	gap := &block.Block{First: archivedTo + 1, Upto: base, Names: []string{""}, Category: []uint32{0}, Seqs: []uint64{}}
	if _, err := d.store.Archive(ctx, stream, []*block.Block{gap}); err != nil {
		return 0, fmt.Errorf("begin stream %s behind %d: %w", stream, base, err)
	}
	return base, nil
}

// renewStream begins a new stream for the inbox where another process has retired the one it had: by then that one's
// archived_to stands for ever, and what is above it goes on under the new name. It may be called again after an error.
func (d *Daemon) renewStream(ctx context.Context, retired string) (stream string, at uint64, err error) {
	for {
		if d.journal.Stream() == retired {
			to, err := d.cluster.Retire(ctx, retired)
			if err != nil {
				return "", 0, err
			}
			if _, err := d.journal.Renew(max(to, d.journal.Base())); err != nil {
				return "", 0, err
			}
			if err := d.cluster.Drop(ctx, lease.StreamLease(retired)); err != nil {
				d.log.Warn("the lease of a retired stream stays", "stream", retired, "error", err)
			}
		}
		stream = d.journal.Stream()
		at, err = d.attach(ctx, stream, d.journal.Base())
		if !errors.Is(err, store.ErrFenced) {
			return stream, at, err
		}
		retired = stream // before it had begun
	}
}

// tend finishes what others have left behind, until ctx ends.
func (d *Daemon) tend(ctx context.Context) error {
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	var late *sweeper
	if d.roles.Consume {
		late = &sweeper{Daemon: d, until: d.journal.Next() - 1}
	}
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		inner, cancel := context.WithTimeout(ctx, tendWait)
		err := d.buryStreams(inner)
		if err == nil && late != nil {
			err = late.sweep(inner)
		}
		cancel()
		if err != nil && ctx.Err() == nil {
			d.cluster.log.Debug("looking after the streams of others failed", "error", err)
		}
	}
}

// buryStreams retires the streams whose consumers are gone. What is archived of them stays to be computed by whoever
// has their leases.
func (d *Daemon) buryStreams(ctx context.Context) error {
	streams, err := d.cluster.follow.streams(ctx)
	if err != nil {
		return err
	}
	own := ""
	if d.journal != nil {
		own = d.journal.Stream()
	}
	over := map[string]bool{}
	for _, s := range streams {
		over[lease.StreamLease(s.ID)] = s.Retired
	}
	for _, l := range d.cluster.Leases() { // left by whoever died before it could remove it
		if over[l.Name] && !l.Alive {
			if err := d.cluster.Drop(ctx, l.Name); err != nil {
				return err
			}
		}
	}
	for _, s := range streams {
		name := lease.StreamLease(s.ID)
		if s.ID == own || s.Retired || !d.cluster.Silent(name, returnWithin) {
			continue
		}
		to, err := d.cluster.Retire(ctx, s.ID)
		if err != nil {
			return err
		}
		d.cluster.log.Warn("the consumer of a stream is gone; the stream is retired", "stream", s.ID, "archived_to", to)
		if err := d.cluster.Drop(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// nodeAbout is what a process tells the others of itself.
type nodeAbout struct {
	Version         string             `json:"version"`
	Host            string             `json:"host"`
	PID             int                `json:"pid"`
	Roles           []string           `json:"roles"`
	Started         time.Time          `json:"started"`
	Listen          string             `json:"listen,omitempty"`
	Admin           string             `json:"admin,omitempty"`
	EventsPerSecond float64            `json:"events_per_second,omitempty"`
	JournalBytes    int64              `json:"journal_bytes,omitempty"`
	Plugins         []api.PluginStatus `json:"plugins,omitempty"`
	Gaps            *api.Gaps          `json:"gaps,omitempty"` // of a process that consumes
}

func newAbout(version string, roles Roles, started time.Time, c *config.Config) nodeAbout {
	a := nodeAbout{Version: version, Host: hostName(), PID: os.Getpid(), Roles: roles.names(), Started: started, Admin: c.AdminListen}
	if roles.Serve {
		a.Listen = c.Listen
	}
	return a
}

func (a nodeAbout) encode() json.RawMessage {
	text, err := json.Marshal(a)
	if err != nil {
		return nil // a number that JSON has no word for: the row says less
	}
	return text
}

// about is what this process tells of itself.
func (d *Daemon) about() json.RawMessage {
	a := newAbout(d.version, d.roles, d.started, d.config)
	a.EventsPerSecond = d.rate.perSecond()
	if d.opened.Load() {
		if d.journal != nil {
			a.JournalBytes, _ = d.journal.Bytes()
			a.Gaps = d.shared()
		}
		if d.roles.Compute {
			a.Plugins = d.ownPlugins()
		}
	}
	return a.encode()
}
