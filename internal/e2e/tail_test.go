package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/zmqpub"
)

func TestTail_PrintsTheBus(t *testing.T) {
	t.Parallel()
	publisher, err := zmqpub.Listen(zmqpub.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = publisher.Close() }() // ends with the test
	_, number, err := net.SplitHostPort(publisher.Address())
	if err != nil {
		t.Fatal(err)
	}
	at, err := strconv.Atoi(number)
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, map[string]string{"endpoints": endpoints(map[string][]int{"one": {at}, "dead": {port(t)}})})
	d := s.launch("tail", "--topic", "org.fedoraproject.dev.tail.*")
	d.waitFor(readyWithin, "subscribed", func() error {
		if publisher.Connected() != 1 {
			return fmt.Errorf("%d subscribers", publisher.Connected())
		}
		return nil
	})
	message := func(topic, id string) {
		publisher.Publish(topic, fmt.Appendf(nil, `{"topic":%q,"msg_id":%q,"timestamp":%d,"msg":{}}`, topic, id, time.Now().Unix()))
	}
	message("org.fedoraproject.dev.other.a", "other")
	message("org.fedoraproject.dev.tail.a", "first")
	publisher.Publish("org.fedoraproject.dev.tail.b", []byte("no JSON"))
	message("org.fedoraproject.dev.tail._heartbeat", "beat")
	message("org.fedoraproject.dev.tail.c", "last")
	d.waitFor(10*time.Second, "the last message", func() error {
		if !strings.Contains(d.stdout.String(), "last") {
			return fmt.Errorf("only %q", d.stdout)
		}
		return nil
	})
	var ids []string
	for line := range strings.Lines(d.stdout.String()) {
		var m struct {
			ID string `json:"msg_id"`
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Errorf("%q: %v", line, err)
		}
		ids = append(ids, m.ID)
	}
	if got := strings.Join(ids, " "); got != "first last" {
		t.Errorf("printed %q, want the two that match", got)
	}
	if !strings.Contains(d.stderr.String(), "one: refused (json)") {
		t.Errorf("the broken message is not told of: %s", d.stderr)
	}
	if err := d.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	select {
	case <-d.exited:
	case <-time.After(stopWithin):
		t.Fatal("tail doesn't end when it is interrupted")
	}
	if code := d.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit status %d after an interrupt, want 0", code)
	}
	if _, err := os.Stat(s.data); err == nil {
		t.Error("tail made a data dir: it should touch nothing")
	}
	if r := s.run("tail", "--validate"); r.code != 1 || !strings.Contains(r.stderr, "signatures are not checked yet") {
		t.Errorf("--validate: exit status %d: %s", r.code, r.stderr)
	}
	s.configure(nil)
	if r := s.run("tail"); r.code != 1 || !strings.Contains(r.stderr, "no endpoints") {
		t.Errorf("without endpoints: exit status %d: %s", r.code, r.stderr)
	}
	if r := s.run("tail", "--include", "("); r.code != 2 {
		t.Errorf("a broken expression: exit status %d, want 2: %s", r.code, r.stderr)
	}
}
