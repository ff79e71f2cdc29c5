package consumer

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/consumer/config"
	"github.com/statscache/statscache/consumer/control"
	"github.com/statscache/statscache/internal/eventually"
)

// runDaemon runs a daemon with the bundled plugin until the test ends.
func runDaemon(t *testing.T, c *config.Config) *Daemon {
	t.Helper()
	d, err := Open(t.Context(), Options{Config: c, Bundled: testPrograms(t)})
	if err != nil {
		t.Fatal(err)
	}
	stopAtEnd(t, d)
	if err := d.Start(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	return d
}

func stopAtEnd(t *testing.T, d *Daemon) {
	t.Helper()
	t.Cleanup(func() {
		if err := d.Stop(); err != nil {
			t.Error(err)
		}
	})
}

// until polls: what is waited for goes through sockets and processes.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	eventually.True(t, 20*time.Second, what, ok)
}

func line(i int) string {
	return fmt.Sprintf(`{"topic":"org.x.prod.cat%d.thing","msg_id":"2026-%d","timestamp":%d,"msg":{}}`, i%3, i, 1_700_000_000+i)
}

func lines(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		b.WriteString(line(i) + "\n")
	}
	return b.String()
}

// outcome is all that an import tells.
type outcome struct {
	sum      ImportSummary
	bad      []control.BadLine
	progress int
	err      error
}

func importText(t *testing.T, c *config.Config, files []string, stdin string) outcome {
	t.Helper()
	var o outcome
	o.sum, o.err = Import(t.Context(), Options{Config: c, Bundled: testPrograms(t)}, files, ImportOptions{
		Stdin:    strings.NewReader(stdin),
		Progress: func(n int) { o.progress = n },
		Bad: func(file string, line int, reason, detail string) {
			o.bad = append(o.bad, control.BadLine{File: filepath.Base(file), Line: line, Reason: reason, Detail: detail})
		}})
	return o
}

// TestImport_BesideADaemonAsWithoutOne gives the same files to both ways and compares all that they tell.
func TestImport_BesideADaemonAsWithoutOne(t *testing.T) {
	long := `{"topic":"` + strings.Repeat("x", 2<<20) + `"}`
	first := lines(0, 3000) + "null\n\n" + lines(0, 10) + "{\n" + long + "\n" + lines(3000, 3500)
	tests := []struct {
		name  string
		files func(dir string) []string
		stdin string
	}{
		{"files and stdin", func(dir string) []string { return []string{filepath.Join(dir, "a b%\n.jsonl"), "-"} }, lines(3400, 4000) + "not JSON"},
		{"nothing", func(string) []string { return []string{"-"} }, ""},
		{"a file that isn't there", func(dir string) []string {
			return []string{filepath.Join(dir, "a b%\n.jsonl"), filepath.Join(dir, "none"), "-"}
		}, line(1)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "a b%\n.jsonl"), []byte(first), 0o600); err != nil {
				t.Fatal(err)
			}
			here := importText(t, testConfig(t), tt.files(dir), tt.stdin)
			c := testConfig(t)
			d := runDaemon(t, c)
			beside := importText(t, c, tt.files(dir), tt.stdin)
			if fmt.Sprint(here.err) != fmt.Sprint(beside.err) {
				t.Errorf("beside a daemon: %v, without one: %v", beside.err, here.err)
			}
			if here.err == nil {
				if !reflect.DeepEqual(here.sum, beside.sum) {
					t.Errorf("beside a daemon %+v, without one %+v", beside.sum, here.sum)
				}
				if here.progress != beside.progress {
					t.Errorf("progress ends at %d beside a daemon, at %d without one", beside.progress, here.progress)
				}
			}
			// Files are read side by side: after one that can't be read it is chance how far the others were begun.
			sortBad(here.bad)
			sortBad(beside.bad)
			if here.err == nil && !reflect.DeepEqual(here.bad, beside.bad) {
				t.Errorf("refused lines beside a daemon:\n%v\nwithout one:\n%v", beside.bad, here.bad)
			}
			if p := d.Plugins(); here.err == nil && p[0].Lag != 0 {
				t.Errorf("the plugin lags by %d after the import", p[0].Lag)
			}
		})
	}
}

