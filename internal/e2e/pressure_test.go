package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// locker holds a database as another program would: nobody else can write.
type locker struct {
	t    testing.TB
	conn *sqlite.Conn
}

func lockDatabase(t testing.TB, path string) *locker {
	t.Helper()
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	l := &locker{t, conn}
	t.Cleanup(l.release)
	conn.SetBlockOnBusy()
	if err := sqlitex.ExecuteTransient(conn, "BEGIN EXCLUSIVE", nil); err != nil {
		t.Fatal(err)
	}
	return l
}

// release gives the database free; it may be called again.
func (l *locker) release() {
	if l.conn == nil {
		return
	}
	if err := l.conn.Close(); err != nil { // which rolls back
		l.t.Error(err)
	}
	l.conn = nil
}

// signs are what an operator sees of a pipeline that is held up.
type signs struct {
	ready   bool
	reasons string // of the checks that fail
	storeUp float64
	journal float64
}

func (d *daemon) signs() (s signs, err error) {
	_, body, err := get("http://" + d.admin + "/readyz")
	if err != nil {
		return s, err
	}
	var answer struct {
		Ready  bool `json:"ready"`
		Checks []struct {
			OK     bool   `json:"ok"`
			Role   string `json:"role"`
			Name   string `json:"name"`
			Reason string `json:"reason"`
		} `json:"checks"`
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		return s, fmt.Errorf("/readyz: %w", err)
	}
	s.ready = answer.Ready
	for _, c := range answer.Checks {
		if !c.OK {
			s.reasons += fmt.Sprintf("[%s/%s: %s]", c.Role, c.Name, c.Reason)
		}
	}
	if s.storeUp, err = d.metric("statscache_store_up"); err != nil {
		return s, err
	}
	s.journal, err = d.metric("statscache_journal_bytes")
	return s, err
}

// waitSign waits for readiness to fail for a reason that holds a text, and gives what is to be seen then.
func (d *daemon) waitSign(within time.Duration, text string) (s signs) {
	d.t.Helper()
	d.waitFor(within, "readiness says "+text, func() (err error) {
		if s, err = d.signs(); err == nil && (s.ready || !strings.Contains(s.reasons, text)) {
			err = fmt.Errorf("ready %v: %s", s.ready, s.reasons)
		}
		return err
	})
	return s
}

// recovered waits until the daemon is ready by itself and has counted everything, and holds the rows against what was
// sent.
func (b *bus) recovered(d *daemon, within time.Duration) (took time.Duration) {
	b.t.Helper()
	began := time.Now()
	d.waitFor(within, "recovery", func() error {
		s, err := d.status()
		if err != nil {
			return err
		}
		if s.Owned != b.sent {
			return fmt.Errorf("%d events owned, want %d", s.Owned, b.sent)
		}
		if n := d.total("volume-1m", ""); n != b.sent { // the lag is of the last look at the streams
			return fmt.Errorf("%d events counted, want %d", n, b.sent)
		}
		return s.caughtUp()
	})
	took = time.Since(began)
	d.waitReady()
	if s, err := d.signs(); err != nil || s.storeUp != 1 || !s.ready {
		b.t.Errorf("after the recovery: %+v, %v", s, err)
	}
	b.check(d)
	return took
}

// stillAlive fails the test when the daemon has ended or was not the same process all the time.
func (d *daemon) stillAlive() {
	d.t.Helper()
	if !d.running() {
		d.t.Fatalf("the daemon has ended:\n%s", tail(d.stderr.String()))
	}
}

// TestPressure_StoreLocked keeps the store from the daemon while events come in.
func TestPressure_StoreLocked(t *testing.T) {
	t.Parallel()
	locked, rate := 5*time.Second, 500
	if long() {
		locked = 2 * time.Minute
	}
	storeLocked(t, locked, rate)
}

// TestSoak_StoreLocked is the same for ten minutes.
func TestSoak_StoreLocked(t *testing.T) {
	if os.Getenv("STATSCACHE_SOAK") == "" {
		t.Skip("SKIPPED: ten minutes and more; run `make soak`")
	}
	storeLocked(t, 10*time.Minute, 500)
}

