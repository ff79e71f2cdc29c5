package e2e

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/zmqpub"
)

// explanation is what explain answers, as a script reads it.
type explanation struct {
	Count, Stored, Pending int64
	Differs, Truncated     bool
	Notes                  []string
	Events                 []struct {
		ID       string `json:"msg_id"`
		Topic    string
		Category string
		Users    []string
		Count    int64
		Msg      json.RawMessage
	}
}

func (x explanation) listed() (n int64) {
	for _, e := range x.Events {
		n += e.Count
	}
	return n
}

func decodeExplanation(t testing.TB, text string) (x explanation) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &x); err != nil {
		t.Fatalf("%v in %s", err, tail(text))
	}
	return x
}

// TestExplain_EveryKindOfNumberHasItsEvents asks about rows of the oracle: of the command without a daemon, of the
// command beside one, and of the API.
func TestExplain_EveryKindOfNumberHasItsEvents(t *testing.T) {
	t.Parallel()
	g := goldens(t)[0]
	s := newSite(t, nil)
	s.mustRun("import", g.file)
	type question struct {
		metric, step, end, dim, value string
		want                          int64
	}
	var questions []question
	for _, q := range []question{{metric: "volume", step: "1m"}, {metric: "volume-by-category", step: "1d", dim: "category"}, {metric: "volume-by-category", step: "1h", dim: "category"},
		{metric: "volume-by-topic", step: "1m", dim: "topic"}} {
		rows, err := csv.NewReader(strings.NewReader(g.expected[q.metric+"-"+q.step])).ReadAll()
		if err != nil || len(rows) < 2 {
			t.Fatalf("oracle of %s-%s: %v", q.metric, q.step, err)
		}
		for _, at := range []int{1, len(rows) / 2, len(rows) - 1} {
			for i, column := range rows[0] {
				switch column {
				case "timestamp":
					q.end = rows[at][i]
				case "volume":
					q.want, _ = strconv.ParseInt(rows[at][i], 10, 64) // 0 never stands in a row
				case q.dim:
					q.value = rows[at][i]
				}
			}
			questions = append(questions, q)
		}
	}
	ask := func(q question) explanation {
		args := []string{"explain", q.metric, q.end, "--end", "--step", q.step, "--json"}
		if q.dim != "" {
			args = append(args, q.dim+"="+q.value)
		}
		return decodeExplanation(t, s.mustRun(args...).stdout)
	}
	check := func(how string, q question, x explanation) {
		t.Helper()
		if x.Count != q.want || x.Stored != q.want || x.listed() != q.want || x.Differs || x.Truncated || len(x.Notes) > 0 {
			t.Errorf("%s: %+v: count %d, stored %d, listed %d, differs %v, notes %q", how, q, x.Count, x.Stored, x.listed(), x.Differs, x.Notes)
		}
		for _, e := range x.Events {
			if e.ID == "" || len(e.Msg) == 0 || q.dim == "topic" && e.Topic != q.value || q.dim == "category" && e.Category != q.value {
				t.Errorf("%s: %+v names %+v", how, q, e)
			}
		}
	}
	for _, q := range questions {
		check("alone", q, ask(q))
	}
	d := s.start()
	check("beside", questions[0], ask(questions[0]))
	for _, q := range questions {
		check("API", q, d.explain(q.metric, q.end, q.step, q.dim, q.value))
	}
	d.explainWindow(questions[0].end)
	for path, want := range map[string]int{
		"volume/explain?time=2018-04-26T00:00:30Z&to=2018-04-27": http.StatusOK, // whole seconds are counted
		"volume/explain?time=2018-04-26&to=2018-04-26":           http.StatusBadRequest,
		"volume/explain?time=2018-04-26&to=2018-05-04":           http.StatusBadRequest,
		"involvement-by-user-and-topic/explain?time=0&to=61":     http.StatusBadRequest,
		"volume/explain":                          http.StatusBadRequest,
		"volume/explain?time=yesterday":           http.StatusBadRequest,
		"volume/explain?time=now&step=7m":         http.StatusBadRequest,
		"volume/explain?time=now&filter=user:x":   http.StatusBadRequest,
		"volume/explain?time=now&fliter=user:x":   http.StatusBadRequest,
		"nothing/explain?time=now":                http.StatusNotFound,
		"volume/explain?time=now&limit=1":         http.StatusOK,
		"volume-by-user/explain?time=-7d&step=1h": http.StatusOK,
	} {
		code, body, err := get("http://" + s.api + "/api/v1/metrics/" + path)
		if err != nil || code != want {
			t.Errorf("%s: %d, %v; want %d: %s", path, code, err, want, tail(body))
		}
	}
	d.stop()
	table := volumeTables(t, s.database(), "count_*_60")[0]
	execute(t, s.database(), "UPDATE "+table+" SET n = n + 1")
	q := questions[0]
	r := s.run("explain", q.metric, q.end, "--end", "--step", q.step)
	if want := fmt.Sprintf("the number stored is %d, but the archived events add up to %d", q.want+1, q.want); r.code != 1 || !strings.Contains(r.stdout, want) {
		t.Errorf("a wrong number: exit status %d, want 1 and %q:\n%s%s", r.code, want, r.stdout, r.stderr)
	}
	for _, args := range [][]string{{"explain", "volume"}, {"explain", "volume", "yesterday"}, {"explain", "volume", "now", "topic"}, {"explain", "volume", "now", "a=b"},
		{"explain", "volume", "now", "--step", "7m"}, {"explain", "volume", "now", "--limit", "0"}} {
		if r := s.run(args...); r.code != 2 || r.stderr == "" || r.stdout != "" {
			t.Errorf("%q: exit status %d, want 2 and a sentence:\n%s%s", args, r.code, r.stdout, r.stderr)
		}
	}
	if r := s.run("explain", "nothing", "now"); r.code != 1 || !strings.Contains(r.stderr, "nothing") {
		t.Errorf("an unknown metric: exit status %d: %s", r.code, r.stderr)
	}
}

