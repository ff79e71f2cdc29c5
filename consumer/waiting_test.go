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
