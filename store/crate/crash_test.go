package crate

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/cratetest"
	"github.com/statscache/statscache/store"
)

const crashKills = 30

// life is a writer process.
type life struct {
	cmd  *exec.Cmd
	done chan struct{}
	code int // once done: exit code, -1 for a signal
}

func (l *life) alive() bool {
	select {
	case <-l.done:
		return false
	default:
		return true
	}
}

func (l *life) kill() {
	_ = l.cmd.Process.Kill()
	<-l.done
}

func startLife(t *testing.T, stream, url, stop string) *life {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l := &life{cmd: exec.Command(self), done: make(chan struct{})}
	l.cmd.Env = append(os.Environ(), writerEnv+"="+stream, writerURLEnv+"="+url, writerStopEnv+"="+stop)
	l.cmd.Stderr = t.Output()
	l.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // Pdeathsig goes by the thread
		defer runtime.UnlockOSThread()
		err := l.cmd.Start()
		started <- err
		if err == nil {
			_ = l.cmd.Wait()
			l.code = l.cmd.ProcessState.ExitCode()
			close(l.done)
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.kill)
	return l
}

// TestCrash_WritersAndServerKilled_CountEachEventOnce kills writers of two streams with the same events at random
// moments, pauses some while a successor takes over, kills the server twice, and then looks whether every event is in
// the archive and in the numbers once. Lives answer differently for an event: whatever was computed twice shows.
func TestCrash_WritersAndServerKilled_CountEachEventOnce(t *testing.T) {
	if os.Getenv("STATSCACHE_LONG") == "" {
		t.Skip("takes two minutes: set STATSCACHE_LONG=1 to run it")
	}
	if _, err := exec.LookPath("crate"); err != nil {
		t.Skip("kills a server of its own: needs \"crate\" on PATH (the vendor's tarball has bin/crate)")
	}
	node, err := cratetest.Launch()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(node.Stop)
	url, stop := node.URL+"crash?sslmode=disable", filepath.Join(t.TempDir(), "stop")
	began := time.Now()
	kills, pauses, servers := crashRounds(t, node, url, stop)
	d := openAt(t, url)
	var version string
	if err := d.pool.QueryRow(testContext(t), "SELECT version['number'] FROM sys.nodes").Scan(&version); err != nil {
		t.Fatal(err)
	}
	t.Logf("CrateDB %s on %s", version, node.URL)
	end := crashEnd(t, d, url, stop)
	t.Logf("%d writers killed, %d paused and woken beside their successors, %d times the server, in %s; streams of %d events each",
		kills, pauses, servers, time.Since(began).Round(time.Second), end)
	crashVerify(t, d, int(end))
}

func crashRounds(t *testing.T, node *cratetest.Node, url, stop string) (kills, pauses, servers int) {
	newest := map[string]*life{}
	for _, s := range []string{"a", "b"} {
		newest[s] = startLife(t, s, url, stop)
	}
	for kills < crashKills {
		time.Sleep(time.Duration(100+rand.IntN(2500)) * time.Millisecond)
		s := []string{"a", "b"}[rand.IntN(2)]
		old := newest[s]
		switch {
		case !old.alive():
			if old.code != exitFenced {
				t.Fatalf("a writer of %s ended with %d", s, old.code)
			}
		case rand.IntN(4) == 0: // a zombie: wakes up when its successor has taken over, or just before
			_ = old.cmd.Process.Signal(syscall.SIGSTOP)
			pauses++
			time.AfterFunc(time.Duration(100+rand.IntN(2000))*time.Millisecond, func() { _ = old.cmd.Process.Signal(syscall.SIGCONT) })
		default:
			old.kill()
			kills++
		}
		newest[s] = startLife(t, s, url, stop)
		if kills/(crashKills/3) > servers && servers < 2 {
			node.Kill()
			servers++
			if err := node.Start(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return kills, pauses, servers
}

// crashEnd says where the streams end and lets them get there.
func crashEnd(t *testing.T, d *DB, url, stop string) uint64 {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	streams, err := d.Streams(ctx)
	if err != nil {
		t.Fatal(err)
	}
	end := uint64(0)
	for _, s := range streams {
		end = max(end, s.ArchivedTo)
	}
	end = (end/shuffled + 50) * shuffled // no writer gets past it before it reads the file
	if err := os.WriteFile(stop, fmt.Append(nil, end), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"a", "b"} {
		for l := startLife(t, s, url, stop); ; l = startLife(t, s, url, stop) {
			select {
			case <-l.done:
			case <-ctx.Done():
				t.Fatalf("the last writer of %s does not end", s)
			}
			if l.code == 0 {
				break
			}
			if l.code != exitFenced {
				t.Fatalf("the last writer of %s ended with %d", s, l.code)
			}
		}
	}
	return end
}

func crashVerify(t *testing.T, d *DB, n int) {
	ctx := testContext(t)
	ids, source := map[string]int{}, map[string]int{}
	for _, s := range []string{"a", "b"} {
		for at := uint64(0); ; {
			blocks, upto, err := d.Read(ctx, store.ReadRequest{Stream: s, After: at, Events: 5000, Bodies: true})
			if err != nil {
				t.Fatal(err)
			}
			if upto == at {
				break
			}
			at = upto
			for _, b := range blocks {
				list, err := b.IDs()
				if err != nil {
					t.Fatal(err)
				}
				for i, id := range list {
					ids[id]++
					source[s]++
					if want := fmt.Sprintf("2018-%08d", crashEvent(s, b.Seq(i))); id != want {
						t.Errorf("%s at %d of %s, want %s", id, b.Seq(i), s, want)
					}
				}
			}
		}
	}
	twice := 0
	for _, k := range ids {
		if k > 1 {
			twice++
		}
	}
	sums, perKey := map[time.Duration]int64{}, map[time.Duration]map[string]int64{}
	for _, interval := range crashIntervals {
		perKey[interval] = map[string]int64{}
		q := store.CellQuery{Plugin: "crash", Metric: "crash-count", Generation: 1, Interval: interval, From: 0, To: 1 << 40}
		if err := d.EachCell(ctx, q, func(r store.Row) error {
			sums[interval] += r.N
			perKey[interval][r.Key] += r.N
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	_, dead, err := d.DeadLetters(ctx, "crash", 0)
	if err != nil {
		t.Fatal(err)
	}
	latest := 0
	if err := d.EachLatest(ctx, "crash", "crash-latest", 1, func(r store.LatestRow) error {
		latest++
		if string(r.Value) != fmt.Sprintf("%q", r.ID) {
			t.Errorf("latest of %s: value %s of event %s", r.Key, r.Value, r.ID)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	minutes, days := sums[crashIntervals[0]], sums[crashIntervals[1]]
	t.Logf("archive: %d events of %d, %d twice, owned by a %d, by b %d; counted by minute %d, by day %d, dead letters %d, sum %d; %d latest values",
		len(ids), n, twice, source["a"], source["b"], minutes, days, dead, minutes+int64(dead), latest)
	if len(ids) != n || twice > 0 || minutes != days || int(minutes)+dead != n || !maps.Equal(perKey[crashIntervals[0]], perKey[crashIntervals[1]]) {
		t.Errorf("not every event is counted once (per key, by minute: %s)", strings.TrimPrefix(fmt.Sprint(perKey), "map"))
	}
	pos, err := d.Positions(ctx, "crash", 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pos {
		if p.Pos != uint64(n) || p.Intent != p.Pos {
			t.Errorf("checkpoint of %s at %d, intent %d; want %d", p.Stream, p.Pos, p.Intent, n)
		}
	}
}
