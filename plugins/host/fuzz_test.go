package host

import (
	"math/rand/v2"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/statscache/statscache/plugins/proto"
	"github.com/statscache/statscache/store"
)

func FuzzManifest(f *testing.F) {
	for _, m := range []*pb.Manifest{valid(), {}, {Id: "p", Metrics: []*pb.Metric{nil, {}}}} {
		data, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var m pb.Manifest
		if proto.Unmarshal(data, &m) != nil {
			return
		}
		d, err := define(&m)
		if err != nil {
			return
		}
		for i, x := range d.metrics {
			if x.kind == store.Counter && (x.step < 1 || len(x.steps) == 0) || x.id == "" || d.plugin.Metrics[i].ID != x.id {
				t.Fatalf("%+v", x)
			}
		}
	})
}

// FuzzResult takes any result that a plugin may send: it is refused, or it can be added up and committed.
func FuzzResult(f *testing.F) {
	def, err := define(valid())
	if err != nil {
		f.Fatal(err)
	}
	block := sample(rand.New(rand.NewPCG(7, 7)), 1, 20)[0]
	b, _ := cutBatch(block, 0, 100, &topicFilter{})
	b.id = 1
	for _, r := range []*pb.Result{
		{BatchId: 1, Names: []string{"", "u"}, Counters: []*pb.Counts{{TimeS: []int64{b.lo, b.hi - b.lo}, Dims: []uint32{0, 1}, N: []int64{1, -1}}}},
		{BatchId: 1, Puts: []*pb.Put{{Metric: 1, Event: 3, ValueJson: []byte("1")}}, Errors: []*pb.EventError{{Event: 1, Error: "x"}}},
	} {
		data, err := proto.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var r pb.Result
		if proto.Unmarshal(data, &r) != nil || def.checkAnswer(b, &r) != nil {
			return
		}
		c := newRecount(def, Sink{
			Row: func(_ string, interval time.Duration, start int64, key string, _ int64) error {
				step := int64(interval / time.Second)
				if start%step != 0 || start+step <= b.lo || start > b.hi || len(key) > store.MaxKeyBytes {
					t.Fatalf("row at %d of %v, batch from %d to %d", start, interval, b.lo, b.hi)
				}
				return nil
			},
		})
		if err := c.answered(b, &r); err != nil {
			t.Fatal(err)
		}
		if err := c.finish(); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzStdio(f *testing.F) {
	f.Add([]byte{8, 2, 18, 2, 'h', 'i'})
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, text, ok := parseStdio(data); ok && len(text) > len(data) {
			t.Fatal("more than there is")
		}
	})
}