// explainWindow: a point of a chart may be several buckets.
func (d *daemon) explainWindow(end string) {
	d.t.Helper()
	at, err := strconv.ParseInt(end, 10, 64)
	if err != nil {
		d.t.Fatal(err)
	}
	window := url.Values{"from": {strconv.FormatInt(at-at%300, 10)}, "to": {strconv.FormatInt(at-at%300+300, 10)}}
	code, body, err := get("http://" + d.api + "/api/v1/metrics/volume/count?" + window.Encode())
	var n struct{ Count int64 }
	if err != nil || code != http.StatusOK || json.Unmarshal([]byte(body), &n) != nil || n.Count == 0 {
		d.t.Fatalf("count: %d, %v: %s", code, err, tail(body))
	}
	code, body, err = get("http://" + d.api + "/api/v1/metrics/volume/explain?time=" + window.Get("from") + "&to=" + window.Get("to"))
	if err != nil || code != http.StatusOK {
		d.t.Fatalf("explain five minutes: %d, %v: %s", code, err, tail(body))
	}
	if x := decodeExplanation(d.t, body); x.Count != n.Count || x.Stored != n.Count || x.listed() != n.Count || x.Differs {
		d.t.Errorf("five minutes have %d: count %d, stored %d, listed %d, differs %v, notes %q", n.Count, x.Count, x.Stored, x.listed(), x.Differs, x.Notes)
	}
}

func (d *daemon) explain(metric, end, step, dim, value string) explanation {
	d.t.Helper()
	q := url.Values{"time": {end}, "end": {"1"}, "step": {step}}
	if dim != "" {
		q.Set("filter", dim+":"+value)
	}
	code, body, err := get("http://" + d.api + "/api/v1/metrics/" + metric + "/explain?" + q.Encode())
	if err != nil || code != http.StatusOK {
		d.t.Fatalf("explain %s: %d, %v: %s", metric, code, err, tail(body))
	}
	return decodeExplanation(d.t, body)
}

