package consumer

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/statscache/statscache/consumer/gaps/counter"
	"github.com/statscache/statscache/store"
)

// metrics are the Prometheus metrics of the pipeline, with the names that INTERFACE promises.
type metrics struct {
	receivedBy     *prometheus.CounterVec
	owned          prometheus.Counter
	duplicate      prometheus.Counter
	expired        prometheus.Counter
	lost           *prometheus.CounterVec
	commitSeconds  prometheus.Histogram
	archiveSeconds prometheus.Histogram
	storeUp        prometheus.Gauge

	total    atomic.Uint64 // received from all sources, for the rate that the status shows
	rejected tally         // refused by the decoder, by reason
	refused  tally         // the same, by source
}

// tally counts by name.
type tally struct {
	mu sync.Mutex
	n  map[string]uint64
}

func (t *tally) add(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n == nil {
		t.n = map[string]uint64{}
	}
	t.n[name]++
}

func (t *tally) of(name string) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n[name]
}

// reasons of rejection, so that each is there from the start with zero.
func reasons() []string {
	return []string{"frames", "encoding", "json", "envelope", "topic", "size", "time", "signature", "policy"}
}

func newMetrics(reg *prometheus.Registry, version string) *metrics {
	seconds := prometheus.ExponentialBuckets(0.0005, 2, 14)
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "statscache_" + name, Help: help})
	}
	histogram := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: "statscache_" + name, Help: help, Buckets: seconds})
	}
	m := &metrics{
		receivedBy: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "statscache_events_received_total",
			Help: "Messages received, accepted or not."}, []string{"endpoint"}),
		owned:     counter("events_owned_total", "Events archived and counted."),
		duplicate: counter("events_duplicate_total", "Events that were archived already."),
		expired:   counter("events_expired_total", "Events older than the archive's horizon, refused."),
		lost: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "statscache_events_missing_total",
			Help: "Messages that did not come, by their publisher's own count."}, []string{"endpoint"}),
		commitSeconds:  histogram("commit_duration_seconds", "Time to commit the numbers of a range of events."),
		archiveSeconds: histogram("archive_duration_seconds", "Time to archive a group of blocks."),
		storeUp:        prometheus.NewGauge(prometheus.GaugeOpts{Name: "statscache_store_up", Help: "1 while the store takes what it is given."}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: "statscache_build_info", Help: "1, labelled with the version.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()}})
	build.Set(1)
	m.storeUp.Set(1)
	reg.MustRegister(m.receivedBy, m.lost, m.owned, m.duplicate, m.expired, m.commitSeconds, m.archiveSeconds, m.storeUp, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) received(source string, n int) {
	m.receivedBy.WithLabelValues(source).Add(float64(n))
	m.total.Add(uint64(n))
}

func (m *metrics) reject(source, reason string) {
	m.rejected.add(reason)
	m.refused.add(source)
}

// liveCollector shows what endpoints, inbox and plugins say at the time of the scrape.
type liveCollector struct {
	daemon *Daemon
	descs  map[string]*prometheus.Desc
}

func newLiveCollector(d *Daemon) *liveCollector {
	c := &liveCollector{daemon: d, descs: map[string]*prometheus.Desc{}}
	for name, def := range map[string]struct {
		help   string
		labels []string
	}{
		"events_rejected_total":                 {"Messages refused, by reason.", []string{"reason"}},
		"endpoint_up":                           {"1 while the endpoint is connected.", []string{"endpoint", "address"}},
		"endpoint_counted":                      {"1 while the publisher's own counter tells what is missing.", []string{"endpoint", "address"}},
		"endpoint_reconnects_total":             {"Connections to the endpoint after the first.", []string{"endpoint"}},
		"endpoint_last_event_timestamp_seconds": {"When the endpoint's last message came.", []string{"endpoint"}},
		"journal_bytes":                         {"Size of the inbox.", nil},
		"journal_limit_bytes":                   {"Size at which the inbox is full.", nil},
		"plugin_lag_events":                     {"Archived events that the plugin has not committed yet.", []string{"plugin"}},
		"plugin_state":                          {"1 for the state that the plugin is in.", []string{"plugin", "state"}},
		"plugin_restarts_total":                 {"Times that the plugin's process was started anew.", []string{"plugin"}},
		"plugin_program_differs":                {"1 while the plugin's program counts otherwise than the one that made its older numbers.", []string{"plugin"}},
		"plugin_dead_letters_total":             {"Events that the plugin could not take.", []string{"plugin"}},
		"series":                                {"Series that the metric has.", []string{"metric"}},
		"series_limit":                          {"Series that the metric may have: further values are counted under (other).", []string{"metric"}},
		"series_other_total":                    {"Counts that went to (other) because of the metric's series limit.", []string{"metric"}},
		"plugin_dead_letters":                   {"Dead letters there are: events that the plugin could not take and that were not requeued.", []string{"plugin"}},
	} {
		c.descs[name] = prometheus.NewDesc("statscache_"+name, def.help, def.labels, nil)
	}
	return c
}

// Describe lists the metrics.
func (c *liveCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		ch <- d
	}
}

