package e2e

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"maps"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/cratetest"
	"github.com/statscache/statscache/internal/testpython"
)

// The benchmarks report figures and never fail on time. Each runs once (-benchtime 1x): what it measures takes seconds.

// fastPublisher starts a libzmq publisher at a rate (0: as fast as its subscriber takes them) and gives it when it is
// bound. It is compiled C where there is a compiler, because it shares the cores with what is measured; else Python.
func fastPublisher(b *testing.B, port int, rate, seconds float64) *peer {
	b.Helper()
	python := testpython.Find(b)
	args := []string{strconv.Itoa(port), "1", strconv.FormatFloat(rate, 'f', -1, 64), strconv.FormatFloat(seconds, 'f', -1, 64)}
	program := filepath.Join(b.TempDir(), "stream")
	libs, err := filepath.Glob(filepath.Join(filepath.Dir(python), "../lib/python3*/site-packages/pyzmq.libs/libzmq*.so*"))
	if err == nil && len(libs) == 1 && exec.Command("gcc", "-O2", "-o", program, "testdata/c/stream.c", "-ldl").Run() == nil {
		p := startPeer(b, "", program, append([]string{libs[0]}, append(args, "bench")...)...)
		p.expect("bound", peerStart)
		return p
	}
	b.Log("no gcc or no libzmq of pyzmq's: the publisher is Python, which takes a core for itself")
	p := script(b, "", "stream.py", append(args, "--name", "bench")...)
	p.expect("bound", peerStart)
	return p
}

// started waits for a publisher's first message and gives the time of it.
func started(b *testing.B, p *peer) time.Time {
	b.Helper()
	seconds, err := strconv.ParseFloat(p.expect("start", 30*time.Second), 64)
	if err != nil {
		b.Fatal(err)
	}
	return time.UnixMicro(int64(seconds * 1e6))
}

// memory is the largest resident memory seen of a daemon and of its largest plugin, in bytes.
type memory struct {
	daemon, plugin atomic.Int64
	stop           chan struct{}
	done           sync.WaitGroup
}

// watchMemory samples until stopped.
func watchMemory(d *daemon) *memory {
	m := &memory{stop: make(chan struct{})}
	m.done.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			m.daemon.Store(max(m.daemon.Load(), rss(d.pid())))
			for _, p := range descendants(d.pid()) {
				m.plugin.Store(max(m.plugin.Load(), rss(p.pid)))
			}
			select {
			case <-tick.C:
			case <-m.stop:
				return
			}
		}
	})
	return m
}

func (m *memory) report(b *testing.B) {
	close(m.stop)
	m.done.Wait()
	b.ReportMetric(float64(m.daemon.Load())/1e6, "daemon-peak-MB")
	b.ReportMetric(float64(m.plugin.Load())/1e6, "plugin-peak-MB")
}

// spread writes n events evenly over a day that begins at start, with the bodies of a golden stream.
func spread(b *testing.B, n int, start time.Time) string {
	b.Helper()
	in, err := os.Open(goldens(b)[0].file)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = in.Close() }() // only read
	unzipped, err := gzip.NewReader(in)
	if err != nil {
		b.Fatal(err)
	}
	var bodies [][2]string // around {"i":..,"timestamp":..,"msg_id":"..."
	for lines := bufio.NewScanner(unzipped); lines.Scan(); {
		_, rest, ok := bytes.Cut(lines.Bytes(), []byte(`,"source_name"`))
		if !ok {
			b.Fatalf("not as the generator writes it: %.200s", lines.Text())
		}
		bodies = append(bodies, [2]string{`{"i":1,"timestamp":`, `","source_name"` + string(rest)})
	}
	path := filepath.Join(b.TempDir(), "events.jsonl")
	out, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	buffered := bufio.NewWriterSize(out, 1<<20)
	for i := range n {
		body := bodies[i%len(bodies)]
		at := start.Unix() + int64(i)*86400/int64(n)
		// A failed write stays with the writer and comes up in Flush.
		_, _ = fmt.Fprintf(buffered, "%s%d,\"msg_id\":\"%d-%08x-6db0-4c31-9d07-%012x%s\n", body[0], at, start.Year(), uint32(i)*2654435761, i, body[1])
	}
	if err := buffered.Flush(); err != nil {
		b.Fatal(err)
	}
	if err := out.Close(); err != nil {
		b.Fatal(err)
	}
	return path
}

