// Package consumer joins sources, inbox, archive and plugins into one pipeline with a clean start and stop.
package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/statscache/statscache/consumer/config"
	"github.com/statscache/statscache/consumer/control"
	"github.com/statscache/statscache/consumer/gaps"
	"github.com/statscache/statscache/consumer/journal"
	"github.com/statscache/statscache/consumer/rejects"
	"github.com/statscache/statscache/consumer/source/zmq"
	"github.com/statscache/statscache/internal/failpoint"
	"github.com/statscache/statscache/plugins/host"
	"github.com/statscache/statscache/store"
)

const (
	// stopTimeout bounds a clean stop as a whole; with the listeners' own it stays below the promised 10 s.
	stopTimeout = 7 * time.Second
	// tailBytes bounds the blocks that the inbox keeps in memory until the archiver has taken them; mostly they are the
	// ones that the feed holds as well.
	tailBytes = 8 << 20
	// drainTimeout is the part of it that goes to archiving what the inbox holds.
	drainTimeout = 3 * time.Second
	// lastCommits is the part that goes to the plugins' last answers.
	lastCommits = 2 * time.Second
)

// Options are what a Daemon is made of. Config is required.
type Options struct {
	Config   *config.Config
	Bundled  []host.Program // the plugins that come with the program
	Version  string
	Logger   *slog.Logger
	Now      func() time.Time
	Registry *prometheus.Registry
	// Failpoint is handed to every part with durable steps, for crash tests.
	Failpoint failpoint.Hook
	Roles     Roles
	// Waiting, where set, is called when the store does not answer at the start, with what tells of the process
	// meanwhile; Open then waits for the store until its context ends. Where it is nil Open gives up after a while.
	Waiting func(Answering)
}

// Daemon is the pipeline over one data dir: sources, inbox, archive, plugins. Open takes the data dir, Start sets the
// parts going, Stop ends them in the reverse order and gives the data dir back.
type Daemon struct {
	config  *config.Config // as it was at the start: what can't change while it runs
	version string
	root    *slog.Logger // for parts that name themselves
	log     *slog.Logger
	now     func() time.Time
	started time.Time

	roles    Roles
	store    store.Store
	cluster  *cluster         // nil where the store is this process's own
	journal  *journal.Journal // nil without the role consume
	metrics  *metrics
	ingest   *ingest // nil without the role consume
	archiver *archiver
	inward   heldArchive // what the archiver writes to
	feed     *feed
	host     *host.Host
	changes  *changes
	source   atomic.Pointer[zmq.Source] // nil where nothing listens
	sources  part                       // runs it
	rate     rateMeter

	waiting     atomic.Pointer[waiting] // for the store at the start; nil once everything runs
	early       atomic.Pointer[early]   // nil where nothing was received before the store had answered
	sink        *relay                  // of the sources that began then
	earlyUnread *unreadable             // of what was received then
	keeper      *rejects.Keeper         // nil without the role consume

	replaying sync.Mutex // held while rejects are given in again
	repairing sync.Mutex // held while numbers are mended

	backfilling sync.Mutex                  // held while history is fetched
	gaps        atomic.Pointer[gaps.Ledger] // nil where nothing listens
	gapsFault   fault

	operating token // one plugin command at a time

	migrating sync.Mutex
	moved     atomic.Bool // the store's contents have gone to another one, or are going: nothing is written to it

	current     atomic.Pointer[config.Config] // what Reload has put in force
	reloading   sync.Mutex
	retained    chan struct{}         // another retention is in force
	lettersSeen bool                  // for upkeep: dead letters without an event were looked for in this life
	keeping     atomic.Pointer[share] // how far the first retention is; nil but while it runs

	cleanups []cleanup
	failed   chan error      // of the first part that gave up
	life     context.Context // ends with it
	die      context.CancelCauseFunc
	stopBy   time.Time   // when Stop must be done
	opened   atomic.Bool // everything that the status tells of is there
	stopping atomic.Bool
	stopOnce sync.Once
	stopErr  error
}

// cleanup undoes one step of the start.
type cleanup struct {
	name string
	do   func() error
}

// Open takes the data dir's lock and opens store and inbox. Nothing runs yet.
func Open(ctx context.Context, o Options) (*Daemon, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	d := &Daemon{config: o.Config, roles: o.Roles.orAll(), version: o.Version, root: o.Logger, log: o.Logger.With("component", "consumer"), now: o.Now, started: o.Now().UTC(),
		metrics: newMetrics(o.Registry, o.Version), failed: make(chan error, 1)}
	d.life, d.die = context.WithCancelCause(context.Background())
	d.current.Store(o.Config)
	d.retained, d.operating, d.earlyUnread = make(chan struct{}, 1), newToken(), newUnreadable()
	if err := o.Registry.Register(newLiveCollector(d)); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	if err := d.open(ctx, o); err != nil {
		return nil, errors.Join(err, d.Stop())
	}
	return d, nil
}

