package consumer

import (
	"context"

	"github.com/statscache/statscache/consumer/control"
	"github.com/statscache/statscache/plugins/host"
	"github.com/statscache/statscache/store"
)

// RequeueSummary is what became of a plugin's dead letters that were given to it again.
type RequeueSummary = control.RequeueSummary

// RequeuePlugin gives a plugin's dead letters to it again, beside a running daemon or without one, with the same result
// and the same progress. See host.Host.Requeue.
func RequeuePlugin(ctx context.Context, o Options, id string, progress func(done, total int)) (sum RequeueSummary, err error) {
	err = Work(ctx, o, func(ctx context.Context, d *Daemon) (err error) {
		sum, err = d.RequeuePlugin(ctx, id, progress)
		return err
	}, func(ctx context.Context, c *control.Client) (err error) {
		sum, err = c.RequeuePlugin(ctx, id, progress)
		return err
	})
	return sum, err
}

// RequeuePlugin gives a plugin's dead letters to it again.
func (d *Daemon) RequeuePlugin(ctx context.Context, id string, progress func(done, total int)) (RequeueSummary, error) {
	if !d.roles.Compute {
		return RequeueSummary{}, errNoCompute
	}
	r, err := d.host.Requeue(ctx, id, progress)
	return RequeueSummary(r), err
}

// keptRequeuer is a keptStore whose engine can take dead letters back.
type keptRequeuer struct {
	keptStore
	store.Requeuer
}

// followedRequeuer is a followedStore whose engine can take dead letters back.
type followedRequeuer struct {
	followedStore
	store.Requeuer
}

// hostStore is the store as the plugin host uses it.
func (d *Daemon) hostStore() host.Store {
	k := keptStore{d.store, d}
	q, requeues := d.store.(store.Requeuer)
	switch {
	case d.cluster != nil && requeues:
		return followedRequeuer{followedStore{k, d.cluster.follow}, q}
	case d.cluster != nil:
		return followedStore{k, d.cluster.follow}
	case requeues:
		return keptRequeuer{k, q}
	}
	return k
}
