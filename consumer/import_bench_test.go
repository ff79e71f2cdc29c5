package consumer

import (
	"bytes"
	"context"
	"os"
	"testing"
	"time"

	"github.com/statscache/statscache/consumer/config"
	"github.com/statscache/statscache/internal/demo"
	"github.com/statscache/statscache/plugins"
	"github.com/statscache/statscache/plugins/host"
	"github.com/statscache/statscache/plugins/volume"
)

// asPlugin makes the test binary the bundled plugin.
const asPlugin = "STATSCACHE_TEST_AS_PLUGIN"

func TestMain(m *testing.M) {
	if os.Getenv(asPlugin) != "" {
		plugins.Serve(volume.Plugin())
		return
	}
	os.Exit(m.Run())
}

func testPrograms(tb testing.TB) []host.Program {
	tb.Helper()
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	return []host.Program{{ID: volume.ID, Argv: []string{self}, Builtin: true, Env: []string{asPlugin + "=1", "GOMAXPROCS=1", "GOGC=200", "GORACE=atexit_sleep_ms=0"}}}
}

func testConfig(tb testing.TB) *config.Config {
	tb.Helper()
	c, err := config.Load(config.Options{Flags: map[string]string{"statscache.data_dir": tb.TempDir()}, WorkDir: tb.TempDir(), SystemDir: tb.TempDir()})
	if err != nil {
		tb.Fatal(err)
	}
	c.PluginsPath = nil
	return c
}

// BenchmarkImport is the whole way of events spread over a day: lines, inbox, archive, plugin process, commits.
func BenchmarkImport(b *testing.B) {
	const events = 300_000
	g := demo.New(1)
	var lines bytes.Buffer
	begin := time.Now().Add(-24 * time.Hour)
	for i := range events {
		lines.Write(g.Next(begin.Add(time.Duration(i) * 24 * time.Hour / events)).Body)
		lines.WriteByte('\n')
	}
	ctx := context.Background()
	for b.Loop() {
		b.StopTimer()
		d, err := Open(ctx, Options{Config: testConfig(b), Bundled: testPrograms(b)})
		if err != nil {
			b.Fatal(err)
		}
		if err := d.Start(ctx, false); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		sum, err := d.Import(ctx, []string{"-"}, ImportOptions{Stdin: bytes.NewReader(lines.Bytes())})
		if err != nil || sum.Owned != events {
			b.Fatalf("%+v, %v", sum, err)
		}
		b.StopTimer()
		if err := d.Stop(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(events*float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(lines.Len())/events, "bytes/event")
}