// Collect reads them.
func (c *liveCollector) Collect(ch chan<- prometheus.Metric) {
	send := func(name string, kind prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(c.descs[name], kind, v, labels...)
	}
	running := c.daemon.waiting.Load() == nil
	s := c.daemon.Status()
	for reason, n := range c.daemon.rejected() {
		send("events_rejected_total", prometheus.CounterValue, float64(n), reason)
	}
	reconnects, last := map[string]float64{}, map[string]float64{} // an endpoint may have several addresses
	for _, e := range s.Endpoints {
		send("endpoint_up", prometheus.GaugeValue, oneIf(e.State == "up"), e.Name, e.Address)
		send("endpoint_counted", prometheus.GaugeValue, oneIf(running && c.daemon.ingest.counters.Trusted(counter.Address{Name: e.Name, Address: e.Address})), e.Name, e.Address)
		reconnects[e.Name] += float64(e.Reconnects)
		if e.LastEvent != nil {
			last[e.Name] = max(last[e.Name], float64(e.LastEvent.UnixMicro())/1e6)
		}
	}
	for name, n := range reconnects {
		send("endpoint_reconnects_total", prometheus.CounterValue, n, name)
		send("endpoint_last_event_timestamp_seconds", prometheus.GaugeValue, last[name], name)
	}
	send("journal_bytes", prometheus.GaugeValue, float64(s.Journal.Bytes))
	send("journal_limit_bytes", prometheus.GaugeValue, float64(s.Journal.Limit))
	if !running {
		return // there are no plugins yet
	}
	givenUp := map[string]int{}
	for _, p := range c.daemon.host.Plugins() {
		givenUp[p.ID] += p.GivenUp
	}
	c.collectSeries(send)
	for id, n := range givenUp {
		send("plugin_dead_letters_total", prometheus.CounterValue, float64(n), id)
	}
	seen := map[string]bool{}
	for _, p := range s.Plugins {
		if seen[p.ID] {
			continue // a second program with the id: it is not run
		}
		seen[p.ID] = true
		send("plugin_lag_events", prometheus.GaugeValue, float64(p.Lag), p.ID)
		send("plugin_restarts_total", prometheus.CounterValue, float64(p.Restarts), p.ID)
		send("plugin_program_differs", prometheus.GaugeValue, oneIf(c.daemon.changes.doubt(p.ID) != ""), p.ID)
		send("plugin_dead_letters", prometheus.GaugeValue, float64(p.DeadLetters), p.ID)
		for _, state := range pluginStates() {
			send("plugin_state", prometheus.GaugeValue, oneIf(p.State == state), p.ID, state)
		}
	}
}

// scrapeTime bounds what a scrape asks of the store.
const scrapeTime = 2 * time.Second

// collectSeries shows how much of their series limits the metrics have used, where the store knows without counting.
func (c *liveCollector) collectSeries(send func(name string, kind prometheus.ValueType, v float64, labels ...string)) {
	others := map[string]int64{}
	for _, p := range c.daemon.host.Plugins() {
		for metric, n := range p.Others {
			others[metric] += n
		}
	}
	for metric, n := range others {
		send("series_other_total", prometheus.CounterValue, float64(n), metric)
	}
	s, ok := c.daemon.store.(store.SeriesUser)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTime)
	defer cancel()
	use, err := s.SeriesUse(ctx)
	if err != nil {
		return // a scrape has no place for it: store_up says so
	}
	for metric, u := range use {
		send("series", prometheus.GaugeValue, float64(u.Series), metric)
		send("series_limit", prometheus.GaugeValue, float64(u.Limit), metric)
		if others[metric] == 0 {
			send("series_other_total", prometheus.CounterValue, 0, metric)
		}
	}
}

func pluginStates() []string {
	return []string{"running", "starting", "catching-up", "backing-off", "quarantined", "disabled"}
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
