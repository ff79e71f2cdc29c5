package volume

import (
	"slices"
	"testing"
	"time"

	"github.com/statscache/statscache/plugins"
	"github.com/statscache/statscache/plugins/plugintest"
)

func TestMain(m *testing.M) { plugintest.Main(m, Plugin()) }

func TestCases(t *testing.T) { plugintest.Run(t, "testdata") }

func TestPlugin_HasTheOriginalsIdentsAndIntervals(t *testing.T) {
	fine := []time.Duration{time.Second, 5 * time.Second, time.Minute, time.Hour, 24 * time.Hour}
	coarse := []time.Duration{time.Second, 15 * time.Second, time.Minute, time.Hour, 24 * time.Hour}
	want := map[string][]time.Duration{"volume": fine, "volume-by-category": coarse, "volume-by-topic": fine, "volume-by-user": fine, "volume-by-package": fine}
	p := Plugin()
	for _, c := range p.Counters {
		if !slices.Equal(c.Every, want[plugins.Ident(c.Name)]) {
			t.Errorf("%s: %v", c.Name, c.Every)
		}
		delete(want, plugins.Ident(c.Name))
	}
	if len(want) > 0 || p.ID != "volume" || p.Body {
		t.Errorf("missing: %v", want)
	}
}

func TestPlugin_CountsEachUserAndPackageOfAnEvent(t *testing.T) {
	e := &plugins.Event{Topic: "a.b.c", Users: []string{"u", "v"}, Packages: []string{"p"}}
	var got []string
	for _, c := range Plugin().Counters {
		c.On(e, func(n int64, dims ...string) {
			if n != 1 {
				t.Errorf("%s adds %d", c.Name, n)
			}
			got = append(got, plugins.Ident(c.Name))
			got = append(got, dims...)
		})
	}
	want := []string{"volume", "volume-by-category", "", "volume-by-topic", "a.b.c", "volume-by-user", "u", "volume-by-user", "v", "volume-by-package", "p"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}
