package storetest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/statscache/statscache/internal/block"
)

// Base is a time the cases count from: 2018-04-26 10:00:00 UTC in µs.
const Base = int64(1_524_736_800_000_000)

// Event is what a case says of an event; the rest follows from it.
type Event struct {
	ID      string
	Time    int64 // µs since Base
	Untimed bool
	Body    string // "" for a small one
	Topic   string // "" for one that follows from the ID
	Bare    bool   // the ID stands nowhere in the body
}

// Events makes n events with ids of their own (prefix and number), a second apart.
func Events(prefix string, from, n int) []Event {
	out := make([]Event, n)
	for i := range out {
		out[i] = Event{ID: fmt.Sprintf("%s-%d", prefix, from+i), Time: int64(from+i) * 1e6}
	}
	return out
}

func category(topic string) string {
	if p := strings.Split(topic, "."); len(p) > 3 {
		return p[3]
	}
	return "Unclassified"
}

// Block makes a block of a live stream whose first event has the position first.
func Block(first uint64, events []Event) *block.Block { return Build(first, false, events) }

// Build makes a block as a consumer does.
func Build(first uint64, backfill bool, events []Event) *block.Block {
	w := block.NewBuilder(category)
	for _, e := range events {
		w.Add(e.whole())
	}
	return w.Build(first, Base+7, backfill)
}

// whole fills in what follows from the ID: a copy of an event agrees in all of it.
func (e Event) whole() *block.Event {
	h := 0
	for _, c := range e.ID {
		h = h*31 + int(c)
	}
	h &= 0xffff
	body := e.Body
	if body == "" {
		body = fmt.Sprintf(`{"msg_id":"%s","msg":{"n":%d,"käse":"%s"}}`, e.ID, h, strings.Repeat("x", h%90))
	}
	at := strings.Index(body, e.ID)
	if e.Bare {
		body, at = strings.ReplaceAll(body, e.ID, "-"), -1
	}
	out := &block.Event{ID: []byte(e.ID), IDAt: at, Topic: fmt.Appendf(nil, "org.fedoraproject.prod.cat%d.topic%d", h%5, h%40),
		Time: Base + e.Time, Untimed: e.Untimed, Source: fmt.Sprintf("endpoint%d", h%2), Signed: block.Signature(h % 3), Body: []byte(body)}
	if e.Topic != "" {
		out.Topic = []byte(e.Topic)
	}
	for u := range h % 3 {
		out.Users = append(out.Users, fmt.Appendf(nil, "user%d", h%97+u))
		out.Packages = append(out.Packages, fmt.Appendf(nil, "päckchen%d", h%31+u))
	}
	if h%4 > 0 {
		out.Agent = fmt.Appendf(nil, "user%d", h%97)
	}
	return out
}

// Describe gives a line per event with all that a block holds of it.
func Describe(t testing.TB, blocks []*block.Block, bodies bool) []string {
	t.Helper()
	var out []string
	for _, b := range blocks {
		var ids []string
		var raw [][]byte
		if bodies {
			var err error
			ids, err = b.IDs()
			noError(t, err)
			raw, err = b.Bodies()
			noError(t, err)
		}
		for i := range b.Len() {
			line := fmt.Sprintf("%d time=%d %s category=%s source=%s agent=%s users=%s packages=%s %s untimed=%v received=%d backfill=%v", b.Seq(i),
				b.Time[i]-Base, b.Names[b.Topic[i]], b.Names[b.CategoryOf(i)], b.Names[b.Source[i]], b.Names[b.Agent[i]],
				names(b, b.UsersOf(i)), names(b, b.PackagesOf(i)), b.SignedOf(i), b.UntimedOf(i), b.ReceivedOf(i)-Base, b.Backfill)
			if bodies {
				line += " " + ids[i] + " " + string(raw[i])
			}
			out = append(out, line)
		}
	}
	return out
}

func names(b *block.Block, list []uint32) string {
	var out []string
	for _, x := range list {
		out = append(out, b.Names[x])
	}
	return strings.Join(out, ",")
}
