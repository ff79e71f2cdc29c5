package demo

import (
	"encoding/json"
	"testing"
	"time"
)

func TestGenerator_SameSeedSameEvents(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	a, b, c := New(1), New(1), New(2)
	differ := false
	for range 500 {
		x, y, z := a.Next(at), b.Next(at), c.Next(at)
		if string(x.Body) != string(y.Body) {
			t.Fatal("the same seed made two different events")
		}
		differ = differ || string(x.Body) != string(z.Body)
		if !json.Valid(x.Body) {
			t.Fatalf("not JSON: %s", x.Body)
		}
	}
	if !differ {
		t.Fatal("another seed made the same events")
	}
}

func TestGenerator_PausesAverageToTheRate(t *testing.T) {
	g := New(3)
	begin := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	end := begin.AddDate(0, 0, 28) // whole weeks: the ups and downs even out
	n := 0
	for at := begin; at.Before(end); at = at.Add(g.Pause(at, 0.05)) {
		n++
	}
	if want := 0.05 * end.Sub(begin).Seconds(); float64(n) < 0.93*want || float64(n) > 1.07*want {
		t.Fatalf("%d events in four weeks, want about %.0f", n, want)
	}
}
