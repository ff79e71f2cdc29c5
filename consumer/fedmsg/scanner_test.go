package fedmsg

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/statscache/statscache/internal/block"
)

const received = int64(1_700_000_000_000_000) // 2023: after every sample

// wanted is what a body of testdata/variants becomes.
type wanted struct {
	Frame    string
	ID       string
	Hashed   bool // the ID is a hash
	Verbatim bool // the ID stands in the body
	Topic    string
	Time     int64
	Untimed  bool
	Users    []string
	Packages []string
}

func texts(bs [][]byte) []string {
	var out []string
	for _, b := range bs {
		out = append(out, string(b))
	}
	return out
}

func TestScan_VariantsOfTwelveYears(t *testing.T) {
	paths, err := filepath.Glob("testdata/variants/*.body")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no samples: %v", err)
	}
	s := NewScanner(Limits{}) // one for all: nothing may be left over from the one before
	var ev block.Event
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".body"), func(t *testing.T) {
			body, want := readVariant(t, path)
			if reason := s.Scan([]byte(want.Frame), body, received, &ev); reason != Accepted {
				t.Fatalf("refused: %s: %s", reason, s.Detail())
			}
			checkEvent(t, &ev, body, want)
		})
	}
}

func readVariant(t *testing.T, path string) ([]byte, wanted) {
	t.Helper()
	body, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(strings.TrimSuffix(path, ".body") + ".want.json")
	if err != nil {
		t.Fatal(err)
	}
	var want wanted
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	return body, want
}

func checkEvent(t *testing.T, ev *block.Event, body []byte, want wanted) {
	t.Helper()
	if want.Untimed {
		want.Time = received
	}
	if want.Hashed {
		if !strings.HasPrefix(string(ev.ID), hashedIDPrefix) || len(ev.ID) != len(hashedIDPrefix)+hashedIDDigits {
			t.Errorf("id %q is no hash", ev.ID)
		}
	} else if string(ev.ID) != want.ID {
		t.Errorf("id %q, want %q", ev.ID, want.ID)
	}
	if (ev.IDAt >= 0) != want.Verbatim {
		t.Errorf("IDAt = %d, want verbatim %v", ev.IDAt, want.Verbatim)
	} else if want.Verbatim && string(body[ev.IDAt:ev.IDAt+len(ev.ID)]) != want.ID {
		t.Errorf("the id does not stand at %d", ev.IDAt)
	}
	if string(ev.Topic) != want.Topic || ev.Time != want.Time || ev.Untimed != want.Untimed {
		t.Errorf("topic %q, time %d, untimed %v; want %q, %d, %v", ev.Topic, ev.Time, ev.Untimed, want.Topic, want.Time, want.Untimed)
	}
	if got, w := fmt.Sprint(texts(ev.Users), texts(ev.Packages)), fmt.Sprint(want.Users, want.Packages); got != w {
		t.Errorf("users and packages %s, want %s", got, w)
	}
	if string(ev.Body) != string(body) || ev.Signed != block.Unchecked || len(ev.Agent) != 0 {
		t.Errorf("body, signature or agent wrong: %+v", ev)
	}
}

