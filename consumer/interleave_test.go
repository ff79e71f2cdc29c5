package consumer

import (
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/statscache/statscache/consumer/config"
	"github.com/statscache/statscache/store"
)

// happening is an event as the property test makes it; what it counts for is known without reading it back.
type happening struct {
	id, topic, category string
	time                float64 // seconds since 1970
	users, packages     []string
}

func (h happening) body() string {
	var headers []string
	for _, u := range h.users {
		headers = append(headers, fmt.Sprintf(`"fedora_messaging_user_%s":true`, u))
	}
	for _, p := range h.packages {
		headers = append(headers, fmt.Sprintf(`"fedora_messaging_rpm_%s":true`, p))
	}
	return fmt.Sprintf(`{"topic":%q,"msg_id":%q,"timestamp":%s,"headers":{%s},"msg":{}}`,
		h.topic, h.id, strconv.FormatFloat(h.time, 'f', -1, 64), strings.Join(headers, ","))
}

// some draws up to three different names, each at most once.
func some(r *rand.Rand, kind string, of int) (out []string) {
	for _, i := range r.Perm(of)[:r.IntN(4)] {
		out = append(out, fmt.Sprint(kind, i))
	}
	return out
}

// happen makes n events around a few moments: the seams of minutes, days and years, and anywhere in three days.
func happen(r *rand.Rand, n int) []happening {
	seams := []float64{1546300800, 1546214400 - 86400, 1546300860, 1546300805}
	out := make([]happening, n)
	for i := range out {
		h := happening{id: fmt.Sprintf("2018-%d", i), category: []string{"git", "koji", "wiki", "copr"}[r.IntN(4)], users: some(r, "user", 5), packages: some(r, "pkg", 7)}
		h.topic = fmt.Sprintf("org.fedoraproject.prod.%s.%s", h.category, []string{"new", "change.done", "old"}[r.IntN(3)])
		h.time = 1546300800 + float64(r.IntN(3*86400)) - 86400
		if r.IntN(2) == 0 {
			h.time = seams[r.IntN(len(seams))] + float64(r.IntN(40)-20)/8
		}
		out[i] = h
	}
	return out
}

// place is where a count of a metric stands.
type place struct {
	metric   string
	interval time.Duration
	start    int64
	key      string
}

// bruteForce counts events one by one, each id once, in the simplest way there is.
func bruteForce(all []happening, metrics []store.ServedMetric) map[place]int64 {
	out := map[place]int64{}
	seen := map[string]bool{}
	for _, h := range all {
		if seen[h.id] {
			continue
		}
		seen[h.id] = true
		for _, m := range metrics {
			keys := map[string][]string{"volume": {""}, "volume-by-category": {h.category}, "volume-by-topic": {h.topic},
				"volume-by-user": h.users, "volume-by-package": h.packages}[m.ID]
			for _, interval := range m.Intervals {
				width := interval.Seconds()
				for _, key := range keys {
					out[place{m.ID, interval, int64(math.Floor(h.time/width) * width), key}]++
				}
			}
		}
	}
	return out
}

