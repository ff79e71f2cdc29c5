package consumer

import (
	"context"
	"testing"
	"time"

	"github.com/statscache/statscache/consumer/config"
	"github.com/statscache/statscache/store"
)

func TestHorizons_ShorterWishOfAPluginWinsOverTheDefaultNotOverTheFile(t *testing.T) {
	const day = 24 * time.Hour
	now := time.Unix(1_700_000_123, 0)
	for _, c := range []struct {
		name     string
		setting  time.Duration
		given    bool
		wish     time.Duration
		interval time.Duration
		keep     time.Duration // 0: no horizon
	}{
		{name: "default", setting: 7 * day, interval: time.Second, keep: 7 * day},
		{name: "for ever", interval: time.Hour},
		{name: "shorter wish", setting: 7 * day, wish: day, interval: time.Second, keep: day},
		{name: "longer wish", setting: 7 * day, wish: 30 * day, interval: time.Second, keep: 7 * day},
		{name: "wish where the default is for ever", wish: 30 * day, interval: time.Hour, keep: 30 * day},
		{name: "file says for ever", given: true, wish: day, interval: time.Second},
		{name: "file says longer", setting: 30 * day, given: true, wish: day, interval: time.Minute, keep: 30 * day},
	} {
		t.Run(c.name, func(t *testing.T) {
			conf := &config.Config{Retention: map[time.Duration]time.Duration{c.interval: c.setting}, RetentionGiven: map[time.Duration]bool{c.interval: c.given}}
			got := horizons(conf, store.Metric{ID: "m", Intervals: []time.Duration{c.interval}, Retention: c.wish}, now)
			if c.keep == 0 {
				if len(got) != 0 {
					t.Fatalf("horizon %v for what is kept for ever", got)
				}
				return
			}
			step := int64(c.interval / time.Second)
			want := (now.Unix() - int64(c.keep/time.Second)) / step * step
			if len(got) != 1 || got[0].Before != want {
				t.Fatalf("got %v, want one before %d", got, want)
			}
		})
	}
}

// slowRetention is a store of two metrics in which removing of the second takes until it is let go.
type slowRetention struct {
	store.Store
	asked, let chan struct{}
}

func (s slowRetention) Metrics(context.Context) (out []store.ServedMetric, err error) {
	for _, id := range []string{"first", "second"} {
		out = append(out, store.ServedMetric{Metric: store.Metric{ID: id, Intervals: []time.Duration{time.Second}, Retention: time.Hour}})
	}
	return out, nil
}

func (s slowRetention) ExpireCounters(ctx context.Context, h []store.Horizon) (int64, error) {
	if h[0].Metric == "first" {
		return 0, nil
	}
	close(s.asked)
	select {
	case <-s.let:
		return s.Store.ExpireCounters(ctx, h)
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// TestStart_DoesNotWaitForRetention: after a long pause there may be much to remove; until then sockets are read into the
// inbox, and nothing is archived.
func TestStart_DoesNotWaitForRetention(t *testing.T) {
	d, err := Open(t.Context(), Options{Config: testConfig(t), Bundled: testPrograms(t)[:1]})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Stop(); err != nil {
			t.Error(err)
		}
	}()
	slow := slowRetention{d.store, make(chan struct{}), make(chan struct{})}
	d.store = slow
	if err := d.Start(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	<-slow.asked
	message := [][]byte{[]byte("org.x.dev.a.b"), []byte(`{"topic":"org.x.dev.a.b","timestamp":1524739200,"msg_id":"1"}`)}
	if err := d.ingest.Deliver(t.Context(), peer("main"), [][][]byte{message}); err != nil {
		t.Fatal(err)
	}
	last, err := d.ingest.flush(t.Context())
	if err != nil || last != 1 {
		t.Fatalf("the inbox reaches to %d, %v", last, err)
	}
	if n := d.feed.archivedTo(); n != 0 {
		t.Errorf("archived to %d before retention was applied", n)
	}
	const said = "retention runs first: 1 of 2 metrics are done"
	if got := retentionSays(d, "consume"); got != said {
		t.Errorf("ready says %q, want %q", got, said)
	}
	if list := d.Plugins(); len(list) != 1 || list[0].Error != said {
		t.Errorf("plugins %+v", list)
	}
	close(slow.let)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := d.waitArchived(ctx, 1); err != nil {
		t.Error(err)
	}
	if got := retentionSays(d, "consume") + retentionSays(d, "compute"); got != "" {
		t.Errorf("afterwards ready says %q", got)
	}
}

// retentionSays gives why a role is not ready because of retention.
func retentionSays(d *Daemon, role string) string {
	for _, c := range d.Ready() {
		if c.Role == role && c.Name == "retention" && !c.OK {
			return c.Reason
		}
	}
	return ""
}

// letterStore is a store that has dead letters without events.
type letterStore struct {
	store.Store
	calls int
}

func (s *letterStore) ExpireLetters(context.Context) (map[store.LettersOf]int, error) {
	s.calls++
	return map[store.LettersOf]int{{Plugin: "p", Generation: 1}: 3, {Plugin: "q", Generation: 2}: 4}, nil
}

func TestUpkeep_LooksForDeadLettersWithoutEvents_OnceAndWhereSomeWereRemoved(t *testing.T) {
	d, err := Open(t.Context(), Options{Config: testConfig(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Stop(); err != nil {
			t.Error(err)
		}
	}()
	s := &letterStore{Store: d.store}
	d.store = s
	for i, x := range []struct {
		removed bool
		want    int
	}{{false, 7}, {false, 0}, {true, 7}, {false, 0}} {
		if n, err := d.expireLetters(t.Context(), x.removed); err != nil || n != x.want {
			t.Errorf("call %d: %d, %v; want %d", i, n, err, x.want)
		}
	}
	if s.calls != 2 {
		t.Errorf("the store was asked %d times", s.calls)
	}
}
