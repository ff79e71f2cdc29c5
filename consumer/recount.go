package consumer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/statscache/statscache/consumer/control"
	"github.com/statscache/statscache/store"
)

// RecountOptions say what to count anew.
type RecountOptions struct {
	Metrics     []string
	LoseExpired bool                  // also where events are gone: what they counted goes too
	Progress    func(done, total int) // of events
}

// Recounted is a plugin whose metrics were counted anew.
type Recounted = control.Recounted

// Recount counts metrics anew from the archive, beside the numbers that are served, and has the new ones take their
// place: through the daemon that runs on the data dir or, where none runs, with one of its own. When it is broken off,
// the daemon goes on with it, or the next one does.
func Recount(ctx context.Context, o Options, r RecountOptions) ([]Recounted, error) {
	return besideOr(ctx, o.Config, func() ([]Recounted, error) { return recountHere(ctx, o, r) }, func(c *control.Client) ([]Recounted, error) {
		return c.Recount(ctx, control.RecountRequest{Metrics: r.Metrics, LoseExpired: r.LoseExpired}, r.Progress)
	})
}

// recountHere takes the data dir for itself.
func recountHere(ctx context.Context, o Options, r RecountOptions) (out []Recounted, err error) {
	d, err := Open(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Stop()) }()
	plugins, err := d.toRecount(ctx, control.RecountRequest{Metrics: r.Metrics, LoseExpired: r.LoseExpired})
	if err != nil {
		return nil, err
	}
	old := map[string]uint32{}
	for _, p := range plugins { // before they are started: they register with what is to be built
		g, err := d.store.Rebuild(ctx, p)
		if err != nil {
			return nil, fmt.Errorf("count plugin %s anew: %w", p, err)
		}
		old[p] = g.Serving
	}
	if err := d.Start(ctx, false); err != nil {
		return nil, err
	}
	stop := d.tellProgress(ctx, plugins, r.Progress)
	err = d.waitComputed(ctx)
	stop()
	if err != nil {
		return nil, err
	}
	return d.recounted(ctx, plugins, old)
}

// Recount counts metrics anew beside everything else that the daemon does. It goes on with it when ctx ends.
func (d *Daemon) Recount(ctx context.Context, r control.RecountRequest, progress func(done, total int)) ([]Recounted, error) {
	ctx, cancel := d.alive(ctx)
	defer cancel()
	plugins, old, err := d.beginRecount(ctx, r)
	if err != nil {
		return nil, err
	}
	stop := d.tellProgress(ctx, plugins, progress)
	defer stop()
	for _, p := range plugins {
		if err := d.host.WaitServing(ctx, p); err != nil {
			return nil, err
		}
	}
	return d.recounted(ctx, plugins, old)
}

// beginRecount begins new generations and gives the ones that are served till then.
func (d *Daemon) beginRecount(ctx context.Context, r control.RecountRequest) (plugins []string, old map[string]uint32, err error) {
	if err := d.operating.lock(ctx); err != nil {
		return nil, nil, err
	}
	defer d.operating.unlock()
	if plugins, err = d.toRecount(ctx, r); err != nil {
		return nil, nil, err
	}
	old = map[string]uint32{}
	for _, p := range plugins {
		err := d.host.Renew(ctx, p, func(ctx context.Context) error {
			g, err := d.store.Rebuild(ctx, p)
			old[p] = g.Serving
			return err
		})
		if err != nil {
			return nil, nil, fmt.Errorf("count plugin %s anew: %w", p, err)
		}
	}
	return plugins, old, nil
}

// toRecount finds the plugins of the metrics and whether nothing speaks against it.
func (d *Daemon) toRecount(ctx context.Context, r control.RecountRequest) (plugins []string, err error) {
	served, err := d.store.Metrics(ctx)
	if err != nil {
		return nil, fmt.Errorf("list metrics: %w", err)
	}
	for _, name := range r.Metrics {
		i := slices.IndexFunc(served, func(m store.ServedMetric) bool { return m.ID == name })
		if i < 0 {
			return nil, fmt.Errorf("no metric %q is stored here", name)
		}
		if p := served[i].Plugin; !slices.Contains(plugins, p) {
			plugins = append(plugins, p)
		}
	}
	off, err := readSwitches(d.config.DataDir)
	if err != nil {
		return nil, err
	}
	for _, p := range plugins {
		if slices.Contains(d.current.Load().PluginsDisabled, p) {
			return nil, fmt.Errorf("plugin %s is disabled by the configuration: its metrics can't be counted anew", p)
		}
		if slices.Contains(off.Disabled, p) {
			return nil, fmt.Errorf("plugin %s is disabled: enable it first (`statscache plugin enable %s`)", p, p)
		}
	}
	h, err := d.store.Horizons(ctx)
	if err != nil {
		return nil, fmt.Errorf("read horizons: %w", err)
	}
	if h.Archive != math.MinInt64 && !r.LoseExpired {
		return nil, fmt.Errorf("events before %s are not kept any more: counting anew would lose what they counted (--lose-expired does it nevertheless)",
			time.UnixMicro(h.Archive).UTC().Format(time.RFC3339))
	}
	return plugins, nil
}

// recounted makes sure that the new generations are the ones that are served.
func (d *Daemon) recounted(ctx context.Context, plugins []string, old map[string]uint32) (out []Recounted, err error) {
	served, err := d.store.Metrics(ctx)
	if err != nil {
		return nil, fmt.Errorf("list metrics: %w", err)
	}
	var errs []error
	for _, p := range plugins {
		x := Recounted{Plugin: p, Metrics: []string{}}
		for _, m := range served {
			if m.Plugin == p {
				x.Metrics, x.Generation = append(x.Metrics, m.ID), m.Generation
			}
		}
		if x.Generation != old[p] {
			out = append(out, x)
			continue
		}
		why := "no program of it is here"
		for _, s := range d.host.Plugins() {
			if s.ID == p {
				why = strings.TrimSuffix(fmt.Sprintf("it is %s: %s", s.State, s.Error), ": ")
			}
		}
		errs = append(errs, fmt.Errorf("plugin %s has not counted anew, the old numbers are served until it has: %s", p, why))
	}
	return out, errors.Join(errs...)
}

// progressPeriod is how often a recount says how far it is.
const progressPeriod = 200 * time.Millisecond

// tellProgress tells how much the slowest of some plugins has counted, until the function it gives is called.
func (d *Daemon) tellProgress(ctx context.Context, plugins []string, tell func(done, total int)) (stop func()) {
	if tell == nil {
		return func() {}
	}
	total := 0
	if ends, err := d.feed.Ends(ctx); err == nil { // else nothing is told: the work itself will say why
		for _, end := range ends {
			total += int(end)
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(progressPeriod)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			lag := uint64(0)
			for _, p := range d.host.Plugins() {
				if slices.Contains(plugins, p.ID) {
					lag = max(lag, p.Lag)
				}
			}
			tell(max(total-int(lag), 0), total)
		}
	}()
	return func() { cancel(); <-done }
}
