package consumer

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/consumer/config"
	"github.com/statscache/statscache/internal/block"
	"github.com/statscache/statscache/internal/zmqpub"
	"github.com/statscache/statscache/store"
)

// loaded loads a configuration file of these Python settings for a data dir.
func loaded(t *testing.T, data, settings string) *config.Config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "base.py")
	if err := os.WriteFile(file, []byte("config = {"+settings+"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(config.Options{Paths: []string{file}, Flags: map[string]string{"statscache.data_dir": data}, WorkDir: t.TempDir(), SystemDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	c.PluginsPath = nil
	return c
}

func publisher(t *testing.T) *zmqpub.Publisher {
	t.Helper()
	p, err := zmqpub.Listen(zmqpub.Options{Queue: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func TestReload_WhatChangesAndWhatCannot(t *testing.T) {
	data := t.TempDir()
	a, b := publisher(t), publisher(t)
	endpoint := func(name string, p *zmqpub.Publisher) string {
		return fmt.Sprintf("%q: [\"tcp://%s\"], ", name, p.Address())
	}
	first := loaded(t, data, `"endpoints": {`+endpoint("a", a)+`}`)
	d := runDaemon(t, first)
	until(t, "a is subscribed to", func() bool { return a.Connected() == 1 })
	publish := func(p *zmqpub.Publisher, i int) {
		p.Publish(fmt.Sprintf("org.x.prod.cat%d.thing", i%3), []byte(line(i)))
	}
	owned := func(n uint64) {
		t.Helper()
		until(t, fmt.Sprint(n, " events owned"), func() bool { return d.Status().Owned == n })
	}
	publish(a, 1)
	owned(1)

	none := loaded(t, data, "")
	none.Files = nil
	if _, err := d.Reload(none); err == nil {
		t.Error("a configuration that has vanished was put in force")
	}
	same, err := d.Reload(loaded(t, data, `"endpoints": {`+endpoint("a", a)+`}`))
	if err != nil || len(same.Changed)+len(same.Restart) > 0 {
		t.Errorf("the same again: %+v, %v", same, err)
	}

	next := loaded(t, data, `"endpoints": {`+endpoint("a", a)+endpoint("b", b)+`}, "statscache.archive.retention": "1d", "statscache.retention": {"1h": "9d"},
		"statscache.journal.max_bytes": 1 << 22, "statscache.app.listen": "127.0.0.1:1", "zmq_reconnect_ivl_max": 5000, "statscache.rules": [],
		"statscache.store.url": "sqlite:///elsewhere.db", "statscache.consumer.topics": ["org.x."]`)
	r, err := d.Reload(next)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(r.Changed)
	slices.Sort(r.Restart)
	if want := []string{"endpoint b (" + b.Address() + ") added", "statscache.archive.retention", "statscache.consumer.topics", "statscache.retention"}; !slices.Equal(r.Changed, want) {
		t.Errorf("changed %q, want %q", r.Changed, want)
	}
	if want := []string{"statscache.app.listen", "statscache.journal.max_bytes", "statscache.store.url", "zmq_reconnect_ivl_max"}; !slices.Equal(r.Restart, want) {
		t.Errorf("needs a restart: %q, want %q", r.Restart, want)
	}
	until(t, "b is subscribed to", func() bool { return b.Connected() == 1 })
	if got := horizons(d.current.Load(), store.Metric{ID: "m", Intervals: []time.Duration{time.Hour}}, time.Now()); len(got) != 1 {
		t.Errorf("horizons %v: the new retention is not in force", got)
	}
	again, err := d.Reload(next)
	slices.Sort(again.Restart)
	if err != nil || len(again.Changed) > 0 || !slices.Equal(again.Restart, r.Restart) {
		t.Errorf("the same again: %+v, %v; what needs a restart is to be said each time", again, err)
	}

	off, err := d.Reload(loaded(t, data, `"endpoints": {`+endpoint("a", a)+endpoint("b", b)+`}, "statscache.consumer.enabled": False`))
	if err != nil || !strings.Contains(strings.Join(off.Changed, " "), "endpoint a ("+a.Address()+") removed") {
		t.Errorf("switched off: %+v, %v", off, err)
	}
	until(t, "nobody is subscribed to", func() bool { return a.Connected()+b.Connected() == 0 })
	if _, err := d.Reload(first); err != nil {
		t.Error(err)
	}
	until(t, "a is subscribed to again", func() bool { return a.Connected() == 1 })
}

func TestReload_PluginsDisabled(t *testing.T) {
	data := t.TempDir()
	d := runDaemon(t, loaded(t, data, ""))
	state := func(want string) {
		t.Helper()
		until(t, "the plugin is "+want, func() bool { return d.Plugins()[0].State == want })
	}
	state("running")
	off := loaded(t, data, `"statscache.plugins.disabled": ["volume"], "statscache.archive.retention": "1d"`)
	switches := filepath.Join(data, switchesFile)
	if err := os.WriteFile(switches, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Reload(off); err == nil || !strings.Contains(err.Error(), switches) {
		t.Errorf("a damaged file of switches: %v, want a refusal that names it", err)
	}
	if d.current.Load() == off {
		t.Error("a refused configuration is in force")
	}
	if err := os.Remove(switches); err != nil {
		t.Fatal(err)
	}
	r, err := d.Reload(off)
	if want := []string{"statscache.plugins.disabled", "statscache.archive.retention"}; err != nil || !slices.Equal(r.Changed, want) {
		t.Errorf("changed %q, %v; want %q", r.Changed, err, want)
	}
	state("disabled")
	if _, err := d.Reload(loaded(t, data, "")); err != nil {
		t.Error(err)
	}
	state("running")
}

func TestReload_SecretsThatAreMaskedInTheListingCount(t *testing.T) {
	with := func(password string) *config.Config {
		return loaded(t, "/data", fmt.Sprintf(`"statscache.store.url": "crate://user:%s@h:5432/s", "statscache.datagrepper.endpoint": "https://u:%[1]s@h/raw"`, password))
	}
	if got := differences(with("one"), with("one")); len(got) > 0 {
		t.Errorf("the same: %q", got)
	}
	if got, want := differences(with("one"), with("two")), []string{"statscache.store.url", "statscache.datagrepper.endpoint"}; !slices.Equal(got, want) {
		t.Errorf("another password: %q, want %q", got, want)
	}
}

// TestReload_RulesOfTheNextMessages: who and what a message is about is what the rules say that are in force when it is
// archived; a reload puts others in force, and leaves what is archived as it is.
func TestReload_RulesOfTheNextMessages(t *testing.T) {
	data := t.TempDir()
	a := publisher(t)
	endpoints := fmt.Sprintf(`"endpoints": {"a": ["tcp://%s"]}, `, a.Address())
	d := runDaemon(t, loaded(t, data, endpoints))
	until(t, "a is subscribed to", func() bool { return a.Connected() == 1 })
	about := func(i uint64) (users, packages, agent string) {
		t.Helper()
		a.Publish("org.x.prod.svc.thing", fmt.Appendf(nil,
			`{"topic":"org.x.prod.svc.thing","msg_id":"2026-%d","timestamp":5,"msg":{"agent":"ann","who":"bob","rpm":"kernel-6.1-1"}}`, i))
		until(t, "it is owned", func() bool { return d.Status().Owned == i })
		err := d.store.(store.Scanner).Scan(t.Context(), store.ScanRequest{From: 0, To: 10e6, Bodies: true}, func(_ string, b *block.Block) error {
			ids, err := b.IDs()
			for k, id := range ids {
				if id == fmt.Sprintf("2026-%d", i) {
					users, packages, agent = b.Names[b.UsersOf(k)[0]], "", b.Names[b.Agent[k]]
					for _, p := range b.PackagesOf(k) {
						packages += b.Names[p]
					}
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return users, packages, agent
	}
	if u, p, by := about(1); u != "ann" || p != "" || by != "ann" {
		t.Errorf("by the shipped rules: users %q, packages %q, agent %q", u, p, by)
	}
	next := loaded(t, data, endpoints+`"statscache.rules": [{"topic": "org.x.*.svc.**", "users": ["/msg/who"], "packages": "nvr /msg/rpm"}]`)
	if r, err := d.Reload(next); err != nil || !slices.Equal(r.Changed, []string{"statscache.rules"}) {
		t.Fatalf("%+v, %v", r, err)
	}
	if u, p, by := about(2); u != "bob" || p != "kernel" || by != "ann" {
		t.Errorf("by rules of its own: users %q, packages %q, agent %q", u, p, by)
	}
}
