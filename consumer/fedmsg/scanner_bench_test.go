package fedmsg

import (
	"bytes"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/statscache/statscache/internal/block"
)

// typical is a body of 650 bytes with two users and a package.
func typical() []byte {
	body := []byte(`{"headers":{"fedora_messaging_rpm_python-requests":true,"fedora_messaging_severity":20,"fedora_messaging_user_adamwill":true,"fedora_messaging_user_bodhi":true},"i":4711,"msg":{"agent":"adamwill","comment":{"author":"adamwill","karma":1,"text":"Works for me, no regressions noted in a week of daily use.","timestamp":"2018-04-26 13:04:11","update_title":"python-requests-2.18.4-3.fc28"},"update":{"alias":"FEDORA-2018-5b7f1a8c3d","release":{"name":"F28","version":"28"},"status":"testing"}},"msg_id":"2018-6e9a5f4c-1f9a-4f1c-9d8a-5a4c1f2b7e10","timestamp":1524747851,"topic":"org.fedoraproject.prod.bodhi.update.comment","username":"bodhi","x":""}`)
	pad := strings.Repeat("p", 650-len(body))
	return bytes.Replace(body, []byte(`"x":""`), []byte(`"x":"`+pad+`"`), 1)
}

func BenchmarkScan(b *testing.B) {
	body, topic := typical(), []byte("org.fedoraproject.prod.bodhi.update.comment")
	s := NewScanner(Limits{})
	var ev block.Event
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if s.Scan(topic, body, received, &ev) != Accepted {
			b.Fatal(s.Detail())
		}
	}
}

func BenchmarkScan_WithoutID(b *testing.B) {
	body := bytes.Replace(typical(), []byte(`"msg_id"`), []byte(`"no_id"`), 1)
	s := NewScanner(Limits{})
	var ev block.Event
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if s.Scan(nil, body, received, &ev) != Accepted {
			b.Fatal(s.Detail())
		}
	}
}

// BenchmarkScan_Rules scans generated events without headers, of which rules say who and what, and for comparison
// without rules: the difference is what the rules cost.
func BenchmarkScan_Rules(b *testing.B) {
	events, _ := generated(b, "20000", "1")
	for name, rules := range map[string]*Rules{"with": shipped(b), "without": nil} {
		b.Run(name, func(b *testing.B) { scanAll(b, events, rules) })
	}
}

// BenchmarkScan_RulesCorpus does the same with the messages whose answers are known: every topic is another.
func BenchmarkScan_RulesCorpus(b *testing.B) {
	var events [][]byte
	for _, e := range corpus(b) {
		events = append(events, e.body)
	}
	for name, rules := range map[string]*Rules{"with": shipped(b), "without": nil} {
		b.Run(name, func(b *testing.B) { scanAll(b, events, rules) })
	}
}

func scanAll(b *testing.B, events [][]byte, rules *Rules) {
	s := NewScanner(Limits{MaxBytes: 2 << 20})
	s.SetRules(rules)
	var ev block.Event
	b.ReportAllocs()
	i := 0
	for _, body := range events { // topics are known from here on
		s.Scan(nil, body, 1<<60, &ev)
	}
	from := cpuTime(b)
	for b.Loop() {
		s.Scan(nil, events[i], 1<<60, &ev)
		if i++; i == len(events) {
			i = 0
		}
	}
	b.ReportMetric(float64(cpuTime(b)-from)/float64(b.N), "cpu-ns/op")
}

// cpuTime is what the process has used so far: other than the time on the clock it tells little of what else runs.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano())
}

// BenchmarkScan_Hostile is the costliest body that is known: the deepest nesting, every level out of order, around as
// much as a message may hold.
func BenchmarkScan_Hostile(b *testing.B) {
	const depth = 500
	body := []byte(`{"topic":"a","msg":` + strings.Repeat(`{"b":`, depth) + `"` + strings.Repeat("x", 1<<20-depth*20) + `"` +
		strings.Repeat(`,"a":1}`, depth) + `}`)
	s := NewScanner(Limits{})
	var ev block.Event
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if s.Scan(nil, body, received, &ev) != Accepted {
			b.Fatal(s.Detail())
		}
	}
}

func TestScan_AllocatesNothing(t *testing.T) {
	body, topic := typical(), []byte("org.fedoraproject.prod.bodhi.update.comment")
	floats := bytes.Replace(typical(), []byte(`"timestamp":1524747851`), []byte(`"timestamp":1524747851.123456`), 1)
	if len(body) != 650 {
		t.Fatalf("the typical body has %d bytes", len(body))
	}
	s := NewScanner(Limits{})
	var ev block.Event
	if n := testing.AllocsPerRun(100, func() {
		if s.Scan(topic, body, received, &ev) != Accepted || s.Scan(topic, floats, received, &ev) != Accepted {
			t.Fatal(s.Detail())
		}
	}); n != 0 {
		t.Errorf("%v allocations a message", n)
	}
}

// BenchmarkScan_RulesHostile scans bodies of 1 MiB that are made to be costly for the rules, and for comparison without
// rules.
func BenchmarkScan_RulesHostile(b *testing.B) {
	fill := func(topic, before, piece, after string) []byte {
		n := (1<<20 - 200) / len(piece)
		return []byte(`{"topic":"org.x.prod.` + topic + `","msg_id":"1","msg":` + before + strings.TrimSuffix(strings.Repeat(piece, n), ",") + after + `}`)
	}
	bodies := map[string][]byte{
		"conditions": fill("pkgdb.x", `{"package":[`, `{"name":"p","namespace":"rpms"},`, `]}`),
		"names":      fill("pkgdb.x", `{"package":[`, `"p",`, `]}`),
		"keys":       fill("meetbot.x", `{"attendees":{`, `"\u0061":"p",`, `"a":1}}`),
		"words":      fill("bodhi.update.comment", `{"comment":{"text":"`, `@a `, `"}}`),
		"escapes":    fill("any.x", `{`, `"\u0061gent":{"\u0061gent":"a"},`, `}`),
	}
	bodies["lists"] = []byte(`{"topic":"t","msg_id":"1","msg":{"agent":` + strings.Repeat("[", 500) + strings.Repeat(`"a",`, 250_000) + `"b"` + strings.Repeat("]", 500) + `}}`)
	bodies["keys"] = bytes.Replace(bodies["keys"], []byte(`"a":1}}`), []byte(`,"a":1}}`), 1)
	rules := shipped(b)
	for name, body := range bodies {
		for with, rules := range map[string]*Rules{"with": rules, "without": nil} {
			b.Run(name+"/"+with, func(b *testing.B) {
				s := NewScanner(Limits{MaxBytes: 2 << 20})
				s.SetRules(rules)
				var ev block.Event
				if s.Scan(nil, body, 1<<60, &ev) != Accepted {
					b.Fatal(s.Detail())
				}
				scanAll(b, [][]byte{body}, rules)
			})
		}
	}
}