func TestScan_Refuses(t *testing.T) {
	const ok = `"topic":"a.b.c.d","msg":1`
	long := strings.Repeat("x", 1025)
	for _, c := range []struct {
		name, frame, body string
		want              Reason
	}{
		{"empty body", "", "", JSONReason},
		{"blank", "", " \n", JSONReason},
		{"cut", "", `{"topic":"a`, JSONReason},
		{"cut after an escape", "", `{"topic":"a\`, JSONReason},
		{"two documents", "", `{` + ok + `}{}`, JSONReason},
		{"NaN", "", `{` + ok + `,"timestamp":NaN}`, JSONReason},
		{"leading zero", "", `{` + ok + `,"timestamp":01}`, JSONReason},
		{"single quotes", "", `{'topic':'a'}`, JSONReason},
		{"trailing comma", "", `{` + ok + `,}`, JSONReason},
		{"control character in a string", "", "{\"topic\":\"a\nb\"}", JSONReason},
		{"byte order mark", "", "\ufeff{" + ok + "}", JSONReason},
		{"bad escape", "", `{` + ok + `,"x":"\x41"}`, JSONReason},
		{"nested too deep", "", `{` + ok + `,"x":` + strings.Repeat("[", 512) + strings.Repeat("]", 512) + `}`, JSONReason},
		{"nested objects too deep", "", `{` + ok + `,"x":` + strings.Repeat(`{"a":`, 600) + `1` + strings.Repeat("}", 600) + `}`, JSONReason},
		{"latin-1", "", "{\"topic\":\"caf\xe9\"}", EncodingReason},
		{"overlong NUL", "", "{\"topic\":\"\xc0\x80\"}", EncodingReason},
		{"encoded surrogate", "", "{\"topic\":\"\xed\xa0\x80\"}", EncodingReason},
		{"random bytes", "", "\xff\xfe\x00\x01", EncodingReason},
		{"topic frame not UTF-8", "\xff", `{` + ok + `}`, EncodingReason},
		{"topic frame not UTF-8, none in the body", "\xff", `{"msg":1}`, EncodingReason},
		{"null, as fedmsg publishes when signing fails", "a.b", "null", EnvelopeReason},
		{"array", "", "[]", EnvelopeReason},
		{"number", "", " 12 ", EnvelopeReason},
		{"string", "", `"x"`, EnvelopeReason},
		{"no topic at all", "", `{"msg":{}}`, EnvelopeReason},
		{"empty object", "", `{}`, EnvelopeReason},
		{"topic null", "a.b", `{"topic":null}`, EnvelopeReason},
		{"topic a number", "", `{"topic":5}`, EnvelopeReason},
		{"topic empty", "", `{"topic":""}`, EnvelopeReason},
		{"topic too long", "", `{"topic":"` + long + `"}`, EnvelopeReason},
		{"timestamp null", "", `{` + ok + `,"timestamp":null}`, EnvelopeReason},
		{"timestamp a string", "", `{` + ok + `,"timestamp":"1524787200"}`, EnvelopeReason},
		{"timestamp a bool", "", `{` + ok + `,"timestamp":true}`, EnvelopeReason},
		{"timestamp an object", "", `{` + ok + `,"timestamp":{}}`, EnvelopeReason},
		{"timestamp negative", "", `{` + ok + `,"timestamp":-1}`, EnvelopeReason},
		{"timestamp beyond int64", "", `{` + ok + `,"timestamp":9223372036854775808}`, EnvelopeReason},
		{"timestamp beyond microseconds", "", `{` + ok + `,"timestamp":9223372036855}`, EnvelopeReason},
		{"timestamp beyond float64", "", `{` + ok + `,"timestamp":1e999}`, EnvelopeReason},
		{"msg_id a number", "", `{` + ok + `,"msg_id":7}`, EnvelopeReason},
		{"msg_id too long", "", `{` + ok + `,"msg_id":"` + long + `"}`, EnvelopeReason},
		{"user too long", "", `{` + ok + `,"headers":{"fedora_messaging_user_` + long + `":1}}`, EnvelopeReason},
		{"topics differ", "a.b.c.e", `{` + ok + `}`, TopicReason},
		{"the last topic counts", "a.b.c.d", `{` + ok + `,"topic":"a.b.c.e"}`, TopicReason},
		{"milliseconds", "", `{` + ok + `,"timestamp":1524787200000}`, TimeReason},
		{"a day and a second ahead", "", fmt.Sprintf(`{%s,"timestamp":%d}`, ok, received/1e6+86401), TimeReason},
		{"too large", "", `{` + ok + `,"x":"` + strings.Repeat("x", 2000) + `"}`, SizeReason},
	} {
		t.Run(c.name, func(t *testing.T) {
			limit := 1 << 20
			if c.want == SizeReason {
				limit = 2000
			}
			s := NewScanner(Limits{MaxBytes: limit})
			var ev block.Event
			if got := s.Scan([]byte(c.frame), []byte(c.body), received, &ev); got != c.want {
				t.Fatalf("reason %q (%s), want %q", got, s.Detail(), c.want)
			}
			if d := s.Detail(); d == "" || len(d) > 300 {
				t.Errorf("detail %q", d)
			}
		})
	}
}

func TestScan_Accepts(t *testing.T) {
	long := strings.Repeat("x", 1024)
	many, manyWant := []string{}, []string{}
	for i := range 100 {
		many = append(many, fmt.Sprintf(`"fedora_messaging_user_u%d":0`, i), fmt.Sprintf(`"fedora_messaging_user_\u0075%d":0`, i))
		manyWant = append(manyWant, fmt.Sprintf("u%d", i))
	}
	for _, c := range []struct {
		name, frame, body string
		want              wanted
	}{
		{"white space everywhere", "", "\r\n{ \"topic\" :\t\"a\" , \"msg_id\" : \"x\" , \"l\" : [ 1 , { } , [ ] ] } ", wanted{ID: "x", Topic: "a", Verbatim: true, Untimed: true}},
		{"a day ahead", "", fmt.Sprintf(`{"topic":"a","msg_id":"x","timestamp":%d}`, received/1e6+86400), wanted{ID: "x", Topic: "a", Verbatim: true, Time: received + 86400e6}},
		{"escaped keys", "", `{"t\u006fpic":"a","msg\u005fid":"x","\u0068eaders":{"fedora_messaging_user_b\u006fb":1}}`, wanted{ID: "x", Topic: "a", Verbatim: true, Untimed: true, Users: []string{"bob"}}},
		{"escaped prefix of a header", "", `{"topic":"a","msg_id":"x","headers":{"fedora\u005fmessaging_rpm_p":1,"x\/y":1}}`, wanted{ID: "x", Topic: "a", Verbatim: true, Untimed: true, Packages: []string{"p"}}},
		{"escaped values", "a/b\u00e9\U0001F600", `{"topic":"a\/b\u00e9\ud83d\ude00","msg_id":"x\"y"}`, wanted{ID: `x"y`, Topic: "a/b\u00e9\U0001F600", Untimed: true}},
		{"half surrogates", "", `{"topic":"\ud83dx\ude00","msg_id":"x"}`, wanted{ID: "x", Topic: "\ufffdx\ufffd", Verbatim: true, Untimed: true}},
		{"last of doubled keys", "", `{"topic":"b","topic":"a","msg_id":"y","msg_id":"x","timestamp":1,"timestamp":2}`, wanted{ID: "x", Topic: "a", Verbatim: true, Time: 2e6}},
		{"last of doubled headers", "", `{"topic":"a","msg_id":"x","headers":{"fedora_messaging_user_a":1},"headers":{"fedora_messaging_user_b":1}}`, wanted{ID: "x", Topic: "a", Verbatim: true, Untimed: true, Users: []string{"b"}}},
		{"headers taken back", "", `{"topic":"a","msg_id":"x","headers":{"fedora_messaging_user_a":1},"headers":null}`, wanted{ID: "x", Topic: "a", Verbatim: true, Untimed: true}},
		{"headers elsewhere don't count", "", `{"topic":"a","msg_id":"x","msg":{"headers":{"fedora_messaging_user_a":1}}}`, wanted{ID: "x", Topic: "a", Verbatim: true, Untimed: true}},
		{"names once", "", `{"topic":"a","msg_id":"x","headers":{"fedora_messaging_user_a":1,"fedora_messaging_user_\u0061":2,"fedora_messaging_rpm_a":null}}`, wanted{ID: "x", Topic: "a", Verbatim: true, Untimed: true, Users: []string{"a"}, Packages: []string{"a"}}},
		{"very many names", "", `{"topic":"a","msg_id":"x","headers":{` + strings.Join(many, ",") + `}}`, wanted{ID: "x", Topic: "a", Verbatim: true, Untimed: true, Users: manyWant}},
		{"empty name, as Python counts it", "", `{"topic":"a","msg_id":"x","headers":{"fedora_messaging_user_":1}}`, wanted{ID: "x", Topic: "a", Verbatim: true, Untimed: true, Users: []string{""}}},
		{"longest names", "", `{"topic":"` + long + `","msg_id":"` + long + `"}`, wanted{ID: long, Topic: long, Verbatim: true, Untimed: true}},
		{"deepest nesting", "", `{"topic":"a","msg_id":"x","y":` + strings.Repeat("[", 511) + strings.Repeat("]", 511) + `}`, wanted{ID: "x", Topic: "a", Verbatim: true, Untimed: true}},
		{"empty msg_id is none", "", `{"topic":"a","msg_id":""}`, wanted{Topic: "a", Hashed: true, Untimed: true}},
		{"topic frame only, payload with a msg_id of another type is an envelope's", "t", `{"msg":{},"msg_id":"z"}`, wanted{ID: "z", Topic: "t", Verbatim: true, Untimed: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := NewScanner(Limits{})
			var ev block.Event
			if reason := s.Scan([]byte(c.frame), []byte(c.body), received, &ev); reason != Accepted {
				t.Fatalf("refused: %s: %s", reason, s.Detail())
			}
			checkEvent(t, &ev, []byte(c.body), c.want)
		})
	}
}

func TestScan_LimitsAreConfigurable(t *testing.T) {
	s := NewScanner(Limits{Future: time.Hour})
	var ev block.Event
	body := fmt.Appendf(nil, `{"topic":"a","timestamp":%d}`, received/1e6+3601)
	if got := s.Scan(nil, body, received, &ev); got != TimeReason {
		t.Errorf("an hour and a second ahead: %q", got)
	}
}

func TestMicroseconds_RoundsAsPython(t *testing.T) {
	for raw, want := range map[string]int64{
		"0": 0, "-0": 0, "-0.0": 0, "1": 1e6, "1524787200": 1524787200e6, "9223372036854": 9223372036854e6,
		"1347470406.35126": 1347470406351260, "1383663901.1234567": 1383663901123457,
		"1524787200.0000005": 1524787200000000, "1524787200.9999999": 1524787201000000,
		"1.5247872e9": 1524787200e6, "1.524787200123456E+09": 1524787200123456, "15247872000e-1": 1524787200e6,
		"0.0000005": 0, "0.0000015": 2, "-1e-9": 0, "1e-400": 0, "1524787200.0000000000000000000000000001": 1524787200e6,
	} {
		if got, ok := microseconds([]byte(raw)); !ok || got != want {
			t.Errorf("%s: %d, %v; want %d", raw, got, ok, want)
		}
	}
}

func TestCounter(t *testing.T) {
	for raw, want := range map[string]int64{`{"topic":"a","i":17}`: 17, `{"topic":"a"}`: -1, `{"topic":"a","i":null}`: -1,
		`{"topic":"a","i":"3"}`: -1, `{"topic":"a","i":-3}`: -1, `{"topic":"a","i":99999999999999999999}`: -1, `{"i":1,"topic":"a","i":2}`: 2} {
		s := NewScanner(Limits{})
		var ev block.Event
		if reason := s.Scan(nil, []byte(raw), received, &ev); reason != Accepted {
			t.Fatalf("%s: %s", raw, s.Detail())
		}
		if got, ok := s.Counter(); ok != (want >= 0) || ok && got != want {
			t.Errorf("%s: %d, %v; want %d", raw, got, ok, want)
		}
	}
}

func TestCategory(t *testing.T) {
	for topic, want := range map[string]string{
		"org.fedoraproject.prod.bodhi.update.comment": "bodhi", "io.pagure.prod.pagure": "pagure",
		"a.b.c": Unclassified, "": Unclassified, "a.b.c.": "", "a.b.c..d": "",
		"/topic/VirtualTopic.eng.brew.build": "brew", "/topic/VirtualTopic.eng": Unclassified, "/topic/VirtualTopic.eng.ci": "ci",
		"org.VirtualTopic.x.y": "x",
	} {
		if got := Category(topic); got != want {
			t.Errorf("%s: %q, want %q", topic, got, want)
		}
	}
}

func TestFrames(t *testing.T) {
	f := func(frames ...string) [][]byte {
		out := make([][]byte, len(frames))
		for i := range frames {
			out[i] = []byte(frames[i])
		}
		return out
	}
	for _, c := range []struct {
		frames      [][]byte
		topic, body string
		want        Reason
	}{
		{f("t", "{}"), "t", "{}", Accepted}, {f("t\x00{}\x00"), "t", "{}\x00", Accepted}, {f("t", ""), "t", "", Accepted},
		{f(), "", "", FramesReason}, {f("t"), "", "", FramesReason}, {f("t", "{}", "x"), "", "", FramesReason},
		{f("", "{}"), "", "{}", TopicReason}, {f("\x00{}"), "", "{}", TopicReason},
	} {
		topic, body, reason := Frames(c.frames)
		if string(topic) != c.topic || string(body) != c.body || reason != c.want {
			t.Errorf("%q: %q %q %q", c.frames, topic, body, reason)
		}
	}
}

func TestScan_EveryByteAtEveryPlaceOfAString(t *testing.T) {
	s := NewScanner(Limits{})
	var ev block.Event
	for c := range 256 {
		for at := range 24 {
			for _, fill := range []string{"x", "\u00e9", "\u007f", "!", " "} { // beside each kind of neighbour
				body := []byte(`{"topic":"t","x":"` + strings.Repeat(fill, 24) + `"}`)
				body[18+at] = byte(c)
				want := Accepted
				if !utf8.Valid(body) {
					want = EncodingReason
				} else if !json.Valid(body) {
					want = JSONReason
				}
				if got := s.Scan(nil, body, received, &ev); got != want {
					t.Fatalf("%q: %q, want %q", body, got, want)
				}
			}
		}
	}
}

func TestScan_MemoryDoesNotGrowFromMessageToMessage(t *testing.T) {
	s := NewScanner(Limits{})
	var ev block.Event
	body := []byte(`{"topic":"\u0061","headers":{"fedora_messaging_user_\u0061":1}}`)
	if n := testing.AllocsPerRun(1000, func() { s.Scan(nil, body, received, &ev) }); n > 5 {
		t.Errorf("%v allocations a message", n)
	}
	if cap(s.scratch) > 4096 || cap(s.canon.out) > 4096 {
		t.Errorf("%d and %d bytes kept", cap(s.scratch), cap(s.canon.out))
	}
}
