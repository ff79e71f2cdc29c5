package host

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/block"
)

// busy makes full blocks as a busy bus has them: 1.2 KB bodies, 10 events a second, names of a long-tailed choice.
func busy(blocks int) []*block.Block {
	r := rand.New(rand.NewPCG(1, 2))
	users, packages := rand.NewZipf(r, 1.2, 8, 5000), rand.NewZipf(r, 1.1, 8, 20000)
	w := block.NewBuilder(category)
	now := int64(1.5e15)
	var out []*block.Block
	pad := make([]byte, 1200)
	for i := range pad {
		pad[i] = 'a' + byte(r.IntN(26))
	}
	for n := range blocks {
		for i := range block.MaxEvents {
			now += int64(r.IntN(200_000))
			id := fmt.Sprintf("2018-%08x-%08x", n, i)
			w.Add(&block.Event{
				ID: []byte(id), IDAt: 0, Body: append([]byte(id), pad...), Time: now, Source: "hub",
				Topic:    fmt.Appendf(nil, "org.fedoraproject.prod.service%d.thing.changed%d", r.IntN(30), r.IntN(8)),
				Users:    [][]byte{fmt.Appendf(nil, "user%d", users.Uint64())},
				Packages: [][]byte{fmt.Appendf(nil, "package-%d", packages.Uint64())},
			})
		}
		out = append(out, w.Build(uint64(n*block.MaxEvents+1), now, false))
	}
	return out
}

// BenchmarkVolume feeds full blocks to the volume plugin in a process of its own, up to the commits of a store that
// does nothing.
func BenchmarkVolume(b *testing.B) {
	blocks := busy(200)
	events := len(blocks) * block.MaxEvents
	for b.Loop() {
		m := newMemory()
		m.blind, m.shortest = true, 8
		h, stop := runHost(b, Options{Programs: []Program{program(b, "volume")}, Store: m, Feed: feedOf{m}, Limits: Limits{BackoffMin: time.Millisecond, Poll: 10 * time.Millisecond}})
		m.add("s")
		until(b, func() bool { return h.Plugins()[0].State != Starting })
		host, plugin, start := cpuTime(syscall.RUSAGE_SELF), cpuTime(syscall.RUSAGE_CHILDREN), time.Now()
		m.add("s", blocks...)
		waitCaughtUp(b, h, m.ends())
		took := time.Since(start)
		host = cpuTime(syscall.RUSAGE_SELF) - host
		stop() // the plugin's time is known when it has ended; it includes its start
		plugin = cpuTime(syscall.RUSAGE_CHILDREN) - plugin
		b.ReportMetric(float64(events)/took.Seconds(), "events/s")
		b.ReportMetric(float64(host.Microseconds())/float64(events), "host-µs/event")
		b.ReportMetric(float64(plugin.Microseconds())/float64(events), "plugin-µs/event")
	}
}

func cpuTime(who int) time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(who, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