// TestExplain_IsRightWhileEventsComeIn asks for the number of the very minute that is being counted: what is stored and
// what is found belong to the same moment.
func TestExplain_IsRightWhileEventsComeIn(t *testing.T) {
	t.Parallel()
	publisher, err := zmqpub.Listen(zmqpub.Options{Queue: 100_000})
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
	s := newSite(t, map[string]string{"endpoints": endpoints(map[string][]int{"one": {at}})})
	s.race = true
	d := s.start()
	waitEndpointUp(t, d, "one")
	const when = 1_524_744_000
	stop, stopped := make(chan struct{}), make(chan int64)
	go func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for n := int64(0); ; n++ {
			select {
			case <-tick.C:
				topic := fmt.Sprintf("org.fedoraproject.dev.explain.t%d", n%3)
				publisher.Publish(topic, fmt.Appendf(nil, `{"topic":%q,"msg_id":"explain-%d","timestamp":%d,"msg":{}}`, topic, n, when+n%50))
			case <-stop:
				stopped <- n
				return
			}
		}
	}()
	seen := int64(0)
	check := func(how string, x explanation) {
		t.Helper()
		if x.Differs || x.Count != x.Stored || !x.Truncated && x.listed() != x.Count || x.Count < seen {
			t.Errorf("%s: count %d (before: %d), stored %d, listed %d, pending %d, notes %q", how, x.Count, seen, x.Stored, x.listed(), x.Pending, x.Notes)
		}
		seen = x.Count
	}
	for range 10 {
		check("API", d.explain("volume", strconv.Itoa(when+60), "1m", "", ""))
		check("beside", decodeExplanation(t, s.mustRun("explain", "volume", strconv.Itoa(when), "--step", "1m", "--json").stdout))
	}
	close(stop)
	sent := <-stopped
	d.waitCounted(sent, 20*time.Second)
	check("at last", decodeExplanation(t, s.mustRun("explain", "volume", strconv.Itoa(when), "--step", "1m", "--json", "--limit", "100000").stdout))
	if seen != sent {
		t.Errorf("%d events are explained, %d were sent", seen, sent)
	}
	d.stop()
}

// TestExplain_LatestValues asks for the events behind the current values of a metric without counts.
func TestExplain_LatestValues(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.mustRun("import", goldens(t)[0].file)
	const metric = "release-engineering-event-logs"
	var x struct {
		Stored, Count int64
		Differs       bool
		Events        []struct {
			ID string `json:"msg_id"`
		}
		Values []struct {
			ID  string `json:"msg_id"`
			Key map[string]string
		}
	}
	r := s.run("explain", metric, "--json")
	if err := json.Unmarshal([]byte(r.stdout), &x); err != nil || r.code != 0 {
		t.Fatalf("exit status %d, %v: %s%s", r.code, err, r.stdout, r.stderr)
	}
	if x.Stored == 0 || x.Count != x.Stored || x.Differs || len(x.Events) != len(x.Values) || len(x.Values) != int(x.Stored) {
		t.Fatalf("%+v", x)
	}
	for i, v := range x.Values {
		if v.ID != x.Events[i].ID || len(v.Key) == 0 {
			t.Errorf("value %+v, event %+v", v, x.Events[i])
		}
	}
	d := s.start()
	d.waitCaughtUp(30 * time.Second)
	code, body, err := get("http://" + d.api + "/api/v1/metrics/" + metric + "/explain")
	if err != nil || code != 200 || !strings.Contains(body, x.Values[0].ID) {
		t.Errorf("the API says %d, %v: %s", code, err, tail(body))
	}
	if code, _, err := get("http://" + d.api + "/api/v1/metrics/volume/explain"); err != nil || code != 400 {
		t.Errorf("a count without a time: %d, %v; want 400", code, err)
	}
	d.stop()
	execute(t, s.database(), "UPDATE latest SET event = 'nobody' WHERE rowid = (SELECT min(rowid) FROM latest)")
	if r := s.run("explain", metric); r.code != 1 || !strings.Contains(r.stdout, "does not hold") {
		t.Errorf("a value of no event: exit status %d:\n%s%s", r.code, r.stdout, r.stderr)
	}
}
