package consumer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/statscache/statscache/consumer/control"
	"github.com/statscache/statscache/store"
)

func TestDaemon_ACommandWhoseClientHasLeftIsNotDone(t *testing.T) {
	gone := errors.New("the client has left")
	d := &Daemon{roles: Roles{Compute: true}, operating: newToken(), life: t.Context()}
	if err := d.operating.lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d.operating.tryLock() {
		t.Fatal("taken twice")
	}
	for name, do := range map[string]func(context.Context) error{
		"plugin": func(ctx context.Context) error {
			_, err := d.CommandPlugin(ctx, control.Disable, "p")
			return err
		},
		"recount": func(ctx context.Context) error {
			_, err := d.Recount(ctx, control.RecountRequest{}, nil)
			return err
		},
	} {
		ctx, leave := context.WithCancelCause(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- do(ctx) }()
		leave(gone)
		if err := <-ended; !errors.Is(err, gone) && !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	d.operating.unlock()
	if !d.operating.tryLock() {
		t.Error("not given back")
	}
}

func TestFirstByKey_KeepsTheFirstOnesWhateverTheOrder(t *testing.T) {
	for _, n := range []int{0, 1, 5, 40} {
		var want []string
		var rows []store.LatestRow
		for _, i := range rand.New(rand.NewPCG(1, uint64(n))).Perm(n) {
			key := fmt.Sprintf("key-%02d", i)
			want = append(want, key)
			rows = firstByKey(rows, store.LatestRow{Key: key}, 7)
		}
		slices.Sort(want)
		var got []string
		for _, r := range rows {
			got = append(got, r.Key)
		}
		if !slices.Equal(got, want[:min(n, 7)]) {
			t.Errorf("of %d: %v", n, got)
		}
	}
}
