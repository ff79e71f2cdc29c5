package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/statscache/statscache/consumer/config"
	"github.com/statscache/statscache/consumer/control"
	"github.com/statscache/statscache/store"
	"github.com/statscache/statscache/store/sqlite"
)

// MigrateSummary says what another store has now.
type MigrateSummary = control.MigrateSummary

// othersWithin is how long others on the same CrateDB may take to fall silent: those that were just killed look alive.
const othersWithin = 30 * time.Second

// errMoving is why the archive takes nothing while its contents go to another store.
var errMoving = errors.New("the store's contents go to another one (`statscache migrate`)")

// Migrate brings everything that the store of a data dir holds into another store, beside a running daemon or without
// one. See Daemon.Migrate.
func Migrate(ctx context.Context, o Options, to string, progress func(done int)) (MigrateSummary, error) {
	if _, err := config.ParseStore(to); err != nil {
		return MigrateSummary{}, err
	}
	return besideOr(ctx, o.Config, func() (MigrateSummary, error) {
		d, err := Open(ctx, o)
		if err != nil {
			return MigrateSummary{}, err
		}
		sum, err := d.Migrate(ctx, to, progress)
		sum.Paused = false
		return sum, errors.Join(err, d.Stop())
	}, func(c *control.Client) (MigrateSummary, error) { return c.Migrate(ctx, to, progress) })
}

// Migrate brings archive, numbers and positions into another store, which must be empty or hold an unfinished part of
// the same, and compares both. What is received meanwhile stays in the inbox. After an error the daemon goes on with the
// store it has, and the next call goes on where this one ended; after success it writes nothing any more: started again on
// the other store it goes on there with the first event that is in the inbox.
func (d *Daemon) Migrate(ctx context.Context, to string, progress func(done int)) (sum MigrateSummary, err error) {
	if !d.migrating.TryLock() {
		return sum, errors.New("a migration is under way already")
	}
	defer d.migrating.Unlock()
	if !d.operating.tryLock() {
		return sum, errors.New("a plugin command or a recount is under way: try again when it is done")
	}
	defer d.operating.unlock()
	if !d.repairing.TryLock() {
		return sum, errors.New("numbers are being mended: try again when that is done")
	}
	defer d.repairing.Unlock()
	ctx, cancel := d.alive(ctx)
	defer cancel()
	u, err := config.ParseStore(to)
	if err != nil {
		return sum, err
	}
	if u.URL == d.config.Store.URL || u.Kind == "sqlite" && d.config.Store.Kind == "sqlite" && u.Path == d.config.Store.Path {
		return sum, fmt.Errorf("%s is the store that is in use", u)
	}
	if err := d.alone(ctx); err != nil {
		return sum, err
	}
	c := *d.config
	c.Store = u
	target, err := openEngine(ctx, &c, patience{within: storeWithin}, sqlite.Options{Logger: d.root, Now: d.now})
	if err != nil {
		return sum, err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	if !d.moved.Load() { // else it has been paused since an earlier call
		release, err := d.pauseAll()
		if err != nil {
			return sum, err
		}
		defer func() {
			if err != nil || sum.To == "" {
				release()
			}
		}()
	}
	m := &migration{source: d.store, target: target, from: d.config.Store.String(), progress: progress, log: d.log}
	if sum, err = m.run(ctx); err != nil {
		return MigrateSummary{}, err
	}
	sum.From, sum.To, sum.Paused = m.from, u.String(), true
	d.log.Info("all is in another store; this daemon receives and writes nothing else until it is started on that one", "store", sum.To)
	return sum, nil
}

// pauseAll keeps archive and plugins from writing to the store. What is under way ends as it would.
func (d *Daemon) pauseAll() (release func(), err error) {
	d.moved.Store(true)
	d.inward.hold(errMoving)
	var held []func()
	release = func() {
		for _, f := range held {
			f()
		}
		d.inward.hold(nil)
		d.moved.Store(false)
	}
	for _, p := range d.host.Plugins() {
		f, err := d.host.Hold(p.ID)
		if err != nil {
			release()
			return nil, err
		}
		held = append(held, f)
	}
	return release, nil
}

// alone makes sure that no other process writes to the store.
func (d *Daemon) alone(ctx context.Context) error {
	if d.cluster == nil {
		return nil
	}
	for began := time.Now(); ; {
		var others []string
		for _, n := range d.cluster.status().Nodes {
			if n.Alive && n.ID != d.cluster.Node && (len(n.Roles) == 0 || slices.Contains(n.Roles, "consume") || slices.Contains(n.Roles, "compute")) {
				others = append(others, fmt.Sprintf("%s (%s on %s, pid %d)", n.ID, strings.Join(n.Roles, "+"), n.Host, n.PID))
			}
		}
		if len(others) == 0 {
			return nil
		}
		if time.Since(began) > othersWithin {
			return fmt.Errorf("other processes work on %s: stop them first: %s", d.config.Store, strings.Join(others, ", "))
		}
		select {
		case <-time.After(answerPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// takeUp refuses a store that a migration has not filled completely. With the first daemon on it the store goes its own
// way: what is migrated later would not fit any more.
func takeUp(ctx context.Context, s store.Store, c *config.Config) error {
	x, ok := s.(store.Carrier)
	if !ok {
		return nil
	}
	list, err := x.Carriages(ctx)
	if err != nil || len(list) == 0 {
		return err
	}
	for _, m := range list {
		if !m.Done {
			return fmt.Errorf("%s holds only a part of %s: finish that first, with `statscache migrate` on the data dir that works with %s", c.Store, m.From, m.From)
		}
	}
	return x.ForgetCarriages(ctx)
}