// TestImport_CountsItsOwnEventsOnly imports while the bus delivers events, some of them the same as the import's.
func TestImport_CountsItsOwnEventsOnly(t *testing.T) {
	c := testConfig(t)
	d := runDaemon(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	delivered := make(chan int)
	go func() {
		n := 0
		for ; ctx.Err() == nil; n++ {
			b := line(1_000_000 + n)
			if d.Deliver(ctx, [][]byte{[]byte("org.x.prod.cat0.thing"), []byte(b)}) != nil {
				break
			}
		}
		delivered <- n
	}()
	type result struct {
		outcome
		want ImportSummary
	}
	results := make(chan result)
	for k := range 3 { // at the same time, each with 20,000 events of its own and 100 twice
		go func() {
			from := 100_000 * k
			o := importText(t, c, []string{"-"}, lines(from, from+20_000)+lines(from, from+100))
			results <- result{o, ImportSummary{Lines: 20_100, Owned: 20_000, Duplicates: 100, Rejected: map[string]int{}}}
		}()
	}
	for range 3 {
		r := <-results
		if r.err != nil || !reflect.DeepEqual(r.sum, r.want) {
			t.Errorf("%+v, %v; want %+v", r.sum, r.err, r.want)
		}
	}
	cancel()
	if n := <-delivered; n < 100 {
		t.Errorf("only %d events were delivered beside the imports", n)
	}
	d.ingest.tallies.mu.Lock()
	defer d.ingest.tallies.mu.Unlock()
	if len(d.ingest.tallies.of) != 0 {
		t.Errorf("%d blocks are still remembered", len(d.ingest.tallies.of))
	}
}

// Deliver hands one message over as a source does.
func (d *Daemon) Deliver(ctx context.Context, frames [][]byte) error {
	return d.ingest.Deliver(ctx, peer("test"), [][][]byte{frames})
}

// TestImport_ClientGoesAwayMidway breaks an import off and runs it again.
func TestImport_ClientGoesAwayMidway(t *testing.T) {
	c := testConfig(t)
	d := runDaemon(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	read, write := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := Import(ctx, Options{Config: c}, []string{"-"}, ImportOptions{Stdin: read})
		done <- err
	}()
	if _, err := io.WriteString(write, lines(0, 5000)+`{"topic":"half`); err != nil {
		t.Fatal(err)
	}
	until(t, "most of what was sent is archived", func() bool { return d.archiver.owned.Load() >= 1000 })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("the import that was broken off says %v", err)
	}
	_ = write.Close() // lets the reader go
	taken := int(d.archiver.owned.Load())
	o := importText(t, c, []string{"-"}, lines(0, 6000))
	if o.err != nil || o.sum.Owned+o.sum.Duplicates != 6000 || o.sum.Owned > 6000-taken {
		t.Errorf("again: %+v, %v; %d were in", o.sum, o.err, taken)
	}
	if got := d.archiver.owned.Load(); got != 6000 {
		t.Errorf("%d events counted, want 6000", got)
	}
	if rejected := d.rejected()["json"]; rejected != 0 {
		t.Errorf("%d lines refused: the half one was taken for a line", rejected)
	}
}

func TestImport_DaemonStopsMidway(t *testing.T) {
	c := testConfig(t)
	d := runDaemon(t, c)
	read, write := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := Import(t.Context(), Options{Config: c}, []string{"-"}, ImportOptions{Stdin: read})
		done <- err
	}()
	if _, err := io.WriteString(write, lines(0, 5000)); err != nil {
		t.Fatal(err)
	}
	until(t, "most of what was sent is archived", func() bool { return d.archiver.owned.Load() >= 1000 })
	if err := d.Stop(); err != nil {
		t.Error(err)
	}
	// The daemon says that it stops and closes the connection; which of both the client, which is still sending, sees first
	// is chance.
	if err := <-done; err == nil || !strings.Contains(err.Error(), "stop") && !strings.Contains(err.Error(), "the daemon went away") {
		t.Errorf("the import says %v", err)
	}
	_ = write.Close() // lets the reader go
}

