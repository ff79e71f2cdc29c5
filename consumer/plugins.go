package consumer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/statscache/statscache/consumer/config"
	"github.com/statscache/statscache/consumer/control"
	"github.com/statscache/statscache/internal/durable"
	"github.com/statscache/statscache/plugins/host"
)

// switchesFile in the data dir holds what `plugin disable` has switched off.
const switchesFile = "plugins.json"

// switches are the operator's own settings of plugins; the configuration's statscache.plugins.disabled comes on top.
type switches struct {
	Disabled []string `json:"disabled"` // ids, sorted
}

// readSwitches reads them; without a file nothing is switched off.
func readSwitches(dataDir string) (s switches, err error) {
	path := filepath.Join(dataDir, switchesFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("read %s: %w", path, unwrapPath(err))
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return s, fmt.Errorf("%s is damaged (%w): remove it, and disable plugins again", path, err)
	}
	return s, nil
}

// set switches a plugin off or on, durably. The caller holds the data dir's lock.
func (s switches) set(dataDir, id string, off bool) error {
	list := slices.DeleteFunc(s.Disabled, func(x string) bool { return x == id })
	if off {
		list = append(list, id)
	}
	slices.Sort(list)
	text, err := json.Marshal(switches{Disabled: list})
	if err != nil {
		return err
	}
	path := filepath.Join(dataDir, switchesFile)
	if err := durable.ReplaceFile(path, append(text, '\n')); err != nil {
		return fmt.Errorf("write %s: %w", path, unwrapPath(err))
	}
	return nil
}

// CommandPlugin does what the verb of a plugin command says.
func (d *Daemon) CommandPlugin(ctx context.Context, verb, id string) (r control.PluginResult, err error) {
	if !d.roles.Compute {
		return r, errNoCompute
	}
	if err := d.operating.lock(ctx); err != nil {
		return r, err
	}
	defer d.operating.unlock()
	switch verb {
	case control.Disable:
		r.Said, err = fmt.Sprintf("plugin %s is disabled: its numbers stay as they are until it is enabled", id), d.host.Disable(ctx, id)
	case control.Enable:
		r.Said, err = fmt.Sprintf("plugin %s is enabled", id), d.host.Enable(ctx, id)
	case control.Restart:
		r.Said, err = fmt.Sprintf("plugin %s was started anew", id), d.host.Restart(ctx, id)
	default:
		return control.PluginResult{}, fmt.Errorf("no plugin command %q", verb)
	}
	if errors.Is(err, host.ErrConfigured) {
		return control.PluginResult{}, configured(id)
	}
	if verb == control.Restart || errors.Is(err, host.ErrUnknownPlugin) {
		return r, err
	}
	// What the host has taken note of holds for the next start, too, however long the plugin takes to follow.
	s, readErr := readSwitches(d.config.DataDir)
	if readErr != nil {
		return r, errors.Join(err, readErr)
	}
	return r, errors.Join(err, s.set(d.config.DataDir, id, verb == control.Disable))
}

// configured says that the configuration wins.
func configured(id string) error {
	return fmt.Errorf("plugin %s is disabled by statscache.plugins.disabled in the configuration, which wins: take it out there", id)
}

// CommandPlugin does what the verb of a plugin command says, through the daemon that runs on the data dir or, where
// none runs, in the data dir itself.
func CommandPlugin(ctx context.Context, c *config.Config, bundled []host.Program, verb, id string) (control.PluginResult, error) {
	return orBeside(ctx, c, func() (control.PluginResult, error) {
		return commandStopped(ctx, c, bundled, verb, id)
	}, func(client *control.Client) (control.PluginResult, error) {
		return client.CommandPlugin(ctx, verb, id)
	})
}

// commandStopped is CommandPlugin where no daemon runs. The caller holds the data dir's lock.
func commandStopped(ctx context.Context, c *config.Config, bundled []host.Program, verb, id string) (r control.PluginResult, err error) {
	if err := knownID(ctx, c, bundled, id); err != nil {
		return r, err
	}
	s, err := readSwitches(c.DataDir)
	if err != nil {
		return r, err
	}
	switch configuredOff := slices.Contains(c.PluginsDisabled, id); {
	case verb == control.Disable:
		r.Said = fmt.Sprintf("plugin %s is disabled: its numbers stay as they are until it is enabled", id)
		return r, s.set(c.DataDir, id, true)
	case verb == control.Enable && configuredOff:
		return r, configured(id)
	case verb == control.Enable:
		r.Said = fmt.Sprintf("plugin %s is enabled; no daemon runs, it starts with the next one", id)
		return r, s.set(c.DataDir, id, false)
	case verb == control.Restart && (configuredOff || slices.Contains(s.Disabled, id)):
		return r, fmt.Errorf("plugin %s is disabled: enable it first", id)
	case verb == control.Restart:
		r.Said = fmt.Sprintf("no daemon runs; plugin %s starts anew with the next one", id)
		return r, nil
	}
	return r, fmt.Errorf("no plugin command %q", verb)
}

// knownID refuses an id that neither the store nor the folders know. What a program that never ran will say it is
// nobody knows yet: its file's name is taken for it.
func knownID(ctx context.Context, c *config.Config, bundled []host.Program, id string) error {
	list, err := KnownPlugins(ctx, c, bundled)
	if err != nil {
		return err
	}
	var ids []string
	for _, p := range list {
		ids = append(ids, p.ID)
	}
	found, _ := host.Discover(c.PluginsPath) // what is passed over is said when it would be run
	for _, p := range found {
		ids = append(ids, p.ID)
	}
	if slices.Contains(ids, id) {
		return nil
	}
	slices.Sort(ids)
	return fmt.Errorf("%w: %q (there are: %s)", host.ErrUnknownPlugin, id, strings.Join(slices.Compact(ids), ", "))
}
