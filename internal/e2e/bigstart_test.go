package e2e

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/statscache/statscache/consumer/journal"
	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/store/sqlite"
)

// blockMaker makes blocks of new events without decoding any: copies of some blocks with other hashes and times.
type blockMaker struct {
	random    *rand.Rand
	templates []*block.Block
}

// newBlockMaker makes blocks of so many events of about 650 bytes: 40 topics, 3,000 users, 8,000 packages.
func newBlockMaker(events int) *blockMaker {
	m := &blockMaker{random: rand.New(rand.NewPCG(1, 2))}
	words := strings.Fields("build task state change package owner release rawhide noarch pending complete failed branch commit review update stable testing")
	few := func(n int) int { return int(float64(n) * m.random.Float64() * m.random.Float64() * m.random.Float64()) }
	w := block.NewBuilder(func(topic string) string { return strings.Split(topic, ".")[3] })
	for range 64 {
		for i := range events {
			id := fmt.Sprintf("2026-%08x-%04x-%012x", m.random.Uint32(), i, m.random.Uint64()>>16)
			topic := fmt.Sprintf("org.fedoraproject.dev.cat%d.topic%d", few(9), few(40))
			user, pkg := fmt.Sprint("user", few(3000)), fmt.Sprint("package", few(8000))
			body := fmt.Sprintf(`{"msg_id":"%s","topic":"%s","username":"%s","i":%d,"timestamp":1524736800,"msg":{"package":"%s","text":"`, id, topic, user, i, pkg)
			for len(body) < 640 {
				body += fmt.Sprintf(`%s: %d, `, words[m.random.IntN(len(words))], m.random.IntN(1<<m.random.IntN(20)))
			}
			w.Add(&block.Event{ID: []byte(id), IDAt: 11, Topic: []byte(topic), Source: "main", Users: [][]byte{[]byte(user)},
				Packages: [][]byte{[]byte(pkg)}, Agent: []byte(user), Body: []byte(body + `"}}`)})
		}
		m.templates = append(m.templates, w.Build(1, 0, false))
	}
	return m
}

// make gives a block that begins at a position; its events come evenly from start on, for so long.
func (m *blockMaker) make(first uint64, start time.Time, span time.Duration) *block.Block {
	b := *m.templates[m.random.IntN(len(m.templates))]
	n := b.Len()
	b.First, b.Upto = first, first+uint64(n)-1
	b.Hash, b.Time = make([]uint64, n), make([]int64, n)
	for i := range n {
		b.Hash[i], b.Time[i] = m.random.Uint64(), start.Add(span*time.Duration(i)/time.Duration(n)).UnixMicro()
	}
	return &b
}

// bigState is a data dir as a crash leaves it: events archived and counted, and an inbox that was never archived.
type bigState struct {
	archived int64
	inbox    int64 // bytes
}

// build makes the state in the data dir of an installation. The inbox is left as it is, not closed.
func (x bigState) build(b *testing.B, s *site) {
	b.Helper()
	ctx, dir := context.Background(), filepath.Join(s.data, "journal")
	if err := os.MkdirAll(s.data, 0o700); err != nil {
		b.Fatal(err)
	}
	j, err := journal.Open(journal.Options{Dir: dir, TailBytes: -1})
	if err != nil {
		b.Fatal(err)
	}
	db, err := sqlite.Open(ctx, sqlite.Options{Path: s.database()})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := db.Attach(ctx, j.Stream()); err != nil {
		b.Fatal(err)
	}
	// The archive is of the last hundred days.
	maker, first := newBlockMaker(block.MaxEvents), uint64(1)
	const days = 100 * 24 * time.Hour
	start, span := time.Now().Add(-days), days/time.Duration(max(1, x.archived/block.MaxEvents))
	for int64(first) <= x.archived {
		var group []*block.Block
		for range 16 {
			group = append(group, maker.make(first, start, span))
			first, start = first+block.MaxEvents, start.Add(span)
		}
		if _, err := db.Archive(ctx, j.Stream(), group); err != nil {
			b.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		b.Fatal(err)
	}
	if err := j.SetStart(first); err != nil {
		b.Fatal(err)
	}
	if err := j.Close(); err != nil {
		b.Fatal(err)
	}
	d := s.start() // counts them
	d.waitCaughtUp(20 * time.Minute)
	d.stop()
	if j, err = journal.Open(journal.Options{Dir: dir, TailBytes: -1, ArchivedTo: first - 1}); err != nil {
		b.Fatal(err)
	}
	maker, now := newBlockMaker(256), time.Now()
	for used, limit := j.Bytes(); used < min(x.inbox, limit-8<<20); used, _ = j.Bytes() {
		var group []*block.Block
		next := j.Next()
		for range 16 {
			group = append(group, maker.make(next, now, 0))
			next += 256
		}
		if err := j.Append(group); err != nil {
			b.Fatal(err)
		}
	}
	used, _ := j.Bytes()
	b.Logf("built: %d events archived in %d MB, %d events in the inbox of %d MB", first-1, fileSize(b, s.database())>>20, j.Next()-first, used>>20)
}

// dropCaches makes the kernel forget the files of a folder, as after a power loss.
func dropCaches(b *testing.B, folder string) {
	b.Helper()
	eachFile(b, folder, func(f *os.File) error {
		if err := f.Sync(); err != nil {
			return err
		}
		return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	})
}

// readFiles brings the files of a folder into the kernel's memory.
func readFiles(b *testing.B, folder string) {
	b.Helper()
	eachFile(b, folder, func(f *os.File) error {
		_, err := io.Copy(io.Discard, f)
		return err
	})
}

func eachFile(b *testing.B, folder string, do func(f *os.File) error) {
	b.Helper()
	err := filepath.WalkDir(folder, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }() // only read
		return do(f)
	})
	if err != nil {
		b.Fatal(err)
	}
}