// BenchmarkImport brings in a day of history: events/s from the start of the command to its end, when every plugin has
// caught up.
func BenchmarkImport(b *testing.B) {
	const events = 500_000
	file := spread(b, events, time.Date(2018, 4, 26, 0, 0, 0, 0, time.UTC))
	b.ResetTimer()
	for range b.N {
		s := newSite(b, nil)
		begin := time.Now()
		d := s.launch("import", file)
		m := watchMemory(d)
		<-d.exited
		took := time.Since(begin)
		if code := d.cmd.ProcessState.ExitCode(); code != 0 {
			b.Fatalf("import: exit status %d", code)
		}
		m.report(b)
		b.ReportMetric(events/took.Seconds(), "events/s")
		b.ReportMetric(float64(fileSize(b, s.database()))/events, "bytes/event")
		daemon := s.start()
		daemon.waitCaughtUp(time.Minute)
		if total := daemon.total("volume-1m", ""); total != events {
			b.Errorf("%d events counted, want %d", total, events)
		}
		daemon.stop()
	}
}

func fileSize(b *testing.B, path string) int64 {
	b.Helper()
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	return info.Size()
}

// BenchmarkLive_MaximumRate counts what is committed in a minute at full speed; the publisher shares the machine.
func BenchmarkLive_MaximumRate(b *testing.B) {
	maximumRate(b, 0, nil)
}

// BenchmarkLive_MaximumRateOnCrate is the same on a CrateDB of one node, which shares the machine, too, with the plugin
// volume alone. It gets 10,000 events a second: a minute at full speed is more than it takes in within ten.
func BenchmarkLive_MaximumRateOnCrate(b *testing.B) {
	maximumRate(b, 10_000, map[string]string{"statscache.store.url": strconv.Quote(cratetest.Start(b)),
		"statscache.plugins.disabled": `["activity", "pagure", "releng"]`})
}

// maximumRate publishes for a minute at a rate, 0 for as fast as it goes, and reports what was committed by its end.
func maximumRate(b *testing.B, rate float64, settings map[string]string) {
	const seconds = 60
	for range b.N {
		p := port(b)
		all := map[string]string{"endpoints": endpoints(map[string][]int{"bench": {p}})}
		maps.Copy(all, settings)
		publisher := fastPublisher(b, p, rate, seconds)
		d := newSite(b, all).launch("run")
		d.waitJoined()
		m := watchMemory(d)
		begin := started(b, publisher)
		<-time.After(time.Until(begin.Add(seconds * time.Second)))
		took := time.Since(begin)
		committed := d.total("volume-1m", "")
		sent := publisher.expectNumber("sent", 30*time.Second)
		status := d.waitCounted(sent, 5*time.Minute)
		drained := time.Since(begin)
		m.report(b)
		b.ReportMetric(float64(committed)/took.Seconds(), "events/s")
		b.ReportMetric(float64(sent)/seconds, "published/s")
		b.ReportMetric((drained - took).Seconds(), "drain-s")
		if status.Owned != sent || d.total("volume-1m", "") != sent {
			b.Errorf("%d events owned, %d counted, want the %d sent", status.Owned, d.total("volume-1m", ""), sent)
		}
		d.stop()
	}
}

// BenchmarkLive_Latency measures from the moment an event was due at the publisher until the API shows it, for every
// event of half a minute at 1,000 a second: the volume of the windows since the start is asked for all the time.
func BenchmarkLive_Latency(b *testing.B) {
	const rate, seconds, warm = 1000, 35, 5
	for range b.N {
		p := port(b)
		publisher := fastPublisher(b, p, rate, seconds)
		d := newSite(b, map[string]string{"endpoints": endpoints(map[string][]int{"bench": {p}})}).start()
		begin := started(b, publisher)
		url := fmt.Sprintf("http://%s/api/volume-1s?order=asc&rows_per_page=100&start=%d&stop=%s", d.api, begin.Unix(), farStop)
		var latencies []float64
		shown := int64(0)
		pause := time.NewTicker(3 * time.Millisecond) // the question must not be the load
		for shown < rate*(seconds-1) && time.Since(begin) < (seconds+10)*time.Second {
			code, body, err := get(url, "Accept", "text/csv")
			if err != nil || code != 200 {
				b.Fatalf("%d %v %s", code, err, body)
			}
			now, volume := time.Now(), int64(0)
			for line := range strings.Lines(body) {
				_, text, _ := strings.Cut(strings.TrimSpace(line), ",")
				if n, err := strconv.ParseInt(text, 10, 64); err == nil {
					volume += n
				}
			}
			for ; shown < volume; shown++ {
				if due := begin.Add(time.Duration(shown+1) * time.Second / rate); shown >= warm*rate {
					latencies = append(latencies, float64(now.Sub(due).Microseconds())/1000)
				}
			}
			<-pause.C
		}
		pause.Stop()
		slices.Sort(latencies)
		if len(latencies) == 0 {
			b.Fatal("nothing was shown")
		}
		at := func(q float64) float64 { return latencies[int(math.Ceil(q*float64(len(latencies))))-1] }
		b.ReportMetric(at(0.5), "p50-ms")
		b.ReportMetric(at(0.99), "p99-ms")
		b.ReportMetric(at(1), "max-ms")
		d.stop()
	}
}

