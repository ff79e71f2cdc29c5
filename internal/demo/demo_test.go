package demo

import (
	"bufio"
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

func TestGenerator_SecondRunHasOtherIDs(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	a, b := New(1), New(1)
	for range 500 {
		at = at.Add(time.Second)
		if x, y := a.Next(at), b.Next(at.Add(time.Hour)); x.id(t) == y.id(t) {
			t.Fatalf("%s is there again an hour later", x.id(t))
		}
	}
}

func (e Event) id(t *testing.T) string {
	t.Helper()
	var m struct {
		ID string `json:"msg_id"`
	}
	if err := json.Unmarshal(e.Body, &m); err != nil || m.ID == "" {
		t.Fatalf("no id in %s: %v", e.Body, err)
	}
	return m.ID
}

func TestHistory_GrowsToTheLiveRate(t *testing.T) {
	end := time.Date(2026, 3, 29, 12, 0, 0, 0, time.UTC)
	h := NewHistory(New(3), 28*24*time.Hour, func() time.Time { return end }, 5)
	expected := h.Events()
	n, lastMinute := 0, 0
	for lines := bufio.NewScanner(h); lines.Scan(); n++ {
		var m struct{ Timestamp int64 }
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			t.Fatal(err)
		}
		if end.Unix()-m.Timestamp <= 60 {
			lastMinute++
		}
	}
	if float64(n) < 0.8*float64(expected) || float64(n) > 1.2*float64(expected) {
		t.Errorf("%d events, said to be about %d", n, expected)
	}
	if lastMinute < 240 || lastMinute > 360 {
		t.Errorf("%d events in the last minute, want about 300", lastMinute)
	}
}

// TestGenerator_FeedsEveryPlugin: a metric that stays empty shows nothing of what it is for.
func TestGenerator_FeedsEveryPlugin(t *testing.T) {
	topics := map[string]bool{}
	g := New(1)
	for range 20_000 {
		topics[g.Next(time.Unix(1_700_000_000, 0)).Topic] = true
	}
	for _, want := range []string{"io.pagure.prod.pagure.issue.new", "org.fedoraproject.prod.compose.rawhide.complete", "org.fedoraproject.prod.bodhi.updates.epel.sync", "org.fedoraproject.prod.fedimg.image.upload"} {
		if !topics[want] {
			t.Errorf("no %s", want)
		}
	}
}