// BenchmarkStart_AfterACrash starts a daemon whose last life was killed with 1 GiB in the inbox and ten million events
// archived: first as the build left it, with the files in the kernel's memory; then killed while it archives the
// inbox, which leaves a log of the database to recover; then with nothing in memory; then with much to remove by
// retention. STATSCACHE_BENCH_STATE names a
// folder to keep the state in for the next run.
func BenchmarkStart_AfterACrash(b *testing.B) {
	x := bigState{archived: 10_000_000, inbox: 1 << 30}
	for range b.N {
		bus := newBus(b, 100_000, 400)
		settings := map[string]string{"endpoints": endpoints(map[string][]int{"bus": {bus.port}}), "statscache.retention": "{}"}
		s := newSite(b, settings)
		kept := os.Getenv("STATSCACHE_BENCH_STATE")
		if kept != "" {
			s.data = kept
		}
		if _, err := os.Stat(s.database()); err != nil {
			x.build(b, s) // one that was interrupted must be removed by hand
		}
		if kept != "" {
			s.data = filepath.Join(b.TempDir(), "data")
			if out, err := exec.Command("cp", "-r", kept, s.data).CombinedOutput(); err != nil {
				b.Fatalf("%v: %s", err, out)
			}
		}
		for _, name := range []string{"warm", "killed", "cold", "expiring"} {
			switch name {
			case "cold":
				dropCaches(b, s.data)
			case "expiring":
				settings["statscache.retention"], settings["statscache.archive.retention"] = `{"1m": "1d", "5m": "1d", "1h": "1d"}`, `"90d"`
				s.configure(settings)
			}
			measureStart(b, s, bus, name)
		}
	}
}

// measureStart starts a daemon, says when it receives and when it answers, and kills it some seconds later.
func measureStart(b *testing.B, s *site, bus *bus, name string) {
	b.Helper()
	begin := time.Now()
	d := s.launch("run")
	m := watchMemory(d)
	until := func(what string, check func() error) float64 {
		b.Helper()
		d.waitFor(2*time.Minute, what, check)
		return time.Since(begin).Seconds()
	}
	answers := func(url string) func() error {
		return func() error {
			code, body, err := get(url)
			if err == nil && code != 200 {
				err = fmt.Errorf("%d: %s", code, body)
			}
			return err
		}
	}
	receiving := until("receiving", func() error {
		if bus.publisher.Connected() == 0 {
			return io.ErrNoProgress
		}
		return nil
	})
	bus.one(time.Now())
	received := until("the first event", func() error {
		n, err := d.metric("statscache_events_received_total")
		if err == nil && n == 0 {
			err = io.ErrNoProgress
		}
		return err
	})
	consuming := until("ready to consume", answers("http://"+s.admin+"/readyz/consume"))
	serving := until("ready to serve", answers("http://"+s.admin+"/readyz/serve"))
	answered := until("the first answer", answers("http://"+s.api+"/api/volume-1m?rows_per_page=100"))
	b.ReportMetric(max(receiving, received, consuming), name+"-ready-s")
	b.ReportMetric(max(serving, answered), name+"-serving-s")
	b.Logf("%s: connected %.2f s, first event %.2f s, /readyz/consume %.2f s, /readyz/serve %.2f s, first answer %.2f s", name, receiving, received, consuming, serving, answered)
	<-time.After(5 * time.Second)
	b.Logf("%s: resident at most %d MB", name, m.daemon.Load()>>20)
	close(m.stop)
	m.done.Wait()
	if err := d.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		b.Fatal(err)
	}
	<-d.exited
	if err := poll(10*time.Second, func() error {
		if bus.publisher.Connected() > 0 {
			return fmt.Errorf("still connected")
		}
		return nil
	}); err != nil {
		b.Fatal(err)
	}
}