// stored reads every count of every metric and interval.
func stored(t *testing.T, s store.Store) (map[place]int64, []store.ServedMetric) {
	t.Helper()
	metrics, err := s.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := map[place]int64{}
	for _, m := range metrics {
		for _, interval := range m.Intervals {
			q := store.CellQuery{Plugin: m.Plugin, Metric: m.ID, Generation: m.Generation, Interval: interval, From: math.MinInt64, To: math.MaxInt64}
			if err := s.EachCell(t.Context(), q, func(r store.Row) error {
				out[place{m.ID, interval, r.Time, r.Key}] += r.N
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return out, metrics
}

// interleaving does things to one data dir in a random order and remembers which events it has given in.
type interleaving struct {
	t     *testing.T
	r     *rand.Rand
	c     *config.Config
	d     *Daemon // nil while none runs
	fresh []happening
	given []happening
	log   []string
}

func (i *interleaving) start() {
	i.t.Helper()
	d, err := Open(i.t.Context(), Options{Config: i.c, Bundled: testPrograms(i.t)})
	if err == nil {
		err = d.Start(i.t.Context(), true)
	}
	if err != nil {
		i.t.Fatal(err)
	}
	i.d = d
}

func (i *interleaving) stop() {
	i.t.Helper()
	if err := i.d.Stop(); err != nil {
		i.t.Fatal(err)
	}
	i.d = nil
}

// draw takes new events and ones that were given in before, in any order.
func (i *interleaving) draw() []happening {
	n := min(i.r.IntN(200), len(i.fresh))
	out := slices.Clone(i.fresh[:n])
	i.fresh = i.fresh[n:]
	i.given = append(i.given, out...)
	for range i.r.IntN(n + 20) {
		if len(i.given) > 0 {
			out = append(out, i.given[i.r.IntN(len(i.given))])
		}
	}
	if i.r.IntN(3) == 0 {
		slices.SortStableFunc(out, func(a, b happening) int { return int(a.time - b.time) })
	} else {
		i.r.Shuffle(len(out), func(a, b int) { out[a], out[b] = out[b], out[a] })
	}
	return out
}

// live hands events over as a source does, in deliveries of any size.
func live(ctx context.Context, d *Daemon, r *rand.Rand, events []happening) error {
	for len(events) > 0 {
		n := min(1+r.IntN(30), len(events))
		var messages [][][]byte
		for _, h := range events[:n] {
			messages = append(messages, [][]byte{[]byte(h.topic), []byte(h.body())})
		}
		if err := d.ingest.Deliver(ctx, peer("test"), messages); err != nil {
			return err
		}
		events = events[n:]
	}
	return nil
}

func (i *interleaving) importing(events []happening) func() error {
	var b strings.Builder
	for _, h := range events {
		b.WriteString(h.body() + "\n")
	}
	noWait := i.r.IntN(2) == 0
	o, programs := Options{Config: i.c}, testPrograms(i.t)
	return func() error {
		o.Bundled = programs
		sum, err := Import(i.t.Context(), o, []string{"-"}, ImportOptions{Stdin: strings.NewReader(b.String()), NoWait: noWait})
		if err == nil && sum.Owned+sum.Duplicates != len(events) {
			err = fmt.Errorf("%+v of %d lines", sum, len(events))
		}
		return err
	}
}

// step does one to three things at the same time, or starts or stops the daemon.
func (i *interleaving) step() {
	i.t.Helper()
	switch {
	case i.d == nil && i.r.IntN(3) > 0:
		i.start()
		i.log = append(i.log, "start")
		return
	case i.d == nil: // an import without a daemon
		events := i.draw()
		i.log = append(i.log, fmt.Sprintf("import %d alone", len(events)))
		if err := i.importing(events)(); err != nil {
			i.t.Fatal(err)
		}
		return
	case i.r.IntN(4) == 0:
		i.stop() // with whatever the inbox and the plugins have under way
		i.log = append(i.log, "stop")
		return
	}
	var group sync.WaitGroup
	errs := make(chan error, 3)
	for range 1 + i.r.IntN(3) {
		events := i.draw()
		what, do := "import", i.importing(events)
		if i.r.IntN(2) == 0 {
			r := rand.New(rand.NewPCG(i.r.Uint64(), 0)) // of its own: it runs beside others
			what, do = "live", func() error { return live(i.t.Context(), i.d, r, events) }
		}
		i.log = append(i.log, fmt.Sprintf("%s %d", what, len(events)))
		group.Go(func() { errs <- do() })
	}
	group.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			i.t.Fatal(err)
		}
	}
	i.log = append(i.log, "joined")
}

// settle waits until all that was given in is archived and counted.
func (i *interleaving) settle() {
	i.t.Helper()
	if i.d == nil {
		i.start()
	}
	ctx, cancel := context.WithTimeout(i.t.Context(), time.Minute)
	defer cancel()
	to, err := i.d.ingest.flush(ctx)
	if err == nil {
		err = i.d.waitArchived(ctx, to)
	}
	if err == nil {
		err = i.d.waitComputed(ctx)
	}
	if err != nil {
		i.t.Fatal(err)
	}
}

// TestAnyInterleaving_GivesTheBruteForceCount mixes live events, imports, duplicates, other orders and restarts at random
// and compares every row of every metric and interval with a count that knows nothing of the pipeline.
func TestAnyInterleaving_GivesTheBruteForceCount(t *testing.T) {
	times, seed := 12, uint64(time.Now().UnixNano())
	if os.Getenv("STATSCACHE_LONG") == "1" {
		times = 500
	}
	if text := os.Getenv("STATSCACHE_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("STATSCACHE_SEED: %v", err)
		}
	}
	t.Logf("STATSCACHE_SEED=%d", seed)
	cells, done := 0, map[string]int{}
	for n := range times {
		r := rand.New(rand.NewPCG(seed, uint64(n)))
		i := &interleaving{t: t, r: r, fresh: happen(r, 100+r.IntN(900)),
			c: loaded(t, t.TempDir(), `"validate_signatures": False, "statscache.retention": {"1s": None, "5s": None, "15s": None, "1m": None}`)}
		i.c.CommitInterval = []time.Duration{time.Millisecond, 10 * time.Millisecond, 100 * time.Millisecond}[n%3]
		for range 4 + r.IntN(10) {
			i.step()
		}
		i.settle()
		got, metrics := stored(t, i.d.store)
		want := bruteForce(i.given, metrics)
		i.stop()
		if len(metrics) != 5 || !maps.Equal(got, want) {
			t.Errorf("interleaving %d of seed %d, %d metrics: %s\n%s", n, seed, len(metrics), firstUnequal(got, want), strings.Join(i.log, "\n"))
		}
		cells += len(got)
		for _, what := range i.log {
			what, _, _ = strings.Cut(what, " ")
			done[what]++
		}
	}
	t.Logf("%d interleavings, %d rows compared; %v", times, cells, done)
	if cells == 0 || done["live"] == 0 || done["import"] == 0 || done["stop"] == 0 {
		t.Error("too little happened")
	}
}

// firstUnequal names the first count that differs.
func firstUnequal(got, want map[place]int64) string {
	all := maps.Clone(got)
	maps.Copy(all, want)
	var out []string
	for c := range all {
		if got[c] != want[c] {
			out = append(out, fmt.Sprintf("%s-%s at %d of %q is %d, want %d", c.metric, c.interval, c.start, c.key, got[c], want[c]))
		}
	}
	slices.Sort(out)
	return fmt.Sprintf("%d counts differ, such as %s", len(out), strings.Join(out[:min(3, len(out))], "; "))
}
