package plugins

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/statscache/statscache/plugins/proto"
)

// rows spells out a result: "metric time values n" per row.
func rows(r *pb.Result, dims ...int) map[string]int64 {
	out := map[string]int64{}
	for _, c := range r.Counters {
		at, k := int64(0), dims[c.Metric]
		for i, d := range c.TimeS {
			at += d
			var values []string
			for _, x := range c.Dims[i*k : (i+1)*k] {
				values = append(values, r.Names[x])
			}
			out[fmt.Sprintf("%d %d %q", c.Metric, at, values)] += c.N[i]
		}
	}
	return out
}

func TestAnswer_AddsUpWhatOnSaysOfRandomBatches(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	on := func(e *Event, add func(int64, ...string)) { add(1); add(2) }
	pair := func(e *Event, add func(int64, ...string)) {
		for _, u := range e.Users {
			add(3, u, e.Topic)
			add(1, strings.ToUpper(u), "x"+e.Category()) // strings of the plugin's own
		}
	}
	p := &Plugin{Counters: []Counter{
		{Name: "a", Every: []time.Duration{time.Second, time.Minute}, On: on},
		{Name: "b", Every: []time.Duration{4 * time.Second, 6 * time.Second}, Dims: []string{"user", "topic"}, On: pair},
		{Name: "c", Every: []time.Duration{time.Hour}, Dims: []string{"agent"}, On: func(e *Event, add func(int64, ...string)) { add(1, e.Agent) }},
	}}
	a := newAnswerer(p)
	for range 50 {
		b, want := &pb.Batch{Id: r.Uint64(), Names: []string{"", "t1", "t2", "u1", "u2", "c1"}}, map[string]int64{}
		now := int64(0)
		for range r.IntN(3000) {
			d := r.Int64N(2e6) - 9e5
			now += d
			topic, users := uint32(1+r.IntN(2)), r.IntN(3)
			b.TimeUs, b.Topic, b.Category = append(b.TimeUs, d), append(b.Topic, topic), append(b.Category, 5)
			b.Agent = append(b.Agent, uint32(r.IntN(2)*3))
			b.UserCount, b.PackageCount = append(b.UserCount, uint32(users)), append(b.PackageCount, 0)
			second := floorDiv(now, 1e6)
			want[fmt.Sprintf("0 %d []", second)] += 3
			want[fmt.Sprintf("2 %d %q", floorDiv(second, 3600)*3600, []string{b.Names[b.Agent[len(b.Agent)-1]]})]++
			for range users {
				u := uint32(3 + r.IntN(2))
				b.Users = append(b.Users, u)
				want[fmt.Sprintf("1 %d %q", floorDiv(second, 2)*2, []string{b.Names[u], b.Names[topic]})] += 3
				want[fmt.Sprintf("1 %d %q", floorDiv(second, 2)*2, []string{strings.ToUpper(b.Names[u]), "xc1"})]++
			}
		}
		got, err := a.answer(b)
		if err != nil || got.BatchId != b.Id || len(got.Errors) > 0 {
			t.Fatal(got, err)
		}
		have := rows(got, 0, 2, 1)
		if len(have) != len(want) {
			t.Fatalf("%d rows, want %d", len(have), len(want))
		}
		for k, n := range want {
			if have[k] != n {
				t.Fatalf("%s: %d, want %d", k, have[k], n)
			}
		}
	}
}

func TestAnswer_PanicOfOneMetric_LeavesNothingOfTheEvent(t *testing.T) {
	p := &Plugin{
		Counters: []Counter{
			{Name: "a", Every: []time.Duration{time.Second}, On: func(_ *Event, add func(int64, ...string)) { add(1) }},
			{Name: "b", Every: []time.Duration{time.Second}, Dims: []string{"topic"}, On: func(e *Event, add func(int64, ...string)) {
				switch e.Topic {
				case "nil":
					_ = e.Users[5]
				case "values":
					add(1, "one", "two")
				case "body":
					panic(e.JSON(nil))
				}
				add(1, e.Topic)
			}},
		},
		Latest: []Latest{{Name: "c", Key: []string{"topic"}, On: func(e *Event, put func(any, ...string)) {
			put(e.ID, e.Topic)
			if e.Topic == "json" {
				put(func() {}, e.Topic)
			}
		}}},
	}
	b := &pb.Batch{Id: 1, Names: []string{"", "good", "nil", "values", "body", "json"}}
	for i, topic := range []uint32{1, 2, 3, 1, 4, 5} {
		b.TimeUs, b.Topic, b.Category, b.Agent = append(b.TimeUs, 0), append(b.Topic, topic), append(b.Category, 0), append(b.Agent, 0)
		b.UserCount, b.PackageCount, b.MsgId = append(b.UserCount, 0), append(b.PackageCount, 0), append(b.MsgId, fmt.Sprint("id", i))
	}
	r, err := newAnswerer(p).answer(b)
	if err != nil {
		t.Fatal(err)
	}
	var failed []uint32
	for _, e := range r.Errors {
		failed = append(failed, e.Event)
		if len(e.Error) > maxErrorBytes || !strings.Contains(e.Error, "answer_test.go") {
			t.Errorf("error %q", e.Error)
		}
	}
	if fmt.Sprint(failed) != "[1 2 4 5]" {
		t.Errorf("errors of events %v", failed)
	}
	if got := rows(r, 0, 1); len(got) != 2 || got["0 0 []"] != 2 || got[`1 0 ["good"]`] != 2 {
		t.Errorf("counted %v", got)
	}
	if len(r.Puts) != 2 || r.Puts[1].Event != 3 || string(r.Puts[1].ValueJson) != `"id3"` || r.Puts[1].Metric != 2 || r.Puts[1].Key[0] != "good" {
		t.Errorf("puts %v", r.Puts)
	}
}

