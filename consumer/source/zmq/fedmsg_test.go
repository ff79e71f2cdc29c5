package zmq

import (
	"bytes"
	"context"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/statscache/statscache/consumer/fedmsg"
	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/internal/eventually"
	"github.com/statscache/statscache/internal/testpython"
)

// fedmsgScript publishes with fedmsg itself, as an application does.
const fedmsgScript = `
import os, socket, sys, warnings
warnings.simplefilter("ignore")
import fedmsg, fedmsg.config
name = "demo." + socket.gethostname().split(".", 1)[0]
os.mkdir("fedmsg.d")
with open("fedmsg.d/base.py", "w") as f:
    f.write("config = %r" % dict(endpoints={name: ["tcp://" + sys.argv[1]]}, sign_messages=False, zmq_enabled=True,
            environment="dev", topic_prefix="org.fedoraproject", high_water_mark=0, io_threads=1))
config = fedmsg.config.load_config([], None)
config["name"] = name
fedmsg.init(**config)
print("bound", flush=True)
sys.stdin.readline()  # the other side has subscribed
for n in range(200):
    fedmsg.publish(topic="thing.done", modname="demo", msg={"n": n, "text": "caf\u00e9 \U0001F600", "f": n / 7})
print("sent", flush=True)
sys.stdin.readline()
`

// scanning is a sink that reads what comes as the consumer does.
type scanning struct {
	mu      sync.Mutex
	scanner *fedmsg.Scanner
	ids     map[string]int64 // id: the publisher's counter
	refused []string
	last    block.Event
}

func (s *scanning) Deliver(_ context.Context, _ Peer, batch [][][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, frames := range batch {
		topic, body, reason := fedmsg.Frames(frames)
		if reason == fedmsg.Accepted {
			reason = s.scanner.Scan(topic, body, time.Now().UnixMicro(), &s.last)
		}
		if reason != fedmsg.Accepted {
			s.refused = append(s.refused, string(reason)+": "+s.scanner.Detail())
			continue
		}
		counter, _ := s.scanner.Counter()
		s.ids[string(s.last.ID)] = counter
		s.last.Topic = bytes.Clone(s.last.Topic)
	}
	return nil
}

func TestFedmsg_WhatItPublishesIsReceivedAndAccepted(t *testing.T) {
	python := testpython.Find(t)
	address := freeAddress(t)
	cmd := exec.Command(python, "-c", fedmsgScript, address)
	cmd.Dir = t.TempDir() // no fedmsg.d of anybody's
	p := attach(t, cmd)
	p.answer("bound")
	sink := &scanning{scanner: fedmsg.NewScanner(fedmsg.Limits{}), ids: map[string]int64{}}
	s := New(Options{Endpoints: []Endpoint{{"demo", address}}, Topics: []string{"org.fedoraproject.dev.demo"}, Sink: sink})
	defer start(s)()
	eventually.True(t, 10*time.Second, "up", func() bool { return s.Health()[0].State == Up })
	time.Sleep(300 * time.Millisecond) // a PUB socket doesn't tell when it has taken the subscription
	p.ask("sent", "go")
	eventually.True(t, 10*time.Second, "all received", func() bool { return s.Health()[0].Received == 200 })

	sink.mu.Lock()
	defer sink.mu.Unlock()
	if len(sink.refused) > 0 || len(sink.ids) != 200 {
		t.Fatalf("%d distinct ids, refused: %q", len(sink.ids), sink.refused)
	}
	if e := sink.last; string(e.Topic) != "org.fedoraproject.dev.demo.thing.done" || e.Untimed || e.IDAt < 0 ||
		fedmsg.Category(string(e.Topic)) != "demo" || time.Since(time.UnixMicro(e.Time)) > time.Minute {
		t.Errorf("%+v", e)
	}
	counters := map[int64]bool{}
	for id, counter := range sink.ids {
		if counters[counter] = true; strings.HasPrefix(id, "sha256-") {
			t.Errorf("id %s", id)
		}
	}
	if len(counters) != 200 || !counters[1] || !counters[200] {
		t.Errorf("%d distinct counters", len(counters))
	}
}
