package consumer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/statscache/statscache/consumer/config"
	"github.com/statscache/statscache/consumer/control"
	"github.com/statscache/statscache/plugins/host"
	"github.com/statscache/statscache/plugins/volume"
)

func commandPlugin(t *testing.T, c *config.Config, verb, id string) (string, error) {
	t.Helper()
	r, err := CommandPlugin(t.Context(), c, testPrograms(t), verb, id)
	return r.Said, err
}

func mustCommandPlugin(t *testing.T, c *config.Config, verb, id string) {
	t.Helper()
	if said, err := commandPlugin(t, c, verb, id); err != nil || !strings.Contains(said, id) {
		t.Fatalf("%s %s: %q, %v", verb, id, said, err)
	}
}

// stateWithout is a plugin's state as `plugin list` tells it without a daemon.
func stateWithout(t *testing.T, c *config.Config, id string) string {
	t.Helper()
	list, err := KnownPlugins(t.Context(), c, testPrograms(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list {
		if p.ID == id {
			return p.State
		}
	}
	return ""
}

// TestPlugin_DisabledAndEnabledWithAndWithoutADaemon changes the switch in one way and looks at it in the other.
func TestPlugin_DisabledAndEnabledWithAndWithoutADaemon(t *testing.T) {
	c := testConfig(t)
	mustCommandPlugin(t, c, control.Disable, volume.ID)
	if got := stateWithout(t, c, volume.ID); got != string(host.Disabled) {
		t.Errorf("disabled without a daemon: %s", got)
	}
	if _, err := commandPlugin(t, c, control.Restart, volume.ID); err == nil || !strings.Contains(err.Error(), "enable it first") {
		t.Errorf("restart of a disabled plugin: %v", err)
	}
	d := runDaemon(t, c)
	state := func() string { return d.Plugins()[0].State }
	until(t, "the plugin is shown as disabled", func() bool { return state() == string(host.Disabled) })
	if o := importText(t, c, []string{"-"}, lines(0, 500)); o.err != nil || o.sum.Owned != 500 {
		t.Fatalf("import beside a disabled plugin: %+v, %v", o.sum, o.err)
	}
	if _, err := commandPlugin(t, c, control.Restart, volume.ID); err == nil || !strings.Contains(err.Error(), "enable it first") {
		t.Errorf("restart of a disabled plugin beside a daemon: %v", err)
	}
	mustCommandPlugin(t, c, control.Enable, volume.ID)
	until(t, "the plugin has counted all", func() bool { p := d.Plugins()[0]; return p.State == string(host.Running) && p.Lag == 0 })
	mustCommandPlugin(t, c, control.Restart, volume.ID)
	mustCommandPlugin(t, c, control.Disable, volume.ID)
	if got := state(); got != string(host.Disabled) {
		t.Errorf("disabled beside a daemon: %s", got)
	}
	if err := d.Stop(); err != nil {
		t.Fatal(err)
	}
	if got := stateWithout(t, c, volume.ID); got != string(host.Disabled) {
		t.Errorf("what the daemon was told is forgotten: %s", got)
	}
	mustCommandPlugin(t, c, control.Enable, volume.ID)
	mustCommandPlugin(t, c, control.Restart, volume.ID)
	if got := stateWithout(t, c, volume.ID); got != stopped {
		t.Errorf("enabled without a daemon: %s", got)
	}
}

func TestPlugin_ConfigurationWinsAndUnknownIDsAreNamed(t *testing.T) {
	c := testConfig(t)
	c.PluginsDisabled = []string{volume.ID}
	check := func(t *testing.T) {
		t.Helper()
		if _, err := commandPlugin(t, c, control.Enable, volume.ID); err == nil || !strings.Contains(err.Error(), "statscache.plugins.disabled") {
			t.Errorf("enable: %v", err)
		}
		for _, verb := range []string{control.Enable, control.Disable, control.Restart} {
			if _, err := commandPlugin(t, c, verb, "nobody"); err == nil || !strings.Contains(err.Error(), `"nobody" (there are: volume)`) {
				t.Errorf("%s of nobody: %v", verb, err)
			}
		}
	}
	t.Run("without a daemon", check)
	runDaemon(t, c)
	t.Run("beside a daemon", check)
	if _, err := os.Stat(filepath.Join(c.DataDir, switchesFile)); err == nil {
		t.Error("refused commands left a file of switches")
	}
}

func TestPlugin_DamagedSwitchesAreNamed(t *testing.T) {
	c := testConfig(t)
	if err := os.WriteFile(filepath.Join(c.DataDir, switchesFile), []byte(`{"disabled":["vol`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := commandPlugin(t, c, control.Disable, volume.ID); err == nil || !strings.Contains(err.Error(), switchesFile) {
		t.Errorf("disable: %v", err)
	}
	if _, err := Open(t.Context(), Options{Config: c}); err == nil || !strings.Contains(err.Error(), switchesFile) {
		t.Errorf("open: %v", err)
	}
}
