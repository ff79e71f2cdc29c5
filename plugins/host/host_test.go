package host

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/plugins/volume"
)

// TestMain makes the test binary a plugin where it is started as one.
func TestMain(m *testing.M) {
	if name := os.Getenv("HOST_TEST_PLUGIN"); name != "" {
		servePlugin(name)
		return
	}
	os.Exit(m.Run())
}

// program is the test binary as one of the plugins in plugins_test.go. The race detector would have each wait for a second
// before it ends.
func program(t testing.TB, name string, env ...string) Program {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Program{ID: name, Argv: []string{self}, Env: append(env, "HOST_TEST_PLUGIN="+name, "GORACE=atexit_sleep_ms=0"), Builtin: true}
}

func category(topic string) string {
	if p := strings.Split(topic, "."); len(p) > 3 {
		return p[3]
	}
	return "Unclassified"
}

// sample makes blocks of random events, some before 1970, with holes between and inside the blocks.
func sample(r *rand.Rand, blocks, size int) []*block.Block {
	var out []*block.Block
	w := block.NewBuilder(category)
	seq, now := uint64(1), int64(-3600e6)
	for range blocks {
		for range size {
			now += int64(r.IntN(30e6)) - 10e6
			id := fmt.Sprintf("2018-%08x-%08x", r.Uint32(), r.Uint32())
			e := &block.Event{
				ID: []byte(id), Topic: fmt.Appendf(nil, "org.x.prod.cat%d.t%d", r.IntN(5), r.IntN(50)), Time: now, Source: "test",
				Body: fmt.Appendf(nil, `{"msg_id":"%s","n":%d}`, id, r.IntN(100)),
			}
			e.IDAt = strings.Index(string(e.Body), id)
			for i := range r.IntN(3) {
				e.Users = append(e.Users, fmt.Appendf(nil, "user%d-%d", i, r.IntN(30)))
				e.Packages = append(e.Packages, fmt.Appendf(nil, "pkg%d-%d", i, r.IntN(30)))
			}
			w.Add(e)
		}
		b := w.Build(seq, 0, false)
		if r.IntN(3) == 0 {
			keep := make([]bool, size)
			for i := range keep {
				keep[i] = r.IntN(4) > 0
			}
			kept, err := b.Keep(keep)
			if err != nil {
				panic(err)
			}
			b = kept
		}
		out = append(out, b)
		seq = b.Upto + 1
	}
	return out
}

// quick are times that suit tests.
func quick() Limits {
	return Limits{
		CommitInterval: time.Millisecond, BackoffMin: time.Millisecond, BackoffMax: 20 * time.Millisecond, Poll: 5 * time.Millisecond,
		Deadline: 5 * time.Second, Start: 20 * time.Second,
	}
}

// runHost runs a host until the test ends or stop is called.
func runHost(t testing.TB, o Options) (h *Host, stop func()) {
	t.Helper()
	if o.RunDir == "" {
		dir, err := os.MkdirTemp("", "sc") // t.TempDir is too long for a socket's path
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		o.RunDir = dir
	}
	if o.Logger == nil && testing.Verbose() {
		o.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = h.Run(ctx)
	}()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		<-done
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		left, err := os.ReadDir(o.RunDir)
		if err != nil || len(left) > 0 {
			t.Errorf("left in the run directory: %v %v", left, err)
		}
	}
	t.Cleanup(stop)
	return h, stop
}

func waitCaughtUp(t testing.TB, h *Host, to map[string]uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	if err := h.WaitCaughtUp(ctx, to); err != nil {
		t.Fatalf("%v; %+v", err, h.Plugins())
	}
}

// brute counts volume's metrics over blocks the plain way, but for the events to be left out.
func brute(plugin string, generation uint32, blocks []*block.Block, without map[uint64]bool) map[row]int64 {
	out := map[row]int64{}
	for _, c := range volume.Plugin().Counters {
		for _, every := range c.Every {
			for _, b := range blocks {
				for i := range b.Time {
					if without[b.Seq(i)] {
						continue
					}
					var keys []string
					switch c.Name {
					case "Volume":
						keys = []string{""}
					case "Volume, by category":
						keys = []string{b.Names[b.CategoryOf(i)]}
					case "Volume, by topic":
						keys = []string{b.Names[b.Topic[i]]}
					case "Volume, by user":
						for _, x := range b.UsersOf(i) {
							keys = append(keys, b.Names[x])
						}
					default:
						for _, x := range b.PackagesOf(i) {
							keys = append(keys, b.Names[x])
						}
					}
					step := every.Microseconds()
					bucket := (b.Time[i] - ((b.Time[i]%step)+step)%step) / step
					id := strings.ReplaceAll(strings.ReplaceAll(strings.ToLower(c.Name), ",", ""), " ", "-")
					for _, k := range keys {
						out[row{plugin, generation, id, every, bucket, k}]++
					}
				}
			}
		}
	}
	return out
}

func sameRows(t testing.TB, got, want map[row]int64) {
	t.Helper()
	if maps.Equal(got, want) {
		return
	}
	shown := 0
	for k, n := range want {
		if got[k] != n && shown < 5 {
			t.Errorf("%+v: %d, want %d", k, got[k], n)
			shown++
		}
	}
	for k, n := range got {
		if _, ok := want[k]; !ok && shown < 10 {
			t.Errorf("%+v: %d, want nothing", k, n)
			shown++
		}
	}
	t.Fatalf("%d rows, want %d", len(got), len(want))
}

func TestHost_VolumeEqualsABruteForceRecountAtAllIntervals(t *testing.T) {
	m := newMemory()
	blocks := sample(rand.New(rand.NewPCG(1, 2)), 20, 300)
	m.add("s", blocks...)
	h, stop := runHost(t, Options{Programs: []Program{program(t, "volume")}, Store: m, Feed: feedOf{m}, Limits: quick(), Config: map[string]json.RawMessage{"volume": json.RawMessage(`{}`)}})
	waitCaughtUp(t, h, m.ends())
	more := sample(rand.New(rand.NewPCG(3, 4)), 1, 100)
	for _, b := range more { // live ones, with a hole before them
		b.First, b.Upto = m.ends()["s"]+50, m.ends()["s"]+49+uint64(b.Len())
		b.Seqs = nil
	}
	m.add("s", more...)
	waitCaughtUp(t, h, m.ends())
	status := h.Plugins()[0]
	if status.ID != "volume" || !status.Builtin || len(status.Metrics) != 5 || status.Lag != 0 || status.Restarts != 0 || status.PID == 0 || status.Error != "" {
		t.Errorf("status %+v", status)
	}
	stop()
	sameRows(t, m.counters, brute("volume", 1, append(blocks, more...), nil))
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", status.PID)); err == nil {
		t.Error("the process lives on")
	}
	if len(m.dead) > 0 {
		t.Errorf("dead letters %v", m.dead)
	}
}