func (d *Daemon) open(ctx context.Context, o Options) error {
	c := d.config
	lock, err := lockDir(c.DataDir)
	if err != nil {
		return err
	}
	d.onStop("data dir", lock.release)
	p := patience{within: storeWithin}
	if o.Waiting != nil {
		p = patience{away: d.noStore(o)}
	}
	if d.store, err = d.openAlive(ctx, p, o); err != nil {
		return err
	}
	d.onStop("store", d.store.Close)
	if err := takeUp(ctx, d.store, c); err != nil {
		return err
	}
	if err := d.join(ctx, o); err != nil {
		return err
	}
	if err := d.openSide(ctx, o); err != nil {
		return err
	}
	if err := d.openHost(o); err != nil {
		return err
	}
	d.opened.Store(true)
	return nil
}

// join makes the process known to others that share the store. From here on it holds leases until the very end.
func (d *Daemon) join(ctx context.Context, o Options) (err error) {
	if d.cluster, err = joinCluster(ctx, d.store, d.roles.Compute, d.about, o.Logger); err != nil || d.cluster == nil {
		return err
	}
	d.onStop("leave", d.cluster.leave)
	d.background("leases", d.cluster.Run)
	d.background("other streams", d.cluster.follow.run)
	return nil
}

// openSide opens the receiving side.
func (d *Daemon) openSide(ctx context.Context, o Options) error {
	if !d.roles.Consume {
		d.feed = d.newFeed("", 0)
		d.archiver = &archiver{feed: d.feed, metrics: d.metrics, log: d.log}
		return nil
	}
	if err := d.openJournal(ctx, o); err != nil {
		return err
	}
	d.takeUpEarly(o)
	var err error
	if d.ingest, err = d.newIngest(d.journal); err != nil {
		return err
	}
	d.archiver.tallies = d.ingest.tallies
	return nil
}

// newIngest makes what decodes into an inbox.
func (d *Daemon) newIngest(in inbox) (*ingest, error) {
	if d.keeper == nil {
		keeper, err := rejects.Open(rejects.Options{Dir: filepath.Join(d.config.DataDir, "rejects"), Logger: d.log})
		if err != nil {
			return nil, err
		}
		d.keeper = keeper
		d.onStop("rejects", keeper.Close)
	}
	rules, err := compiledRules(d.config)
	if err != nil {
		return nil, err
	}
	g := newIngest(in, d.keeper, d.metrics, d.log, d.now, d.config.MaxMessageBytes)
	g.rules.Store(rules)
	return g, nil
}

func (d *Daemon) newFeed(stream string, archivedTo uint64) *feed {
	f := newFeed(d.store, stream, archivedTo)
	if d.cluster != nil {
		f.follow = d.cluster.follow
	}
	return f
}

func (d *Daemon) openHost(o Options) error {
	c := d.config
	var programs []host.Program
	var folders []string
	if d.roles.Compute {
		found, err := host.Discover(c.PluginsPath)
		if err != nil { // what can be run is run; what can't is said
			for _, line := range strings.Split(err.Error(), "\n") {
				d.log.Warn("plugin passed over", "reason", line)
			}
		}
		programs, folders = append(slices.Clone(o.Bundled), found...), c.PluginsPath
	}
	var share host.Share // nil, not a nil cluster
	if d.cluster != nil {
		share = d.cluster
	}
	off, err := readSwitches(c.DataDir)
	if err != nil {
		return err
	}
	d.changes = newChanges(c.DataDir, d.log, d.checkSample)
	d.host, err = host.New(host.Options{
		Programs: programs, Store: d.hostStore(), Feed: d.feed, Share: share, RunDir: filepath.Join(c.DataDir, "run"),
		Config: c.PluginsConfig, Disabled: c.PluginsDisabled, Off: off.Disabled, Folders: folders,
		Limits: host.Limits{CommitInterval: c.CommitInterval, Stop: lastCommits}, Logger: o.Logger, Now: o.Now, Failpoint: o.Failpoint,
		OnReady: d.changes.saw,
		OnCommit: func(took time.Duration, err error) {
			if err == nil {
				d.metrics.commitSeconds.Observe(took.Seconds())
			}
		},
	})
	if err != nil {
		return err
	}
	d.onStop("plugin sockets", d.host.Close)
	return nil
}

// openJournal asks the store how far the stream is archived before it opens the inbox: what is archived may be
// missing or damaged there without harm. A stream that others have retired meanwhile is followed by a new one.
func (d *Daemon) openJournal(ctx context.Context, o Options) error {
	dir := filepath.Join(d.config.DataDir, "journal")
	stream, err := journal.StreamOf(nil, dir)
	if err != nil {
		return err
	}
	archivedTo, retired := uint64(0), false
	if stream != "" {
		archivedTo, err = d.attach(ctx, stream, 0)
		if retired = d.cluster != nil && errors.Is(err, store.ErrFenced); retired {
			archivedTo, err = d.cluster.Retire(ctx, stream)
		}
		if err != nil {
			return err
		}
	}
	d.journal, err = journal.Open(journal.Options{Dir: dir, MaxBytes: d.config.JournalMaxBytes, TailBytes: tailBytes, ArchivedTo: archivedTo, Logger: o.Logger, Failpoint: o.Failpoint})
	if err != nil {
		return err
	}
	d.onStop("inbox", d.journal.Close)
	switch {
	case retired:
		var at uint64
		if stream, at, err = d.renewStream(ctx, stream); err == nil {
			d.log.Info("another process has finished this one's stream; what the inbox holds above it goes on as a new one", "stream", stream, "after", at)
		}
		archivedTo = at
	case stream == "" || archivedTo < d.journal.Base():
		stream = d.journal.Stream()
		archivedTo, err = d.attach(ctx, stream, d.journal.Base())
	}
	if err != nil {
		return err
	}
	d.feed = d.newFeed(stream, archivedTo)
	d.inward.archiveWriter = d.store
	d.archiver = &archiver{journal: d.journal, archive: &d.inward, stream: stream, feed: d.feed, metrics: d.metrics, log: d.log, inbox: newUnreadable()}
	if d.cluster != nil {
		d.archiver.renew = d.renewStream
	}
	return d.countOwned(ctx)
}

