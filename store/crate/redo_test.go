package crate

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/statscache/statscache/store"
)

func samplePlan() *plan {
	return &plan{Version: planVersion, From: 3, To: 9,
		Counters: []countPlan{{Metric: "m", Gran: 60, Buckets: []int64{-60, 0}, Keys: []string{"a\x00ü", "<&>\u2028"}, N: []int64{1, -2}}},
		Latest:   []putPlan{{Metric: "l", Key: "k", Time: -1, ID: "x", Value: `{"lone":"\ud800"}`}},
		Dead:     []deadPlan{{Seq: 4, ID: "y", Error: "z", At: 5}}}
}

func TestPlan_ComesBackFromItsRedo(t *testing.T) {
	p := samplePlan()
	redo, err := p.encode()
	if err != nil {
		t.Fatal(err)
	}
	row := checkpointRow{pos: 3, intent: 9, redo: redo}
	got, err := decodePlan(redo, row)
	if err != nil || !reflect.DeepEqual(got, p) {
		t.Fatalf("%+v, %v", got, err)
	}
	for name, f := range map[string]func() (string, checkpointRow){
		"another row": func() (string, checkpointRow) { return redo, checkpointRow{pos: 2, intent: 9} },
		"cut":         func() (string, checkpointRow) { return redo[:len(redo)-8], row },
		"changed":     func() (string, checkpointRow) { return strings.Replace(redo, redo[20:24], "AAAA", 1), row },
		"empty":       func() (string, checkpointRow) { return "", row },
	} {
		text, r := f()
		if p, err := decodePlan(text, r); !errors.Is(err, errGivenUp) {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
}

func TestPlan_BadCommits_AreRefused(t *testing.T) {
	s := newSeriesSet(latePlugin().Metrics, nil)
	if _, err := s.give("n", "k"); err != nil {
		t.Fatal(err)
	}
	second := latePlugin().Metrics[0].Intervals[0]
	for name, cells := range map[string][]store.Delta{
		"cell twice":       {{Cell: 1 << store.SeriesBits, N: 1}, {Cell: 1 << store.SeriesBits, N: 1}},
		"descending":       {{Cell: 2 << store.SeriesBits, N: 1}, {Cell: 1 << store.SeriesBits, N: 1}},
		"unknown series":   {{Cell: store.MakeCell(1, 7), N: 1}},
		"sum out of range": {{Cell: store.MakeCell(1, 0), N: 1 << 60}},
	} {
		p := &plan{}
		if err := p.addCounts(s, []store.CounterDeltas{{Metric: "n", Interval: second, Cells: cells}}, nil); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	p := &plan{}
	if err := p.addPuts(s, []store.Put{{Metric: "v", Key: "k", Time: 2, ID: "a", Value: []byte("1")}, {Metric: "v", Key: "k", Time: 2, ID: "b", Value: []byte("2")},
		{Metric: "v", Key: "k", Time: 1, ID: "z", Value: []byte("3")}}); err != nil || len(p.Latest) != 1 || p.Latest[0].Value != "2" {
		t.Errorf("%+v, %v: want the newest alone", p.Latest, err)
	}
	if err := p.addPuts(s, []store.Put{{Metric: "v", Value: []byte("\xff")}}); err == nil {
		t.Error("a value that is not UTF-8 was taken")
	}
}

func FuzzDecodePlan(f *testing.F) {
	redo, err := samplePlan().encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(redo, int64(3), int64(9))
	f.Add("", int64(0), int64(0))
	f.Fuzz(func(t *testing.T, redo string, pos, intent int64) {
		p, err := decodePlan(redo, checkpointRow{pos: pos, intent: intent})
		if err == nil && (p.From != pos || p.To != intent) {
			t.Fatalf("%+v for %d to %d", p, pos, intent)
		}
	})
}
