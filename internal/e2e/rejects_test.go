package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestRejects_AreShownAndReplayed refuses lines, mends the time of one of them where it is kept, and replays.
func TestRejects_AreShownAndReplayed(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	line := func(id string, at time.Time) string {
		return fmt.Sprintf(`{"topic":"org.fedoraproject.dev.e2e.rejects","msg_id":%q,"timestamp":%d,"msg":{}}`, id, at.Unix())
	}
	soon, late := time.Now().Add(48*time.Hour), time.Now().Add(4800*time.Hour)
	file := filepath.Join(s.temp, "lines")
	text := strings.Join([]string{line("good", time.Now().Add(-time.Hour)), line("soon-1", soon), line("soon-2", soon), line("late", late), "no \x1b[31mJSON"}, "\n")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := s.mustRun("rejects"); strings.Count(r.stdout, "\n") != 1 {
		t.Errorf("an empty data dir:\n%s", r.stdout)
	}
	if r := s.run("import", file); r.code != 1 {
		t.Errorf("an import of refused lines: exit status %d, want 1:\n%s%s", r.code, r.stdout, r.stderr)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	r := s.mustRun("rejects")
	if strings.Count(r.stdout, "\n") != 5 || strings.Count(r.stdout, "whole") != 3 || !strings.Contains(r.stdout, "json") || strings.Contains(r.stdout, "\x1b") {
		t.Errorf("want three whole ones and a sample, without control characters:\n%s", r.stdout)
	}
	for _, one := range strings.Split(strings.TrimSpace(s.mustRun("rejects", "--json").stdout), "\n") {
		var x struct {
			Reason string
			Body   []byte
		}
		if err := json.Unmarshal([]byte(one), &x); err != nil || x.Reason == "" || len(x.Body) == 0 {
			t.Errorf("%q: %v", one, err)
		}
	}
	kept := filepath.Join(s.data, "rejects", "kept.jsonl")
	before := readText(t, kept)
	replay := func(messages, accepted, owned int) {
		t.Helper()
		var x struct{ Messages, Accepted, Owned int }
		r := s.mustRun("rejects", "replay", "--json")
		if err := json.Unmarshal([]byte(r.stdout), &x); err != nil || x.Messages != messages || x.Accepted != accepted || x.Owned != owned {
			t.Errorf("replay: %+v, %v; want %d messages, %d accepted, %d owned", x, err, messages, accepted, owned)
		}
	}
	replay(3, 0, 0)
	if after := readText(t, kept); after != before {
		t.Errorf("nothing was accepted, but what is kept changed:\n%s\nwas\n%s", after, before)
	}
	mend := func(id string) { // as if the first of them had been sent an hour ago
		t.Helper()
		text := ""
		for one := range strings.Lines(before) {
			var x map[string]any
			if err := json.Unmarshal([]byte(one), &x); err != nil {
				t.Fatal(err)
			}
			body, err := json.Marshal([]byte(line(id, time.Now().Add(-time.Hour))))
			if err != nil {
				t.Fatal(err)
			}
			if text == "" {
				one = strings.Replace(one, strconv.Quote(x["body"].(string)), string(body), 1)
			}
			text += one
		}
		if err := os.WriteFile(kept, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mend("soon-1")
	replay(3, 1, 1)
	if after := readText(t, kept); strings.Count(after, "\n") != 2 {
		t.Errorf("the accepted one should be gone, the two others there:\n%s", after)
	}
	mend("soon-1") // as after a crash before the removal
	replay(3, 1, 0)
	s.verifyClean()
	d := s.start()
	replay(2, 0, 0) // by the daemon
	mend("by the daemon")
	replay(3, 1, 1)
	replay(2, 0, 0)
	f := s.launch("rejects", "--follow")
	f.waitFor(10*time.Second, "the list", func() error {
		if strings.Count(f.stdout.String(), "\n") < 4 {
			return fmt.Errorf("only %q", f.stdout)
		}
		return nil
	})
	d.stop()
	if err := os.WriteFile(file, []byte("no JSON again"), 0o600); err != nil {
		t.Fatal(err)
	}
	before = f.stdout.String()
	if r := s.run("import", file); r.code != 1 {
		t.Errorf("an import of a refused line: exit status %d, want 1", r.code)
	}
	f.waitFor(10*time.Second, "the new one", func() error {
		if f.stdout.String() == before {
			return fmt.Errorf("nothing new")
		}
		return nil
	})
	if err := f.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	select {
	case <-f.exited:
	case <-time.After(stopWithin):
		t.Error("--follow doesn't end when it is interrupted")
	}
	if code := f.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit status %d after an interrupt, want 0", code)
	}
}

func readText(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
