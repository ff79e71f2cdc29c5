package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"testing"
	"time"

	"github.com/statscache/statscache/store"
)

func TestExplain_AsksWhatTheURLSays(t *testing.T) {
	f := newFakeStore()
	f.add(store.Metric{ID: "volume", Intervals: []time.Duration{time.Second}})
	var asked []ExplainQuery
	var fail error
	now := time.Date(2018, 4, 26, 12, 34, 56, 0, time.UTC)
	s, err := New(Options{Store: f, Now: func() time.Time { return now }, Explain: func(_ context.Context, q ExplainQuery) (Explanation, error) {
		asked = append(asked, q)
		return Explanation{Metric: q.Metric, Count: 7, Events: []ExplainedEvent{{ID: "x"}}}, fail
	}})
	if err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]ExplainQuery{
		"?time=1524744000":        {Time: time.Unix(1524744000, 0).UTC()},
		"?time=1524744000500":     {Time: time.UnixMilli(1524744000500).UTC()},
		"?time=2018-04-26":        {Time: time.Date(2018, 4, 26, 0, 0, 0, 0, time.UTC)},
		"?time=now-6h&end=1":      {Time: now.Add(-6 * time.Hour), End: true},
		"?time=now/d&step=1m30s":  {Time: time.Date(2018, 4, 26, 0, 0, 0, 0, time.UTC), Step: 90 * time.Second},
		"?time=now-2h/h&to=now/h": {Time: now.Add(-2 * time.Hour).Truncate(time.Hour), To: now.Truncate(time.Hour)},
		"?time=-1w/h&limit=5":     {Time: time.Date(2018, 4, 19, 12, 0, 0, 0, time.UTC), Events: 5},
		"?time=now&filter=user:a:b&filter=user:c&filter=topic:": {Time: now, Filter: map[string][]string{"user": {"a:b", "c"}, "topic": {""}}},
	} {
		asked = nil
		want.Metric = "volume"
		if want.Filter == nil {
			want.Filter = map[string][]string{}
		}
		r := get(s, "GET", "/api/v1/metrics/volume/explain"+url)
		var x Explanation
		if err := json.Unmarshal(r.Body.Bytes(), &x); r.Code != http.StatusOK || err != nil || x.Count != 7 || len(asked) != 1 || !reflect.DeepEqual(asked[0], want) {
			t.Errorf("%s: %d, asked %+v, want %+v: %s", url, r.Code, asked, want, r.Body)
		}
	}
	for name, c := range map[string]struct {
		url  string
		fail error
		want int
	}{
		"no time":           {"volume/explain", nil, 400},
		"unknown parameter": {"volume/explain?time=now&until=now", nil, 400},
		"two times":         {"volume/explain?time=now&time=now", nil, 400},
		"bad time":          {"volume/explain?time=99999999999999999999", nil, 400},
		"bad unit":          {"volume/explain?time=now/q", nil, 400},
		"seconds":           {"volume/explain?time=now&step=1", nil, 200},
		"empty step":        {"volume/explain?time=now&step=", nil, 400},
		"huge step":         {"volume/explain?time=now&step=9999999999y", nil, 400},
		"bad filter":        {"volume/explain?time=now&filter=x", nil, 400},
		"bad limit":         {"volume/explain?time=now&limit=1001", nil, 400},
		"no such metric":    {"nothing/explain?time=now", nil, 404},
		"gone meanwhile":    {"volume/explain?time=now-1s", store.ErrUnknown, 404},
		"refused":           {"volume/explain?time=now-2s", &ParameterError{"step", "no"}, 400},
		"too slow":          {"volume/explain?time=now-3s", context.DeadlineExceeded, 503},
		"broken":            {"volume/explain?time=now-4s", errors.New("secret"), 500},
	} {
		fail = c.fail
		if r := get(s, "GET", "/api/v1/metrics/"+c.url); r.Code != c.want {
			t.Errorf("%s: %d, want %d: %s", name, r.Code, c.want, r.Body)
		}
	}
	if s, err = New(Options{Store: f}); err != nil {
		t.Fatal(err)
	}
	if r := get(s, "GET", "/api/v1/metrics/volume/explain?time=now"); r.Code != 404 {
		t.Errorf("without anybody to ask: %d, want 404", r.Code)
	}
}

func TestExplain_NoMoreThanAFewAtOnce(t *testing.T) {
	f := newFakeStore()
	f.add(store.Metric{ID: "volume", Intervals: []time.Duration{time.Second}})
	entered, leave := make(chan struct{}), make(chan struct{})
	s, err := New(Options{Store: f, Explain: func(context.Context, ExplainQuery) (Explanation, error) {
		entered <- struct{}{}
		<-leave
		return Explanation{}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	codes := make(chan int)
	for i := range explainsAtOnce {
		go func() { codes <- get(s, "GET", "/api/v1/metrics/volume/explain?time="+string(rune('1'+i))).Code }()
		<-entered
	}
	if r := get(s, "GET", "/api/v1/metrics/volume/explain?time=9"); r.Code != 503 || r.Header().Get("Retry-After") == "" {
		t.Errorf("one more: %d, want 503 with Retry-After", r.Code)
	}
	close(leave)
	for range explainsAtOnce {
		if code := <-codes; code != 200 {
			t.Errorf("one of the first: %d, want 200", code)
		}
	}
}
