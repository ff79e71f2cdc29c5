package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/statscache/statscache/internal/zmqpub"
)

// Services are the names of the endpoints that a Bus publishes at, as fedmsg.d would name them.
func Services() []string { return []string{"apps.demo", "copr.demo", "koji.demo"} }

// Bus publishes made-up events over real ZeroMQ on the loopback interface, each service at an endpoint of its own.
type Bus struct {
	generator  *Generator
	rate       float64
	publishers map[string]*zmqpub.Publisher
}

// NewBus opens the endpoints. Events come from Run, rate of them a second on average.
func NewBus(g *Generator, rate float64) (*Bus, error) {
	b := &Bus{generator: g, rate: rate, publishers: map[string]*zmqpub.Publisher{}}
	for _, name := range Services() {
		p, err := zmqpub.Listen(zmqpub.Options{})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open endpoint %s: %w", name, err), b.Close())
		}
		b.publishers[name] = p
	}
	return b, nil
}

// Endpoints gives the addresses by name, as fedmsg.d writes them.
func (b *Bus) Endpoints() map[string]string {
	out := map[string]string{}
	for name, p := range b.publishers {
		out[name] = "tcp://" + p.Address()
	}
	return out
}

// Run publishes until ctx ends.
func (b *Bus) Run(ctx context.Context) {
	next := time.Now()
	for {
		select {
		case <-time.After(time.Until(next)):
		case <-ctx.Done():
			return
		}
		for now := time.Now(); !next.After(now); { // at high rates a timer is too coarse for every single event
			e := b.generator.Next(now)
			b.publishers[service(e.Topic)].Publish(e.Topic, e.Body)
			next = next.Add(b.generator.pause(b.rate))
		}
	}
}

// service says who publishes a topic.
func service(topic string) string {
	switch category := strings.Split(topic, ".")[3]; category {
	case "buildsys":
		return "koji.demo"
	case "copr":
		return "copr.demo"
	}
	return "apps.demo"
}

// Close closes the endpoints.
func (b *Bus) Close() error {
	var errs []error
	for _, p := range b.publishers {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}
