package plugintest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/statscache/statscache/api"
	"github.com/statscache/statscache/consumer"
	"github.com/statscache/statscache/consumer/config"
	"github.com/statscache/statscache/plugins/host"
	"github.com/statscache/statscache/store"
	"github.com/statscache/statscache/store/sqlite"
)

// patience bounds what one way of one case may take.
const patience = 2 * time.Minute

// program is how the plugin is started.
type program struct{ argv, env []string }

// rows gives what the parts of a case add up to, one after the other in one data dir: sorted lines of JSON.
func rows(t *testing.T, p program, parts ...[][]byte) [][]byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	dir := t.TempDir()
	c := settings(t, dir)
	for _, part := range parts {
		if err := feed(ctx, t, c, p, part); err != nil {
			t.Fatal(err)
		}
	}
	db, err := sqlite.Open(ctx, sqlite.Options{Path: c.Store.Path, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }() // only read from
	lines, err := read(ctx, db)
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(lines, bytes.Compare)
	return lines
}

// settings keep everything for ever: sample events may be old.
func settings(t *testing.T, dir string) *config.Config {
	t.Helper()
	file := filepath.Join(dir, "settings.py")
	text := fmt.Sprintf(`config = {
    "statscache.data_dir": %q, "statscache.plugins.path": [],
    "statscache.retention": {"1s": None, "5s": None, "15s": None, "1m": None},
}
`, filepath.Join(dir, "data"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(config.Options{Paths: []string{file}, WorkDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// feed brings events in and waits until the plugin has counted them.
func feed(ctx context.Context, t *testing.T, c *config.Config, p program, events [][]byte) error {
	var bad []string
	d, err := consumer.Open(ctx, consumer.Options{Config: c, Version: "plugintest", Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
		Bundled: []host.Program{{ID: "plugin", Argv: p.argv, Env: p.env}}})
	if err != nil {
		return err
	}
	stop := func(err error) error {
		if stopErr := d.Stop(); err == nil {
			err = stopErr
		}
		return err
	}
	if err := d.Start(ctx, false); err != nil {
		return stop(err)
	}
	_, err = d.Import(ctx, []string{"-"}, consumer.ImportOptions{Stdin: bytes.NewReader(join(events)),
		Bad: func(_ string, line int, reason, detail string) {
			bad = append(bad, fmt.Sprintf("line %d: %s: %s", line, reason, detail))
		}})
	if err == nil && len(bad) > 0 {
		err = fmt.Errorf("events that are no messages: %q", bad)
	}
	for _, s := range d.Plugins() {
		fine := s.State == string(host.Running) || s.State == string(host.CatchingUp)
		if err == nil && (!fine || s.DeadLetters > 0) {
			err = fmt.Errorf("plugin %s is %s, with %d dead letters: %s", s.ID, s.State, s.DeadLetters, s.Error)
		}
	}
	return stop(err)
}

// read gives every row of every metric as the API would.
func read(ctx context.Context, db *sqlite.DB) (lines [][]byte, err error) {
	metrics, err := db.Metrics(ctx)
	if err != nil {
		return nil, err
	}
	add := func(m store.ServedMetric, ident, key string, more map[string]any) error {
		row := map[string]any{"ident": ident}
		for i, v := range store.SplitKey(key, len(m.Dimensions)) {
			row[m.Dimensions[i].Name] = v
		}
		for k, v := range more {
			row[k] = v
		}
		line, err := json.Marshal(row)
		lines = append(lines, line)
		return err
	}
	for _, m := range metrics {
		if m.Kind == store.Latest {
			list, err := db.Latest(ctx, m.ID)
			if err != nil {
				return nil, err
			}
			for _, r := range list {
				if err := add(m, m.ID, r.Key, map[string]any{"timestamp": r.Time / 1e6, "message": r.Value}); err != nil {
					return nil, err
				}
			}
		}
		for _, every := range m.Intervals {
			list, _, err := db.Rows(ctx, store.RowQuery{Metric: m.ID, Interval: every, From: math.MinInt64, To: math.MaxInt64, Limit: math.MaxInt})
			if err != nil {
				return nil, err
			}
			for _, r := range list {
				if err := add(m, m.ID+"-"+api.IntervalName(every), r.Key, map[string]any{"timestamp": r.Time + int64(every/time.Second), "volume": r.N}); err != nil {
					return nil, err
				}
			}
		}
	}
	return lines, nil
}
