package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

var demoURL = regexp.MustCompile(`http://[\w.:\[\]]+`)

// TestDemo_RunsAndLeavesNothing is the first thing a stranger does: no configuration, no network, Ctrl-C at the end.
func TestDemo_RunsAndLeavesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	d := &daemon{site: s, stdout: &output{}, stderr: &output{}, exited: make(chan struct{}), args: []string{"demo", "--history", "2d", "--rate", "50"}}
	d.cmd = exec.Command(binary(t), d.args...)
	d.cmd.Dir = t.TempDir()
	d.cmd.Env = append(os.Environ(), append(s.env(), "STATSCACHE_APP_LISTEN="+s.api, "STATSCACHE_APP_ADMIN_LISTEN="+s.admin)...)
	d.cmd.Stdout, d.cmd.Stderr = d.stdout, d.stderr
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = d.cmd.Wait() // the state tells
		close(d.exited)
	}()
	t.Cleanup(func() {
		_ = d.cmd.Process.Kill()
		<-d.exited
		noCrash(t, d.stderr.String())
		if t.Failed() {
			t.Logf("demo printed:\n%s%s", tail(d.stdout.String()), tail(d.stderr.String()))
		}
	})
	d.waitFor(90*time.Second, "a URL on stdout", func() error {
		url := demoURL.FindString(d.stdout.String())
		if url == "" {
			return fmt.Errorf("stdout is %q", d.stdout.String())
		}
		d.api = strings.TrimPrefix(url, "http://")
		return nil
	})
	d.waitFor(20*time.Second, "the start page", func() error {
		code, body, err := get("http://"+d.api+"/", "Accept", "text/html")
		if err == nil && (code != http.StatusOK || !strings.Contains(body, "<html")) {
			err = fmt.Errorf("%d: %.200s", code, body)
		}
		return err
	})
	var before int64
	d.waitFor(20*time.Second, "two days of history", func() error {
		days := map[string]bool{}
		for line := range strings.Lines(d.rows("volume-by-category-1d", 1_000)) {
			stamp, _, _ := strings.Cut(line, ",")
			days[stamp] = stamp != "timestamp"
		}
		delete(days, "timestamp")
		if len(days) < 2 {
			return fmt.Errorf("rows of %d days", len(days))
		}
		before = d.total("volume-by-category-1d", "")
		return nil
	})
	d.waitFor(20*time.Second, "live events", func() error {
		if now := d.total("volume-by-category-1d", ""); now < before+50 {
			return fmt.Errorf("%d events, %d before", now, before)
		}
		return nil
	})
	d.stopBy(syscall.SIGINT)
}
