package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/statscache/statscache/api"
	"github.com/statscache/statscache/consumer/config"
	"github.com/statscache/statscache/plugins/host"
	"github.com/statscache/statscache/store"
)

// KnownPlugins says what the store of a data dir that no daemon works in knows of the plugins: how far each has come.
// They are listed as stopped, also a bundled one that never ran, but for those that a daemon would not start.
func KnownPlugins(ctx context.Context, c *config.Config, bundled []host.Program) (out []api.PluginStatus, err error) {
	for _, p := range bundled {
		out = append(out, api.PluginStatus{ID: p.ID, State: stopped, Builtin: true, Metrics: []string{}})
	}
	if _, err := os.Stat(c.Store.Path); c.Store.Kind == "sqlite" && errors.Is(err, os.ErrNotExist) {
		return markDisabled(out, c)
	}
	s, err := openStore(ctx, c, true, slog.New(slog.DiscardHandler), time.Now)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if out, err = storedPlugins(ctx, s, out); err != nil {
		return nil, err
	}
	return markDisabled(out, c)
}

// storedPlugins adds what a store knows of plugins to those that come with the program.
func storedPlugins(ctx context.Context, s store.Store, out []api.PluginStatus) ([]api.PluginStatus, error) {
	known, err := s.Plugins(ctx)
	if err != nil {
		return nil, fmt.Errorf("list plugins: %w", err)
	}
	served, err := s.Metrics(ctx)
	if err != nil {
		return nil, fmt.Errorf("list metrics: %w", err)
	}
	ends, err := s.Streams(ctx)
	if err != nil {
		return nil, fmt.Errorf("list streams: %w", err)
	}
	for _, p := range known {
		st := api.PluginStatus{ID: p.ID, Version: p.Version, DataVersion: p.DataVersion, State: stopped, Metrics: []string{}}
		for _, m := range p.Metrics {
			st.Metrics = append(st.Metrics, m.ID)
		}
		if st.Lag, err = lagOf(ctx, s, p.ID, generationOf(served, p.ID), ends); err != nil {
			return nil, err
		}
		_, total, err := s.DeadLetters(ctx, p.ID, 0)
		if err != nil {
			return nil, fmt.Errorf("count dead letters of %s: %w", p.ID, err)
		}
		st.DeadLetters = uint64(total)
		if i := slices.IndexFunc(out, func(x api.PluginStatus) bool { return x.ID == p.ID }); i >= 0 {
			st.Builtin, out[i] = true, st
		} else {
			out = append(out, st)
		}
	}
	return out, nil
}

// stopped is the state of a plugin that no daemon runs.
const stopped = "stopped"

func markDisabled(list []api.PluginStatus, c *config.Config) ([]api.PluginStatus, error) {
	off, err := readSwitches(c.DataDir)
	if err != nil {
		return nil, err
	}
	programs, err := readPrograms(c.DataDir)
	if err != nil {
		return nil, err
	}
	for i := range list {
		list[i].Error = programs[list[i].ID].Doubt
		if slices.Contains(c.PluginsDisabled, list[i].ID) || slices.Contains(off.Disabled, list[i].ID) {
			list[i].State = string(host.Disabled)
		}
	}
	return list, nil
}

func generationOf(served []store.ServedMetric, plugin string) uint32 {
	for _, m := range served {
		if m.Plugin == plugin {
			return m.Generation
		}
	}
	return 0
}

func lagOf(ctx context.Context, s store.Ledger, plugin string, generation uint32, ends []store.Stream) (uint64, error) {
	positions, err := s.Positions(ctx, plugin, generation)
	if err != nil {
		return 0, fmt.Errorf("positions of %s: %w", plugin, err)
	}
	at := map[string]uint64{}
	for _, p := range positions {
		at[p.Stream] = p.Pos
	}
	lag := uint64(0)
	for _, e := range ends {
		lag += e.ArchivedTo - min(at[e.ID], e.ArchivedTo)
	}
	return lag, nil
}
