package arm

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestHook_ActsAtTheHitsThatWereAskedFor(t *testing.T) {
	for text, want := range map[string]string{ // of five hits: x fails, . goes on
		"commit.before=error":                     "xxxxx",
		"commit.before=error*1":                   "x....",
		"commit.before=error@3":                   "..xxx",
		"commit.before=error*2@2":                 ".xx..",
		"commit.before=delay(1us)":                ".....",
		"commit.after=error":                      ".....",
		" ;commit.before=error*1@5; ":             "....x",
		"migration.after=crash":                   ".....",
		"version.before=error;x":                  "",
		"commit.before=error*0":                   "",
		"commit.before=error@x":                   "",
		"commit.before=explode":                   "",
		"commit.before=delay(1h)":                 "",
		"commit.before=delay(-1s)":                "",
		"commit.before":                           "",
		"nothing.before=error":                    "",
		"commit.before=error;commit.before=crash": "",
	} {
		t.Run(text, func(t *testing.T) {
			var record strings.Builder
			hook, err := Hook(text, &record)
			if want == "" {
				if err == nil {
					t.Fatal("it was taken")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for range 5 {
				switch err := hook("commit.before"); {
				case err == nil:
					got += "."
				case errors.Is(err, ErrInjected):
					got += "x"
				default:
					t.Fatal(err)
				}
			}
			if got != want {
				t.Errorf("%s, want %s", got, want)
			}
			if n := strings.Count(record.String(), "commit.before error\n"); n != strings.Count(want, "x") {
				t.Errorf("%d hits on record: %q", n, record.String())
			}
		})
	}
	if hook, err := Hook(" ; ", nil); hook != nil || err != nil {
		t.Errorf("of nothing it makes a hook, or %v", err)
	}
}

func TestHook_Delays(t *testing.T) {
	hook, err := Hook("inbox.sync.after=delay(30ms)", &strings.Builder{})
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := hook("inbox.sync.after"); err != nil || time.Since(begin) < 30*time.Millisecond {
		t.Errorf("%v after %s", err, time.Since(begin))
	}
}

func TestHook_FailsWhereAHitCannotBeRecorded(t *testing.T) {
	hook, err := Hook("inbox.sync.after=delay(1us)", full{})
	if err != nil {
		t.Fatal(err)
	}
	if err := hook("inbox.sync.after"); err == nil {
		t.Error("a hit went unrecorded")
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

// TestHook_Crashes runs itself in a process that is to die by the signal, without a deferred call.
func TestHook_Crashes(t *testing.T) {
	if os.Getenv("ARM_TEST_CRASH") != "" {
		defer os.Exit(0) // must not happen
		hook, err := Hook("commit.after=crash@2", os.Stdout)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			_ = hook("commit.after")
		}
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestHook_Crashes$")
	cmd.Env = append(os.Environ(), "ARM_TEST_CRASH=1")
	out, err := cmd.CombinedOutput()
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() || status.Signal() != syscall.SIGKILL {
		t.Fatalf("ended with %v:\n%s", err, out)
	}
	if string(out) != "commit.after crash\n" {
		t.Errorf("on record: %q", out)
	}
}
