package crate

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/statscache/statscache/internal/block"
)

const (
	maxText  = 1024 // bytes of a name in a column with an index; CrateDB takes 32,766
	maxKeyID = 512  // bytes of an ID in the primary key, of which CrateDB makes base64
	// hashed begins the key of an ID that can't be a key itself.
	hashed = "sha256:"
)

// event is a row of the events table. CrateDB changes text that is not UTF-8 and refuses long texts in columns with an
// index. What doesn't fit is cut in its column, which serves searches, and kept as it is in exact, from which the event
// is read back.
type event struct {
	part                    int32
	id                      string
	ts                      int64
	seq                     int64
	topic, category         string
	users, packages         []string
	agent, source           string
	signed                  int16
	untimed                 bool
	received                int64
	backfill                bool
	size                    int32
	exact                   *string
	body                    string
	rawID, rawTopic, rawCat string
	rawUsers, rawPackages   []string
	rawAgent, rawSource     string
	rawTime, rawReceived    int64
	base64Body              bool
}

// exactEvent is what exact holds, as JSON; []byte becomes base64.
type exactEvent struct {
	ID, Topic, Category, Agent, Source []byte
	Users, Packages                    [][]byte
	Time, Received                     int64
	Base64Body                         bool
}

// month is the partition of an event: the year and month of its envelope's time, the same for every copy of it. A copy
// may have lost the fraction of the second, but months begin with whole ones. What lies outside of any sensible time
// shares a partition on either side, so that forged times can't make partitions without end.
func month(us int64, untimed bool) int32 {
	if untimed {
		return 0
	}
	t := time.UnixMicro(us).UTC()
	switch y := t.Year(); {
	case y < 2000:
		return 1
	case y >= 2100:
		return 210001
	default:
		return int32(y*100 + int(t.Month()))
	}
}

// key gives the primary key of an ID: the ID itself, or its hash where it is long, not UTF-8, has a control character
// (keys also stand as literals in statements) or looks like a hash.
func key(id string) string {
	if len(id) <= maxKeyID && utf8.ValidString(id) && !strings.HasPrefix(id, hashed) && strings.IndexFunc(id, control) < 0 {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return hashed + hex.EncodeToString(sum[:])
}

func control(r rune) bool { return r < ' ' || r == 0x7f }

// text cuts what an indexed column can't take.
func text(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

func texts(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = text(s)
	}
	return out
}

// bounded keeps an int64 from the two ends that CrateDB refuses.
func bounded(x int64) int64 { return min(max(x, math.MinInt64+1), math.MaxInt64-1) }

// eventOf takes event i out of a block.
func eventOf(b *block.Block, i int, id string, body []byte) event {
	names := func(list []uint32) []string {
		out := make([]string, len(list))
		for k, x := range list {
			out[k] = b.Names[x]
		}
		return out
	}
	e := event{part: month(b.Time[i], b.UntimedOf(i)), id: key(id), seq: int64(b.Seq(i)), signed: int16(b.SignedOf(i)),
		untimed: b.UntimedOf(i), backfill: b.Backfill, size: int32(len(body)), base64Body: !utf8.Valid(body),
		rawID: id, rawTopic: b.Names[b.Topic[i]], rawCat: b.Names[b.CategoryOf(i)], rawUsers: names(b.UsersOf(i)),
		rawPackages: names(b.PackagesOf(i)), rawAgent: b.Names[b.Agent[i]], rawSource: b.Names[b.Source[i]],
		rawTime: b.Time[i], rawReceived: b.ReceivedOf(i)}
	if e.base64Body {
		e.body = base64.StdEncoding.EncodeToString(body)
	} else {
		e.body = string(body)
	}
	e.ts, e.received = bounded(e.rawTime), bounded(e.rawReceived)
	e.topic, e.category, e.agent, e.source = text(e.rawTopic), text(e.rawCat), text(e.rawAgent), text(e.rawSource)
	e.users, e.packages = texts(e.rawUsers), texts(e.rawPackages)
	if e.inexact() {
		e.keepExact()
	}
	return e
}

// keepExact keeps the attributes as they are, beside columns that can't.
func (e *event) keepExact() {
	raw, _ := json.Marshal(exactEvent{ID: []byte(e.rawID), Topic: []byte(e.rawTopic), Category: []byte(e.rawCat), // can't fail
		Agent: []byte(e.rawAgent), Source: []byte(e.rawSource), Users: lists(e.rawUsers), Packages: lists(e.rawPackages),
		Time: e.rawTime, Received: e.rawReceived, Base64Body: e.base64Body})
	s := string(raw)
	e.exact = &s
}

// bare is the event with nothing in its columns that a server could refuse. It is found by its time and place alone, and
// read back as it is.
func (e event) bare() event {
	e.keepExact()
	e.topic, e.category, e.agent, e.source, e.users, e.packages = "", "", "", "", []string{}, []string{}
	return e
}

func (e *event) inexact() bool {
	same := e.id == e.rawID && e.topic == e.rawTopic && e.category == e.rawCat && e.agent == e.rawAgent &&
		e.source == e.rawSource && e.ts == e.rawTime && e.received == e.rawReceived && !e.base64Body
	for i := range e.users {
		same = same && e.users[i] == e.rawUsers[i]
	}
	for i := range e.packages {
		same = same && e.packages[i] == e.rawPackages[i]
	}
	return !same
}

func lists(in []string) [][]byte {
	out := make([][]byte, len(in))
	for i, s := range in {
		out[i] = []byte(s)
	}
	return out
}

// restore gives the event as it was archived; the body is nil where it was not read.
func (e *event) restore(bodies bool) (block.Event, string, error) {
	out := block.Event{ID: []byte(e.id), IDAt: -1, Topic: []byte(e.topic), Time: e.ts, Untimed: e.untimed, Source: e.source,
		Users: lists(e.users), Packages: lists(e.packages), Agent: []byte(e.agent), Signed: block.Signature(e.signed)}
	category, encoded := e.category, false
	if e.exact != nil {
		var x exactEvent
		if err := json.Unmarshal([]byte(*e.exact), &x); err != nil {
			return out, "", fmt.Errorf("event %s: its exact attributes: %w", e.id, err)
		}
		out.ID, out.Topic, out.Time, out.Source = x.ID, x.Topic, x.Time, string(x.Source)
		out.Users, out.Packages, out.Agent = x.Users, x.Packages, x.Agent
		category, encoded, e.received = string(x.Category), x.Base64Body, x.Received
	}
	if !bodies {
		return out, category, nil
	}
	out.Body = []byte(e.body)
	if encoded {
		var err error
		if out.Body, err = base64.StdEncoding.DecodeString(e.body); err != nil {
			return out, "", fmt.Errorf("event %s: its body: %w", e.id, err)
		}
	}
	if len(out.ID) > 0 {
		out.IDAt = bytes.Index(out.Body, out.ID)
	}
	return out, category, nil
}

// checkName refuses names that can't be keys: they come from this program's own files and from plugins' manifests.
func checkName(what, s string) error {
	if s == "" || len(s) > maxKeyID || !utf8.ValidString(s) || strings.IndexFunc(s, control) >= 0 {
		return fmt.Errorf("%s %.100q: want 1 to %d bytes of text without control characters", what, s, maxKeyID)
	}
	return nil
}
