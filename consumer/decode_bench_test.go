package consumer

import (
	"testing"
	"time"

	"github.com/statscache/statscache/consumer/fedmsg"
	"github.com/statscache/statscache/consumer/gaps/counter"
	"github.com/statscache/statscache/internal/block"
)

// BenchmarkCounter is what looking after publishers' counters costs an event of a batch, and one that comes alone.
func BenchmarkCounter(b *testing.B) {
	body := []byte(`{"i":1234567,"msg":{"n":1},"msg_id":"2026-x","timestamp":1700000000,"topic":"org.fedoraproject.dev.a.b"}`)
	scanner := fedmsg.NewScanner(fedmsg.Limits{})
	var e block.Event
	if reason := scanner.Scan([]byte("org.fedoraproject.dev.a.b"), body, time.Now().UnixMicro(), &e); reason != fedmsg.Accepted {
		b.Fatal(reason)
	}
	for name, size := range map[string]int{"of 256": 256, "alone": 1} {
		b.Run(name, func(b *testing.B) {
			w := counter.NewWatch()
			at := counter.Address{Name: "bus", Address: "host:1"}
			next := int64(0)
			var numbers []counter.Number
			for n := 0; n < b.N; n += size {
				numbers = numbers[:0]
				for range size {
					if _, ok := scanner.Counter(); ok {
						next++
						numbers = append(numbers, counter.Number{N: next, At: e.Time})
					}
				}
				w.Lane(at).Take("10.0.0.1:3000", numbers)
			}
		})
	}
}
