package plugintest

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/statscache/statscache/plugins"
)

func TestMain(m *testing.M) { Main(m, forgetful()) }

// forgetful counts by topic as it should, and with each the topic that it was told before: what it must not remember.
func forgetful() plugins.Plugin {
	before := "none"
	return plugins.Plugin{ID: "forgetful", Counters: []plugins.Counter{
		{Name: "Topics", Dims: []string{"topic"}, Every: []time.Duration{time.Hour},
			On: func(e *plugins.Event, add func(int64, ...string)) { add(1, e.Topic) }},
		{Name: "Followers", Dims: []string{"before"}, Every: []time.Duration{time.Hour},
			On: func(e *plugins.Event, add func(int64, ...string)) {
				add(1, before)
				before = e.Topic
			}},
	}}
}

// found gives the differences of one way from the case as it is, by whether they are of Topics.
func found(t *testing.T, way string) (topics, others int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := itself(self)
	var events [][]byte
	for i := range 30 {
		events = append(events, fmt.Appendf(nil, `{"topic":"org.x.prod.cat.t%d","msg_id":"2026-%d","timestamp":%d,"msg":{}}`, i%7, i, 1_700_000_000+600*i))
	}
	want := rows(t, p, events)
	if len(want) == 0 {
		t.Fatal("no rows")
	}
	for _, w := range ways {
		if !strings.Contains(w.name, way) {
			continue
		}
		for _, d := range differences(rows(t, p, w.parts(slices.Clone(events))...), want) {
			if strings.Contains(d, `"ident":"topics-1h"`) {
				topics++
			} else {
				others++
			}
		}
	}
	return topics, others
}

func TestWays_FindAPluginThatRemembers(t *testing.T) {
	for _, way := range []string{"another order", "restart"} {
		if topics, others := found(t, way); topics > 0 || others == 0 {
			t.Errorf("%s: %d differences in what is right, %d in what is wrong", way, topics, others)
		}
	}
}

func TestWays_CountDuplicatesOnce(t *testing.T) {
	if topics, _ := found(t, "twice"); topics > 0 {
		t.Errorf("%d differences", topics)
	}
}

func TestDifferences_TellBothSidesAndEnd(t *testing.T) {
	lines := func(s ...string) (out [][]byte) {
		for _, l := range s {
			out = append(out, []byte(l))
		}
		return out
	}
	got := differences(lines("a", "c", "d"), lines("a", "b", "d", "e"))
	if want := []string{"missing:      b", "not expected: c", "missing:      e"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	many := make([]string, 30)
	for i := range many {
		many[i] = fmt.Sprintf("%02d", i)
	}
	if got := differences(lines(many...), nil); len(got) != mostTold+1 || got[mostTold] != "and 20 more" {
		t.Errorf("%q", got)
	}
}