func storeLocked(t *testing.T, locked time.Duration, rate int) {
	b := newBus(t, 100_000, 400)
	s := newSite(t, map[string]string{"endpoints": endpoints(map[string][]int{"bus": {b.port}})})
	d := s.start()
	b.waitSubscribed()
	b.publishFor(rate, time.Second)
	d.waitCounted(b.sent, 20*time.Second)
	sentBefore := b.sent
	lock := lockDatabase(t, s.database())
	before, err := d.signs()
	if err != nil {
		t.Fatal(err)
	}
	largest := int64(0)
	began, looked := time.Now(), time.Now()
	b.publish(rate, func() bool {
		if time.Since(looked) > time.Second {
			looked = time.Now()
			largest = max(largest, rss(d.pid()))
		}
		return time.Since(began) > locked
	})
	held := d.waitSign(3*time.Second, "the store takes no events") // long since
	if held.storeUp != 0 || held.journal <= before.journal {
		t.Errorf("store_up %v, want 0; the inbox has %v bytes, before %v", held.storeUp, held.journal, before.journal)
	}
	if st, err := d.status(); err != nil || st.Owned > sentBefore+int64(rate) { // what was under way when the lock came
		t.Errorf("%d events owned while the store was locked, %d before (%v)", st.Owned, sentBefore, err)
	}
	if received, err := d.metric("statscache_events_received_total"); err != nil || int64(received) != b.sent {
		t.Errorf("%v events received while the store was locked, want the %d sent (%v)", received, b.sent, err)
	}
	d.stillAlive()
	said := held.reasons
	took := time.Since(began)
	lock.release()
	recovery := b.recovered(d, locked+30*time.Second)
	noteFault(t, fmt.Sprintf("store locked for %s at %d events/s", locked, rate), 1)
	noteResult(t, "recovery", recovery.Round(time.Millisecond).String())
	noteResult(t, "events meanwhile, each counted once", strconv.FormatInt(b.sent-sentBefore, 10))
	noteResult(t, "resident at most", fmt.Sprintf("%d MB", largest>>20))
	t.Logf("the store locked for %s: %d events sent meanwhile, the inbox grew from %.1f to %.1f MB, at most %d MB resident; recovered %s after; all %d rows as sent; readiness said %s",
		took.Round(time.Second), b.sent-sentBefore, before.journal/1e6, held.journal/1e6, largest>>20, recovery.Round(time.Millisecond), len(b.rows), said)
	d.stop()
	s.verifyClean()
}

// TestPressure_InboxFull fills an inbox of a mebibyte behind a store that is locked: sockets are not read then, and
// what is not read waits at the publisher.
func TestPressure_InboxFull(t *testing.T) {
	t.Parallel()
	b := newBus(t, 100_000, 8000)
	s := newSite(t, map[string]string{
		"endpoints":                    endpoints(map[string][]int{"bus": {b.port}}),
		"statscache.journal.max_bytes": strconv.Itoa(1 << 20),
	})
	d := s.start()
	b.waitSubscribed()
	b.publishFor(100, time.Second)
	d.waitCounted(b.sent, 20*time.Second)
	lock := lockDatabase(t, s.database())
	// 60 MB: more than inbox, queues and the kernel's socket buffers hold.
	end := b.sent + 7500
	b.publish(1500, func() bool { return b.sent >= end })
	held := d.waitSign(20*time.Second, "the inbox takes nothing: journal is full")
	if limit := float64(1 << 20); held.journal > limit {
		t.Errorf("the inbox has %v bytes, more than the %v that it may", held.journal, limit)
	}
	read, err := d.metric("statscache_events_received_total")
	if err != nil {
		t.Fatal(err)
	}
	if int64(read) >= b.sent {
		t.Errorf("all %v messages were read, though the inbox is full", read)
	}
	resident := rss(d.pid())
	time.Sleep(time.Second) // time in which nothing may happen
	if again, err := d.metric("statscache_events_received_total"); err != nil || again != read {
		t.Errorf("%v messages read, %v a second before: the socket is still read (%v)", again, read, err)
	}
	if !strings.Contains(d.stderr.String(), "the inbox takes nothing") {
		t.Error("the log doesn't say that the inbox takes nothing")
	}
	d.stillAlive()
	lock.release()
	recovery := b.recovered(d, 60*time.Second)
	noteFault(t, "inbox full", 1)
	noteResult(t, "recovery", recovery.Round(time.Millisecond).String())
	t.Logf("the inbox full at %.2f MB: reading stopped at %.0f of %d messages, %d MB resident; recovered %s after; all %d rows as sent; readiness said %s",
		held.journal/1e6, read, b.sent, resident>>20, recovery.Round(time.Millisecond), len(b.rows), held.reasons)
	d.stop()
	s.verifyClean()
}

