package consumer

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/consumer/config"
)

// A part that gives up while the store is away ends the process with its own sentence, as it does when the store is there.
func TestWaiting_EndsWhereAPartGivesUp(t *testing.T) {
	c := testConfig(t)
	c.Store.Kind, c.Store.URL = "crate", "crate://crate@127.0.0.1:1/stats?sslmode=disable" // where nothing listens
	c.Endpoints = []config.Endpoint{{Name: "bus", Addresses: []string{"tcp://127.0.0.1:1"}}}
	ledger := filepath.Join(c.DataDir, gapsFile)
	if err := os.MkdirAll(filepath.Dir(ledger), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ledger, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	waited := false
	_, err := Open(ctx, Options{Config: c, Waiting: func(Answering) { waited = true }})
	if err == nil || !strings.HasPrefix(err.Error(), "gaps: "+ledger) || strings.Contains(err.Error(), "127.0.0.1") || ctx.Err() != nil {
		t.Errorf("it ended with: %v", err)
	}
	if !waited {
		t.Error("nobody was told that it waits")
	}
}

// Where nothing could be received while the store was away, listening begins with a status that is asked for already.
func TestWaiting_StatusIsAskedWhileListeningBegins(t *testing.T) {
	d, err := Open(t.Context(), Options{Config: testConfig(t)})
	if err != nil {
		t.Fatal(err)
	}
	stopAtEnd(t, d)
	w := &waiting{}
	w.say(errAway)
	d.waiting.Store(w)
	asked, asking, end := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() { // the race detector sees what goes wrong here
		defer close(asking)
		for n := 0; ; n++ {
			d.Status()
			d.rejected()
			if n == 0 {
				close(asked)
			}
			select {
			case <-end:
				return
			default:
			}
		}
	}()
	<-asked
	err = d.Start(t.Context(), true)
	close(end)
	<-asking
	if err != nil || d.source.Load() == nil {
		t.Errorf("it listens: %t, %v", d.source.Load() != nil, err)
	}
}

// What came early may all be handed on before the sources take their place in the order of the end.
func TestWaiting_AllIsHandedOnBeforeTheSourcesAreTakenOver(t *testing.T) {
	o := Options{Config: testConfig(t)}
	d, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	stopAtEnd(t, d)
	if err := d.receiveEarly(o); err != nil {
		t.Fatal(err)
	}
	early, from := d.early.Swap(nil), d.source.Load()
	if err := early.inbox.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.Start(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if d.source.Load() != from {
		t.Error("a second source listens")
	}
}