func TestIdent_IsTheOriginalsRule(t *testing.T) {
	for name, want := range map[string]string{
		"Volume": "volume", "Volume, by category": "volume-by-category",
		"Number of Contribution per User to pagure.io": "number-of-contribution-per-user-to-pagure.io",
		`a"b'c(d)e*f&g?h,i`:                            "abcdefghi", "Two  spaces": "two--spaces",
	} {
		if got := Ident(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

func TestManifest_SaysWhatIsWrongWithADefinition(t *testing.T) {
	on := func(*Event, func(int64, ...string)) {}
	put := func(*Event, func(any, ...string)) {}
	second := []time.Duration{time.Second}
	for want, p := range map[string]Plugin{
		"no metric":     {ID: "x"},
		"Name, Every":   {Counters: []Counter{{Name: "a", On: on}}},
		"Name and On":   {Latest: []Latest{{Name: "a"}}},
		"same":          {Counters: []Counter{{Name: "Same", On: on, Every: second}}, Latest: []Latest{{Name: "same", On: put}}},
		"whole seconds": {Counters: []Counter{{Name: "a", On: on, Every: []time.Duration{time.Millisecond}}}},
		"Multi":         {Counters: []Counter{{Name: "a", On: on, Every: second, Multi: []string{"b"}}}},
		"out of range":  {Deadline: -1, Counters: []Counter{{Name: "a", On: on, Every: second}}},
	} {
		if _, err := p.manifest(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	p := Plugin{Counters: []Counter{{Name: "Volume, by user", On: on, Every: second, Dims: []string{"user"}, Multi: []string{"user"}}}}
	m, err := p.manifest()
	if err != nil || m.Id != "volume-by-user" || m.DataVersion != 1 || !m.Metrics[0].Dimensions[0].MultiValued || m.Metrics[0].IntervalsS[0] != 1 {
		t.Errorf("%v %v", m, err)
	}
}

func TestByHand_ExplainsItself(t *testing.T) {
	m, err := (&Plugin{ID: "mine", Counters: []Counter{{Name: "A", Summary: "all of them", On: func(*Event, func(int64, ...string)) {}, Every: []time.Duration{time.Second}}}}).manifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"/x/mine-plugin"}, 0, "To test it"},
		{[]string{"mine-plugin", "help"}, 0, "all of them"},
		{[]string{"mine-plugin", "frobnicate"}, 2, "describe"},
		{[]string{"mine-plugin", "describe"}, 0, `"intervalsS"`},
	} {
		var out bytes.Buffer
		if got := byHand(m, c.args, &out); got != c.status || !strings.Contains(out.String(), c.want) {
			t.Errorf("%v: status %d\n%s", c.args, got, &out)
		}
		if c.want == `"intervalsS"` && !json.Valid(out.Bytes()) {
			t.Errorf("describe is no JSON: %s", &out)
		}
	}
}

func TestServer_Configure_KeepsThePluginFromStarting(t *testing.T) {
	got := ""
	s := server{plugin: &Plugin{Configure: func(c json.RawMessage) error { got = string(c); return errors.New("no such team") }}}
	if err := s.configure(nil); err == nil || got != "{}" {
		t.Errorf("%q %v", got, err)
	}
	if err := s.configure([]byte(`{"team":1}`)); err == nil || got != `{"team":1}` {
		t.Errorf("%q %v", got, err)
	}
}

func FuzzAnswer(f *testing.F) {
	b := fullBatch()
	for _, c := range []*pb.Batch{b, {}, {TimeUs: []int64{1}, Topic: []uint32{9}}} {
		data, err := proto.Marshal(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data[:min(len(data), 4000)])
		f.Add(data)
	}
	a := newAnswerer(fiveCounters())
	f.Fuzz(func(t *testing.T, data []byte) {
		var b pb.Batch
		if proto.Unmarshal(data, &b) != nil {
			return
		}
		if r, err := a.answer(&b); err == nil && len(r.Errors) > 0 { // whatever passes the check does no harm
			t.Fatal(r.Errors)
		}
	})
}
