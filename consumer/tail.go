package consumer

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/statscache/statscache/consumer/config"
	"github.com/statscache/statscache/consumer/fedmsg"
	"github.com/statscache/statscache/consumer/source/zmq"
	"github.com/statscache/statscache/internal/block"
)

// TailOptions say what to listen for and who is told. The functions are called one at a time; an error of Event ends
// the listening.
type TailOptions struct {
	Topic  string // a filter as fedmsg's; everything where it is empty
	Event  func(TailEvent) error
	Bad    func(source, reason, detail string) // of messages that the consumer would refuse
	Logger *slog.Logger
}

// TailEvent is a message as it came from the bus. It is good during the call only.
type TailEvent struct {
	Source          string
	Topic           string
	Category        string
	Time            time.Time
	Users, Packages []string
	Body            []byte // the envelope
}

// Tail listens to the configured endpoints until ctx ends (nil). It needs no data dir and disturbs no daemon.
func Tail(ctx context.Context, c *config.Config, o TailOptions) error {
	var endpoints []zmq.Endpoint
	for _, e := range c.Endpoints {
		for _, a := range e.Addresses {
			endpoints = append(endpoints, zmq.Endpoint{Name: e.Name, Address: strings.TrimPrefix(a, "tcp://")})
		}
	}
	if len(endpoints) == 0 {
		return errors.New("no endpoints are configured: there is nothing to listen to")
	}
	rules, err := compiledRules(c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	t := &tailSink{o: o, stop: cancel, scanner: fedmsg.NewScanner(fedmsg.Limits{MaxBytes: c.MaxMessageBytes, Future: 24 * time.Hour})}
	t.scanner.SetRules(rules)
	source := zmq.New(zmq.Options{Endpoints: endpoints, Topics: []string{fedmsg.Prefix(o.Topic)}, MaxMessageBytes: c.MaxMessageBytes,
		KeepAlive: keepAlive(c.KeepAlive), ReconnectMax: c.ReconnectMax, Sink: t, Logger: o.Logger})
	if err := source.Run(ctx); err != nil {
		return err
	}
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// tailSink takes messages of all endpoints.
type tailSink struct {
	o    TailOptions
	stop context.CancelCauseFunc

	mu      sync.Mutex
	scanner *fedmsg.Scanner
	event   block.Event
}

// Deliver tells of a batch.
func (t *tailSink) Deliver(ctx context.Context, from zmq.Peer, batch [][][]byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, frames := range batch {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		topic, body, reason := fedmsg.Frames(frames)
		detail := ""
		if reason == fedmsg.Accepted {
			reason = t.scanner.Scan(topic, body, time.Now().UnixMicro(), &t.event)
			detail = t.scanner.Detail()
		}
		if reason != fedmsg.Accepted {
			t.o.Bad(from.Name, string(reason), detail)
			continue
		}
		name := string(t.event.Topic)
		if err := t.o.Event(TailEvent{Source: from.Name, Topic: name, Category: fedmsg.Category(name), Time: time.UnixMicro(t.event.Time).UTC(),
			Users: texts(t.event.Users), Packages: texts(t.event.Packages), Body: body}); err != nil {
			t.stop(err)
			return err
		}
	}
	return nil
}

func texts(list [][]byte) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = string(s)
	}
	return out
}
