package host

import (
	"context"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestSession_FailedStarts_LeaveNothing(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dir, err := os.MkdirTemp("", "sc")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	h, err := New(Options{RunDir: dir, Limits: Limits{Start: 5 * time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	for _, p := range []Program{
		{ID: "nothing"}, {ID: "missing", Argv: []string{"/nonexistent/plugin"}}, {ID: "no handshake", Argv: []string{"/bin/echo", "1|1|tcp"}},
		{ID: "elsewhere", Argv: []string{"/bin/sh", "-c", "echo '1|1|tcp|127.0.0.1:1|grpc'; sleep 100"}},
		{ID: "other protocol", Argv: []string{"/bin/sh", "-c", "echo '1|9|unix|x|grpc'; sleep 100"}},
		{ID: "outside", Argv: []string{"/bin/sh", "-c", "echo '1|1|unix|/run/other.sock|grpc'; sleep 100"}},
		program(t, "exits"),
	} {
		if s, err := h.launcher.start(t.Context(), p); err == nil {
			s.Close()
			t.Errorf("%s started", p.ID)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	began := time.Now()
	if _, err := h.launcher.start(ctx, Program{ID: "silent", Argv: []string{"/bin/sleep", "100"}}); err == nil || time.Since(began) > 4*time.Second {
		t.Errorf("a start that was called off: %v after %v", err, time.Since(began))
	}
	began = time.Now()
	if _, err := h.launcher.start(ctx, Program{ID: "silent", Argv: []string{"/bin/sleep", "100"}}); err == nil || time.Since(began) > 4*time.Second {
		t.Errorf("a start that was called off before: %v after %v", err, time.Since(began))
	}
	left, err := os.ReadDir(h.launcher.home.dir)
	if err != nil || len(left) != 1 { // the lock
		t.Errorf("left behind: %v %v", left, err)
	}
}