// BenchmarkMemory measures the resident memory at 1,000 events a second on top of a million events of the last day.
// With STATSCACHE_BENCH_FULL=1 the million comes at that rate too, which takes 17 minutes.
func BenchmarkMemory(b *testing.B) {
	const events, rate = 1_000_000, 1000
	full := os.Getenv("STATSCACHE_BENCH_FULL") == "1"
	for range b.N {
		p := port(b)
		s := newSite(b, map[string]string{"endpoints": endpoints(map[string][]int{"bench": {p}})})
		seconds := 60.0
		if full {
			seconds = events / rate
		} else {
			s.mustRun("import", spread(b, events, time.Now().Add(-24*time.Hour)))
		}
		publisher := fastPublisher(b, p, rate, seconds)
		d := s.start()
		started(b, publisher)
		m := watchMemory(d)
		sent := publisher.expectNumber("sent", time.Duration(seconds+60)*time.Second)
		d.waitCounted(sent, time.Minute)
		b.ReportMetric(float64(rss(d.pid()))/1e6, "daemon-end-MB")
		m.report(b)
		d.stop()
	}
}

// BenchmarkCachedAnswer asks 32 connections at once for one 20 KB answer of a server that has one core for itself.
func BenchmarkCachedAnswer(b *testing.B) {
	const connections, seconds = 32, 10
	for range b.N {
		s := newSite(b, map[string]string{"statscache.app.maximum_rows_per_page": "1000"})
		s.mustRun("import", "testdata/compat/events.jsonl.gz")
		// The server is started with one core, so that it knows of no other; the client takes the rest.
		unpin := pin(b, func(cpu int) bool { return cpu == 0 })
		d := s.start()
		unpin()
		d.waitCaughtUp(30 * time.Second)
		unpin = pin(b, func(cpu int) bool { return cpu > 0 })
		path := "/api/volume-by-topic-1s?rows_per_page=212&stop=1600000000"
		_, body, err := get("http://"+d.api+path, "Accept", "application/json", "Accept-Encoding", "identity")
		if err != nil {
			b.Fatal(err)
		}
		before := cpuSeconds(b, d.pid())
		requests, err := hammer(d.api, path, connections, seconds*time.Second)
		unpin()
		if err != nil {
			b.Fatal(err)
		}
		used := cpuSeconds(b, d.pid()) - before
		b.ReportMetric(float64(len(body)), "answer-bytes")
		b.ReportMetric(float64(requests)/seconds, "requests/s")
		b.ReportMetric(float64(requests)/used, "requests/cpu-s")
		d.stop()
	}
}

// hammer keeps asking on a number of connections for a while. The client is as thin as can be: it shares the machine.
func hammer(address, path string, connections int, during time.Duration) (int64, error) {
	var requests atomic.Int64
	var wg sync.WaitGroup
	failed := make(chan error, connections)
	deadline := time.Now().Add(during)
	request := []byte("GET " + path + " HTTP/1.1\r\nHost: " + address + "\r\nAccept: application/json\r\nAccept-Encoding: identity\r\n\r\n")
	for range connections {
		wg.Go(func() {
			conn, err := net.DialTimeout("tcp", address, 5*time.Second)
			if err != nil {
				failed <- err
				return
			}
			defer func() { _ = conn.Close() }() // measured already
			reader := bufio.NewReaderSize(conn, 64<<10)
			for time.Now().Before(deadline) {
				if _, err := conn.Write(request); err != nil {
					failed <- err
					return
				}
				if err := skipAnswer(reader); err != nil {
					failed <- err
					return
				}
				requests.Add(1)
			}
		})
	}
	wg.Wait()
	select {
	case err := <-failed:
		return 0, err
	default:
		return requests.Load(), nil
	}
}

// skipAnswer reads a response with a Content-Length and drops it.
func skipAnswer(reader *bufio.Reader) error {
	length := -1
	for first := true; ; first = false {
		line, err := reader.ReadSlice('\n')
		if err != nil {
			return err
		}
		if first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
			return fmt.Errorf("answered %q", line)
		}
		if len(line) <= 2 {
			break
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return err
			}
		}
	}
	if length < 0 {
		return fmt.Errorf("no Content-Length")
	}
	_, err := reader.Discard(length)
	return err
}