// smallDisk mounts a file system of a few mebibytes.
func smallDisk(t testing.TB, mebibytes int) (folder string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root may mount a small file system to fill; run as root")
	}
	folder = t.TempDir()
	if err := unix.Mount("tmpfs", folder, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=0700", mebibytes)); err != nil {
		t.Skipf("SKIPPED: a small file system can't be mounted here (%v); run as root with CAP_SYS_ADMIN", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(folder, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return folder
}

// filler takes all that is free of a disk, again and again: what is given back meanwhile is taken, too.
type filler struct {
	path string
	stop atomic.Bool
	done sync.WaitGroup
}

func fill(t testing.TB, folder string) *filler {
	t.Helper()
	f := &filler{path: filepath.Join(folder, "filler")}
	file, err := os.Create(f.path)
	if err != nil {
		t.Fatal(err)
	}
	f.done.Go(func() {
		page := make([]byte, 4096)
		for !f.stop.Load() {
			if _, err := file.Write(page); err != nil {
				time.Sleep(time.Millisecond) // full: until somebody gives something back
			}
		}
		_ = file.Close() // it goes
	})
	t.Cleanup(f.empty)
	return f
}

// empty gives the disk free; it may be called again.
func (f *filler) empty() {
	f.stop.Store(true)
	f.done.Wait()
	_ = os.Remove(f.path) // may have gone
}

// TestPressure_DiskFull fills the disk of the store, of the inbox, and of both together.
func TestPressure_DiskFull(t *testing.T) {
	t.Parallel()
	const inboxSays, storeSays = "the inbox takes nothing", "the store takes no events"
	for _, tt := range []struct {
		name         string
		inbox, store bool // what is on the small disk
		says         string
	}{
		{"of the store", false, true, storeSays},
		{"of the inbox", true, false, inboxSays},
		{"of both", true, true, inboxSays},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			disk := smallDisk(t, 24)
			full, rate := 3*time.Second, 300
			if long() {
				full = 30 * time.Second
			}
			b := newBus(t, 100_000, 400)
			s := newSite(t, nil)
			settings := map[string]string{"endpoints": endpoints(map[string][]int{"bus": {b.port}}), "statscache.journal.max_bytes": strconv.Itoa(8 << 20)}
			if tt.inbox {
				s.data = filepath.Join(disk, "data")
			}
			switch elsewhere := "sqlite://" + t.TempDir() + "/statscache.db"; {
			case !tt.store:
				settings["statscache.store.url"] = strconv.Quote(elsewhere)
			case !tt.inbox:
				settings["statscache.store.url"] = strconv.Quote("sqlite://" + filepath.Join(disk, "statscache.db"))
			}
			s.configure(settings)
			d := s.start()
			b.waitSubscribed()
			b.publishFor(rate, time.Second)
			d.waitCounted(b.sent, 20*time.Second)
			sentBefore := b.sent
			f := fill(t, disk)
			b.publishFor(rate, full)
			held := d.waitSign(30*time.Second, tt.says)
			d.stillAlive()
			f.empty()
			recovery := b.recovered(d, 60*time.Second)
			if tt.store && held.storeUp != 0 && tt.says == storeSays {
				t.Errorf("store_up is %v", held.storeUp)
			}
			noteFault(t, fmt.Sprintf("disk %s full for %s", tt.name, full), 1)
			noteResult(t, "recovery", recovery.Round(time.Millisecond).String())
			t.Logf("the disk %s full for %s: %d events sent meanwhile; recovered %s after there was room; all %d rows as sent; readiness said %s",
				tt.name, full, b.sent-sentBefore, recovery.Round(time.Millisecond), len(b.rows), held.reasons)
			d.stop()
			s.verifyClean()
			// What is there after all that opens again and is whole.
			d = s.start()
			b.check(d)
			d.stop()
		})
	}
}
