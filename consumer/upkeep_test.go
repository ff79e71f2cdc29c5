package consumer

import (
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