func TestImport_StalledClientDelaysNobody(t *testing.T) {
	c := testConfig(t)
	d := runDaemon(t, c)
	conn, err := net.Dial("unix", control.Path(c.DataDir))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }() // nothing depends on it any more
	// A client that sends refused lines without end, and reads nothing.
	_, err = io.WriteString(conn, "POST /import HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\nContent-Type: multipart/form-data; boundary=x\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("no JSON at all\n", 1000)
	_, _ = io.WriteString(conn, "7\r\n--x\r\n\r\n\r\n") // it is the sending that matters
	for range 50 {
		_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
		if _, err := fmt.Fprintf(conn, "%x\r\n%s\r\n", len(text), text); err != nil {
			break
		}
	}
	o := importText(t, c, []string{"-"}, lines(0, 5000))
	if o.err != nil || o.sum.Owned != 5000 {
		t.Errorf("beside it: %+v, %v", o.sum, o.err)
	}
	until(t, "the other client's lines are read", func() bool { return d.rejected()["json"] >= 1000 })
}

func TestControl_SocketIsTheUsersOwn(t *testing.T) {
	tests := []struct{ name, below string }{
		{"short path", "d"},
		{"path longer than a socket's may be", strings.Repeat("long/", 30) + "d"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := testConfig(t)
			c.DataDir = filepath.Join(c.DataDir, tt.below)
			c.Store.Path = filepath.Join(c.DataDir, "statscache.db")
			path := control.Path(c.DataDir)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, nil, 0o644); err != nil { // left behind
				t.Fatal(err)
			}
			d := runDaemon(t, c)
			for p, want := range map[string]os.FileMode{path: os.ModeSocket | 0o600, filepath.Dir(path): os.ModeDir | 0o700} {
				if info, err := os.Stat(p); err != nil || info.Mode() != want {
					t.Errorf("%s: %v, %v; want %v", p, info.Mode(), err, want)
				}
			}
			if o := importText(t, c, []string{"-"}, lines(0, 10)); o.err != nil || o.sum.Owned != 10 {
				t.Errorf("%+v, %v", o.sum, o.err)
			}
			if err := d.Stop(); err != nil {
				t.Error(err)
			}
			if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the socket is still there: %v", err)
			}
		})
	}
}

func TestControl_HostileRequestsAreRefused(t *testing.T) {
	c := testConfig(t)
	runDaemon(t, c)
	tests := []struct{ name, request, want string }{
		{"unknown path", "GET /etc/passwd HTTP/1.1\r\nHost: d\r\n\r\n", "404"},
		{"import without files", "POST /import HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n", "400"},
		{"import that is no multipart", "POST /import HTTP/1.1\r\nHost: d\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 4\r\n\r\nnone", "broke off"},
		{"unknown verb", "POST /plugins/volume/explode HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n", "explode"},

		{"unknown plugin", "POST /plugins/nobody/restart HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n", "nobody"},
		{"headers without end", "GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 100<<10), "431"},
		{"no HTTP", "\x00\x01\x02\r\n\r\n", "400"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn, err := net.Dial("unix", control.Path(c.DataDir))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()     // nothing depends on it any more
			_, _ = io.WriteString(conn, tt.request) // the server may have closed it already
			_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			var got bytes.Buffer
			buf := make([]byte, 4096)
			for !strings.Contains(got.String(), tt.want) {
				n, err := conn.Read(buf)
				got.Write(buf[:n])
				if err != nil {
					t.Fatalf("%v; it answered %q, want %q in it", err, got.String(), tt.want)
				}
			}
		})
	}
}

func TestControl_LockedByACommandIsSaid(t *testing.T) {
	c := testConfig(t)
	d, err := Open(t.Context(), Options{Config: c, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Stop(); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = Import(ctx, Options{Config: c}, []string{"-"}, ImportOptions{Stdin: strings.NewReader("")})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("%v", err)
	}
}

func sortBad(list []control.BadLine) {
	slices.SortFunc(list, func(a, b control.BadLine) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
}
