package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// worstQuery gives the i-th of the questions that cost as much as is allowed. No two are the same: none is answered from
// what is kept of another.
func worstQuery(h *history, i int) string {
	some := func(parameter string, n int, name func(rank int) string) string {
		var b strings.Builder
		for k := range n {
			fmt.Fprintf(&b, "&%s=%s", parameter, url.QueryEscape(name((i*7+k*13)%historyUsers)))
		}
		return b.String()
	}
	start := fmt.Sprint("start=", i+1)
	switch i % 10 {
	case 0:
		return "/api/v1/events?contains=zzz-nothing&" + start
	case 1:
		return "/api/v1/events/count?contains=zzz-nothing&" + start + "&end=" + strconv.FormatInt(h.at(min(h.events-1, 95_000)), 10)
	case 2:
		return "/api/v1/events?size=1000&" + start + some("user", 50, h.user)
	case 3:
		return "/api/v1/events/count?" + start + some("not_user", 25, h.user) + some("package", 25, h.packageOf)
	case 4:
		return "/datagrepper/raw?rows_per_page=100&" + start + "&page=" + strconv.Itoa(1+h.events/200+i%100)
	case 5:
		return "/datagrepper/raw?contains=zzz-nothing&order=asc&" + start + "&end=" + strconv.FormatInt(h.at(min(h.events-1, 95_000)), 10)
	case 6:
		return "/api/v1/events?topic=org.*&not_contains=e&size=1000&" + start
	case 7:
		return "/api/v1/events/count?topic=org.*&agent=nobody&not_category=bodhi&" + start
	case 8:
		return "/datagrepper/charts/line?n=100&split_on=topics&" + start
	}
	return "/api/v1/events/2018-nothing-" + strconv.Itoa(i)
}

// busDelay is how long events were under way from the bus to the archive at most, as far as it could be told: the truth
// lies between the two, because the number of archived events is known only to lie between question and answer.
type busDelay struct{ least, most time.Duration }

// underQueries has a bus publish while clients ask the worst questions without a pause, and gives the delay of the bus's
// events and how many answers there were by status.
func underQueries(t testing.TB, d *daemon, b *bus, h *history, clients, rate int, during time.Duration) (delay busDelay, answers map[int]int) {
	t.Helper()
	base, err := d.metric("statscache_events_owned_total")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var sent []time.Time
	answers = map[int]int{}
	end := time.Now().Add(during)
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for i := c; time.Now().Before(end); i += clients {
				code, _, err := get("http://" + d.api + worstQuery(h, i))
				mu.Lock()
				if answers[code]++; err != nil {
					answers[-1]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Go(func() {
		b.publish(rate, func() bool {
			mu.Lock()
			defer mu.Unlock()
			for int64(len(sent)) < b.sent {
				sent = append(sent, time.Now())
			}
			return time.Now().After(end)
		})
	})
	for tick := time.NewTicker(50 * time.Millisecond); time.Now().Before(end); <-tick.C {
		asked := time.Now()
		n, err := d.metric("statscache_events_owned_total")
		if err != nil {
			t.Fatal(err)
		}
		answered := time.Now()
		mu.Lock()
		if next := int(n - base); next < len(sent) {
			delay.least, delay.most = max(delay.least, asked.Sub(sent[next])), max(delay.most, answered.Sub(sent[next]))
		}
		mu.Unlock()
	}
	wg.Wait()
	d.waitFor(time.Minute, "every event archived", func() error {
		n, err := d.metric("statscache_events_owned_total")
		if err == nil && int64(n-base) != b.sent {
			err = fmt.Errorf("%d of %d", int64(n-base), b.sent)
		}
		return err
	})
	return delay, answers
}

// newQueried starts a daemon with an archive and a bus.
func newQueried(t testing.TB, events int) (d *daemon, b *bus, h *history) {
	t.Helper()
	b = newBus(t, 1_000_000, 400)
	s := newSite(t, map[string]string{"endpoints": endpoints(map[string][]int{"bus": {b.port}}), "statscache.retention": "{}"})
	h = newHistory(t, events, time.Now().Add(-31*24*time.Hour), 30*24*time.Hour)
	file := filepath.Join(t.TempDir(), "events.jsonl")
	h.write(t, file, 0, events)
	s.mustRun("import", file)
	d = s.start()
	b.waitSubscribed()
	return d, b, h
}

// TestEvents_WorstQueriesDontDelayTheBus: fifty clients that ask the worst questions that are allowed delay what the bus
// sends by no more than a second, and none of them is answered by an error of ours.
func TestEvents_WorstQueriesDontDelayTheBus(t *testing.T) {
	needLong(t, "a loaded machine would be measured")
	d, b, h := newQueried(t, 300_000)
	delay, answers := underQueries(t, d, b, h, 50, 500, 20*time.Second)
	t.Logf("delay between %s and %s; answers by status: %v", delay.least, delay.most, answers)
	limit := time.Second
	if raced {
		limit *= 10
	}
	if delay.least > limit {
		t.Errorf("the bus's events were delayed by %s, more than %s", delay.least, limit)
	}
	for code := range answers {
		if code != http.StatusOK && code != http.StatusNotFound && code != http.StatusTooManyRequests && code != http.StatusUnprocessableEntity && code != http.StatusBadRequest {
			t.Errorf("%d answers of status %d", answers[code], code)
		}
	}
	if answers[http.StatusOK] < 100 {
		t.Errorf("answers by status: %v: the test proves nothing", answers)
	}
	d.stop()
}

// BenchmarkLive_UnderWorstQueries is the delay of the bus's events without queries and under fifty of the worst.
func BenchmarkLive_UnderWorstQueries(b *testing.B) {
	for range b.N {
		d, bus, h := newQueried(b, 1_000_000)
		for _, clients := range []int{0, 50} {
			before := bus.sent
			delay, answers := underQueries(b, d, bus, h, clients, 1000, 20*time.Second)
			b.Logf("%d clients: %d events sent, answers by status %v", clients, bus.sent-before, answers)
			b.ReportMetric(float64(delay.least.Milliseconds()), fmt.Sprintf("clients%d-delay-ms", clients))
			b.ReportMetric(float64(delay.most.Milliseconds()), fmt.Sprintf("clients%d-delay-most-ms", clients))
			bus.sent = 0
		}
		d.stop()
	}
}
