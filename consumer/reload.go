package consumer

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/statscache/statscache/consumer/config"
	"github.com/statscache/statscache/consumer/fedmsg"
	"github.com/statscache/statscache/consumer/source/zmq"
)

// Reloaded is what became of a configuration that was read again.
type Reloaded struct {
	Changed []string // what is in force now: keys, and endpoints that were added or removed
	Restart []string // keys that differ from what the daemon runs with, and need a restart
}

// liveKeys are the settings that change while the daemon runs. Endpoints are told one by one.
func liveKeys() []string {
	return []string{"statscache.consumer.enabled", "statscache.consumer.topics", "statscache.archive.retention", "statscache.retention",
		"statscache.plugins.disabled", "statscache.rules",
		"statscache.app.default_rows_per_page", "statscache.app.maximum_rows_per_page"}
}

// errNoFiles refuses a configuration that has vanished: it would take all endpoints away.
var errNoFiles = errors.New("no configuration file is found any more")

// Reload puts another configuration in force as far as that goes while everything runs. Connections to endpoints that
// stay are not touched. After an error nothing has changed. The rows of a page are the API's, whose owner sets them.
func (d *Daemon) Reload(c *config.Config) (Reloaded, error) {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	old := d.current.Load()
	if len(c.Files) == 0 && len(old.Files) > 0 {
		return Reloaded{}, errNoFiles
	}
	off, err := readSwitches(d.config.DataDir)
	if err != nil {
		return Reloaded{}, err
	}
	rules, err := compiledRules(c)
	if err != nil {
		return Reloaded{}, err
	}
	var r Reloaded
	for _, key := range differences(old, c) {
		if slices.Contains(liveKeys(), key) {
			r.Changed = append(r.Changed, key)
		}
	}
	for _, key := range differences(d.config, c) {
		if !slices.Contains(liveKeys(), key) {
			r.Restart = append(r.Restart, key)
		}
	}
	// Nothing fails from here on.
	d.current.Store(c)
	if slices.Contains(r.Changed, "statscache.rules") && d.ingest != nil {
		d.ingest.rules.Store(rules)
	}
	d.host.Configure(c.PluginsDisabled, off.Disabled)
	if source := d.source.Load(); source != nil {
		d.judgeCounters(c.Topics)
		added, removed := source.Update(listenTo(c), c.Topics)
		for _, e := range added {
			r.Changed = append(r.Changed, fmt.Sprintf("endpoint %s (%s) added", e.Name, e.Address))
		}
		for _, e := range removed {
			r.Changed = append(r.Changed, fmt.Sprintf("endpoint %s (%s) removed", e.Name, e.Address))
		}
	}
	select {
	case d.retained <- struct{}{}:
	default: // it is about to be applied
	}
	return r, nil
}

// differences lists the keys of settings that two configurations have different values for.
func differences(a, b *config.Config) []string {
	values := map[string]string{}
	for _, s := range a.Settings {
		values[s.Key] = s.Value
	}
	var out []string
	for _, s := range b.Settings {
		if s.Key == "statscache.consumer.endpoints" { // told one by one
			continue
		}
		secret := s.Key == "statscache.store.url" && a.Store != b.Store || // masked where it is printed
			s.Key == "statscache.datagrepper.endpoint" && a.DatagrepperEndpoint != b.DatagrepperEndpoint
		if values[s.Key] != s.Value || secret {
			out = append(out, s.Key)
		}
	}
	if a.KeepAlive != b.KeepAlive {
		out = append(out, "zmq_tcp_keepalive")
	}
	if a.ReconnectMax != b.ReconnectMax {
		out = append(out, "zmq_reconnect_ivl_max")
	}
	return out
}

// listenTo lists what a configuration listens to, one entry for each address.
func listenTo(c *config.Config) []zmq.Endpoint {
	if !c.ConsumerEnabled {
		return nil
	}
	var out []zmq.Endpoint
	for _, e := range c.Endpoints {
		for _, a := range e.Addresses {
			out = append(out, zmq.Endpoint{Name: e.Name, Address: strings.TrimPrefix(a, "tcp://")})
		}
	}
	return out
}

// compiledRules makes the rules of a configuration, with the shipped ones behind them, ready for use.
func compiledRules(c *config.Config) (*fedmsg.Rules, error) {
	shipped, err := fedmsg.ShippedRules()
	if err != nil {
		return nil, err
	}
	return fedmsg.CompileRules(slices.Concat(c.Rules, shipped)...)
}