func (d *Daemon) countOwned(ctx context.Context) error {
	all, err := d.store.Streams(ctx)
	if err != nil {
		return fmt.Errorf("list streams: %w", err)
	}
	for _, s := range all {
		d.archiver.owned.Add(s.Owned)
	}
	return nil
}

// Start sets archive, plugins and, where listen is true, the sources going.
func (d *Daemon) Start(ctx context.Context, listen bool) error {
	kept := make(chan struct{}) // closed when retention has been applied once
	if !listen {
		if err := d.firstUpkeep(ctx); err != nil {
			return err
		}
		close(kept)
	}
	d.startUpkeep(kept, listen)
	// What retention removes may be much after a long pause. Sockets and readers don't wait for it; archive and plugins
	// do, so that nothing old is written again that it is about to remove.
	if d.roles.Compute {
		d.background("changed programs", d.changes.run)
		d.background("plugins", after(kept, d.host.Run))
	}
	if d.roles.Consume {
		d.background("archive", after(kept, d.archiver.run))
		d.onStop("archive what the inbox holds", d.drain)
		d.background("decode", func(ctx context.Context) error { d.ingest.run(ctx); return nil })
		if d.early.Load() != nil {
			d.background("hand on what came early", d.handOn)
		}
	}
	if d.cluster != nil {
		d.background("streams of others", d.tend)
		d.background("database's health", d.cluster.watchHealth)
	}
	if listen && d.roles.Consume {
		if err := d.startSource(); err != nil {
			return err
		}
	}
	d.background("rate", d.rate.run(&d.metrics.total))
	if listen {
		if err := d.startControl(); err != nil {
			return err
		}
	}
	if d.waiting.Swap(nil) != nil {
		d.metrics.storeUp.Set(1)
		d.log.Info("the store answers")
	}
	return nil
}

// startControl lets commands work beside this daemon.
func (d *Daemon) startControl() error {
	server, err := control.Serve(control.Path(d.config.DataDir), d, d.log)
	if err != nil {
		return err
	}
	d.onStop("control socket", server.Stop)
	return nil
}

func (d *Daemon) startSource() error {
	if err := d.startCatchUp(d.life); err != nil {
		return err
	}
	d.judgeCounters(d.config.Topics)
	if d.source.Load() != nil { // it began before the store had answered
		d.stopWith("sources", d.sources) // now before all that it delivers to
		return nil
	}
	d.runSource(d.ingest)
	return d.startGaps()
}

// runSource begins to listen.
func (d *Daemon) runSource(sink zmq.Sink) {
	c := d.config
	source := zmq.New(zmq.Options{Endpoints: listenTo(c), Topics: c.Topics, MaxMessageBytes: c.MaxMessageBytes,
		KeepAlive: keepAlive(c.KeepAlive), ReconnectMax: c.ReconnectMax, Sink: sink, Logger: d.root})
	d.source.Store(source)
	d.sources = d.launch("sources", source.Run)
	d.stopWith("sources", d.sources)
}

// drain archives what the inbox holds, as far as that goes quickly: the rest is archived after the next start.
func (d *Daemon) drain() error {
	ctx, cancel := context.WithTimeout(d.life, min(drainTimeout, time.Until(d.stopBy)))
	defer cancel()
	if err := d.waitArchived(ctx, d.journal.Next()-1); err != nil {
		d.log.Warn("not everything in the inbox is archived yet; that goes on with the next start")
	}
	return nil
}

func (d *Daemon) onStop(name string, do func() error) {
	d.cleanups = append(d.cleanups, cleanup{name, do})
}

// Stop ends everything in the reverse order of the start. It may be called more than once.
func (d *Daemon) Stop() error {
	d.stopOnce.Do(func() {
		d.stopping.Store(true)
		d.stopBy = time.Now().Add(stopTimeout)
		var errs []error
		for i := len(d.cleanups) - 1; i >= 0; i-- {
			if err := d.cleanups[i].do(); err != nil {
				errs = append(errs, fmt.Errorf("stop: %s: %w", d.cleanups[i].name, err))
			}
		}
		d.stopErr = errors.Join(errs...)
	})
	return d.stopErr
}
